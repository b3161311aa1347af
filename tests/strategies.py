"""Hypothesis strategies for what models ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable

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

PACKAGES = ("numpy", "scipy", "six", "mlflow", "scikit-learn")
"""Few enough for an amendment to find what a spec asks for."""

VARIABLES = st.dictionaries(st.sampled_from(["OMP_NUM_THREADS", "LANG", "X"]), st.sampled_from(["", "1", "a b", "é"]))


def pip_lines(name: str) -> st.SearchStrategy[str]:
    """Lines that ask for the package `name`."""
    places = st.sampled_from([f"{name} @ git+https://h/r@v1", f"{name} @ https://h/x.whl#sha256=aa"])
    return st.tuples(st.just(name), EXTRAS, SPECIFIERS, MARKERS).map("".join) | places


def conda_lines(name: str) -> st.SearchStrategy[str]:
    """Match specs of the package `name`."""
    return st.sampled_from(["", "=1.2", "==1.2.3", ">=1,<2", "=1.2=py_0"]).map(lambda version: f"{name}{version}")


@st.composite
def edits(
    draw: st.DrawFn, names: tuple[str, ...], lines: Callable[[str], st.SearchStrategy[str]], *, bumps: bool = False
) -> dict[str, object]:
    """Draw the operations of an amendment on things of one kind, each name in one of them."""
    found: dict[str, list[str]] = {}
    swaps: dict[str, str] = {}
    for name in draw(st.lists(st.sampled_from(names), unique=True, max_size=3)):
        operation = draw(st.sampled_from(["add", "remove", "swap", *(["bump"] if bumps else [])]))
        if operation == "swap":
            swaps[name] = draw(lines(f"{name}-other"))
        else:
            found.setdefault(operation, []).append(name if operation == "remove" else draw(lines(name)))
    return {**found, **({"swap": swaps} if swaps else {})}


CHANNELS = ("conda-forge", "defaults", "bioconda")
INDEXES = ("https://a.example/simple", "https://b.example/simple")

AMENDMENTS: st.SearchStrategy[dict[str, object]] = st.fixed_dictionaries(
    {},
    optional={
        "python": PYTHON_VERSIONS | st.just(">=3.10,<3.12"),
        "image": st.sampled_from(["python:3.11-slim", "a/b@sha256:0"]),
        "pip": edits(PACKAGES, pip_lines, bumps=True),
        "conda": edits(PACKAGES, conda_lines, bumps=True),
        "channels": edits(CHANNELS, st.just),
        "index_url": st.sampled_from(INDEXES),
        "extra_index_urls": edits(INDEXES, st.just),
        "find_links": edits(INDEXES, st.just),
        "system_packages": edits(("libgomp1", "git"), st.just),
        "environment_variables": st.fixed_dictionaries({}, optional={"add": VARIABLES, "remove": st.just(["LANG_"])}),
    },
)
"""The mapping `amend` of an environment file."""

CONDA_FILES: st.SearchStrategy[dict[str, object]] = st.fixed_dictionaries(
    {},
    optional={
        "name": st.just("x"),
        "channels": st.lists(st.sampled_from(CHANNELS), unique=True),
        "dependencies": st.lists(
            st.sampled_from([*PACKAGES, "python"]).flatmap(conda_lines)
            | st.fixed_dictionaries({"pip": st.lists(st.sampled_from(PACKAGES).flatmap(pip_lines), max_size=3)}),
            max_size=4,
        ),
        "variables": VARIABLES,
    },
)
ROUTES = st.tuples(st.integers(1, 65535), st.sampled_from(["/", "/score", "/v1/~x"])).map(
    lambda route: {
        f"{name}_route": {"port": str(route[0]), "path": route[1]} for name in ("liveness", "readiness", "scoring")
    }
)
TOLD = {
    "name": st.sampled_from(["slim", "1.10"]),
    "version": st.sampled_from(["1", "1.10", "2024-01-01"]),
    "description": st.text(st.characters(exclude_categories=["C"]), max_size=9),
    "tags": st.dictionaries(st.sampled_from(["team", "a b"]), st.sampled_from(["x", "1.10", None])),
}
"""What an environment file says and what makes no difference."""

ENVIRONMENTS: st.SearchStrategy[dict[str, object]] = st.one_of(
    st.fixed_dictionaries({"amend": AMENDMENTS}, optional=TOLD),
    st.fixed_dictionaries(
        {"image": st.just("python:3.11-slim")},
        optional={"conda_file": CONDA_FILES | st.just("conda.yaml"), "inference_config": ROUTES, **TOLD},
    ),
    st.fixed_dictionaries(
        {"build": st.fixed_dictionaries({"path": st.just("ctx")}, optional={"dockerfile_path": st.just("D")})},
        optional=TOLD,
    ),
    st.fixed_dictionaries({"conda_file": CONDA_FILES}, optional=TOLD),
)
"""Environment files of the workspace."""
