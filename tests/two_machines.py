"""One build with two machines' worth of separation: all that differs between machines and that one can imitate."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.conftest import BASE

if TYPE_CHECKING:
    from pathlib import Path

_ANOTHER_USER = ("unshare", "--user", "--map-user=1234", "--map-group=1234")
"""Somebody without rights who owns the same files: the tests' Python may lie where only its owner comes."""

_MACHINES = (
    ((), 0o022, {"TZ": "UTC", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0"}),
    (_ANOTHER_USER, 0o077, {"TZ": "Asia/Tokyo", "LC_ALL": "tr_TR.UTF-8", "PYTHONHASHSEED": "1", "LOGNAME": "other"}),
)


def layouts_of(model: Path, folder: Path, **environ: str) -> list[dict[str, bytes]]:
    """Return the files of the OCI layouts of two builds, and the digests that were told.

    They have their own user, umask, time zone, locale, hash seed, home, cache, directory and layout, and the model's
    files were written in another order.
    """
    found = []
    for number, (user, umask, differing) in enumerate(_MACHINES):
        place, name = folder / f"machine-{number}", "models" * (number + 1)
        paths = sorted((path for path in model.rglob("*") if path.is_file()), reverse=bool(number))
        for path in paths:
            target = place / name / path.relative_to(model)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
        arguments = ("--engine", "oci", "--base", BASE, "-t", "same:1", "--no-smoke", "-o", "layout", "--json")
        before = os.umask(umask)
        try:
            finished = subprocess.run(
                (*user, sys.executable, "-m", "envbuilder", "build", name, *arguments),
                env={
                    **os.environ,
                    **environ,
                    **differing,
                    "HOME": str(place / "home"),
                    "ENVBUILDER_CACHE_DIR": str(place / "cache"),
                },
                cwd=place,
                capture_output=True,
                text=True,
                check=False,
                timeout=300,
            )
        finally:
            os.umask(before)
        assert finished.returncode == 0, finished.stderr
        layout = place / "layout"
        files = {str(path.relative_to(layout)): path.read_bytes() for path in layout.rglob("*") if path.is_file()}
        found.append({**files, "digest": json.loads(finished.stdout)["digest"].encode()})
        # Gigabytes are not kept for the rest of the tests.
        shutil.rmtree(place / "cache")
    return found
