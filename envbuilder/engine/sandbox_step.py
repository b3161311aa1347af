"""Steps in a namespace sandbox over an unpacked base image."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from envbuilder import disk, sandbox
from envbuilder.build_step import MAX_OUTPUT, OUTPUT, USER, StepEnded
from envbuilder.errors import BuildFailedError, Source

if TYPE_CHECKING:
    from envbuilder.build_step import Step
    from envbuilder.machine import Machine


def run(root: Path, step: Step, *, machine: Machine) -> StepEnded:
    """Run the step over the directory `root`; raises EngineMissingError where this machine allows no sandbox."""
    with disk.temporary_directory(machine.builds) as work:
        output = work / "output"
        output.mkdir()
        binds = [sandbox.Bind(source=output, target=OUTPUT, writable=True)]
        for number, one in enumerate(step.inputs):
            source = one.directory
            if one.is_copied:
                source = work / "inputs" / str(number)
                shutil.copytree(one.directory, source, symlinks=True)
            binds.append(sandbox.Bind(source=source, target=one.target, writable=one.is_copied))
        _give_away(work)
        box = sandbox.Sandbox(lower=(root,), command=step.command, environ=step.environ, binds=tuple(binds))
        try:
            finished = sandbox.run(box, timeout=step.timeout, on_line=lambda line: machine.reporter.line("build", line))
        except TimeoutError:
            return StepEnded(code=None, tail=())
        _collect(output, step.output)
    return StepEnded(code=finished.code, tail=finished.tail)


def _give_away(work: Path) -> None:
    """Let the sandbox's user own what is in `work`, where that is another user than this one."""
    if os.geteuid() != 0:
        return
    for folder, _, files in os.walk(work):
        for path in (folder, *(str(Path(folder, file)) for file in files)):
            os.chown(path, USER, USER, follow_symlinks=False)


def _collect(output: Path, target: Path) -> None:
    """Move the regular files out; whatever else a program leaves there could lead a reader elsewhere."""
    left = MAX_OUTPUT
    for entry in sorted(os.scandir(output), key=lambda entry: entry.name):
        if not entry.is_file(follow_symlinks=False):
            continue
        left -= entry.stat(follow_symlinks=False).st_size
        if left < 0:
            raise BuildFailedError(
                f"the build left more than {MAX_OUTPUT} bytes behind",
                where=Source(file=OUTPUT),
                fix="offer a wheel of the package in an index",
            )
        Path(entry.path).chmod(0o644)
        shutil.move(entry.path, target / entry.name)
