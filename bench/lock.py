"""Measures locks side by side: envbuilder, bare uv, conda-lock's own solver and pip, on what a real model asks for.

    python bench/lock.py

Every figure is wall-clock seconds of one whole command, in one run, the tools in turns; medians, and ratios of them.
*Cold* is an empty cache for each call, *warm* the cache of the tool's calls before. The index is the machine's.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pip._internal.models.index import PyPI
from uv import find_uv_bin

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from envbuilder.settings import Settings  # noqa: E402 - the repository is not a package

if TYPE_CHECKING:
    from collections.abc import Callable

ASKED: Final = ("mlflow", "scikit-learn", "pandas", "xgboost")
PYTHON: Final = "3.11"
GLIBC: Final = 28
REPEATS: Final = 7
SLOW_REPEATS: Final = 3
GOALS: Final = {"uv": 1.5, "conda-lock": 1 / 8}
"""How long `envbuilder lock` may take, measured by the others."""

MODEL: Final = f"""\
flavors:
  python_function:
    env: {{conda: conda.yaml}}
    loader_module: mlflow.sklearn
    python_version: {PYTHON}.0
mlflow_version: 3.1.0
"""
Command = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A way to find the packages: the command for a cache folder and an output file, and its variables."""

    name: str
    command: Callable[[Path, Path], Command]
    environ: Callable[[Path], dict[str, str]]
    slow: bool = False
    warm_only: bool = False
    seconds: dict[str, list[float]] = field(default_factory=lambda: {"cold": [], "warm": []})


def machine_environ(settings: Settings) -> dict[str, str]:
    """Return this machine's variables without what one tool would read and another would not."""
    kept = {
        name: value
        for name, value in os.environ.items()
        # Without bytecode Python compiles every module at every start, which no installed program does.
        if not name.startswith(("PIP_", "UV_")) and name != "PYTHONDONTWRITEBYTECODE"
    }
    kept |= {"SSL_CERT_FILE": str(settings.ca_file)} if settings.ca_file is not None else {}
    return {**kept, "UV_PYTHON_DOWNLOADS": "never"}


def tools(folder: Path, settings: Settings) -> list[Tool]:
    environ = machine_environ(settings)
    index = settings.index_url or PyPI.simple_url
    certificates = {"PIP_CERT": str(settings.ca_file)} if settings.ca_file is not None else {}
    asked, kept = folder / "requirements.in", folder / "kept.conda-lock.yml"
    asked.write_text("\n".join(ASKED) + "\n")
    platforms = [
        "manylinux1",
        "manylinux2010",
        "manylinux2014",
        *(f"manylinux_2_{one}" for one in range(17, GLIBC + 1)),
    ]

    def uv(cache: Path, output: Path) -> Command:
        """Return the command with the flags that envbuilder gives, but for those of its two forms of output."""
        return (
            *(find_uv_bin(), "pip", "compile", str(asked), "-o", str(output), "--cache-dir", str(cache)),
            *("--no-config", "--no-build", "--generate-hashes", "--python", sys.executable),
            *("--python-version", PYTHON, "--python-platform", f"x86_64-manylinux_2_{GLIBC}"),
        )

    def of_uv(_: Path) -> dict[str, str]:
        return {**environ, "UV_DEFAULT_INDEX": index}

    def envbuilder(output: Path) -> Command:
        return (sys.executable, "-m", "envbuilder", "lock", str(folder / "model"), "--no-base", "-o", str(output))

    def of_envbuilder(cache: Path) -> dict[str, str]:
        return {**environ, "ENVBUILDER_CACHE_DIR": str(cache), "ENVBUILDER_INDEX_URL": index}

    return [
        Tool(name="uv", command=uv, environ=of_uv),
        Tool(
            name="uv, left to find a Python",
            # Its interpreter is of no consequence for the answer, but each one on the PATH is started and asked.
            command=lambda cache, output: tuple(
                word for word in uv(cache, output) if word not in {"--python", sys.executable}
            ),
            environ=of_uv,
        ),
        Tool(name="envbuilder lock", command=lambda _, output: envbuilder(output), environ=of_envbuilder),
        Tool(
            name="envbuilder lock, again",
            command=lambda _, __: envbuilder(kept),
            environ=of_envbuilder,
            warm_only=True,
        ),
        Tool(
            name="conda-lock",
            command=lambda _, __: (
                *(sys.executable, str(REPOSITORY / "bench" / "conda_lock_solver.py"), index, PYTHON, *ASKED),
            ),
            environ=lambda cache: {**environ, "XDG_CACHE_HOME": str(cache), "HOME": str(cache)},
            slow=True,
        ),
        Tool(
            name="pip",
            command=lambda cache, output: (
                *(sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed"),
                *("--only-binary", ":all:", "--python-version", PYTHON, "--target", str(folder / "target")),
                *(word for one in platforms for word in ("--platform", f"{one}_x86_64")),
                *("--cache-dir", str(cache), "--report", str(output), *ASKED),
            ),
            environ=lambda _: {**environ, **certificates, "PIP_INDEX_URL": index, "PIP_CONFIG_FILE": os.devnull},
            slow=True,
        ),
    ]


def call(tool: Tool, cache: Path, output: Path) -> tuple[float, str]:
    began = time.monotonic()
    finished = subprocess.run(
        tool.command(cache, output), env=tool.environ(cache), capture_output=True, text=True, check=False
    )
    taken = time.monotonic() - began
    if finished.returncode != 0:
        sys.exit(f"{tool.name} failed\n{finished.stdout[-2000:]}\n{finished.stderr[-4000:]}")
    return taken, finished.stdout


def measure(folder: Path, listed: list[Tool]) -> dict[str, int]:
    """Call each tool in turn, cold and warm; return how many packages each found."""
    found = {}
    for tool in listed:
        # Fills the warm cache, and compiles the bytecode; not counted.
        output = folder / f"{tool.name}.out"
        _, printed = call(tool, folder / f"warm {tool.name}", output)
        found[tool.name] = count(tool, output if output.exists() else folder / "kept.conda-lock.yml", printed)
    for turn in range(REPEATS):
        for tool in listed:
            if tool.slow and turn >= SLOW_REPEATS:
                continue
            for state in ("cold", "warm"):
                if state == "cold" and tool.warm_only:
                    continue
                cache = folder / f"{state} {tool.name}"
                output = folder / "output"
                output.unlink(missing_ok=True)
                tool.seconds[state].append(call(tool, cache, output)[0])
                if state == "cold":
                    shutil.rmtree(cache, ignore_errors=True)
        print(f"turn {turn + 1} of {REPEATS}, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
    return found


def count(tool: Tool, output: Path, printed: str) -> int:
    """Return how many packages the answer has."""
    if tool.name == "conda-lock":
        return len(printed.splitlines())
    text = output.read_text()
    if tool.name == "pip":
        return len(json.loads(text)["install"])
    mark = "- name: " if tool.name.startswith("envbuilder") else ""
    return sum(line.startswith(mark) and ("==" in line or bool(mark)) for line in text.splitlines() if line[:1] != "#")


def table(listed: list[Tool], found: dict[str, int]) -> bool:
    """Print the table; True when the goals are met."""
    medians = {
        (tool.name, state): statistics.median(taken)
        for tool in listed
        for state, taken in tool.seconds.items()
        if taken
    }
    print("| | packages | cold | warm | cold, by uv | warm, by uv |\n|---|---|---|---|---|---|")
    for tool in listed:
        cells = [tool.name, str(found[tool.name])]
        for state in ("cold", "warm"):
            taken = tool.seconds[state]
            shown = f"{medians[tool.name, state]:.2f} ({min(taken):.2f}-{max(taken):.2f})" if taken else "-"
            cells.append(shown)
        for state in ("cold", "warm"):
            own = medians.get((tool.name, state))
            cells.append(f"{own / medians['uv', state]:.2f}" if own is not None else "-")
        print(f"| {' | '.join(cells)} |")
    good = True
    for other, limit in GOALS.items():
        for state in ("cold", "warm"):
            ratio = medians["envbuilder lock", state] / medians[other, state]
            good &= ratio <= limit
            by = (
                f"{ratio:.2f} of {other}'s time"
                if ratio > GOALS["conda-lock"] * 2
                else f"1/{1 / ratio:.1f} of {other}'s"
            )
            print(f"{state}: {by}", file=sys.stderr)
    return good


def main() -> None:
    settings = Settings.from_environ(os.environ)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model").mkdir()
        (folder / "model" / "MLmodel").write_text(MODEL)
        (folder / "model" / "conda.yaml").write_text(
            f"dependencies: [python={PYTHON}, {{pip: [{', '.join(ASKED)}]}}]\n"
        )
        os.environ["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")
        listed = tools(folder, settings)
        found = measure(folder, listed)
        good = table(listed, found)
    if not good:
        sys.exit(f"the goal is {GOALS['uv']} times uv's time, and an eighth of conda-lock's")


if __name__ == "__main__":
    main()
