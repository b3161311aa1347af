from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from envbuilder import digest
from envbuilder.conda_package import CondaPackage
from envbuilder.errors import InvalidFileError, LockMismatchError
from envbuilder.locked import Lock, LockedBase, LockedPackage, WheelSource
from envbuilder.lockfile import Lockfile
from envbuilder.target import SUBDIRS, Target
from tests.strategies import YAML_VALUES

REPOSITORY = Path(__file__).resolve().parent.parent
NAMES = st.from_regex(r"[a-z][a-z0-9]{0,8}(-[a-z0-9]{1,5}){0,2}", fullmatch=True)
VERSIONS = st.from_regex(
    r"([1-9]!)?[0-9]{1,4}(\.[0-9]{1,3}){0,2}(rc1|\.post2|\.dev3)?(\+[a-z0-9]{1,4})?", fullmatch=True
)
DIGESTS = st.binary(min_size=1, max_size=4).map(digest.of_bytes)
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=20)


@st.composite
def packages(draw: st.DrawFn) -> LockedPackage:
    name, version = draw(NAMES), draw(VERSIONS)
    host = draw(st.sampled_from(["index.example", "[::1]:8080", "mirror.example:8443/simple"]))
    filename = f"{name.replace('-', '_')}-{version.replace('+', '%2B')}-py3-none-any.whl"
    source = draw(st.none() | sources())
    places = [f"https://{host}/{filename}", f"./wheels/{filename}"]
    return LockedPackage(
        name=name,
        version=version,
        url=draw(st.sampled_from(places)) if source is None else filename.replace("%2B", "+"),
        sha256=draw(DIGESTS),
        dependencies=tuple(sorted(draw(st.sets(NAMES, max_size=3)))),
        source=source,
        is_direct=source is None and draw(st.booleans()),
    )


@st.composite
def targets(draw: st.DrawFn, subdir: str) -> Target:
    versions = st.from_regex(r"[1-9][0-9]?\.[0-9]{1,2}", fullmatch=True)
    system = subdir.partition("-")[0]
    return Target(
        subdir=subdir,
        glibc=draw(versions) if system == "linux" else "2.28",
        macos=draw(versions) if system == "osx" else "13.0",
        cuda=draw(st.none() | versions),
    )


@st.composite
def sources(draw: st.DrawFn) -> WheelSource:
    urls = ["https://index.example/a-1.tar.gz", f"git+https://host.example/team/a.git@{'0' * 40}"]
    tool = st.builds(
        LockedPackage,
        name=NAMES,
        version=VERSIONS,
        url=st.just("https://index.example/tool-1-py3-none-any.whl"),
        sha256=DIGESTS,
    )
    return WheelSource(
        url=draw(st.sampled_from(urls)),
        digest=draw(DIGESTS),
        subdirectory=draw(st.sampled_from([None, "a/b"])),
        tools=tuple(draw(st.lists(tool, max_size=2))),
    )


@st.composite
def locks(draw: st.DrawFn, subdir: str | None = None, packages_digest: str | None = None) -> Lock:
    found = draw(st.lists(packages(), max_size=4, unique_by=lambda package: package.name))
    bases = st.builds(LockedBase, reference=TEXT, digest=DIGESTS)
    return Lock(
        packages=tuple(sorted(found, key=lambda package: package.name)),
        target=draw(targets(subdir or draw(st.sampled_from(SUBDIRS)))),
        packages_digest=digest.parse(packages_digest) if packages_digest is not None else draw(DIGESTS),
        base=draw(st.none() | bases),
        python_version=draw(st.sampled_from(["3.8", "3.10.12", "3.14.0rc1"])),
        tool_version="0.1.0",
    )


@st.composite
def lockfiles(draw: st.DrawFn) -> Lockfile:
    subdirs = draw(st.lists(st.sampled_from(SUBDIRS), min_size=1, unique=True))
    asked = draw(DIGESTS)
    return Lockfile.of([draw(locks(subdir, asked)) for subdir in subdirs])


def text_of(*locks: Lock) -> str:
    return Lockfile.of(locks).to_text()


NUMPY = LockedPackage(
    name="numpy",
    version="2.2.0",
    url="https://index.example/files/numpy-2.2.0-cp311-cp311-manylinux_2_17_x86_64.whl",
    sha256=digest.of_bytes(b"numpy"),
)
PANDAS = LockedPackage(
    name="pandas",
    version="2.2.3",
    url="https://index.example/files/pandas-2.2.3-cp311-cp311-manylinux_2_17_x86_64.whl",
    sha256=digest.of_bytes(b"pandas"),
    dependencies=("numpy",),
)
LOCK = Lock(
    packages=(NUMPY, PANDAS),
    target=Target(subdir="linux-64", glibc="2.36"),
    packages_digest=digest.of_bytes(b"spec"),
    base=LockedBase(reference="python:3.11-slim", digest=digest.of_bytes(b"base")),
    python_version="3.11.7",
    tool_version="0.1.0",
)


@given(lockfiles())
@settings(max_examples=80)
def test_a_lockfile_reads_back_as_it_was_written(lockfile: Lockfile) -> None:
    text = lockfile.to_text()
    assert Lockfile.parse(text, file="conda-lock.yml") == lockfile
    assert Lockfile.parse(text, file="conda-lock.yml").to_text() == text


def test_a_lock_says_who_wrote_it_and_how_to_change_it() -> None:
    first, *_ = text_of(LOCK).splitlines()
    assert first == (
        "# Locked by envbuilder; edit the model's conda.yaml and run `envbuilder lock` instead of editing this."
    )


@pytest.mark.process
def test_another_process_writes_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "conda-lock.yml").write_text(text_of(LOCK))
    code = """
import sys
from pathlib import Path
from envbuilder.lockfile import Lockfile
sys.stdout.write(Lockfile.parse(Path(sys.argv[1]).read_text(), file="x").to_text())
"""
    for seed in ("1", "2"):
        found = subprocess.run(
            (sys.executable, "-c", code, str(tmp_path / "conda-lock.yml")),
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=REPOSITORY,
            capture_output=True,
            check=True,
        )
        assert found.stdout.decode() == text_of(LOCK)


def test_the_digest_does_not_count_the_tool() -> None:
    assert replace(LOCK, tool_version="9.9").digest == LOCK.digest
    assert (
        replace(LOCK, base=LockedBase(reference="python:3.11", digest=digest.of_bytes(b"base"))).digest == LOCK.digest
    )


@pytest.mark.parametrize(
    "other",
    [
        replace(LOCK, packages=(NUMPY,)),
        replace(LOCK, packages=(replace(NUMPY, version="2.2.1"), PANDAS)),
        replace(LOCK, packages=(replace(NUMPY, sha256=digest.of_bytes(b"other")), PANDAS)),
        replace(LOCK, target=Target(subdir="linux-aarch64", glibc="2.36")),
        replace(LOCK, target=replace(LOCK.target, cuda="12.4")),
        replace(LOCK, base=LockedBase(reference="python:3.11-slim", digest=digest.of_bytes(b"other"))),
        replace(LOCK, base=None),
        replace(LOCK, python_version="3.11.8"),
    ],
    ids=["packages", "version", "sha256", "subdir", "cuda", "base", "no base", "python"],
)
def test_the_digest_counts_what_is_locked(other: Lock) -> None:
    assert other.digest != LOCK.digest


def test_conda_lock_reads_it(tmp_path: Path) -> None:
    from conda_lock.lockfile import parse_conda_lock_file  # noqa: PLC0415 - half a second to import

    (tmp_path / "conda-lock.yml").write_text(text_of(LOCK))
    found = parse_conda_lock_file(tmp_path / "conda-lock.yml")
    assert [(package.name, package.version, package.manager) for package in found.package] == [
        ("numpy", "2.2.0", "pip"),
        ("pandas", "2.2.3", "pip"),
    ]
    assert found.package[1].dependencies == {"numpy": "*"}
    assert found.metadata.platforms == ["linux-64"]
    assert found.metadata.custom_metadata["linux-64.base_reference"] == "python:3.11-slim"


@given(lockfiles(), st.booleans())
@settings(max_examples=40)
def test_conda_lock_writes_the_same_bytes(lockfile: Lockfile, with_conda: bool) -> None:  # noqa: FBT001 - drawn
    from conda_lock.lockfile.v1 import models  # noqa: PLC0415 - half a second to import

    conda_packages = WITH_CONDA.conda_packages if with_conda else ()
    text = Lockfile.of(replace(lock, conda_packages=conda_packages) for lock in lockfile.locks).to_text()
    header, _, body = text.partition("\n")
    model = models.Lockfile.model_validate(yaml.safe_load(text))
    assert header.startswith("#")
    assert body == yaml.safe_dump(model.dict_for_output(), sort_keys=False, allow_unicode=True, width=120)


@pytest.mark.process
def test_conda_lock_renders_it(tmp_path: Path) -> None:
    (tmp_path / "conda-lock.yml").write_text(text_of(LOCK))
    subprocess.run(
        (sys.executable, "-m", "conda_lock", "render", "-k", "env", "-p", "linux-64", "conda-lock.yml"),
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    rendered = yaml.safe_load((tmp_path / "conda-linux-64.lock.yml").read_text())
    (pip,) = [item["pip"] for item in rendered["dependencies"] if isinstance(item, dict)]
    for package, line in zip(LOCK.packages, pip, strict=True):
        assert line == f"{package.name} == {package.version} --hash={package.sha256}"


@pytest.mark.parametrize(
    ("url", "filename"),
    [
        ("https://index.example/a-1.0-py3-none-any.whl#sha256=0", "a-1.0-py3-none-any.whl"),
        ("https://index.example/a-1.0%2Bcpu-py3-none-any.whl?token=x", "a-1.0+cpu-py3-none-any.whl"),
    ],
)
def test_the_file_name_is_the_urls_last_part(url: str, filename: str) -> None:
    assert replace(NUMPY, url=url).filename == filename


def changed(*path: str | int, to: object) -> str:
    """Return the lock's text with one member replaced; `to` is removed when it is Ellipsis."""
    value = yaml.safe_load(text_of(LOCK))
    member: Any = value
    for key in path[:-1]:
        member = member[key]
    if to is ...:
        del member[path[-1]]
    else:
        member[path[-1]] = to
    return yaml.safe_dump(value, sort_keys=False)


CUSTOM = ("metadata", "custom_metadata")


def built(filename: str = "numpy-2.2.0-py3-none-any.whl", **tools: str) -> str:
    tool = {"name": "flit-core", "version": "3.9", "url": "https://index.example/x.whl"}
    value = {
        "numpy": {
            "file": filename,
            "sha256": digest.of_bytes(b"built"),
            "tools": [{**tool, "sha256": digest.of_bytes(b"flit"), **tools}],
        }
    }
    return changed(*CUSTOM, "linux-64.built_wheels", to=json.dumps(value))


@pytest.mark.parametrize(
    ("text", "key", "what"),
    [
        ("a: [", "", "not YAML"),
        ("version: \x07", "", "not YAML"),
        ("version: 2020-99-99", "", "not YAML"),
        ("[" * 5000, "", "not YAML"),
        ("- 1", "version", "not a conda-lock lockfile of version 1"),
        (changed("version", to=2), "version", "not a conda-lock lockfile of version 1"),
        (changed("metadata", "custom_metadata", to=...), "metadata", "was not made by envbuilder"),
        (changed("package", to={}), "package", "expected a list"),
        (changed("package", 0, to="numpy"), "package[0]", "expected a mapping"),
        (changed("package", 1, "manager", to="npm"), "package[1].manager", "expected `conda` or `pip`"),
        (changed("package", 1, "manager", to="conda"), "package[1]", "not a conda package"),
        (changed("package", 1, "name", to=...), "package[1].name", "expected a text"),
        (changed("package", 1, "name", to="../../outside"), "package[1].name", "expected a normalized name"),
        (changed("package", 1, "name", to="Numpy"), "package[1].name", "expected a normalized name"),
        (changed("package", 1, "version", to=2.2), "package[1].version", "expected a text"),
        (changed("package", 1, "version", to="1/../../x"), "package[1].version", "expected a version"),
        (changed("package", 1, "url", to=""), "package[1].url", "expected a text"),
        (changed("package", 1, "url", to="https://[index.example/a.whl"), "package[1].url", "the URL of a wheel"),
        (changed("package", 1, "url", to="https://index.example/a.tar.gz"), "package[1].url", "the URL of a wheel"),
        (changed("package", 1, "url", to="https://index.example/%2e%2e%2fa.whl"), "package[1].url", "URL of a wheel"),
        (changed("package", 1, "hash", to=None), "package[1].hash.sha256", "64 hex digits"),
        (changed("package", 1, "hash", "sha256", to="00"), "package[1].hash.sha256", "64 hex digits"),
        (changed("package", 1, "dependencies", to=5), "package[1].dependencies", "expected a mapping"),
        (changed("package", 1, "dependencies", to="numpy"), "package[1].dependencies", "expected a mapping"),
        (changed("metadata", "platforms", to=["linux-64", "b"]), "metadata.platforms", "expected some of linux-64, "),
        (changed("metadata", "platforms", to=["linux-64"] * 2), "metadata.platforms", "each once"),
        (changed("metadata", "platforms", to=[]), "metadata.platforms", "each once"),
        (changed("package", 1, "platform", to="osx-64"), "package[1].platform", "one of the lock's platforms"),
        (changed("package", 1, "platform", to=[1]), "package[1].platform", "one of the lock's platforms"),
        (changed(*CUSTOM, "linux-64.glibc", to="new"), f"{'.'.join(CUSTOM)}.linux-64", "is not a version of glibc"),
        (changed(*CUSTOM, "linux-64.base_digest", to="x"), f"{'.'.join(CUSTOM)}.linux-64.base_digest", "64 hex digits"),
        (changed(*CUSTOM, "linux-64.built_wheels", to="["), f"{'.'.join(CUSTOM)}.linux-64.built_wheels", "JSON object"),
        (changed(*CUSTOM, "linux-64.built_wheels", to=5), f"{'.'.join(CUSTOM)}.linux-64.built_wheels", "JSON object"),
        (built("numpy/../x.whl"), "package[0].url", "the URL of a wheel"),
        (built(sha256="x"), f"{'.'.join(CUSTOM)}.linux-64.built_wheels", "JSON object"),
        (built(name="../x"), f"{'.'.join(CUSTOM)}.linux-64.built_wheels", "expected a normalized name"),
        (built(version="../x"), f"{'.'.join(CUSTOM)}.linux-64.built_wheels", "expected a version"),
        (built(url="https://index.example/x"), f"{'.'.join(CUSTOM)}.linux-64.built_wheels", "the URL of a wheel"),
        (changed("package", 1, "url", to="./../x.whl"), "package[1].url", "the URL of a wheel"),
        (changed("package", 1, "url", to="./a/./x.whl"), "package[1].url", "the URL of a wheel"),
    ],
)
def test_what_is_wrong_is_told_with_its_key(text: str, key: str, what: str) -> None:
    with pytest.raises(InvalidFileError) as raised:
        Lockfile.parse(text, file="conda-lock.yml")
    problem = next(item for item in raised.value.problems if item.where is not None and item.where.key == key)
    assert problem.where is not None
    assert problem.where.file == "conda-lock.yml"
    assert what in problem.what
    assert problem.fix == "make the lock again with `envbuilder lock`"


def test_a_lock_that_was_edited_is_refused() -> None:
    text = text_of(LOCK).replace("version: 2.2.3", "version: 2.2.4")
    with pytest.raises(LockMismatchError, match="the file was edited or damaged") as raised:
        Lockfile.parse(text, file="conda-lock.yml")
    (problem,) = raised.value.problems
    assert (str(problem.where), problem.fix) == (
        "conda-lock.yml: package",
        "restore the file, or remove it and lock again with `envbuilder lock`",
    )


def test_a_lock_pins_its_packages() -> None:
    assert LOCK.pins == ("numpy==2.2.0", "pandas==2.2.3")


NUMPY_OF_CONDA = CondaPackage(
    name="numpy",
    version="1.26.4",
    build="py311h0d1ab_0",
    subdir="linux-64",
    url="https://channel.example/main/linux-64/numpy-1.26.4-py311h0d1ab_0.conda",
    sha256=digest.of_bytes(b"conda"),
    md5="0" * 32,
    depends=("libblas >=3.9", "python"),
)
WITH_CONDA = dataclasses.replace(LOCK, conda_packages=(NUMPY_OF_CONDA,), packages=(PANDAS,))


def test_a_lock_with_conda_packages_reads_back_as_it_was_written() -> None:
    text = text_of(WITH_CONDA)
    assert Lockfile.parse(text, file="conda-lock.yml") == Lockfile.of([WITH_CONDA])
    assert Lockfile.parse(text, file="conda-lock.yml").to_text() == text
    assert WITH_CONDA.digest != dataclasses.replace(WITH_CONDA, conda_packages=()).digest


@pytest.mark.parametrize("url", ["https://[x/linux-64/numpy-1.conda", "https://h/linux-64/..", "", "numpy"])
def test_a_conda_package_that_cannot_be_one_is_told(url: str) -> None:
    value = yaml.safe_load(text_of(WITH_CONDA))
    value["package"][0]["url"] = url
    with pytest.raises(InvalidFileError) as raised:
        Lockfile.parse(yaml.safe_dump(value), file="l.yml")
    (problem,) = raised.value.problems
    assert problem.what.startswith("not a conda package: ")
    assert str(problem.where) == "l.yml: package[0]"


def test_all_problems_are_told_at_once() -> None:
    value = yaml.safe_load(text_of(LOCK))
    value["package"][0]["url"] = None
    value["package"][1]["hash"] = {}
    value["metadata"] = {"platforms": ["linux-64"], "custom_metadata": {"packages_digest": "x"}}
    with pytest.raises(InvalidFileError) as raised:
        Lockfile.parse(yaml.safe_dump(value), file="l.yml")
    custom = "metadata.custom_metadata."
    assert [item.where.key for item in raised.value.problems if item.where is not None] == [
        f"{custom}packages_digest",
        f"{custom}envbuilder_version",
        "package[0].url",
        "package[1].hash.sha256",
        f"{custom}linux-64.lock_digest",
        f"{custom}linux-64.python_version",
    ]
    assert str(raised.value).startswith(
        "expected `sha256:` and 64 hex digits\n  at l.yml: metadata.custom_metadata.packages_digest\n"
        "  fix: make the lock again"
    )


def test_several_platforms_share_a_file() -> None:
    mac = replace(LOCK, target=Target(subdir="osx-arm64"), base=None, packages=(NUMPY,))
    text = text_of(mac, LOCK)
    assert text == text_of(LOCK, mac)
    found = Lockfile.parse(text, file="conda-lock.yml")
    assert (found.lock_for("osx-arm64"), found.lock_for("linux-64"), found.lock_for("win-64")) == (mac, LOCK, None)


def test_channels_are_those_of_the_packages() -> None:
    assert WITH_CONDA.channels == ("https://channel.example/main",)
    assert LOCK.channels == ()


@given(YAML_VALUES)
@settings(max_examples=40)
def test_no_content_makes_reading_fail_otherwise(value: object) -> None:
    package = {"manager": "pip", "name": value, "url": value, "hash": value, "dependencies": value}
    for content in (
        {"package": value, "metadata": value},
        {"package": [value, package], "metadata": {"custom_metadata": value, "platforms": value}},
    ):
        with pytest.raises(InvalidFileError):
            Lockfile.parse(yaml.safe_dump({"version": 1, **content}), file="l.yml")
