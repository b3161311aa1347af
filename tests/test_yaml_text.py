from __future__ import annotations

import contextlib

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from envbuilder import yaml_text
from envbuilder.errors import InvalidFileError, Source
from envbuilder.yaml_text import load, plain
from tests.strategies import YAML_VALUES

SOURCE = Source(file="f.yaml")


def read(text: str | bytes) -> object:
    return plain(load(text, source_file="f.yaml"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 3.10", {"a": "3.10"}),
        ("a: 007", {"a": "007"}),
        ("a: 1_000", {"a": "1_000"}),
        ("a: 12:30:45", {"a": "12:30:45"}),
        ("a: 2024-01-02", {"a": "2024-01-02"}),
        ("a: .inf", {"a": ".inf"}),
        ("a: yes", {"a": "yes"}),
        ("a: true\nb: False", {"a": True, "b": False}),
        ("a: null\nb: ~\nc:\nd: ''", {"a": None, "b": None, "c": None, "d": ""}),
        ("a: 'true'", {"a": "true"}),
        ("a: !!str true\nb: !!int 3\nc: !!float 3.10\nd: !!bool true\ne: !!null x\nf: ! 1", None),
        ("1.10: x\ntrue: y", {"1.10": "x", "true": "y"}),
        ("\ufeffa: 1", {"a": "1"}),
        ("a: 1\r\nb:\r\n- c\r\n", {"a": "1", "b": ["c"]}),
        ("a: 1", {"a": "1"}),
        ("", None),
        ("just text", "just text"),
        ("- a\n- [b, {c: d}]", ["a", ["b", {"c": "d"}]]),
        ("a: &x [1]\nb: *x", {"a": ["1"], "b": ["1"]}),
        ("a: &x k\n*x : v", {"a": "k", "k": "v"}),
        ("d: &d {x: 1, y: 1}\ne:\n  <<: *d\n  y: 2", {"d": {"x": "1", "y": "1"}, "e": {"x": "1", "y": "2"}}),
        ("e:\n  <<: [{x: 1}, {x: 2, y: 2}]", {"e": {"x": "1", "y": "2"}}),
        ("<<: 3", {"<<": "3"}),
        ("'<<': {a: 1}", None),
    ],
)
def test_reads_scalars_as_they_were_written(text: str, expected: object) -> None:
    if text.startswith("a: !!str"):
        expected = {"a": "true", "b": "3", "c": "3.10", "d": True, "e": None, "f": "1"}
    if text.startswith("'<<'"):
        expected = {"a": "1"}
    assert read(text) == expected


def test_bytes_and_text_are_read_alike() -> None:
    assert read("\ufeffa: é".encode()) == read("a: é") == {"a": "é"}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a: [1", "broken YAML: did not find expected"),
        ("a: b: c", "at line 1, column 5"),
        ("a: \x00", "broken YAML: "),
        ("--- a\n--- b", "a second document at line 2, column 1"),
        ("a: !!python/object/apply:os.system [id]", "the tag `!!python/object/apply:os.system` is not accepted"),
        ("a: !!python/name:os.system ''", "the tag `!!python/name:os.system` is not accepted"),
        ("a: !include x", "the tag `!include` is not accepted at line 1, column 4"),
        ("a: !!set {b}", "the tag `!!set` is not accepted"),
        ("a: 1\nb: 2\na: 3", "the key `a` is given twice, near line 1 and line 3"),
        ("? [a]\n: b", "a key that is a list or a mapping"),
        ("a: &x [1]\n*x : v", "a key that is not text"),
        ("a: *x", "the alias `*x`, which is not defined before"),
        ("a: &x [*x]", "the alias `*x`, which contains itself"),
        ("[" * 65 + "]" * 65, "nested deeper than 64 levels"),
        ("[" * 500_000, "nested deeper than 64 levels"),
        ("a: " * 10 + "x", "broken YAML"),
        ("- a\n" * 260_000, "more than 250000 values"),
        ("x" * (10 * 1024 * 1024 + 1), "larger than 10 MiB"),
        (b"a: \xff", "not UTF-8 text"),
        ("a: \ud800", "not UTF-8 text"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_refuses_with_the_place(text: str | bytes, what: str) -> None:
    with pytest.raises(InvalidFileError) as caught:
        read(text)
    problem = caught.value.problems[0]
    assert what in problem.what
    assert problem.where == SOURCE
    assert problem.fix


def test_an_alias_bomb_is_refused_before_it_grows() -> None:
    levels = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]\n" for n in range(1, 20))
    with pytest.raises(InvalidFileError, match="more than 250000 values, aliases written out"):
        read("l0: &l0 lol\n" + levels)


def test_all_duplicate_keys_are_reported_at_once() -> None:
    with pytest.raises(InvalidFileError) as caught:
        read("a: 1\na: 2\nb:\n  c: 1\n  c: 2")
    assert [problem.what for problem in caught.value.problems] == [
        "the key `a` is given twice, near line 1 and line 2",
        "the key `c` is given twice, near line 4 and line 5",
    ]


def test_the_python_parser_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_text, "_LOADER", yaml.SafeLoader)
    assert read("a: [3.10, {b: ~}]") == {"a": ["3.10", {"b": None}]}
    with pytest.raises(InvalidFileError, match="broken YAML: unacceptable character"):
        read("a: \x00")


@given(YAML_VALUES)
def test_what_pyyaml_writes_is_read_back(value: object) -> None:
    assert read(yaml.safe_dump(value)) == value


@given(st.text() | st.binary())
def test_any_text_is_read_or_refused(text: str | bytes) -> None:
    with contextlib.suppress(InvalidFileError):
        read(text)
