"""Every seed, and every input that ever broke a promise, read without atheris; and a short run with it."""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.fuzz import fuzz
from tests.fuzz.fence import fenced, suspended
from tests.fuzz.targets import CANARY, TARGETS, planted, planted_uri

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

INPUTS = sorted(path for target in TARGETS for path in (fuzz.SEEDS / target).iterdir())


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_seed_is_read_as_promised(path: Path) -> None:
    read = TARGETS[path.parent.name]
    with suspended():
        read(path.read_bytes())
    read(path.read_bytes())


def test_every_folder_of_seeds_has_a_target() -> None:
    assert {path.name for path in fuzz.SEEDS.iterdir()} == set(TARGETS)


def test_every_line_of_the_dictionary_is_a_word() -> None:
    for line in (fuzz.HERE / "envbuilder.dict").read_text().splitlines():
        assert re.fullmatch(r'#.*|"(?:[^"\\]|\\["\\]|\\x[0-9a-f]{2})+"', line), line


@pytest.mark.parametrize(
    "read",
    [
        lambda path: (path / "outside").read_bytes(),
        lambda path: list(path.iterdir()),
        lambda path: (path / "model" / "inside").write_bytes(b""),
        lambda path: (path / "model" / "link").read_bytes(),
        lambda path: os.remove(path / "model" / "inside"),  # noqa: PTH107
        lambda _: os.system("true"),  # noqa: S605, S607
        lambda _: subprocess.run(["true"], check=False),  # noqa: S607
        lambda _: socket.socket().connect(("127.0.0.1", 9)),
        lambda _: exec("1"),  # noqa: S102
    ],
    ids=["outside", "above", "write", "link", "remove", "shell", "program", "network", "code"],
)
@pytest.mark.process
def test_the_fence_fails_what_a_reader_must_not_do(read: Callable[[Path], object], tmp_path: Path) -> None:
    root = tmp_path / "model"
    root.mkdir()
    (tmp_path / "outside").write_bytes(b"")
    (root / "inside").write_bytes(b"")
    (root / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(AssertionError, match="must not"), fenced(root):
        read(tmp_path)


def test_the_fence_lets_a_model_be_read(tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_bytes(b"text")
    with fenced(tmp_path):
        assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"text"]


def test_the_fence_fails_a_reader_that_went_on(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="outside"), fenced(), suppress(OSError):
        (tmp_path / "outside").read_bytes()


def test_every_url_of_most_inputs_gets_a_password() -> None:
    texts = [planted(b"x @ https://a.example/t/b?c=d, s3://e" + b" " * more).decode() for more in range(7)]
    assert sorted(text.count(CANARY) for text in texts) == [0, 0, 0, 4, 4, 4, 4]
    uris = [planted_uri(b"s3://bucket/" + b"a" * more).decode() for more in range(7)]
    assert sorted(uri.count(CANARY) for uri in uris) == [0, 0, 0, 0, 1, 1, 1]
    assert planted(f"{CANARY[:5]}{CANARY}{CANARY[5:]}".encode()) == b""


def test_an_input_of_each_kind_of_failure_is_kept(tmp_path: Path) -> None:
    def read(data: bytes) -> None:
        assert data != b"bad"
        assert data != b"worse", "and why"

    for data in (b"good", b"bad", b"worse", b"bad"):
        fuzz._attempt(read, data, tmp_path)
    found = {path.read_bytes() for path in tmp_path.iterdir() if not path.suffix}
    assert found == {b"bad", b"worse"}
    assert any("and why" in path.read_text() for path in tmp_path.glob("*.txt"))


@pytest.mark.process
@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="there is no atheris for this Python and machine"
)
@pytest.mark.parametrize("target", ["match_spec", "model"])
def test_a_short_run_finds_nothing(target: str, tmp_path: Path) -> None:
    outcome = fuzz.run(target, inputs=500, output=tmp_path)
    assert outcome.is_clean, outcome.log[-3000:]
    assert outcome.inputs >= 500
    assert outcome.edges > 50
    assert f"{target} " in fuzz.table([outcome])
