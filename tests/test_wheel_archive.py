from __future__ import annotations

import csv
import io
import random
import struct
import zipfile
from typing import TYPE_CHECKING

import pytest
from packaging.tags import Tag

from envbuilder import wheel_archive
from envbuilder.errors import InvalidFileError, Source
from tests.package_index import WheelFile, record_hash, wheel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WHERE = Source(file="https://index.example/thing.tar.gz")
INFO = "thing-1.0.dist-info"


def kept(file: WheelFile, tmp_path: Path) -> Path:
    path = tmp_path / file.name
    path.write_bytes(file.data)
    return path


def changed(file: WheelFile, change: Callable[[list[tuple[zipfile.ZipInfo, bytes]]], object]) -> WheelFile:
    """Return the wheel with its members as `change` leaves them."""
    with zipfile.ZipFile(io.BytesIO(file.data)) as archive:
        members = [(info, archive.read(info)) for info in archive.infolist()]
    change(members)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for info, data in members:
            archive.writestr(info, data)
    return WheelFile(name=file.name, data=buffer.getvalue())


def test_a_wheel_says_what_it_is(tmp_path: Path) -> None:
    file = wheel("Some_Thing", "1.0", requires=("Numpy >= 1.2", "tool[x]; extra == 'more'"), tag="py2.py3-none-any")
    found = wheel_archive.read(kept(file, tmp_path))
    assert found == wheel_archive.WheelMetadata(
        filename="Some_Thing-1.0-py2.py3-none-any.whl",
        name="some-thing",  # type: ignore[arg-type]
        version="1.0",
        tags=frozenset({Tag("py2", "none", "any"), Tag("py3", "none", "any")}),
        requires=("Numpy>=1.2", 'tool[x]; extra == "more"'),
    )


def test_the_same_content_is_the_same_bytes(tmp_path: Path) -> None:
    file = wheel(
        "thing",
        files={
            "thing/__init__.py": b"a = 1\n",
            "thing/run.sh": b"#!/bin/sh\n",
            "thing/__pycache__/x.pyc": b"bytecode",
            "a.pth": b"",
            f"{INFO}/RECORD.jws": b"signature",
        },
        executables=("thing/run.sh",),
    )
    order = random.Random(1)

    def otherwise(members: list[tuple[zipfile.ZipInfo, bytes]]) -> None:
        order.shuffle(members)
        for number, (info, _) in enumerate(members):
            info.date_time = (2001, 2, 3, 4, 5, number % 60)
            info.external_attr |= 0o066 << 16
        members.append((zipfile.ZipInfo("thing/"), b""))

    made = []
    for number, one in enumerate((file, changed(file, otherwise))):
        folder = tmp_path / str(number)
        folder.mkdir()
        wheel_archive.normalise(kept(one, folder), folder / "new.whl", where=WHERE)
        made.append((folder / "new.whl").read_bytes())
    assert made[0] == made[1]
    with zipfile.ZipFile(io.BytesIO(made[0])) as archive:
        infos = archive.infolist()
        record = list(csv.reader(archive.read(f"{INFO}/RECORD").decode().splitlines()))
        content = {info.filename: archive.read(info) for info in infos}
    assert [info.filename for info in infos] == [
        "a.pth",
        "thing/__init__.py",
        "thing/run.sh",
        f"{INFO}/METADATA",
        f"{INFO}/WHEEL",
        f"{INFO}/RECORD",
    ]
    assert [info.external_attr >> 16 for info in infos][1:3] == [0o100644, 0o100755]
    assert {info.date_time for info in infos} == {(1980, 1, 1, 0, 0, 0)}
    assert {info.compress_type for info in infos} == {zipfile.ZIP_STORED}
    expected = [[name, f"sha256={record_hash(data)}", str(len(data))] for name, data in content.items()]
    assert record == [*expected[:-1], [f"{INFO}/RECORD", "", ""]]


def test_a_wheel_without_a_record_gets_one(tmp_path: Path) -> None:
    path = kept(wheel("thing", recorded=False), tmp_path)
    wheel_archive.normalise(path, tmp_path / "new.whl", where=WHERE)
    with zipfile.ZipFile(tmp_path / "new.whl") as archive:
        assert archive.namelist()[-1] == f"{INFO}/RECORD"


def renamed(name: str) -> WheelFile:
    return WheelFile(name=name, data=wheel("thing").data)


def _metadata(text: str) -> WheelFile:
    def change(members: list[tuple[zipfile.ZipInfo, bytes]]) -> None:
        members[:] = [(info, text.encode() if info.filename.endswith("METADATA") else data) for info, data in members]

    return changed(wheel("thing"), change)


def _moved(file: WheelFile) -> WheelFile:
    """Let the directory of the zip file say that it begins later than it does."""
    at = file.data.rfind(b"PK\5\6")
    (offset,) = struct.unpack_from("<L", file.data, at + 16)
    data = file.data[: at + 16] + struct.pack("<L", offset + 1_000_000) + file.data[at + 20 :]
    return WheelFile(name=file.name, data=data)


def _mode(mode: int) -> WheelFile:
    def change(members: list[tuple[zipfile.ZipInfo, bytes]]) -> None:
        members[0][0].external_attr = mode << 16

    return changed(wheel("thing"), change)


HEAD = "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n"
REFUSED = {
    "no wheel's name": (renamed("thing.whl"), "its name is not a wheel's"),
    "strange characters": (renamed("thing-1.0-py3-none-any .whl"), "its name"),
    "no zip": (WheelFile(name="thing-1.0-py3-none-any.whl", data=b"<html>"), "it is damaged (BadZipFile"),
    "cut off": (WheelFile(name="thing-1.0-py3-none-any.whl", data=wheel("thing").data[:-9]), "it is damaged"),
    "another name": (renamed("other-1.0-py3-none-any.whl"), "it says it is `thing 1.0`, its file name says otherwise"),
    "another version": (renamed("thing-2.0-py3-none-any.whl"), "it says it is `thing 1.0`"),
    "no version": (_metadata("Metadata-Version: 2.1\nName: thing\n"), "it says it is `thing `"),
    "no metadata": (changed(wheel("thing"), lambda members: members.pop(1)), "it is damaged (KeyError"),
    "bad requirement": (_metadata(HEAD + "Requires-Dist: -r file\n"), "what it requires cannot be read"),
    "bad python": (_metadata(HEAD + "Requires-Python: three\n"), "what it requires cannot be read"),
    "huge metadata": (_metadata(HEAD + "\n" + "x" * (9 << 20)), "`thing-1.0.dist-info/METADATA` is larger than any"),
    "empty name": (changed(wheel("thing"), lambda members: setattr(members[0][0], "filename", "")), "which leaves it"),
    "places before the start": (_moved(wheel("thing")), "it is damaged (OSError"),
    "two infos": (wheel("thing", files={"b-1.dist-info/x": b""}), "it has 2 `.dist-info` folders"),
    "no info": (changed(wheel("thing"), lambda members: members.__delitem__(slice(1, None))), "it has 0 `.dist-info`"),
    "path out": (wheel("thing", files={"../x": b""}), "it holds the path '../x', which leaves it"),
    "absolute path": (wheel("thing", files={"/x": b""}), "it holds the path '/x', which leaves it"),
    "link": (_mode(0o120777), "its member `thing/__init__.py` is not a file"),
}


@pytest.mark.parametrize(("file", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_honest_wheel_is_refused(file: WheelFile, said: str, tmp_path: Path) -> None:
    path = kept(file, tmp_path)
    with pytest.raises(InvalidFileError) as raised:
        wheel_archive.read(path)
    (problem,) = raised.value.problems
    assert said in problem.what
    assert problem.where == Source(file=str(path))


def test_too_many_members_and_bytes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = kept(wheel("thing"), tmp_path)
    for limit in ("_MAX_MEMBERS", "_MAX_BYTES"):
        with monkeypatch.context() as patched:
            patched.setattr(wheel_archive, limit, 2)
            with pytest.raises(InvalidFileError, match="it is larger than any wheel in use"):
                wheel_archive.read(path, where=WHERE)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    file = changed(wheel("thing"), lambda members: members.append(members[0]))
    with pytest.raises(InvalidFileError, match=r"it holds `thing/__init__\.py` twice"):
        wheel_archive.normalise(kept(file, tmp_path), tmp_path / "new.whl", where=WHERE)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
