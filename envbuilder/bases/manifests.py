"""Manifests of images made by anyone: the one for a platform is chosen, and its layers are verified.

Follows image-spec 1.1 (manifest.md, image-index.md) and Docker's manifest version 2, schema 2.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from isal import igzip

from envbuilder import digest
from envbuilder.bases import rootfs
from envbuilder.errors import BaseImageError, Source
from envbuilder.oci_image import CONFIG, LAYER_GZIP, Descriptor, Image, Layer, Platform, RunConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from envbuilder.digest import Digest
    from envbuilder.image_store import ImageStore

_CONFIGS: Final = (CONFIG, "application/vnd.docker.container.image.v1+json")
_LAYERS: Final = ("application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs.")
_DEEPEST: Final = 4
_LEVEL: Final = 2
_CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The one image of an index that fits the platform, before its layers are here."""

    platform: Platform
    config: RunConfig
    layers: tuple[tuple[Descriptor, Digest], ...]
    """Blob and diff id of each layer."""


def choose(top: bytes, platform: Platform, fetch: Callable[[Descriptor], bytes], where: Source) -> Chosen:
    """Return the image for the platform from a manifest or an index; `fetch` gives a verified document.

    Raises BaseImageError that lists the platforms there are.
    """
    seen: list[Platform] = []
    try:
        found = next(_images(parse_object(top), platform, fetch, seen, _DEEPEST), None)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as cause:
        raise BaseImageError(
            f"the manifest is not one of OCI or Docker ({type(cause).__name__}: {cause})",
            where=where,
            fix="push the image again with a current tool",
        ) from cause
    if found is None:
        raise _no_platform(platform, seen, where)
    return found


def assemble(chosen: Chosen, store: ImageStore, where: Source) -> Image:
    """Return the image once its layer blobs are in the store: diff ids verified, every layer a gzip blob."""
    return Image(
        platform=chosen.platform,
        config=chosen.config,
        layers=tuple(_import_layer(blob, diff_id, store, where) for blob, diff_id in chosen.layers),
    )


def verified(data: bytes, expected: Descriptor, where: Source) -> bytes:
    """Return `data` when it has the expected size and digest; raises BaseImageError when not."""
    if len(data) != expected.size or digest.of_bytes(data) != expected.digest:
        raise damaged(expected.digest, where)
    return data


def damaged(blob: Digest, where: Source) -> BaseImageError:
    """Return the error for content that is not what its digest says."""
    return BaseImageError(
        f"the blob {blob} is damaged: its content has another digest",
        where=where,
        fix="copy or push the image again; a proxy that changes content also does this",
    )


def rank(entry: dict[str, Any], platform: Platform) -> int | None:
    """Return 0 for the platform itself, 1 for one that fits, 2 when only the config can tell, None for another."""
    if not entry.get("platform"):
        return 2
    for found in _platform_of(entry):
        if found == platform:
            return 0
        if _fits(found, platform):
            return 1
    return None


def parse_object(data: bytes) -> dict[str, Any]:
    """Read a JSON object; raises ValueError or TypeError for anything else."""
    value = json.loads(data)
    if not isinstance(value, dict):
        message = "not a JSON object"
        raise TypeError(message)
    return value


def _images(
    value: dict[str, Any],
    platform: Platform,
    fetch: Callable[[Descriptor], bytes],
    seen: list[Platform],
    depth: int,
) -> Iterator[Chosen]:
    """Give the images that fit, best first; what does not fit is noted in `seen` and not fetched."""
    if "manifests" in value:
        if depth == 0:
            message = "indexes inside indexes inside indexes"
            raise ValueError(message)
        ranked: list[tuple[int, int]] = []
        for number, entry in enumerate(value["manifests"]):
            place = rank(entry, platform)
            if place is None:
                seen.extend(_platform_of(entry))
            else:
                ranked.append((place, number))
        for _, number in sorted(ranked):
            inner = fetch(Descriptor.parse(value["manifests"][number]))
            yield from _images(parse_object(inner), platform, fetch, seen, depth - 1)
        return
    config = Descriptor.parse(value["config"])
    if config.media_type not in _CONFIGS:
        return
    found = _chosen(value, parse_object(fetch(config)))
    if _fits(found.platform, platform):
        yield found
    else:
        seen.append(found.platform)


def _chosen(manifest: dict[str, Any], config: dict[str, Any]) -> Chosen:
    blobs = [Descriptor.parse(item) for item in manifest["layers"]]
    diff_ids = [digest.parse(item) for item in config["rootfs"]["diff_ids"]]
    for blob in blobs:
        if not blob.media_type.startswith(_LAYERS):
            message = f"layers of the type `{blob.media_type}` cannot be read"
            raise ValueError(message)
    return Chosen(
        platform=Platform(
            os=str(config["os"]), architecture=str(config["architecture"]), variant=str(config.get("variant") or "")
        ),
        config=RunConfig.parse(config.get("config") or {}),
        layers=tuple(zip(blobs, diff_ids, strict=True)),
    )


def _platform_of(entry: dict[str, Any]) -> list[Platform]:
    """Return the platform of an index entry; none for attestations, which call theirs `unknown`."""
    value = entry.get("platform") or {}
    if value.get("os", "unknown") == "unknown":
        return []
    return [Platform(os=value["os"], architecture=value["architecture"], variant=value.get("variant") or "")]


def _fits(found: Platform, asked: Platform) -> bool:
    """Compare as docker does: a variant that is not said (arm64 means arm64/v8) fits."""
    same = (found.os, found.architecture) == (asked.os, asked.architecture)
    return same and (found.variant == asked.variant or not found.variant or not asked.variant)


def _no_platform(platform: Platform, seen: list[Platform], where: Source) -> BaseImageError:
    if not seen:
        return BaseImageError(
            "this is not a container image (a chart, a signature or another artifact)",
            where=where,
            fix="name an image",
        )
    there = ", ".join(f"`{name}`" for name in sorted({str(item) for item in seen}))
    return BaseImageError(
        f"the image is not made for `{platform}`; there are: {there}",
        where=where,
        fix="ask for one of these with `--platform`, or choose another base",
    )


def _import_layer(blob: Descriptor, diff_id: Digest, store: ImageStore, where: Source) -> Layer:
    """Verify what is inside the blob, and store plain and zstd layers again as gzip: every engine reads that."""
    path = store.blob_path(blob.digest)
    with path.open("rb") as raw:
        is_gzip = raw.read(2) == b"\x1f\x8b"
    if is_gzip:
        with rootfs.open_compressed(path, where) as stream:
            if digest.of_stream(stream) != diff_id:
                raise _wrong_content(blob, where)
        return Layer(
            blob=Descriptor(media_type=LAYER_GZIP, digest=blob.digest, size=path.stat().st_size), diff_id=diff_id
        )
    with rootfs.open_compressed(path, where) as stream, store.new_blob() as writer:
        with igzip.IGzipFile(filename="", mode="wb", fileobj=writer, compresslevel=_LEVEL, mtime=0) as compressed:  # type: ignore[no-untyped-call, unused-ignore]
            state = hashlib.sha256()
            while chunk := stream.read(_CHUNK):
                state.update(chunk)
                compressed.write(chunk)  # type: ignore[no-untyped-call, unused-ignore]
        if digest.of_hex(state.hexdigest()) != diff_id:
            raise _wrong_content(blob, where)
    return Layer(blob=Descriptor(media_type=LAYER_GZIP, digest=writer.digest, size=writer.size), diff_id=diff_id)


def _wrong_content(blob: Descriptor, where: Source) -> BaseImageError:
    return BaseImageError(
        f"the layer {blob.digest} does not hold what the image's config says (another diff id)",
        where=where,
        fix="push or copy the image again",
    )
