"""One call of a build backend in a base image: its tools installed, cut off from everything, its answer checked."""

from __future__ import annotations

import json
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from envbuilder import build_failure, disk, wheel_backend
from envbuilder.build_step import OUTPUT, PLACE, Input, Step
from envbuilder.build_system import requirement_lines
from envbuilder.errors import BuildFailedError
from envbuilder.image_plan import prefix_entries
from envbuilder.installer import wheels
from envbuilder.secret import printable
from envbuilder.source_tree import EPOCH

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envbuilder.base_image import BaseImage
    from envbuilder.build_system import BuildSystem
    from envbuilder.engine import Engine
    from envbuilder.locked import LockedPackage
    from envbuilder.machine import Machine
    from envbuilder.source_tree import SourceTree

TIMEOUT: Final = 1800
SCRIPT: Final = Path(wheel_backend.__file__)
_ENVIRONMENT: Final = f"{PLACE}/environment"
_SOURCE: Final = f"{PLACE}/source"
_MAX_ANSWER: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendCall:
    """Who builds which source with which tools."""

    called: str
    """What people are told is built."""

    tree: SourceTree
    system: BuildSystem
    lines: tuple[str, ...]
    """The requirement lines that the tools satisfy."""

    tools: tuple[LockedPackage, ...]

    def wrong(self, what: str) -> BuildFailedError:
        """Return the error for a source that does not become the wheel that it should."""
        return BuildFailedError(
            f"`{self.called}` cannot be built from source: {what}",
            where=self.tree.where,
            fix="use another version of it, or tell its authors",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A wheel, as the backend made it, or what the backend wants installed first."""

    wheel: Path | None = None
    requires: tuple[str, ...] = ()
    """As the backend spells them, which is what it compares with."""


@contextmanager
def answered(call: BackendCall, *, base: BaseImage, engine: Engine, machine: Machine) -> Iterator[Answer]:
    """Call the backend and give its answer; the wheel's file is there as long as the block lasts."""
    wheels.fetch(call.tools, machine)
    with disk.temporary_directory(machine.builds) as work:
        output = work / "output"
        output.mkdir()
        task = {
            "source": f"{_SOURCE}/{call.tree.subdirectory}".rstrip("/"),
            "output": OUTPUT,
            "backend": call.system.backend,
            "path": call.system.path,
            "known": call.lines,
        }
        step = Step(
            command=(f"{_ENVIRONMENT}/bin/python", "-c", SCRIPT.read_text(encoding="utf-8"), json.dumps(task)),
            environ=_environ(base),
            inputs=(
                Input(directory=call.tree.directory, target=f"{PLACE}/source", is_copied=True),
                Input(directory=_environment(work, call, base, machine), target=f"{PLACE}/environment"),
            ),
            output=output,
            timeout=TIMEOUT,
        )
        ended = engine.run_in_base(base, step, machine=machine)
        if ended.code is None:
            raise BuildFailedError(
                f"`{call.called}` cannot be built from source: it took longer than {TIMEOUT} s",
                where=call.tree.where,
                fix="offer a wheel of it in an index",
            )
        if ended.code != 0:
            raise build_failure.error(call.called, ended.tail, code=ended.code, where=call.tree.where)
        yield _answer(output, call)


def _environ(base: BaseImage) -> tuple[tuple[str, str], ...]:
    """Return what a build starts with: of the base's variables, those that do not change Python itself."""
    given = {name: value for name, value in base.environ if not name.startswith("PYTHON")}
    path = given.get("PATH", "/usr/local/bin:/usr/bin:/bin")
    fixed = {
        "PATH": f"{_ENVIRONMENT}/bin:{path}",
        "HOME": "/tmp",  # noqa: S108 - the sandbox's own
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "SOURCE_DATE_EPOCH": str(EPOCH),
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",
    }
    return tuple({**given, **fixed}.items())


def _environment(work: Path, call: BackendCall, base: BaseImage, machine: Machine) -> Path:
    """Make the virtual environment of the build below `work` and return its directory."""
    wheels.merge(call.tools, work, prefix=_ENVIRONMENT, interpreter=base.interpreter, machine=machine)
    for entry in prefix_entries(_ENVIRONMENT, base.interpreter):
        path = work / entry.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if entry.link is not None:
            path.unlink(missing_ok=True)
            path.symlink_to(entry.link)
        elif isinstance(entry.content, bytes):
            disk.write_file(path, entry.content)
        else:
            path.mkdir(exist_ok=True)
    environment = work / _ENVIRONMENT.lstrip("/")
    # Whatever the umask: the build runs as another user.
    for path in (environment, *environment.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
    return environment


def _answer(output: Path, call: BackendCall) -> Answer:
    wanted = output / "requires.json"
    if wanted.is_file():
        lines = _json(wanted, call)
        if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
            raise call.wrong("its backend asks for what is no list of requirements")
        requirement_lines(lines, source=call.tree.where)
        return Answer(requires=tuple(lines))
    told = output / "wheel.json"
    filename = _json(told, call) if told.is_file() else None
    found = sorted(output.glob("*.whl"))
    if [path.name for path in found] != [filename]:
        names = ", ".join(f"`{printable(path.name)}`" for path in found) or "nothing"
        raise call.wrong(f"its backend left {names}, expected one wheel and its name")
    return Answer(wheel=found[0])


def _json(path: Path, call: BackendCall) -> Any:  # noqa: ANN401 - whatever the backend answered
    try:
        with path.open("rb") as stream:
            return json.loads(stream.read(_MAX_ANSWER))
    except (ValueError, RecursionError) as cause:
        raise call.wrong("its backend gave no answer") from cause
