from __future__ import annotations

import os
import platform
import tarfile
from typing import TYPE_CHECKING

import pytest

from envbuilder import layer
from envbuilder.bases import debian, debian_bytecode
from envbuilder.image_store import ImageStore
from envbuilder.layer import Entry
from envbuilder.oci_image import Image, Platform, RunConfig
from envbuilder.reporter import Reporter
from envbuilder.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
OWN = MACHINES.get(platform.machine(), "")


def image(store: ImageStore, architecture: str, *entries: Entry) -> Image:
    made = layer.write_layer(store, entries, comment="base")
    return Image(platform=Platform(os="linux", architecture=architecture), config=RunConfig(), layers=(made,))


def test_another_architecture_is_not_compiled(tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "images")
    other = next(name for name in MACHINES.values() if name != OWN)
    found = debian_bytecode.standard_library(image(store, other), store=store, settings=Settings(cache_dir=tmp_path))
    assert found is None


def test_an_image_without_an_interpreter_is_not_compiled(tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "images")
    base = image(store, OWN, Entry(path="usr/lib/python3.11/json.py", mode=0o644, content=b"x = 1\n"))
    assert debian_bytecode.standard_library(base, store=store, settings=Settings(cache_dir=tmp_path)) is None


@pytest.mark.process
def test_an_interpreter_that_does_not_start_compiles_nothing(tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "images")
    base = image(
        store,
        OWN,
        Entry(path="usr/lib/x/ld-linux-x.so.2", mode=0o755, content=b"not a program"),
        Entry(path="usr/lib/x/libc.so", mode=0o777, link="libc.so.6"),
        Entry(path="usr/bin/python3.11", mode=0o755, content=b"not a program"),
        Entry(path="usr/lib/x/copy", mode=0o755, hard_link="usr/bin/python3.11"),
    )
    assert debian_bytecode.standard_library(base, store=store, settings=Settings(cache_dir=tmp_path)) is None
    assert not list((tmp_path / "debian" / "bytecode").iterdir())


@pytest.mark.network
@pytest.mark.process
@pytest.mark.skipif(not OWN, reason="no base images are made for this machine's architecture")
def test_bytecode_names_the_images_paths_and_is_always_the_same(tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "images")
    settings = Settings.from_environ({**os.environ, "ENVBUILDER_CACHE_DIR": str(tmp_path / "cache")})
    base = debian.assemble("bookworm", architecture=OWN, store=store, settings=settings, reporter=Reporter())
    elsewhere = Settings(cache_dir=tmp_path / "a much longer path" / "cache")
    first = debian_bytecode.standard_library(base, store=store, settings=settings)
    second = debian_bytecode.standard_library(base, store=store, settings=elsewhere)
    assert first is not None
    assert first == second == debian_bytecode.standard_library(base, store=store, settings=settings)
    with layer.open_layer(store.blob_path(first.blob.digest)) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
        stream_of = tar.extractfile("usr/lib/python3.11/json/__pycache__/decoder.cpython-311.pyc")
        assert stream_of is not None
        content = stream_of.read()
    assert content[4:8] == b"\x01\0\0\0"  # PEP 552: by hash, not checked
    assert b"/usr/lib/python3.11/json/decoder.py" in content
    assert str(tmp_path).encode() not in content
