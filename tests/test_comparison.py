from __future__ import annotations

import pytest

from envbuilder import comparison, digest
from envbuilder.expected_file import ExpectedFile
from envbuilder.file_state import FileState
from envbuilder.locked import Lock
from envbuilder.prefix_layout import PrefixLayout
from envbuilder.target import Target
from tests.package_index import wheel

LAYOUT = PrefixLayout(prefix="/env", minor="3.11")
SITE = LAYOUT.site_packages
LOCK = Lock(
    packages=(wheel("one").locked(), wheel("two").locked()),
    target=Target(subdir="linux-64"),
    packages_digest=digest.of_bytes(b""),
    python_version="3.11.7",
    tool_version="0",
)
FILE, OTHER = FileState.of_bytes(b"x", executable=False), FileState.of_bytes(b"y", executable=False)
EXPECTED = {
    f"{SITE}/one/__init__.py": ExpectedFile(owner="one", states=(FILE,)),
    f"{SITE}/one-1.0.dist-info/METADATA": ExpectedFile(owner="one", states=(FILE,)),
    f"{SITE}/two/__init__.py": ExpectedFile(owner="two", states=(OTHER, FILE)),
    f"{SITE}/two-1.0.dist-info/RECORD": ExpectedFile(owner="two", states=()),
    "lib/link.so": ExpectedFile(owner="two", states=(FileState(link="link.so.1"),)),
}
FOUND = {
    f"{SITE}/one/__init__.py": FILE,
    f"{SITE}/one-1.0.dist-info/METADATA": FILE,
    f"{SITE}/two/__init__.py": OTHER,
    f"{SITE}/two-1.0.dist-info/RECORD": OTHER,
    "lib/link.so": FileState(link="link.so.1"),
}


def compared(found: dict[str, FileState]) -> list[tuple[str, str, str, str]]:
    return [(one.kind, one.package, one.path, one.detail) for one in comparison.compare(LOCK, EXPECTED, found, LAYOUT)]


def test_what_any_owner_brings_is_as_locked_and_what_may_be_anything_too() -> None:
    assert compared(FOUND) == []


@pytest.mark.parametrize(
    ("path", "state", "detail"),
    [
        (f"{SITE}/one/__init__.py", FileState(link="/x"), "links to /x, is to be a file"),
        (f"{SITE}/one/__init__.py", OTHER, "has sha256:a1fce4363854, locked is sha256:2d711642b726"),
        (f"{SITE}/one/__init__.py", FileState(), "is neither file nor link"),
        (f"{SITE}/one/__init__.py", FileState.of_bytes(b"x", executable=True), "can be run, and is not to"),
        ("lib/link.so", FileState(link="/x"), "links to /x, not to link.so.1"),
        ("lib/link.so", FILE, "is to be a link to link.so.1"),
    ],
)
def test_a_change_is_told_in_words(path: str, state: FileState, detail: str) -> None:
    owner = EXPECTED[path].owner
    assert compared({**FOUND, path: state}) == [("changed", owner, path, detail)]


def test_a_file_that_is_to_be_run_and_cannot_is_told() -> None:
    wanted = {"bin/x": ExpectedFile(owner="one", states=(FileState.of_bytes(b"x", executable=True),))}
    (found,) = comparison.compare(LOCK, wanted, {"bin/x": FILE}, LAYOUT)
    assert found.to_dict() == {
        "kind": "changed",
        "package": "one",
        "path": "bin/x",
        "detail": "cannot be run, and is to",
    }


def test_another_version_is_told_once_and_what_it_left_too() -> None:
    found = {path: state for path, state in FOUND.items() if not path.startswith(f"{SITE}/one")}
    found[f"{SITE}/one-2.0.dist-info/METADATA"] = FILE
    assert compared(found) == [
        ("other version", "one", "", "locked is 1.0, here is 2.0"),
        ("extra", "", f"{SITE}/one-2.0.dist-info/METADATA", "belongs to nothing that is locked"),
    ]


def test_many_files_of_one_folder_are_told_together() -> None:
    more = {f"{SITE}/more/{number}.py": FILE for number in range(4)}
    more |= {f"{SITE}/Some_More-1.dist-info/METADATA": FILE}
    assert compared({**FOUND, **more}) == [
        ("extra package", "some-more", "", "1 is not locked"),
        ("extra", "", f"{SITE}/Some_More-1.dist-info/METADATA", "belongs to nothing that is locked"),
        ("extra", "", f"{SITE}/more/", "4 files that belong to nothing that is locked"),
    ]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("a/__pycache__/b.cpython-311.pyc", "a/b.py"),
        ("a/__pycache__/b.cpython-311.opt-2.pyc", "a/b.py"),
        ("__pycache__/b.c.cpython-311.pyc", "b.c.py"),
        ("a/__pycache__/b.cpython-312.pyc", None),
        ("a/__pycache__/b.cpython-311.opt-3.pyc", None),
        ("a/__pycache__/b.cpython-311.nbi", None),
        ("a/b.cpython-311.pyc", None),
        ("a/b.py", None),
    ],
)
def test_bytecode_is_known_by_its_name(path: str, source: str | None) -> None:
    assert comparison.source_of(path, LAYOUT) == source
