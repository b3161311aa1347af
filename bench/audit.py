"""Audits a lock of 500 packages against a database of 20,000 vulnerabilities, and writes the page.

All archives are in the caches, and the database was taken over: what is measured is what somebody waits for each time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from envbuilder.audit import vulnerability_database
from envbuilder.installer import wheels
from envbuilder.lockfile import Lockfile
from tests.audit import samples
from tests.package_index import wheel

PACKAGES, ENTRIES, ROUNDS = 500, 20_000, 3


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        machine = samples.machine_at(top)
        packages = []
        for number in range(PACKAGES):
            made = wheel(f"package{number}", metadata=("License-Expression: MIT",))
            needed = tuple(f"package{other}" for other in range(number + 1, min(number + 6, PACKAGES)))
            locked = replace(made.locked(), dependencies=needed)
            path = wheels.wheel_path(locked, machine.wheels)
            path.parent.mkdir(parents=True)
            path.write_bytes(made.data)
            packages.append(locked)
        file = top / "conda-lock.yml"
        file.write_text(Lockfile.of([samples.lock_of(*packages)]).to_text())
        entries = [samples.entry(f"GHSA-{n}", f"package{n % 5000}", fixed="2.0") for n in range(ENTRIES)]
        (top / "all.zip").write_bytes(samples.zipped(*entries))
        start = time.monotonic()
        vulnerability_database.update(str(top / "all.zip"), machine)
        found = {"take over": round(time.monotonic() - start, 2)}
        for form in ("json", "html"):
            command = [sys.executable, "-m", "envbuilder", "audit", str(file), "--format", form, "-q"]
            environ = {**os.environ, "ENVBUILDER_CACHE_DIR": str(machine.settings.cache_dir)}
            seconds, size = [], 0
            for _ in range(ROUNDS):
                start = time.monotonic()
                ended = subprocess.run(command, env=environ, capture_output=True, check=False)
                seconds.append(time.monotonic() - start)
                assert ended.returncode == 1, ended.stderr.decode()
                size = len(ended.stdout)
            found[form] = round(sorted(seconds)[ROUNDS // 2], 2)
            found[f"{form} kB"] = size // 1000
        print(json.dumps(found))


if __name__ == "__main__":
    main()
