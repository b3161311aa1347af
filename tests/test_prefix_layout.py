from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import pytest

from envbuilder import activation_script
from envbuilder.errors import BuildFailedError
from envbuilder.installer import wheel_install
from envbuilder.installer.wheel_install import DirectoryWriter, StateWriter
from envbuilder.prefix_layout import PrefixLayout
from tests.package_index import WheelFile, wheel

if TYPE_CHECKING:
    from pathlib import Path

FULL = wheel(
    "full",
    files={
        "full/__init__.py": b"",
        "full-1.0.data/scripts/tool": b"#!python\nprint(1)\n",
        "full-1.0.data/data/share/full.txt": b"",
        "full-1.0.data/headers/full.h": b"",
    },
    entry_points="[console_scripts]\nfull = full:main\n[gui_scripts]\nwindow = full:window\n",
)
WINDOWS = PrefixLayout(prefix="C:\\env", minor="3.11", system="win")
MAC = PrefixLayout(prefix="/Users/me/env", minor="3.12", system="osx")


def installed(layout: PrefixLayout, file: WheelFile, folder: Path) -> Path:
    path = folder / file.name
    path.write_bytes(file.data)
    wheel_install.install(file.locked(), path, layout=layout, write=DirectoryWriter(folder / "env"))
    return folder / "env"


def test_windows_has_folders_and_launchers_of_its_own(tmp_path: Path) -> None:
    env = installed(WINDOWS, FULL, tmp_path)
    found = {path.relative_to(env).as_posix() for path in env.rglob("*") if path.is_file()}
    assert {path for path in found if ".dist-info" not in path} == {
        "Lib/site-packages/full/__init__.py",
        "Scripts/full.exe",
        "Scripts/window.exe",
        "Scripts/tool",
        "share/full.txt",
        "include/site/python3.11/full/full.h",
    }
    launcher = (env / "Scripts/full.exe").read_bytes()
    assert launcher.startswith(b"MZ")
    assert b"#!C:\\env\\Scripts\\python.exe" in launcher
    with zipfile.ZipFile(env / "Scripts/full.exe") as script:
        assert b"from full import main" in script.read("__main__.py")
    record = (env / "Lib/site-packages/full-1.0.dist-info/RECORD").read_text()
    assert "../../Scripts/full.exe,sha256=" in record


@pytest.mark.parametrize("path", ["a\\..\\..\\evil.py", "c:evil.py"], ids=["backslash", "drive"])
def test_a_path_that_leaves_its_place_on_windows_is_refused_there(path: str, tmp_path: Path) -> None:
    file = wheel("evil", files={path: b""})
    with pytest.raises(BuildFailedError, match="leaves the environment"):
        installed(WINDOWS, file, tmp_path)
    assert (installed(MAC, file, tmp_path) / "lib/python3.12/site-packages" / path).is_file()


@pytest.mark.parametrize(
    ("layout", "python", "scripts"),
    [
        (MAC, "/Users/me/env/bin/python", "bin"),
        (WINDOWS, "C:\\env\\Scripts\\python.exe", "Scripts"),
        (PrefixLayout(prefix="C:\\env", minor="3.11", system="win", has_conda=True), "C:\\env\\python.exe", "Scripts"),
    ],
    ids=["mac", "windows", "conda on windows"],
)
def test_each_system_has_its_interpreter(layout: PrefixLayout, python: str, scripts: str) -> None:
    assert (layout.executable, layout.scripts) == (python, scripts)


def test_a_long_path_is_started_through_a_shell(tmp_path: Path) -> None:
    layout = PrefixLayout(prefix=f"/{'long' * 40}", minor="3.11")
    path = tmp_path / FULL.name
    path.write_bytes(FULL.data)
    kept: dict[str, bytes] = {}

    def keep(path: str, data: bytes, *, executable: bool) -> None:
        del executable
        kept[path] = data

    wheel_install.install(FULL.locked(), path, layout=layout, write=keep)
    assert kept["bin/tool"].startswith(b"#!/bin/sh\n'''exec' \"/long")
    states = StateWriter()
    wheel_install.install(FULL.locked(), path, layout=layout, write=states)
    assert states.states.keys() == kept.keys()


def test_windows_is_activated_by_a_batch_file() -> None:
    (plain,) = activation_script.scripts(PrefixLayout(prefix="C:\\100% env", minor="3.11", system="win"))
    assert (plain.language, plain.path, plain.command) == (
        "cmd",
        "Scripts/activate.bat",
        '"C:\\100% env\\Scripts\\activate.bat"',
    )
    assert b'@set "VIRTUAL_ENV=C:\\100%% env"\r\n' in plain.content
    assert b'@set "PATH=C:\\100%% env\\Scripts;%PATH%"\r\n' in plain.content
    (conda,) = activation_script.scripts(PrefixLayout(prefix="C:\\env", minor="3.11", system="win", has_conda=True))
    assert conda.path == "envbuilder-meta/activate.bat"
    assert b'@set "PATH=C:\\env;C:\\env\\Library\\mingw-w64\\bin;' in conda.content
    assert b"etc\\conda\\activate.d" in conda.content


def test_the_words_of_shells_quote_the_path() -> None:
    sh, fish = activation_script.scripts(PrefixLayout(prefix="/a b/it's", minor="3.11", has_conda=True))
    assert sh.command == """. '/a b/it'"'"'s/envbuilder-meta/activate'"""
    assert fish.command == r"source '/a b/it\'s/envbuilder-meta/activate.fish'"
    assert b"activate.d" in sh.content
    plain, _ = activation_script.scripts(MAC)
    assert (plain.path, plain.command) == ("bin/activate", ". /Users/me/env/bin/activate")
    assert b"activate.d" not in plain.content
    assert rb"set -gx CONDA_PREFIX '/a b/it\'s'" in fish.content
