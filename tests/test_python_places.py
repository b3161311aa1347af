from __future__ import annotations

import pytest

from envbuilder import python_places


def patterns(system: str, **environ: str) -> list[tuple[str, str]]:
    return [(one.owner, one.pattern) for one in python_places.of_minor("3.11", system, environ)]


def test_the_path_comes_first_without_shims_and_relative_folders() -> None:
    found = patterns("linux", PATH="/a/bin:bin::/home/me/.pyenv/shims:/b[1]")
    assert found[:6] == [
        ("PATH", "/a/bin/python3.11"),
        ("PATH", "/a/bin/python3"),
        ("PATH", "/a/bin/python"),
        ("PATH", "/b[[]1]/python3.11"),
        ("PATH", "/b[[]1]/python3"),
        ("PATH", "/b[[]1]/python"),
    ]
    assert found[6:] == [("the system", "/usr/local/bin/python3.11"), ("the system", "/usr/bin/python3.11")]


@pytest.mark.parametrize(
    ("environ", "pyenv", "uv"),
    [
        ({"HOME": "/home/me"}, "/home/me/.pyenv", "/home/me/.local/share/uv/python"),
        ({"HOME": "/home/me", "PYENV_ROOT": "/opt/pyenv", "XDG_DATA_HOME": "/data"}, "/opt/pyenv", "/data/uv/python"),
        ({"HOME": "/h", "UV_PYTHON_INSTALL_DIR": "/opt/uv"}, "/h/.pyenv", "/opt/uv"),
    ],
    ids=["home", "own folders", "uv's own"],
)
def test_pyenv_and_uv_keep_theirs_by_version(environ: dict[str, str], pyenv: str, uv: str) -> None:
    found = patterns("linux", **environ)
    assert ("pyenv", f"{pyenv}/versions/3.11.*/bin/python3.11") in found
    assert ("uv", f"{uv}/cpython-3.11.*/bin/python3.11") in found


def test_a_mac_has_homebrew_and_the_framework() -> None:
    found = patterns("osx", HOME="/Users/me")
    assert (
        "python.org's installer",
        "/Library/Frameworks/Python.framework/Versions/3.11/bin/python3.11",
    ) in found
    assert ("Homebrew", "/opt/homebrew/opt/python@3.11/bin/python3.11") in found


def test_windows_has_what_the_launcher_finds() -> None:
    found = patterns(
        "win",
        PATH="C:\\Tools;relative",
        LOCALAPPDATA="C:\\Users\\me\\AppData\\Local",
        APPDATA="C:\\Users\\me\\AppData\\Roaming",
        USERPROFILE="C:\\Users\\me",
    )
    assert found == [
        ("PATH", "C:\\Tools\\python.exe"),
        ("the py launcher", "C:\\Users\\me\\AppData\\Local\\Programs\\Python\\Python311\\python.exe"),
        ("pyenv", "C:\\Users\\me\\.pyenv\\pyenv-win\\versions\\3.11.*\\python.exe"),
        ("uv", "C:\\Users\\me\\AppData\\Roaming\\uv\\python\\cpython-3.11.*\\python.exe"),
    ]
