"""`--offline`: everything from caches while no server can be reached, and each missing thing by its name."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.conftest import BASE, EXAMPLES, command_line

if TYPE_CHECKING:
    from pathlib import Path
    from subprocess import CompletedProcess

pytestmark = [pytest.mark.network, pytest.mark.process]

OCI = ("--engine", "oci", "--base", BASE)
NOBODY = "http://127.0.0.1:9"
"""Every way to the outside ends there."""


def call(cache: Path, *arguments: str | Path, without: tuple[str, ...] = (), **environ: str) -> CompletedProcess[str]:
    """Run the command line on a cache that lacks some of its parts."""
    used = cache
    if without:
        used = cache.parent / f"without-{'-'.join(without)}-{os.urandom(4).hex()}"
        used.mkdir()
        for part in cache.iterdir():
            if part.name not in without:
                (used / part.name).symlink_to(part)
    return command_line(used, *map(str, arguments), cwd=cache.parent, **environ)


def offline(cache: Path, *arguments: str | Path, without: tuple[str, ...] = ()) -> CompletedProcess[str]:
    dead = {f"{name}_proxy": NOBODY for name in ("http", "https", "all")}
    dead |= {name.upper(): value for name, value in dead.items()} | {"NO_PROXY": "", "no_proxy": ""}
    return call(cache, *arguments, "--offline", without=without, **dead)


@pytest.fixture
def warm(cache: Path, tmp_path: Path) -> Path:
    """A cache with which the example was locked and built, with its lock beside it."""
    own = tmp_path / "cache"
    own.mkdir()
    for name in ("debian", "images", "layers", "probes", "snapshots", "trees", "wheels", "uv"):
        (cache / name).mkdir(exist_ok=True)
        (own / name).symlink_to(cache / name)
    for verb in (("lock", "-o", tmp_path / "model.conda-lock.yml"), ("build", "--no-smoke", "-t", "offline:1")):
        finished = call(own, verb[0], EXAMPLES / "scale", *OCI, *verb[1:])
        assert finished.returncode == 0, finished.stderr
    return own


def test_what_was_built_once_is_locked_and_built_again_while_nobody_answers(warm: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.conda-lock.yml"
    locked = offline(warm, "lock", EXAMPLES / "scale", *OCI, "-o", again)
    assert locked.returncode == 0, locked.stderr
    assert again.read_bytes() == (tmp_path / "model.conda-lock.yml").read_bytes()
    for more in ((), ("--lock", again)):
        built = offline(warm, "build", EXAMPLES / "scale", *OCI, "--rebuild", "-t", "offline:1", *more)
        assert built.returncode == 0, built.stderr
        assert built.stdout.startswith("offline:1@sha256:")
    rendered = offline(warm, "resolve", EXAMPLES / "scale")
    assert rendered.returncode == 0


@pytest.mark.parametrize(
    ("verb", "without", "code", "words"),
    [
        ("build", ("debian",), 7, ("not in the caches, and `--offline` forbids to download it", "/InRelease")),
        (
            "lock",
            ("uv",),
            5,
            ("not all that is needed is in the cache, and `--offline` forbids", "was not found in the cache"),
        ),
        (
            "build",
            ("uv", "locks"),
            7,
            ("the server's packages for Python 3.11", "`--offline` forbids to ask the index"),
        ),
        (
            "build",
            ("wheels",),
            7,
            ("`numpy-2.2.6-", "`pandas-2.3.3-", "`uvicorn-", "is not in the caches, and `--offline` forbids"),
        ),
    ],
    ids=["base", "index", "server", "wheels"],
)
def test_what_is_missing_is_named(
    verb: str, without: tuple[str, ...], code: int, words: tuple[str, ...], warm: Path, tmp_path: Path
) -> None:
    lock = ("--lock", tmp_path / "model.conda-lock.yml") if verb == "build" else ()
    more = ("--rebuild", *lock) if verb == "build" else ()
    finished = offline(warm, verb, EXAMPLES / "scale", *OCI, *more, without=without)
    assert finished.returncode == code, finished.stderr
    for word in words:
        assert word in finished.stderr
    assert "hint: " in finished.stderr
