"""A requirements file as a value: its lines, joined where they continue, each with its number. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from envbuilder.errors import Source
from envbuilder.pip_line import Line
from envbuilder.yaml_text import decode

if TYPE_CHECKING:
    from envbuilder.pip_line import PipOption

# Only these end a line; `str.splitlines` would also split inside a line that holds, say, a form feed.
_LINE_END: Final = re.compile(r"\r\n|\r|\n")
_COMMENT: Final = re.compile(r"(^|\s)#.*$")
INCLUDES: Final = frozenset({"--requirement", "--constraint"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RequirementsTxt:
    """The lines of a requirements or constraints file, without comments and credentials."""

    path: str
    """Relative to the model directory."""
    lines: tuple[Line, ...]
    source: Source

    @classmethod
    def parse(cls, text: str | bytes, *, file: str, path: str | None = None) -> RequirementsTxt:
        """Read the text of a requirements file; the key of each line is `line 3`, the first where it continues."""
        source = Source(file=file)
        lines: list[Line] = []
        pending, first = "", 0
        for number, line in enumerate(_LINE_END.split(decode(text, source=source)), start=1):
            first = first if pending else number
            # A comment ends the line it stands on, also where that line would continue.
            body = _COMMENT.sub("", line)
            if body.endswith("\\"):
                pending += body[:-1] + " "
                continue
            lines.extend(_stated(pending + body, source, first))
            pending = ""
        lines.extend(_stated(pending, source, first))
        return cls(path=file if path is None else path, lines=tuple(lines), source=source)


def included_path(option: PipOption, *, beside: str) -> str | None:
    """Return the path of the file that `-r` or `-c` names, in the model directory; None where it leads out of it."""
    if "://" in option.value or "\\" in option.value or option.value.startswith(("/", "~")):
        return None
    parts: list[str] = []
    for part in (PurePosixPath(beside).parent / option.value).parts:
        if part != "..":
            parts.append(part)
        elif parts:
            parts.pop()
        else:
            return None
    return "/".join(parts) or None


def _stated(text: str, source: Source, number: int) -> tuple[Line, ...]:
    line = text.strip()
    return (Line.of(line, source=source.child(f"line {number}")),) if line else ()
