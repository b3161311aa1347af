"""Measures a fleet: 100 models over 5 environments, built by the embedded engine, stored, and pushed to a registry.

    python bench/fleet.py [MODELS]

Needs what the tests need: the package index, Debian's mirror, and `docker-registry` (or apt-get to have it). Each model
is a few kB of its own; nothing is tried (`--no-smoke`), as that takes as long as the model's own imports. Seconds of
the work itself, without the start of Python, in one process and one run.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from envbuilder import fleet, stages  # noqa: E402 - the repository is not a package
from envbuilder.choices import Choices  # noqa: E402
from envbuilder.machine import Machine  # noqa: E402
from envbuilder.reporter import Reporter  # noqa: E402
from envbuilder.settings import Settings  # noqa: E402
from tests.registry_server import running_registry  # noqa: E402

COMMON = ("mlflow-skinny==3.17.2", "numpy==2.2.6", "pandas==2.3.3")
ENVIRONMENTS = ((), ("six==1.16.0",), ("tomli==2.2.1",), ("scipy==1.15.2",), ("scipy==1.15.2", "joblib==1.4.2"))
BASE = "debian:bookworm"


def write_model(folder: Path, extra: tuple[str, ...], *, text: str) -> Path:
    shutil.copytree(REPOSITORY / "examples" / "scale", folder, dirs_exist_ok=True)
    pins = ", ".join((*COMMON, *extra))
    (folder / "conda.yaml").write_text(f"dependencies: [python=3.11.2, {{pip: [{pins}]}}]\n")
    with (folder / "scale_model.py").open("a") as script:
        script.write(f"# {text}\n")
    return folder


def stored(folder: Path) -> int:
    """Return the bytes of all files, hard links once."""
    found = {}
    for path in folder.rglob("*"):
        state = path.lstat()
        found[state.st_ino] = state.st_size
    return sum(found.values())


def registry_program(folder: Path) -> Path:
    known = shutil.which("docker-registry")
    if known is not None:
        return Path(known)
    subprocess.run(("apt-get", "download", "-q", "docker-registry"), cwd=folder, check=True, capture_output=True)
    subprocess.run(("sh", "-c", "dpkg-deb -x docker-registry_*.deb ."), cwd=folder, check=True)
    return folder / "usr/bin/docker-registry"


def main(count: int) -> None:
    with tempfile.TemporaryDirectory(prefix="envbuilder-bench-") as name:
        folder = Path(name)
        settings = replace(Settings.from_environ(os.environ), cache_dir=folder / "cache")
        machine = Machine(settings=settings, reporter=Reporter())
        (folder / "registry").mkdir()
        with running_registry(registry_program(folder), folder / "registry") as registry:
            measure(folder, machine, f"{registry.host}/fleet/{{name}}:1", registry.folder, count)


def measure(folder: Path, machine: Machine, tag: str, registry: Path, count: int) -> None:
    for number in range(count):
        write_model(folder / f"m{number}", ENVIRONMENTS[number % len(ENVIRONMENTS)], text=str(number))
    listing = folder / "fleet.yaml"
    listing.write_text("".join(f"- m{number}\n" for number in range(count)))
    members = fleet.members(str(listing), machine=machine)
    local = Choices(engine="oci", base=BASE, smoke=False)
    pushed = replace(local, push=True, tag=tag)

    first = fleet.build(members[: len(ENVIRONMENTS)], local, machine=machine)
    before = stored(folder / "cache")
    whole = fleet.build(members, local, machine=machine)
    after = stored(folder / "cache")
    further = [one.seconds for one in whole.outcomes[len(ENVIRONMENTS) :]]
    layers = [one.report.image.layers[-1].size for one in whole.outcomes[len(ENVIRONMENTS) :] if one.report is not None]
    print(f"{len(ENVIRONMENTS)} environments from nothing: {first.seconds:.1f} s, {before / 1e6:.0f} MB in the caches")
    print(f"{count} models: {whole.seconds:.1f} s, {whole.count('failed')} failed")
    print(f"each further model: {statistics.median(further):.3f} s (worst {max(further):.3f})")
    each = (after - before) / len(further)
    print(f"each further model: {each / 1e3:.1f} kB stored, {statistics.mean(layers) / 1e3:.1f} kB its layer")

    push = fleet.build(members, pushed, machine=machine)
    sent = [one.report.pushed.size for one in push.outcomes if one.report is not None and one.report.pushed is not None]
    own = [one.seconds for one in push.outcomes[len(ENVIRONMENTS) :]]
    print(
        f"pushed: {push.seconds:.1f} s, {sum(sent) / 1e6:.1f} MB sent, {stored(registry) / 1e6:.1f} MB in the registry"
    )
    print(f"each further model pushed: {statistics.median(own):.3f} s, {statistics.median(sent) / 1e3:.1f} kB")
    again = fleet.build(members, pushed, machine=machine)
    print(f"the same again: {again.seconds:.1f} s")

    times = []
    for number in range(7):
        model = write_model(folder / "m0", ENVIRONMENTS[0], text=f"changed {number}")
        began = time.monotonic()
        stages.build(model, replace(local, tag="changed:1"), machine=machine)
        times.append(time.monotonic() - began)
    print(f"only the model changed: {statistics.median(times):.3f} s ({min(times):.3f}-{max(times):.3f})")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
