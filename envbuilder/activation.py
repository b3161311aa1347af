"""What activating a conda environment sets, found once at build and written into the image as plain variables.

Packages bring shell scripts (`etc/conda/activate.d`) and JSON (`etc/conda/env_vars.d`) for it. In an image nobody
activates anything, so the scripts run once: in the base image with its own `sh`, no network and no rights, with the
packages that have such files and all they depend on below the prefix. The difference of the variables counts, but for
those that decide how programs are found and loaded (PATH, LD_LIBRARY_PATH, PYTHONPATH, …): a package that sets one of
those would change the image's server, too.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from envbuilder import conda_environment, digest, disk
from envbuilder.build_step import OUTPUT, Input, Step
from envbuilder.image_plan import ENVIRONMENT_PREFIX
from envbuilder.installer import conda_packages, merge_trees

if TYPE_CHECKING:
    from pathlib import Path

    from envbuilder.base_image import BaseImage
    from envbuilder.engine import Engine
    from envbuilder.environment_spec import EnvironmentSpec
    from envbuilder.locked import Lock
    from envbuilder.machine import Machine

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_REFUSED: Final = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|IFS|ENV|PS\d|PWD|OLDPWD|SHLVL|_|(LD|DYLD|PYTHON|BASH|CONDA)_?.*"
)
_SHOWN_REFUSED: Final = re.compile(r"PATH|(LD|PYTHON)_?.*")
"""Of what is not taken over, what a person should hear of."""

_SECONDS: Final = 60
_ANSWER: Final = "answer.json"
_MOST: Final = 200
_LONGEST: Final = 8192
_VERSION: Final = 1
"""Raise it when the same lock would give other variables."""

_PROGRAM: Final = """
import json, os, subprocess, sys
prefix, most = sys.argv[1], 1 << 20
if not os.access("/bin/sh", os.X_OK):
    sys.exit("no shell")
environ = {"CONDA_PREFIX": prefix, "CONDA_DEFAULT_ENV": prefix, "CONDA_SHLVL": "1", "HOME": "/tmp", "LANG": "C.UTF-8",
           "PATH": prefix + "/bin:/usr/local/bin:/usr/bin:/bin"}
script = '''
for script in "$CONDA_PREFIX"/etc/conda/activate.d/*.sh; do
  if [ -f "$script" ]; then . "$script"; fi
done
exec "$0" -I -S -c 'import json, os; os.write('"$1"', json.dumps(dict(os.environ)).encode()[:1 << 20])'
'''
reader, writer = os.pipe()
child = subprocess.Popen(["/bin/sh", "-c", script, sys.executable, str(writer)], env=environ, pass_fds=[writer],
                         stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
os.close(writer)
with open(reader, "rb") as stream:
    after = json.loads(stream.read(most))
with open(sys.argv[2], "w") as stream:
    json.dump({name: value for name, value in after.items() if environ.get(name) != value}, stream)
"""


def variables(
    lock: Lock, spec: EnvironmentSpec, base: BaseImage, engine: Engine, *, machine: Machine
) -> tuple[tuple[str, str], ...]:
    """Return what activating the lock's conda packages sets, sorted; warns of what is not run or not taken over.

    The answer is kept: the same lock on the same base is asked once.
    """
    key = digest.of_json([_VERSION, lock.digest, base.digest, ENVIRONMENT_PREFIX])
    record = machine.probes / f"activation-{digest.hex_of(key)}.json"
    known = _recorded(record)
    if known is None:
        known = _ask(lock, spec, base, engine, machine)
        disk.write_file(record, json.dumps(known).encode())
    for text in known["warnings"]:
        machine.reporter.warning(text)
    return tuple((name, value) for name, value in known["variables"])


def _recorded(record: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(record.read_bytes())
    except (OSError, ValueError):
        return None
    return found if found.keys() == {"variables", "warnings"} else None


def _ask(lock: Lock, spec: EnvironmentSpec, base: BaseImage, engine: Engine, machine: Machine) -> dict[str, Any]:
    fetch = conda_environment.fetcher(spec, machine)
    fetch(lock.conda_packages)
    facts = {one.name: conda_packages.facts(one, machine) for one in lock.conda_packages}
    warnings = []
    scripted = [name for name, known in facts.items() if known.scripts]
    if scripted:
        warnings.append(f"link scripts are not run; these conda packages have some: {', '.join(scripted)}")
    found: dict[str, str] = {}
    active = [name for name, known in facts.items() if known.activates]
    if active:
        python = next(one for one in lock.conda_packages if one.name == "python")
        needed = conda_packages.closure(lock.conda_packages, active)
        chosen = [one for one in lock.conda_packages if one.name in needed]
        with disk.temporary_directory(machine.trees) as work:
            places = conda_packages.link(chosen, python, work, prefix=ENVIRONMENT_PREFIX, fetch=fetch, machine=machine)
            root = work / ".root"
            root.mkdir(mode=0o755)
            merge_trees.merge(list(places.items()), root)
            static = _static(root)
            answer = _answer(root, base, engine, work, machine)
        if answer is None:
            warnings.append(f"activation scripts have no effect, they do not run in the base: {', '.join(active)}")
        found = {**static, **(difference(answer) if answer is not None else {})}
    taken, left = taken_over(found)
    if left:
        warnings.append(f"activation sets {', '.join(left)}; the image does not take that over")
    return {"variables": sorted(taken.items()), "warnings": warnings}


def _answer(root: Path, base: BaseImage, engine: Engine, work: Path, machine: Machine) -> bytes | None:
    """Return what the program says of the files below `root`; None where the scripts do not run in the base."""
    output = work / ".output"
    output.mkdir()
    step = Step(
        command=(base.interpreter.executable, "-I", "-S", "-c", _PROGRAM, ENVIRONMENT_PREFIX, f"{OUTPUT}/{_ANSWER}"),
        environ=(),
        inputs=(Input(directory=root / ENVIRONMENT_PREFIX.lstrip("/"), target=ENVIRONMENT_PREFIX),),
        output=output,
        timeout=_SECONDS,
    )
    ended = engine.run_in_base(base, step, machine=machine)
    answer = output / _ANSWER
    return answer.read_bytes() if ended.code == 0 and answer.is_file() else None


def _static(root: Path) -> dict[str, str]:
    """Return the variables that packages write down as JSON; a later name wins."""
    found: dict[str, str] = {}
    for file in sorted((root / ENVIRONMENT_PREFIX.lstrip("/") / "etc/conda/env_vars.d").glob("*.json")):
        try:
            value = json.loads(file.read_bytes()) if file.is_file() and not file.is_symlink() else {}
        except ValueError:
            continue
        if isinstance(value, dict):
            found |= {str(name): str(text) for name, text in value.items()}
    return found


def difference(answer: bytes) -> dict[str, str]:
    """Return the variables in the program's answer; a script may have spoilt it."""
    try:
        found = json.loads(answer)
    except ValueError:
        return {}
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else {}


def taken_over(found: dict[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return what an image may set, and the names of the rest that somebody should hear of."""
    taken: dict[str, str] = {}
    left = []
    for name, value in sorted(found.items()):
        sayable = value.isprintable() and len(value) <= _LONGEST and _NAME.match(name) is not None
        if sayable and not _REFUSED.fullmatch(name) and len(taken) < _MOST:
            taken[name] = value
        elif not sayable or _SHOWN_REFUSED.fullmatch(name) or not _REFUSED.fullmatch(name):
            left.append(ascii(name)[1:-1] if not _NAME.match(name) else name)
    return taken, tuple(left)
