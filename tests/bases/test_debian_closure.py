from __future__ import annotations

import gzip
import lzma

import pytest

from envbuilder.bases import debian_closure, debian_index
from envbuilder.bases.debian_closure import ROOTS
from envbuilder.bases.debian_index import PackageIndex, Relation
from envbuilder.errors import BaseImageError

URL = "https://mirror.example/debian"


def stanza(name: str, version: str = "1.0", *, fields: str = "") -> str:
    return (
        f"Package: {name}\nArchitecture: amd64\nVersion: {version}\n{fields}"
        f"Filename: pool/{name}.deb\nSize: 1\nSHA256: {'0' * 64}\n"
    )


def index(*stanzas: str, roots: bool = True) -> PackageIndex:
    own = [stanza(name) for name in ROOTS if f"Package: {name}\n" not in "".join(stanzas)] if roots else []
    return debian_index.read([("\n".join((*own, *stanzas)).encode(), URL)])


def added(found: PackageIndex) -> set[str]:
    return {package.name for package in debian_closure.resolve(found, "bookworm")} - set(ROOTS)


def test_dependencies_are_followed_to_the_end() -> None:
    found = index(
        stanza("dash", fields="Depends: a (>= 1.0), b:any\nPre-Depends: c\n"),
        stanza("a", fields="Depends: d\n"),
        *map(stanza, "bcde"),
    )
    assert added(found) == {"a", "b", "c", "d"}


def test_the_packages_are_sorted_and_each_is_there_once() -> None:
    found = index(stanza("dash", fields="Depends: a\n"), stanza("a", fields="Depends: dash\n"))
    names = [package.name for package in debian_closure.resolve(found, "bookworm")]
    assert names == sorted({*ROOTS, "a"})


@pytest.mark.parametrize(
    ("depends", "chosen"),
    [
        ("a | b", {"a"}),
        ("missing | b", {"b"}),
        ("a (>= 2) | b", {"b"}),
        ("a (<< 2) | b", {"a"}),
        ("virtual", {"provider"}),
        ("virtual (= 3)", {"provider"}),
        ("virtual (>= 4) | b", {"b"}),
        ("b | libstdc++6", set()),
        ("dpkg (>= 1) | b", set()),
    ],
    ids=[
        "the first that is there",
        "an alternative",
        "an alternative by version",
        "a version that fits",
        "a provider",
        "a provider of the version",
        "no provider of the version",
        "one that is chosen already",
        "one that only scripts need",
    ],
)
def test_an_alternative_is_chosen(depends: str, chosen: set[str]) -> None:
    found = index(
        stanza("tzdata", fields=f"Depends: {depends}\n"),
        stanza("a"),
        stanza("b"),
        stanza("provider", fields="Provides: other, virtual (= 3)\n"),
        stanza("a-provider", fields="Provides: virtual-too, not-virtual\n"),
        stanza("dpkg"),
    )
    assert added(found) == chosen


def test_the_highest_version_of_all_pockets_wins() -> None:
    texts = [stanza("a", version) for version in ("1.9", "1.10", "1:0.1~rc1", "1.10-2")]
    found = debian_index.read([(text.encode(), f"{URL}/{number}") for number, text in enumerate(texts)])
    package = found.get("a")
    assert package is not None
    assert package.version == "1:0.1~rc1"
    assert package.url == f"{URL}/2/pool/a.deb"


def test_distutils_is_taken_where_the_suite_has_it() -> None:
    fields = "Depends: python3:any (>= 3.10), python3-lib2to3 (= 1.0)\n"
    found = index(stanza("python3-distutils", fields=fields), stanza("python3-lib2to3"), stanza("python3"))
    assert added(found) == {"python3-distutils", "python3-lib2to3"}


def test_a_suite_without_python_is_named() -> None:
    with pytest.raises(BaseImageError, match="`etch` provides no `python3-minimal`"):
        debian_closure.resolve(index(roots=False), "etch")


def test_every_unsatisfied_dependency_is_told() -> None:
    found = index(
        stanza("dash", fields="Depends: nothing | a (>> 1.0)\n"),
        stanza("tzdata", fields="Depends: none\n"),
        stanza("a"),
    )
    with pytest.raises(BaseImageError) as caught:
        debian_closure.resolve(found, "bookworm")
    assert [problem.what for problem in caught.value.problems] == [
        "`dash` 1.0 needs `nothing | a (>> 1.0)`, which the suite does not have",
        "`tzdata` 1.0 needs `none`, which the suite does not have",
    ]


def test_a_missing_root_is_told() -> None:
    whole = "\n".join(stanza(name) for name in ROOTS if name != "dash")
    with pytest.raises(BaseImageError, match="`bookworm` has no package `dash`"):
        debian_closure.resolve(debian_index.read([(whole.encode(), URL)]), "bookworm")


@pytest.mark.parametrize(
    ("operator", "accepted"),
    [("<<", "1"), ("<=", "12"), ("=", "2"), (">=", "23"), (">>", "3"), ("<", "12"), (">", "23")],
)
def test_versions_are_compared_as_policy_says(operator: str, accepted: str) -> None:
    relation = Relation(name="a", operator=operator, version="2")
    assert "".join(version for version in "123" if relation.accepts(version)) == accepted
    assert not relation.accepts("")


def test_a_stanza_without_a_checksum_is_refused() -> None:
    broken = index(stanza("dash").replace("SHA256", "MD5sum"))
    with pytest.raises(BaseImageError, match="stanza that cannot be read"):
        debian_closure.resolve(broken, "bookworm")


def test_packages_are_found_wherever_their_name_stands_in_the_stanza() -> None:
    text = b"Source: x\nPackage: b\nVersion: 1\n\n\nPackage: a\nVersion: 1\n\nVersion: 2\n"
    assert len(debian_index.read([(text, URL)])) == 2


@pytest.mark.parametrize(
    ("compression", "data"),
    [(".xz", lzma.compress(b"text")), (".gz", gzip.compress(b"text")), ("", b"text")],
    ids=["xz", "gz", "plain"],
)
def test_an_index_is_decompressed(compression: str, data: bytes) -> None:
    assert debian_index.decompressed(data, compression) == b"text"


@pytest.mark.parametrize(
    ("compression", "data"),
    [(".xz", lzma.compress(b"text")[:-9]), (".gz", gzip.compress(b"text")[:-9]), (".gz", b"text"), (".xz", b"text")],
    ids=["cut xz", "cut gz", "not gz", "not xz"],
)
def test_a_damaged_index_is_refused(compression: str, data: bytes) -> None:
    with pytest.raises(BaseImageError, match="damaged"):
        debian_index.decompressed(data, compression)
