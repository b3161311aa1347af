"""The files that a batch run reads: found below the given paths, in an order that is always the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any, Iterator

KINDS = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pqt": "parquet",
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif"), "image"),
}
_SHOWN = 5
_TOLD = 10


class InvalidInputsError(Exception):
    """Inputs that cannot be read, one problem a line."""


@dataclass(frozen=True)
class InputFile:
    """One file to predict for."""

    path: Path
    name: str
    """Its path below the input that was given, with `/`: what the output calls it."""
    kind: str
    size: int
    changed: int
    """Nanoseconds, of its last change."""

    @property
    def key(self) -> list[Any]:
        """What must be the same for a run to go on."""
        return [self.name, self.size, self.changed]


def find(inputs: list[Path], *, output: Path) -> list[InputFile]:
    """Return the files, sorted by name below each input; raises InvalidInputsError with all that is wrong.

    Folders are searched to their depths. Names that begin with `.` or `_` are left out: other programs keep their own
    notes in those.
    """
    problems: list[str] = []
    found: list[InputFile] = []
    for given in inputs:
        if given.is_dir():
            if given.resolve() in output.resolve().parents:
                problems.append(f"the output `{output}` would be inside the input `{given}`: choose another place")
                continue
            files = list(_below(given, given, problems))
            if not files:
                problems.append(f"`{given}` holds no file")
        elif given.exists():
            files = [_file(given, given.name, problems)]
        else:
            problems.append(f"`{given}` does not exist")
            continue
        found.extend(one for one in files if one is not None)
    problems += _of_all(found)
    if problems:
        more = [f"and {len(problems) - _TOLD} more"] if len(problems) > _TOLD else []
        raise InvalidInputsError("\n".join(problems[:_TOLD] + more))
    return found


def _below(folder: Path, root: Path, problems: list[str]) -> Iterator[InputFile | None]:
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        problems.append(f"`{folder}` cannot be read: {error.strerror}")
        return
    for path in paths:
        if path.name.startswith((".", "_")):
            continue
        if path.is_dir() and path.is_symlink():
            problems.append(f"`{path}` is a link to a folder, which may lead in circles: name that folder too")
        elif path.is_dir():
            yield from _below(path, root, problems)
        else:
            yield _file(path, path.relative_to(root).as_posix(), problems)


def _file(path: Path, name: str, problems: list[str]) -> InputFile | None:
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        problems.append(f"`{path}` is of no kind that is read: {', '.join(KINDS)}")
        return None
    try:
        name.encode()
    except UnicodeEncodeError:
        problems.append(f"the name of `{path!a}` is not UTF-8")
        return None
    try:
        status = path.stat()
        with path.open("rb"):
            pass
    except OSError as error:
        problems.append(f"`{path}` cannot be read: {error.strerror}")
        return None
    return InputFile(path.resolve(), name, kind, status.st_size, status.st_mtime_ns)


def _of_all(found: list[InputFile]) -> list[str]:
    problems: list[str] = []
    kinds = {one.kind for one in found}
    if "image" in kinds and len(kinds) > 1:
        problems.append("the inputs mix images and tables: predict for them one after the other")
    names: dict[str, int] = {}
    for one in found:
        names[one.name] = names.get(one.name, 0) + 1
    double = [name for name, count in names.items() if count > 1]
    if double:
        shown = ", ".join(f"`{name}`" for name in double[:_SHOWN])
        problems.append(f"two inputs have the same name, so nobody could tell their predictions apart: {shown}")
    return problems
