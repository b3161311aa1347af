"""Hypothesis strategies for what models ask for."""

from __future__ import annotations

from hypothesis import strategies as st

NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9]{0,8}([._-][A-Za-z0-9]{1,5}){0,2}", fullmatch=True)
VERSIONS = st.tuples(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99)).map(
    lambda parts: ".".join(map(str, parts))
)
PYTHON_VERSIONS = st.tuples(st.integers(6, 15), st.integers(0, 30)).map(lambda parts: f"3.{parts[0]}.{parts[1]}")
SPECIFIERS = st.one_of(
    st.just(""),
    st.tuples(st.sampled_from(["==", ">=", "<=", "!=", "~=", "<", ">"]), VERSIONS).map("".join),
)
EXTRAS = st.lists(st.sampled_from(["socks", "security", "Use_Chardet"]), unique=True, max_size=2).map(
    lambda extras: f"[{','.join(extras)}]" if extras else ""
)
MARKERS = st.sampled_from(["", '; python_version > "3.0"', "; sys_platform == 'win32'"])
REQUIREMENTS = st.tuples(NAMES, EXTRAS, SPECIFIERS, MARKERS).map("".join)
HOSTILE = st.sampled_from(
    [
        "\n",
        "\r",
        "\x00",
        "\x1b[31m",
        "`id`",
        "$(id)",
        "|sh",
        "&&id",
        ">x y",
        "'",
        '"',
        "\\",
        "\u2028",
        "\u200b",
        "{{7*7}}",
    ]
)

YAML_VALUES = st.recursive(
    st.none() | st.booleans() | st.text(max_size=20),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4),
    max_leaves=15,
)
