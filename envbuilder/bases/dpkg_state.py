"""What dpkg and apt of a base image have: asked of the base itself, in any engine, once for each base."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from envbuilder import digest, disk
from envbuilder.build_step import OUTPUT, Step
from envbuilder.errors import BaseImageError, Source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from envbuilder.base_image import BaseImage
    from envbuilder.build_step import StepEnded
    from envbuilder.digest import Digest
    from envbuilder.machine import Machine

_ANSWER: Final = "answer.json"
_SECONDS: Final = 60
_PROGRAM: Final = """
import base64, json, os, sys
left = 64 << 20
def content(path):
    global left
    try:
        with open(path, "rb") as stream:
            data = stream.read(min(left, 16 << 20))
    except OSError:
        return ""
    left -= len(data)
    return base64.b64encode(data).decode()
def names(folder):
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
parts = [name for name in names("/var/lib/dpkg/status.d") if not name.endswith(".md5sums")]
paths = ["/etc/os-release", "/etc/apt/sources.list"]
for folder in ("/etc/apt/sources.list.d", "/etc/apt/apt.conf.d", "/etc/apt/trusted.gpg.d", "/usr/share/keyrings"):
    paths += [folder + "/" + name for name in names(folder)]
answer = {"status": content("/var/lib/dpkg/status"),
          "parts": [content("/var/lib/dpkg/status.d/" + name) for name in parts],
          "files": {path: content(path) for path in paths if os.path.isfile(path)}}
with open(sys.argv[1], "w") as stream:
    json.dump(answer, stream)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DpkgState:
    """What is installed, and where apt would look for more."""

    status: str
    """The text of dpkg's status file; empty where there is none."""

    parts: tuple[str, ...] = ()
    """What distroless images have in its place: a text for each package."""

    files: tuple[tuple[str, bytes], ...] = ()
    """Absolute paths and contents of apt's sources, settings and keyrings."""

    @property
    def text(self) -> str:
        """All that is installed, as stanzas."""
        return "\n\n".join(text.strip("\n") for text in (self.status, *self.parts) if text)

    def write(self, root: Path) -> None:
        """Write apt's files below `root`."""
        for path, content in self.files:
            disk.write_file(root / path.lstrip("/"), content)


def read(base: BaseImage, *, ask: Callable[[BaseImage, Step], StepEnded], machine: Machine) -> DpkgState:
    """Return the state of the base; `ask` runs a step in it, only where nobody knows yet. Raises BaseImageError."""
    record = _record(base.digest, machine)
    if not record.exists():
        with disk.temporary_directory(machine.probes) as output:
            step = Step(
                command=(base.interpreter.executable, "-I", "-S", "-c", _PROGRAM, f"{OUTPUT}/{_ANSWER}"),
                environ=(),
                inputs=(),
                output=output,
                timeout=_SECONDS,
            )
            ended = ask(base, step)
            answer = output / _ANSWER
            if ended.code != 0 or not answer.is_file():
                raise BaseImageError(
                    "the base could not be asked what is installed in it\n" + "\n".join(ended.tail),
                    where=Source(file=base.reference),
                    fix="choose another base image",
                )
            disk.write_file(record, answer.read_bytes())
    return _read(json.loads(record.read_bytes()))


def known(base: Digest, machine: Machine) -> DpkgState | None:
    """Return the state of the base with this digest where it was asked before."""
    try:
        return _read(json.loads(_record(base, machine).read_bytes()))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _record(base: Digest, machine: Machine) -> Path:
    return machine.probes / f"dpkg-{digest.hex_of(digest.of_json([_PROGRAM, base]))}.json"


def _read(value: dict[str, Any]) -> DpkgState:
    return DpkgState(
        status=_text(value["status"]),
        parts=tuple(_text(part) for part in value["parts"]),
        files=tuple(
            (str(path), base64.b64decode(content))
            for path, content in sorted(value["files"].items())
            if ".." not in str(path).split("/")
        ),
    )


def _text(encoded: str) -> str:
    return base64.b64decode(encoded).decode("utf-8", "surrogateescape")
