from __future__ import annotations

import pytest

from envbuilder import activation


@pytest.mark.parametrize(
    ("name", "value", "taken", "told"),
    [
        ("GDAL_DATA", "/opt/env/share/gdal", True, False),
        ("JAVA_HOME", "/opt/env/lib/jvm", True, False),
        ("WORDS", "two words $x `y`", True, False),
        ("PATH", "/opt/env/x:/bin", False, True),
        ("LD_LIBRARY_PATH", "/opt/env/lib", False, True),
        ("LD_PRELOAD", "x.so", False, True),
        ("PYTHONPATH", "/x", False, True),
        ("CONDA_BACKUP_CC", "x", False, False),
        ("PWD", "/", False, False),
        ("_", "/bin/sh", False, False),
        ("BASH_FUNC_x%%", "() { x; }", False, True),
        ("WITH-DASH", "x", False, True),
        ("LINES_2", "a\nb", False, True),
        ("LONG", "x" * 8193, False, True),
    ],
)
def test_what_decides_how_programs_run_is_not_taken_over(name: str, value: str, taken: bool, told: bool) -> None:  # noqa: FBT001
    found, left = activation.taken_over({name: value})
    assert (found == {name: value}) is taken
    assert (left == (name,)) is told


def test_a_package_sets_a_bounded_number_of_variables() -> None:
    taken, left = activation.taken_over({f"V{number:03}": "x" for number in range(300)})
    assert len(taken) == 200
    assert left[0] == "V200"


@pytest.mark.parametrize("answer", [b"", b"not json", b"[1]", b"\xff"])
def test_a_spoilt_answer_sets_nothing(answer: bytes) -> None:
    assert activation.difference(answer) == {}
