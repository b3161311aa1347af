"""What in a spec or a lock could come out differently another day, or somewhere else. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from packaging.specifiers import SpecifierSet

from envbuilder.audit_finding import Finding
from envbuilder.errors import Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envbuilder.conda_yaml import MatchSpec
    from envbuilder.environment_spec import EnvironmentSpec
    from envbuilder.locked import Lock
    from envbuilder.requirement import Requirement

_TEST_TOOLS: Final = frozenset(
    {
        "black",
        "coverage",
        "flake8",
        "hypothesis",
        "ipdb",
        "mypy",
        "nose",
        "pylint",
        "pytest",
        "pytest-cov",
        "ruff",
        "tox",
    }
)
_COMMIT: Final = re.compile(r"@[0-9a-f]{40}(?:#|\Z)")


def of_spec(spec: EnvironmentSpec, lock: Lock | None, *, lock_file: str) -> Iterator[Finding]:
    """Give what is open in what is asked for."""
    versions = {one.name: one.version for one in lock.packages} if lock is not None else {}
    yield from _of_lock_state(spec, lock, lock_file)
    for requirement in spec.requirements:
        yield from _of_requirement(requirement, versions.get(requirement.name))
    for match_spec in spec.match_specs:
        yield from _of_match_spec(match_spec)
    if spec.python.value.exact is None:
        yield Finding(
            rule="python-not-exact",
            kind="reproducibility",
            severity="note",
            what=f"Python is asked for as `{spec.python.value.text}`: its patch release is that of the base",
            package="python",
            where=spec.python.source,
            fix="name the whole version, e.g. `3.11.7`",
        )
    yield from _of_sources(spec)


def _of_lock_state(spec: EnvironmentSpec, lock: Lock | None, lock_file: str) -> Iterator[Finding]:
    if lock is None:
        yield Finding(
            rule="no-lock",
            kind="reproducibility",
            severity="warning",
            what="there is no lock: each build may choose other packages",
            where=spec.python.source,
            fix="`envbuilder lock MODEL -o FILE`",
        )
    elif lock.packages_digest != spec.packages_digest:
        yield Finding(
            rule="stale-lock",
            kind="reproducibility",
            severity="error",
            what="the lock is for something else than the model asks for now",
            where=Source(file=lock_file, key="metadata.custom_metadata.packages_digest"),
            fix="lock again: `envbuilder lock MODEL -o FILE`",
        )


def _of_requirement(one: Requirement, locked: str | None) -> Iterator[Finding]:
    if one.name in _TEST_TOOLS:
        yield Finding(
            rule="test-tool",
            kind="reproducibility",
            severity="note",
            what=f"`{one.name}` is a tool of development, of no use where a model is served",
            package=one.name,
            where=one.source,
            why="MLflow infers packages from what happened to be imported when the model was logged",
            fix="leave it out",
            amendment=f"amend: {{pip: {{remove: [{one.name}]}}}}",
        )
    if one.is_direct:
        if one.url is not None and one.url.startswith("git+") and not _COMMIT.search(one.url):
            yield Finding(
                rule="no-commit",
                kind="reproducibility",
                severity="warning",
                what=f"`{one.name}` is a branch or a tag of a Git repository, which can move",
                package=one.name,
                where=one.source,
                fix="name the commit: `git+https://…@<40 hex digits>`",
            )
        return
    exact = [clause for clause in SpecifierSet(one.specifier) if clause.operator in {"==", "==="}]
    if any(not clause.version.endswith(".*") for clause in exact):
        return
    yield Finding(
        rule="unpinned",
        kind="reproducibility",
        # A lock decides on one version all the same.
        severity="note" if locked is not None else "warning",
        what=f"`{one.text}` is " + ("a range" if one.specifier else "any version"),
        package=one.name,
        version=locked or "",
        where=one.source,
        fix=f"write `{one.name}=={locked or 'VERSION'}`",
        amendment=f"amend: {{pip: {{bump: ['{one.name}=={locked}']}}}}" if locked is not None else "",
    )


def _of_match_spec(one: MatchSpec) -> Iterator[Finding]:
    version = one.version or ""
    if re.fullmatch(r"={1,2}[0-9][^,|*<>]*", version) and version.count(".") >= 1:
        return
    yield Finding(
        rule="unpinned",
        kind="reproducibility",
        severity="note",
        what=f"`{one.text}` is " + ("a range" if version else "any version"),
        package=one.name,
        where=one.source,
        fix=f"write `{one.name}=VERSION`",
    )


def _of_sources(spec: EnvironmentSpec) -> Iterator[Finding]:
    for index in spec.indexes:
        if index.kind == "extra_index_url":
            yield Finding(
                rule="extra-index",
                kind="reproducibility",
                severity="warning",
                what=f"`{index.url}` is asked besides the main index",
                where=index.source,
                why="whoever registers a private package's name on the public index can have theirs installed",
                fix="use one index that has both, or lock and keep the lock",
            )
    for one in spec.overridden:
        if one.field == "python":
            yield Finding(
                rule="sources-disagree",
                kind="reproducibility",
                severity="note",
                what=f"Python {one.value} is asked for here too, and not used: {one.reason}",
                package="python",
                where=one.source,
                fix="let all files of the model say the same",
            )


def of_lock(lock: Lock, *, lock_file: str) -> Iterator[Finding]:
    """Give what is open in what is locked."""
    where = Source(file=lock_file, key="package")
    for one in lock.packages:
        if one.source is not None:
            yield Finding(
                rule="built-from-source",
                kind="reproducibility",
                severity="note",
                what=f"`{one.name}` was built here from `{one.source.url}`: nobody else vouches for the wheel",
                package=one.name,
                version=one.version,
                where=where.child(one.name),
                fix="ask its authors for a wheel, or keep yours in an index of your own",
            )
    if lock.base is None:
        yield Finding(
            rule="no-base",
            kind="reproducibility",
            severity="note",
            what="the lock is for no base image in particular",
            where=Source(file=lock_file, key="metadata.custom_metadata"),
            fix="lock with `--base NAME`",
        )
