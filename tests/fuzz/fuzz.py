"""Fuzzes the readers with atheris: `python -m tests.fuzz.fuzz [--inputs N] [TARGET …]`, or `make fuzz INPUTS=N`.

Each target of `targets` runs in a process of its own, two at a time, from its seeds in `seeds/TARGET` and with the
words of `envbuilder.dict`. The run ends with a table, and with exit code 1 where something was found.

What breaks a promise is kept in `.cache/fuzz/found/TARGET`, one input for each kind of failure and its traceback: mend
the reader, and move the input to the seeds, which `test_fuzz` reads without atheris. What covers new code is kept in
`.cache/fuzz/corpus/TARGET`, where the next run goes on. An input that takes more memory than `MEGABYTES` is found as a
MemoryError; one that takes longer than `SECONDS` ends its target.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import resource
import subprocess
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.fuzz.fence import suspended

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

HERE: Final = Path(__file__).resolve().parent
SEEDS: Final = HERE / "seeds"
OUTPUT: Final = HERE.parent.parent / ".cache" / "fuzz"
SECONDS: Final = 30
MEGABYTES: Final = 1024
BYTES: Final = 8192

_STATUS: Final = re.compile(r"^#(\d+)\s.*?cov: (\d+) ft: (\d+) corp: (\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one target."""

    target: str
    inputs: int
    seconds: float
    edges: int
    features: int
    corpus: int
    found: tuple[Path, ...]
    code: int
    log: str

    @property
    def is_clean(self) -> bool:
        return self.code == 0 and not self.found


def run(target: str, *, inputs: int, output: Path = OUTPUT, longest: int = BYTES, seed: int = 0) -> Outcome:
    """Fuzz one target in a process of its own."""
    corpus, found = output / "corpus" / target, output / "found" / target
    corpus.mkdir(parents=True, exist_ok=True)
    found.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    finished = subprocess.run(
        [
            *(sys.executable, "-m", "tests.fuzz.fuzz", "--within", target),
            *(str(corpus), str(SEEDS / target)),
            f"-runs={inputs}",
            f"-seed={seed}",
            f"-max_len={longest}",
            f"-dict={HERE / 'envbuilder.dict'}",
            f"-timeout={SECONDS}",
            f"-report_slow_units={SECONDS}",
            "-rss_limit_mb=0",
            f"-artifact_prefix={found}/",
        ],
        cwd=HERE.parent.parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    reports = [tuple(map(int, one)) for one in _STATUS.findall(finished.stderr)] or [(0, 0, 0, 0)]
    return Outcome(
        target=target,
        inputs=reports[-1][0],
        seconds=time.monotonic() - started,
        edges=reports[-1][1],
        features=reports[-1][2],
        corpus=reports[-1][3],
        found=tuple(sorted(path for path in found.iterdir() if path.suffix != ".txt")),
        code=finished.returncode,
        log=finished.stderr,
    )


def within(target: str, arguments: list[str]) -> None:
    """Fuzz one target in this process; does not return."""
    # libFuzzer's own limit looks at the highest use ever, which a process inherits from the one that started it.
    resource.setrlimit(resource.RLIMIT_AS, (MEGABYTES << 20, MEGABYTES << 20))
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["envbuilder", "packaging"]):
        targets = importlib.import_module("tests.fuzz.targets")
    read: Callable[[bytes], None] = targets.TARGETS[target]
    prefix = next(one.partition("=")[2] for one in arguments if one.startswith("-artifact_prefix="))
    with suspended():
        for path in sorted((SEEDS / target).iterdir()):
            _attempt(read, path.read_bytes(), Path(prefix))
    atheris.Setup([sys.argv[0], *arguments], lambda data: _attempt(read, data, Path(prefix)))
    atheris.Fuzz()


def _attempt(read: Callable[[bytes], None], data: bytes, found: Path) -> None:
    """Read one input; keep it where it breaks a promise, the first of each kind, and go on."""
    try:
        read(data)
    except Exception as error:  # noqa: BLE001 - whatever it is, it was found
        frames = traceback.extract_tb(error.__traceback__)
        trace = "".join(traceback.format_exception(error))
        kind = sha256(f"{type(error).__name__} {[(one.filename, one.lineno) for one in frames]}".encode()).hexdigest()[
            :12
        ]
        path = found / kind
        if not path.exists():
            path.write_bytes(data)
            path.with_suffix(".txt").write_text(trace, errors="replace")


def table(outcomes: Iterable[Outcome]) -> str:
    """Return what came of the targets, for people."""
    rows = [f"{'target':<24}{'inputs':>10}{'per second':>12}{'edges':>8}{'features':>10}{'corpus':>8}{'found':>7}"]
    for one in outcomes:
        rate = one.inputs / one.seconds if one.seconds else 0
        found = len(one.found) or ("failed" if one.code else 0)
        rows.append(
            f"{one.target:<24}{one.inputs:>10}{rate:>12.0f}{one.edges:>8}{one.features:>10}{one.corpus:>8}{found:>7}"
        )
    return "\n".join(rows)


def main() -> int:
    """Fuzz the named targets, or all."""
    names = sorted(path.name for path in SEEDS.iterdir())
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(names))
    parser.add_argument("--inputs", type=int, default=5000, metavar="N", help="for each target; default: %(default)s")
    parser.add_argument("--longest", type=int, default=BYTES, metavar="BYTES", help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers; default: another each time")
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="DIR", help="default: .cache/fuzz")
    given = parser.parse_args()
    if unknown := set(given.targets) - set(names):
        parser.error(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    with ThreadPoolExecutor(max_workers=min(2, os.cpu_count() or 1)) as pool:
        outcomes = list(
            pool.map(
                lambda target: run(
                    target, inputs=given.inputs, output=given.output, longest=given.longest, seed=given.seed
                ),
                given.targets or names,
            )
        )
    print(table(outcomes))
    for one in outcomes:
        if one.code:
            print(f"\n{one.target} ended with {one.code}:\n{one.log[-2000:]}", file=sys.stderr)
    return 0 if all(one.is_clean for one in outcomes) else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--within"]:
        within(sys.argv[2], sys.argv[3:])
    sys.exit(main())
