from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from envbuilder import disk
from envbuilder.errors import DiskFullError

REPOSITORY = Path(__file__).resolve().parent.parent


def python(code: str, *arguments: str, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    return subprocess.Popen(
        (*prefix, sys.executable, "-c", code, *arguments),
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole_with_its_parents(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "file"
    with disk.replaced_file(target) as stream:
        stream.write(b"half")
        assert not target.exists()
        stream.write(b" and half")
    assert target.read_bytes() == b"half and half"
    assert names(target.parent) == ["file"]


def test_the_old_content_stays_when_the_block_fails(tmp_path: Path) -> None:
    target = tmp_path / "file"
    disk.write_file(target, b"old")

    def fail() -> None:
        with disk.replaced_file(target) as stream:
            stream.write(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


@pytest.fixture
def tight_umask() -> object:
    old = os.umask(0o077)
    yield
    os.umask(old)


@pytest.mark.usefixtures("tight_umask")
def test_others_may_read_what_is_written_whatever_the_umask(tmp_path: Path) -> None:
    disk.write_file(tmp_path / "file", b"x")
    with disk.temporary_directory(tmp_path) as directory:
        assert directory.stat().st_mode & 0o777 == 0o755
    with disk.new_directory(tmp_path / "directory"):
        pass
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "directory").stat().st_mode & 0o777 == 0o755


@pytest.mark.process
@pytest.mark.parametrize(
    "block",
    [
        "with disk.replaced_file(target) as s: s.write(b'x' * 100_000); s.flush(); print('ready', flush=True); wait()",
        "with disk.new_directory(target) as d: (d / 'f').touch(); print('ready', flush=True); wait()",
    ],
    ids=["file", "directory"],
)
def test_a_killed_writer_leaves_nothing_under_the_final_name(block: str, tmp_path: Path) -> None:
    code = f"""
import sys, threading
from pathlib import Path
from envbuilder import disk
wait, target = threading.Event().wait, Path(sys.argv[1])
{block}
"""
    with python(code, str(tmp_path / "final")) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.kill()
        assert child.wait() == -signal.SIGKILL
    assert all(name.startswith(".tmp-") for name in names(tmp_path))
    disk.write_file(tmp_path / "final", b"again")
    assert (tmp_path / "final").read_bytes() == b"again"


@pytest.mark.process
def test_two_writers_at_once_leave_the_content_of_one(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from envbuilder import disk
for _ in range(200): disk.write_file(Path(sys.argv[1]), sys.argv[2].encode() * 50_000)
"""
    target = tmp_path / "file"
    children = [python(code, str(target), letter) for letter in "ab"]
    seen = set()
    while any(child.poll() is None for child in children):
        if target.exists():
            content = target.read_bytes()
            seen.add((len(content), len(set(content))))
    assert [child.wait() for child in children] == [0, 0]
    for child in children:
        assert child.stdout is not None
        child.stdout.close()
    assert seen == {(50_000, 1)}
    assert names(tmp_path) == ["file"]


def test_a_directory_appears_when_the_block_ends(tmp_path: Path) -> None:
    with disk.new_directory(tmp_path / "deep" / "final") as directory:
        (directory / "file").write_text("x")
        assert not (tmp_path / "deep" / "final").exists()
    assert names(tmp_path / "deep") == ["final"]
    assert names(tmp_path / "deep" / "final") == ["file"]


def test_a_failed_directory_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with disk.new_directory(tmp_path / "final") as directory:
            (directory / "file").touch()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert names(tmp_path) == []


def test_the_directory_of_who_came_first_stays(tmp_path: Path) -> None:
    inside = threading.Barrier(2)

    def make(name: str) -> None:
        with disk.new_directory(tmp_path / "final") as directory:
            (directory / name).touch()
            inside.wait(5)

    threads = [threading.Thread(target=make, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names(tmp_path) == ["final"]
    assert len(names(tmp_path / "final")) == 1


def test_a_file_in_the_place_of_a_directory_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "target").touch()
    with pytest.raises(NotADirectoryError):
        disk.move_directory(tmp_path / "source", tmp_path / "target")


def test_a_full_disk_is_named_with_the_fix(tmp_path: Path) -> None:
    def fill() -> None:
        with disk.full_disk_named(tmp_path), Path("/dev/full").open("wb", buffering=0) as stream:
            stream.write(b"x")

    with pytest.raises(DiskFullError) as raised:
        fill()
    assert isinstance(raised.value.__cause__, OSError)
    assert str(raised.value) == (
        f"no space left on the disk\n  at {tmp_path}\n"
        "  fix: free space there, or point ENVBUILDER_CACHE_DIR to a larger disk"
    )


def test_other_errors_of_the_system_pass_unchanged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised, disk.full_disk_named(tmp_path):
        (tmp_path / "absent").read_bytes()
    assert raised.value.errno == errno.ENOENT


@pytest.mark.process
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_disk_that_fills_up_leaves_no_half_file(tmp_path: Path) -> None:
    code = """
import os, subprocess, sys
from pathlib import Path
from envbuilder import disk
from envbuilder.errors import DiskFullError
subprocess.run(("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", sys.argv[1]), check=True)
try:
    disk.write_file(Path(sys.argv[1], "large"), bytes(2 << 20))
except DiskFullError as error:
    print(error.problems[0].where.file == sys.argv[1], os.listdir(sys.argv[1]))
"""
    with python(code, str(tmp_path), prefix=("unshare", "-m")) as child:
        assert child.communicate()[0] == "True []\n"
    assert names(tmp_path) == []
