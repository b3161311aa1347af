"""What pickles ask for, read without loading them: real ones, and those of attackers."""

from __future__ import annotations

import collections
import datetime as dt
import io
import os
import pickle
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from envbuilder.audit import pickle_imports

if TYPE_CHECKING:
    from pathlib import Path


class Harmful:
    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_real_pickle_names_what_it_imports(protocol: int) -> None:
    value = {"a": collections.OrderedDict(b=dt.date(2020, 1, 1)), "c": {1, 2}, "d": dt.date(2021, 1, 1)}
    found = pickle_imports.read(io.BytesIO(pickle.dumps(value, protocol)))
    assert {"collections.OrderedDict", "datetime.date"} <= set(found.names)
    assert (found.is_whole, found.unknown, found.dangerous) == (True, False, ())


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_one_that_runs_a_program_is_called_dangerous_and_runs_nothing(protocol: int, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    found = pickle_imports.read(io.BytesIO(pickle.dumps(Harmful(str(mark)), protocol)))
    assert found.dangerous == ("posix.system",)
    assert not mark.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
        b"cos\nsystem\n.",
        b"(ios\nsystem\n.",
        # The name lies in the memo from before.
        b"\x80\x04\x8c\x06system\x94\x8c\x02os\x94\x30\x30h\x01h\x00\x93.",
        # The second of two pickles that follow each other.
        b"\x80\x04N.\x80\x04\x8c\x02os\x8c\x06system\x93.",
        b"\x80\x04\x8c\x09importlib\x8c\x0dimport_module\x93.",
        b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.",
    ],
)
def test_attackers_spellings_are_seen_through(data: bytes) -> None:
    assert pickle_imports.read(io.BytesIO(data)).dangerous


@pytest.mark.parametrize(
    "data",
    [
        # Duplicated, taken from the stack, put together by a call, or by a registry of extensions.
        b"\x80\x04\x8c\x02os\x32\x93.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x8c\x01x\x30\x93.",
        b"\x80\x02\x82\x01.",
    ],
)
def test_a_name_that_cannot_be_read_is_told(data: bytes) -> None:
    assert pickle_imports.read(io.BytesIO(data)).unknown


@pytest.mark.parametrize(
    "data", [b"", b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\xff", b"no pickle", b"\x80\x05", b"\xff" * 100]
)
def test_what_is_damaged_is_no_error(data: bytes) -> None:
    found = pickle_imports.read(io.BytesIO(data))
    assert found.is_whole is (data == b"")


def test_one_that_never_ends_is_left_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickle_imports, "MOST_OPCODES", 1000)
    assert not pickle_imports.read(io.BytesIO(b"\x80\x04" + b"N0" * 5000 + b".")).is_whole


def test_arrays_behind_a_pickle_are_no_damage() -> None:
    found = pickle_imports.read(io.BytesIO(pickle.dumps(dt.date(2020, 1, 1)) + bytes(range(256))))
    assert (found.names, found.is_whole) == (("datetime.date",), True)


def test_archives_as_torch_writes_them_are_looked_into(tmp_path: Path) -> None:
    from envbuilder.audit import model_content  # noqa: PLC0415
    from envbuilder.errors import Source  # noqa: PLC0415

    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", b"cos\nsystem\n.")
    found = [one.rule for one in model_content._of_pickle(path, Source(file="model.pt"))]
    assert found == ["pickle", "dangerous-pickle"]
    path.write_bytes(b"PK\3\4 nonsense")
    assert [one.rule for one in model_content._of_pickle(path, Source(file="model.pt"))] == ["unreadable-pickle"]
