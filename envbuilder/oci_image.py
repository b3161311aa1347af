"""The values of the OCI image specification that envbuilder reads and writes: descriptor, layer, config, manifest.

Follows image-spec 1.1 (manifest.md, config.md, descriptor.md). Pure.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from envbuilder import digest

if TYPE_CHECKING:
    from envbuilder.digest import Digest

MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX: Final = "application/vnd.oci.image.index.v1+json"
CONFIG: Final = "application/vnd.oci.image.config.v1+json"
LAYER_GZIP: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX: Final = "application/vnd.docker.distribution.manifest.list.v2+json"

LARGEST_DOCUMENT: Final = 4 << 20
"""Manifests, indexes and configs beyond this are refused, as registries do."""

EPOCH: Final = "1970-01-01T00:00:00Z"
"""The creation time of everything envbuilder makes: a clock would make two equal builds differ."""


def to_json(value: object) -> bytes:
    """Return `value` as the canonical JSON that manifests and configs are stored as."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """A reference to a blob: its media type, digest and size in bytes."""

    media_type: str
    digest: Digest
    size: int

    @classmethod
    def parse(cls, value: dict[str, Any]) -> Descriptor:
        """Read a descriptor object; raises ValueError or KeyError when it is not one."""
        return cls(media_type=str(value["mediaType"]), digest=digest.parse(value["digest"]), size=int(value["size"]))

    def to_dict(self) -> dict[str, Any]:
        """Return the descriptor as its JSON object."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A layer: the compressed blob and the digest of its uncompressed tar."""

    blob: Descriptor
    diff_id: Digest
    comment: str = ""
    """What the layer holds, for history and tables; empty for the layers of a base image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """An OCI platform, written `linux/amd64`."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Read `os/architecture[/variant]`; raises ValueError when it is not that."""
        parts = text.split("/")
        if len(parts) not in (2, 3) or not all(parts):
            message = f"not a platform: {text!r} (expected `linux/amd64` or `linux/arm64`)"
            raise ValueError(message)
        return cls(os=parts[0], architecture=parts[1], variant=parts[2] if len(parts) == 3 else "")  # noqa: PLR2004

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """What a container of the image starts with."""

    user: str = ""
    env: tuple[tuple[str, str], ...] = ()
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    working_dir: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    ports: tuple[str, ...] = ()
    stop_signal: str = ""

    @classmethod
    def parse(cls, value: dict[str, Any]) -> RunConfig:
        """Read the `config` object of an image config (keys may be absent or null)."""
        return cls(
            user=value.get("User") or "",
            env=tuple(_split_env(item) for item in value.get("Env") or ()),
            entrypoint=tuple(value.get("Entrypoint") or ()),
            command=tuple(value.get("Cmd") or ()),
            working_dir=value.get("WorkingDir") or "",
            labels=tuple(sorted((value.get("Labels") or {}).items())),
            ports=tuple(sorted(value.get("ExposedPorts") or {})),
            stop_signal=value.get("StopSignal") or "",
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the `config` object, without empty members."""
        value: dict[str, Any] = {
            "User": self.user,
            "Env": [f"{name}={content}" for name, content in self.env],
            "Entrypoint": list(self.entrypoint),
            "Cmd": list(self.command),
            "WorkingDir": self.working_dir,
            "Labels": dict(self.labels),
            "ExposedPorts": {port: {} for port in self.ports},
            "StopSignal": self.stop_signal,
        }
        return {key: content for key, content in value.items() if content}


def _split_env(item: str) -> tuple[str, str]:
    name, _, value = item.partition("=")
    return name, value


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image: its platform, what it runs, and its layers from the base up."""

    platform: Platform
    config: RunConfig
    layers: tuple[Layer, ...]

    def config_bytes(self) -> bytes:
        """Return the image config blob."""
        value: dict[str, Any] = {
            "architecture": self.platform.architecture,
            "os": self.platform.os,
            "created": EPOCH,
            "config": self.config.to_dict(),
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in self.layers]},
            "history": [
                {"created": EPOCH, "created_by": "envbuilder", "comment": layer.comment} for layer in self.layers
            ],
        }
        if self.platform.variant:
            value["variant"] = self.platform.variant
        return to_json(value)

    def config_descriptor(self) -> Descriptor:
        """Return the descriptor of the config blob."""
        return _describe(CONFIG, self.config_bytes())

    def manifest_bytes(self) -> bytes:
        """Return the manifest blob."""
        return to_json(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": self.config_descriptor().to_dict(),
                "layers": [layer.blob.to_dict() for layer in self.layers],
            }
        )

    def descriptor(self) -> Descriptor:
        """Return the descriptor of the manifest; its digest is the image's digest."""
        return _describe(MANIFEST, self.manifest_bytes())


def _describe(media_type: str, data: bytes) -> Descriptor:
    return Descriptor(media_type=media_type, digest=digest.of_bytes(data), size=len(data))
