"""The standard library's bytecode as a layer, compiled by the image's own interpreter through its own loader.

Neither chroot nor root is needed: the loader takes the libraries, and the interpreter its home, from the unpacked
files. The bytecode names the paths of the image, and is not checked against its sources at run time.
"""

from __future__ import annotations

import logging
import platform
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from envbuilder import digest, disk, layer, process
from envbuilder.bases import debian_record
from envbuilder.errors import BuildFailedError, Source
from envbuilder.layer import Entry

if TYPE_CHECKING:
    from envbuilder.image_store import ImageStore
    from envbuilder.oci_image import Image, Layer
    from envbuilder.settings import Settings

RECIPE_VERSION: Final = 1
"""Part of the cache key: raise it when the same image would give other bytecode."""

_COMMENT: Final = "bytecode of the standard library"
_MACHINES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_NEEDED: Final = ("usr/bin/python3", "usr/lib/")

_log = logging.getLogger(__name__)


def own_architecture() -> str | None:
    """Return the architecture of the images whose programs run on this machine."""
    return _MACHINES.get(platform.machine()) if sys.platform.startswith("linux") else None


def standard_library(image: Image, *, store: ImageStore, settings: Settings, twin: Image | None = None) -> Layer | None:
    """Return a layer to put on an assembled `image`, or None when this machine cannot run its interpreter.

    A `twin` is the image that the same suite gives for this machine, whose interpreter is taken where the image is for
    another one: bytecode is the same on all. Raises BuildFailedError when the interpreter runs but cannot compile.
    """
    by = image if image.platform.architecture == own_architecture() else twin
    if by is None:
        return None
    key = digest.of_json([RECIPE_VERSION, layer.LAYOUT_VERSION, *(item.diff_id for item in image.layers)])
    directory = settings.cache_dir / "debian" / "bytecode"
    record = directory / f"{digest.hex_of(key)}.json"
    known = debian_record.read(record, store, comment=_COMMENT)
    if known is not None:
        return known
    directory.mkdir(parents=True, exist_ok=True)
    with disk.full_disk_named(directory), tempfile.TemporaryDirectory(dir=directory, prefix=".tmp-") as name:
        root, own = Path(name) / "image", Path(name) / "twin"
        for item in image.layers:
            _unpack(store.blob_path(item.blob.digest), root)
        for item in by.layers if by is not image else ():
            _unpack(store.blob_path(item.blob.digest), own)
        if not _compile(root, by=root if by is image else own):
            return None
        compiled = sorted((root / "usr" / "lib").glob("python3.*/**/*.pyc"))
        entries = [Entry(path=str(path.relative_to(root)), mode=0o644, content=path) for path in compiled]
        made = layer.write_layer(store, entries, comment=_COMMENT)
    debian_record.write(record, made)
    return made


def _unpack(blob: Path, root: Path) -> None:
    """Write the interpreter, the libraries and the sources below `root`; links only where they stay in a directory."""
    with layer.open_layer(blob) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            target = root / member.name
            if not member.name.startswith(_NEEDED):
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            if member.issym() and "/" not in member.linkname:
                target.symlink_to(member.linkname)
            elif member.islnk():
                target.hardlink_to(root / member.linkname)
            elif member.isfile() and (content := tar.extractfile(member)) is not None:
                target.write_bytes(content.read())
                target.chmod(0o755 if member.mode & 0o100 else 0o644)


def _compile(root: Path, *, by: Path) -> bool:
    """Write the bytecode beside the sources; False when the interpreter of `by` does not start on this machine."""
    loader = next(iter(sorted((by / "usr" / "lib").glob("*/ld-linux-*.so.*"))), None)
    interpreter = next(iter(sorted((by / "usr" / "bin").glob("python3.*"))), None)
    if loader is None or interpreter is None:
        return False
    start = (str(loader), "--library-path", str(loader.parent), str(interpreter), "-s", "-S", "-B")
    # A fixed seed and no bytecode but compileall's own: what is imported meanwhile must leave no trace.
    environ = {"PYTHONHOME": str(by / "usr"), "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}
    library = root / "usr" / "lib" / interpreter.name
    if not library.is_dir():
        return False
    try:
        if not process.run((*start, "-c", "pass"), environ=environ).ok:
            return False
    except OSError as cause:
        _log.debug("the image's interpreter does not start here: %s", cause)
        return False
    how = ("-f", "-q", "-s", str(root), "-p", "/", "--invalidation-mode", "unchecked-hash")
    finished = process.run((*start, "-m", "compileall", *how, str(library)), environ=environ)
    if not finished.ok:
        raise BuildFailedError(
            f"the standard library could not be compiled: {' / '.join(finished.tail) or f'exit {finished.code}'}",
            where=Source(file=f"/{library.relative_to(root)}"),
            fix="assemble the base image again; its cache may be damaged",
        )
    return True
