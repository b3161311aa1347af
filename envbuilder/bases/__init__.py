"""Base images: pulled from a registry, read from a layout or a rootfs tar, or put together from Debian packages.

`--base` means the same for every engine: `debian:SUITE` and `ubuntu:SUITE` are put together from packages (the
images of that name on Docker Hub are `docker.io/library/debian:…`), an existing path is a layout or a tar, anything
else is an image of a registry.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from envbuilder import digest
from envbuilder.base_image import REPOSITORY
from envbuilder.errors import BaseImageError, InvalidFileError, Source
from envbuilder.image_reference import ImageReference

if TYPE_CHECKING:
    from envbuilder.digest import Digest
    from envbuilder.machine import Machine
    from envbuilder.oci_image import Image, Platform

Kind = Literal["debian", "ubuntu", "layout", "rootfs", "registry"]

_ASSEMBLED: Final = re.compile(r"(debian|ubuntu):([a-z][a-z0-9-]*)\Z")
_TAR: Final = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".tar.zst")


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseReference:
    """What `--base` names, told apart by its form."""

    text: str
    kind: Kind
    suite: str = ""
    path: Path | None = None
    name: str | None = None
    """The image's name inside a layout."""

    @classmethod
    def parse(cls, text: str) -> BaseReference:
        """Tell what `text` names; looks whether a path exists. Raises InvalidFileError when it is none of the forms."""
        assembled = _ASSEMBLED.match(text)
        if assembled is not None:
            kind: Kind = "debian" if assembled[1] == "debian" else "ubuntu"
            return cls(text=text, kind=kind, suite=assembled[2])
        if text.startswith("oci:"):
            path, _, name = text.removeprefix("oci:").partition(":")
            return cls(text=text, kind="layout", path=Path(path), name=name or None)
        path_given = Path(text)
        if path_given.is_dir():
            return cls(text=text, kind="layout", path=path_given)
        if text.endswith(_TAR):
            return cls(text=text, kind="rootfs", path=path_given)
        if text.startswith(("/", "./", "../")):
            raise InvalidFileError(
                "there is no such base image",
                where=Source(file=text),
                fix="name an OCI layout directory, a rootfs tar, `debian:SUITE`, or an image of a registry",
            )
        ImageReference.parse(text)
        return cls(text=text, kind="registry")

    def name_in_engine(self, found: Digest) -> str:
        """Return the name under which an engine is given a base that no registry has."""
        kind = f"{self.kind}-{self.suite}" if self.suite else self.kind
        return f"{REPOSITORY}:{kind}-{digest.short(found)}"

    @property
    def is_assembled(self) -> bool:
        """True when the image is made here, not pulled by an engine."""
        return self.kind != "registry"


def fetch(reference: BaseReference, *, platform: Platform, machine: Machine) -> tuple[Digest, Image]:
    """Bring the base into the image store; return its digest (of the index, where it has several platforms).

    Raises BaseImageError or UnreachableError saying what to pass instead.
    """
    store = machine.store
    match reference.kind:
        case "debian" | "ubuntu" as distribution:
            from envbuilder.bases import debian, debian_bytecode  # noqa: PLC0415 - slow to import

            def assembled(architecture: str) -> Image:
                return debian.assemble(
                    reference.suite,
                    distribution=distribution,
                    architecture=architecture,
                    store=store,
                    settings=machine.settings,
                    reporter=machine.reporter,
                )

            image = assembled(platform.architecture)
            own = debian_bytecode.own_architecture()
            twin = assembled(own) if own is not None and own != platform.architecture else None
            # Without it every start of Python compiles what it imports, as the root is read-only.
            made = debian_bytecode.standard_library(image, store=store, settings=machine.settings, twin=twin)
            if made is not None:
                image = replace(image, layers=(*image.layers, made))
            return store.add_image(image).digest, image
        case "layout":
            from envbuilder.bases import layout  # noqa: PLC0415

            return layout.read(_path(reference), reference=reference.name, platform=platform, store=store)
        case "rootfs":
            from envbuilder.bases import rootfs  # noqa: PLC0415

            return rootfs.read(_path(reference), platform=platform, store=store)
        case "registry":
            from envbuilder.bases import registry  # noqa: PLC0415

            return registry.pull(
                ImageReference.parse(reference.text),
                platform=platform,
                store=store,
                settings=machine.settings,
                reporter=machine.reporter,
            )


def _path(reference: BaseReference) -> Path:
    if reference.path is None or not reference.path.exists():
        raise BaseImageError(
            "there is no such base image",
            where=Source(file=str(reference.path or reference.text)),
            fix="name an OCI layout directory, a rootfs tar, `debian:SUITE`, or an image of a registry",
        )
    return reference.path
