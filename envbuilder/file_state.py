"""What a file of an environment is: its content, whether it can be run, or what it links to. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from envbuilder import digest

if TYPE_CHECKING:
    from envbuilder.digest import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class FileState:
    """A file, or a symbolic link."""

    sha256: Digest | None = None
    """None for links, and for what is neither file nor directory."""

    executable: bool = False
    link: str | None = None
    """What a link says; None for files."""

    @classmethod
    def of_bytes(cls, data: bytes, *, executable: bool) -> FileState:
        """Return the state of a file with that content."""
        return cls(sha256=digest.of_bytes(data), executable=executable)
