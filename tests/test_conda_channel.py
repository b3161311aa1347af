from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING

import pytest

from envbuilder import process
from tests import conda_channel
from tests.conda_channel import SUBDIRS, running_channel, sample, write_channel

if TYPE_CHECKING:
    from pathlib import Path

INSTALL = """
import asyncio, json, os, sys
import rattler
job = json.load(sys.stdin)

async def main():
    here = [rattler.Subdir("linux-64"), rattler.Subdir("noarch")]
    glibc = rattler.GenericVirtualPackage(
        rattler.PackageName("__glibc"), rattler.Version("2.36"), rattler.BuildString("0")
    )
    gateway = rattler.Gateway(cache_dir=job["cache"])
    records = await rattler.solve(
        [job["url"]], ["hello", "numpy", "python=3.11"], gateway=gateway, platforms=here, virtual_packages=[glibc]
    )
    await rattler.install(
        records, target_prefix=job["prefix"], cache_dir=job["cache"], installed_packages=[], platform=here[0],
        show_progress=False,
    )

asyncio.run(main())
print("installed", flush=True)
os._exit(0)
"""


def test_the_sample_has_the_same_bytes_each_time_and_is_quick() -> None:
    began = time.monotonic()
    first = [(one.name, one.sha256) for one in sample.__wrapped__()]
    assert time.monotonic() - began < 0.5
    assert [(one.name, one.sha256) for one in sample.__wrapped__()] == first
    assert {one.subdir for one in sample()} == {*SUBDIRS, "noarch"}
    assert {one.name.rpartition(".")[2] for one in sample()} == {"conda", "bz2"}


def test_what_a_folder_holds_is_what_the_server_sends(tmp_path: Path) -> None:
    write_channel(tmp_path, sample())
    written = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with running_channel() as server:
        server.add("main")
        assert server.channels["main"] == written
    records = json.loads(written["noarch/repodata.json"])
    assert records["packages.conda"]["hello-1.0-pyhd8ed1ab_0.conda"]["noarch"] == "python"
    assert list(records["packages"]) == ["six-1.16.0-pyhd8ed1ab_0.tar.bz2"]


@pytest.mark.process
def test_rattler_installs_the_packages(tmp_path: Path) -> None:
    prefix = tmp_path / "prefix"
    job = {
        "url": write_channel(tmp_path / "channel", sample()),
        "prefix": str(prefix),
        "cache": str(tmp_path / "cache"),
    }
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    command = (sys.executable, "-I", "-c", INSTALL)
    finished = process.run(command, environ=environ, stdin=json.dumps(job).encode(), timeout=60)
    assert finished.stdout == b"installed\n", finished.tail
    assert (prefix / "bin" / "hello").read_text().startswith(f"#!{prefix}/bin/python3.11\n")
    python = process.run((str(prefix / "bin" / "python"), "--version"), environ=environ)
    assert python.stdout == b"Python 3.11.7\n"
    library = (prefix / "lib" / "python3.11" / "site-packages" / "numpy" / "core.so").read_bytes()
    assert str(prefix).encode() in library
    assert conda_channel.PLACEHOLDER.encode() not in library
    assert (prefix / "lib" / "python3.11" / "site-packages" / "six.py").is_file()
