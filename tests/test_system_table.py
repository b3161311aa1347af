from __future__ import annotations

import re

import pytest

from envbuilder import system_table
from envbuilder.system_table import SystemTable

PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+")
TABLE = """
[libraries]
"libx.so.1" = "libx1"
"liby.so.2" = ["liby2", "liby2t64"]
[opened]
a = ["libx.so.1"]
[instead]
a = ["a-binary"]
[programs]
b = ["b-tools"]
[optional]
c = ["liby.so.2"]
[driver]
nvidia = ["libcuda.so.1"]
"""


def test_the_table_is_read() -> None:
    table = SystemTable.parse(TABLE)
    assert table.opened == {"a": ("libx.so.1",)}
    assert table.instead == {"a": ("a-binary",)}
    assert table.programs == {"b": ("b-tools",)}
    assert table.optional == {"c": ("liby.so.2",)}
    assert table.driver == ("libcuda.so.1",)


@pytest.mark.parametrize(
    ("library", "before", "since"),
    [("libx.so.1", "libx1", "libx1"), ("liby.so.2", "liby2", "liby2t64"), ("libz.so.1", None, None)],
)
def test_a_package_has_its_name_of_before_or_since_the_64_bit_times(
    library: str, before: str | None, since: str | None
) -> None:
    table = SystemTable.parse(TABLE)
    assert (table.package(library, time64=False), table.package(library, time64=True)) == (before, since)


def test_the_table_that_comes_along_has_names_that_debian_could_have_and_knows_what_it_opens() -> None:
    table = system_table.load()
    names = [name for some in (*table.libraries.values(), *table.programs.values()) for name in some]
    assert [name for name in names if not PACKAGE.fullmatch(name)] == []
    assert {len(some) for some in table.libraries.values()} == {1, 2}
    assert {one for some in table.opened.values() for one in some} <= table.libraries.keys()
    assert not set(table.driver) & table.libraries.keys()
    assert table.package("libgomp.so.1", time64=True) == "libgomp1"
