"""From what a model's files say to the one environment that is asked for; what loses is kept, with the reason.

Pure. Python and packages come from one place each: conda.yaml, else python_env.yaml, else MLmodel or requirements.txt.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from packaging.requirements import Requirement as ParsedRequirement
from packaging.utils import canonicalize_name

from envbuilder.environment_spec import EnvironmentSpec, Overridden, UnusedOption
from envbuilder.errors import InvalidFileError, Problem, Source
from envbuilder.fields import Stated
from envbuilder.problems import Problems, shown
from envbuilder.python_request import PythonRequest
from envbuilder.requirement import DirectReference, PipOption, Requirement, classify
from envbuilder.requirements_txt import INCLUDES, included_path

if TYPE_CHECKING:
    from collections.abc import Iterable

    from envbuilder.conda_yaml import MatchSpec
    from envbuilder.model import Model
    from envbuilder.requirement import PipLine
    from envbuilder.requirements_txt import RequirementsTxt

_BUILD_TOOLS: Final = frozenset({"pip", "setuptools", "wheel"})
_INDEX_OPTIONS: Final = frozenset({"--index-url", "--pypi-url", "--extra-index-url", "--find-links"})
_MAX_DEPTH: Final = 8


def resolve(model: Model) -> EnvironmentSpec:
    """Return what `model` asks for; raise `InvalidFileError` with everything that is refused."""
    problems = Problems()
    overridden = list(_missing_files(model))
    python = _python(model, problems, overridden)
    packages = _packages(model, problems, overridden)
    build_requirements = _build_requirements(model, problems, overridden)
    match_specs = model.conda.match_specs if model.conda is not None else ()
    problems.finish()
    if python is None:
        raise InvalidFileError(
            "no Python version is stated anywhere",
            where=model.mlmodel.python_function.source.child("python_version"),
            fix="add `- python=3.11` (the version the model was trained with) to the `dependencies` of conda.yaml",
        )
    return EnvironmentSpec(
        python=python,
        requirements=tuple(packages.requirements),
        constraints=tuple(packages.constraints),
        match_specs=tuple(one for one in match_specs if one.name != "python" and one.name not in _BUILD_TOOLS),
        channels=model.conda.channels if model.conda is not None else (),
        options=tuple(packages.options),
        build_requirements=build_requirements,
        overridden=tuple(overridden),
    )


def _missing_files(model: Model) -> Iterable[Overridden]:
    for named in model.missing:
        yield Overridden(field="env", value=named.value, source=named.source, reason="there is no such file")


def _python(model: Model, problems: Problems, overridden: list[Overridden]) -> Stated[PythonRequest] | None:
    stated = [*_conda_python(model)]
    if model.python_env is not None and model.python_env.python is not None:
        stated.append(model.python_env.python)
    if model.mlmodel.python_function.python_version is not None:
        stated.append(model.mlmodel.python_function.python_version)
    requests: list[Stated[PythonRequest]] = []
    for one in stated:
        try:
            requests.append(Stated(value=PythonRequest.parse(one.value, source=one.source), source=one.source))
        except InvalidFileError as error:
            # What is not used need not be readable.
            if not requests:
                problems.extend(error.problems)
                return None
            overridden.append(_python_loser(one.value, one.source, requests[0]))
    requests = [one for one in requests if one.value.text != "*"] or requests
    if not requests or requests[0].value.text == "*":
        return None
    winner, *losers = requests
    overridden.extend(
        _python_loser(one.value.text, one.source, winner) for one in losers if not _agree(winner.value, one.value)
    )
    return winner


def _conda_python(model: Model) -> Iterable[Stated[str]]:
    """Return what conda.yaml says about Python: all its match specs hold together."""
    specs = [one for one in (model.conda.match_specs if model.conda is not None else ()) if one.name == "python"]
    versions = [one.version for one in specs if one.version is not None]
    if versions:
        yield Stated(value=",".join(dict.fromkeys(versions)), source=specs[0].source)


def _agree(winner: PythonRequest, loser: PythonRequest) -> bool:
    if loser.exact is not None:
        return winner.allows(loser.exact)
    return winner.meaning == loser.meaning or (winner.minor is not None and winner.minor == loser.minor)


def _python_loser(text: str, source: Source, winner: Stated[PythonRequest]) -> Overridden:
    return Overridden(
        field="python",
        value=shown(text),
        source=source,
        reason=f"`{winner.value.text}` is asked for by a file that comes first",
        by=winner.source,
    )


def with_python(spec: EnvironmentSpec, text: str, *, source: Source) -> EnvironmentSpec:
    """Return the spec with the Python that `source` chooses; the one it had is kept as overridden."""
    if not text.strip(" *"):
        raise InvalidFileError("no Python version is named", where=source, fix="name one, such as `3.11`")
    chosen = Stated(value=PythonRequest.parse(text, source=source), source=source)
    lost = Overridden(
        field="python",
        value=spec.python.value.text,
        source=spec.python.source,
        reason="another Python was chosen for this build",
        by=source,
    )
    return replace(spec, python=chosen, overridden=(*spec.overridden, lost))


@dataclass(slots=True, kw_only=True)
class _Packages:
    """What one pip list comes to, with the files it includes."""

    requirements: list[Requirement] = field(default_factory=list)
    constraints: list[Requirement] = field(default_factory=list)
    options: list[UnusedOption] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def _packages(model: Model, problems: Problems, overridden: list[Overridden]) -> _Packages:
    lists = _pip_lists(model)
    if not lists and not (model.conda is not None and model.conda.match_specs):
        missing = ", ".join(f"`{shown(one.value)}`" for one in model.missing)
        what = f"{missing} does not exist, and nothing else says" if missing else "nothing says"
        problems.add(
            f"{what} which packages the model needs",
            where=model.mlmodel.python_function.source.child("env"),
            fix="put a conda.yaml or a requirements.txt beside MLmodel",
        )
    expanded = [_expand(lines, beside, model) for lines, beside in lists]
    if not expanded:
        return _Packages()
    winner, *losers = expanded
    problems.extend(winner.problems)
    first = lists[0][0][0].source if lists[0][0] else None
    seen: set[tuple[str, Source]] = set()
    for loser in losers:
        for one in _differences(winner, loser, by=first):
            if (one.value, one.source) not in seen:
                seen.add((one.value, one.source))
                overridden.append(one)
    return winner


def _pip_lists(model: Model) -> list[tuple[tuple[Stated[str], ...], str]]:
    """Every pip list of the model and the file it stands in, the one that counts first."""
    lists: list[tuple[tuple[Stated[str], ...], str]] = []
    if model.conda is not None and model.conda.pip_lines:
        lists.append((model.conda.pip_lines, "conda.yaml"))
    if model.python_env is not None and model.python_env.dependencies:
        lists.append((model.python_env.dependencies, "python_env.yaml"))
    if model.requirements is not None:
        lists.append((model.requirements.lines, model.requirements.path))
    return lists


def _expand(lines: tuple[Stated[str], ...], beside: str, model: Model) -> _Packages:
    packages = _Packages()
    files = {one.path: one for one in model.included}
    _read(lines, beside, _Reading(files=files, packages=packages), constraint=False, above=(beside,))
    return packages


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    files: dict[str, RequirementsTxt]
    packages: _Packages


def _read(
    lines: tuple[Stated[str], ...], beside: str, reading: _Reading, *, constraint: bool, above: tuple[str, ...]
) -> None:
    packages = reading.packages
    for line in lines:
        for item in classify(line.value, source=line.source):
            match item:
                case Requirement() if item.url is None:
                    (packages.constraints if constraint else packages.requirements).append(item)
                case PipOption() if item.name in INCLUDES:
                    included = _included(item, included_path(item, beside=beside), reading.files, above)
                    if isinstance(included, Problem):
                        packages.problems.append(included)
                    else:
                        _read(
                            included.lines,
                            included.path,
                            reading,
                            constraint=constraint or item.name == "--constraint",
                            above=(*above, included.path),
                        )
                case PipOption() if item.name in _INDEX_OPTIONS:
                    packages.options.append(_unused(item, "not used unless the workspace allows this place"))
                case PipOption() if item.name in _HARMLESS_OPTIONS:
                    packages.options.append(_unused(item, _HARMLESS_OPTIONS[item.name]))
                case _:
                    packages.problems.append(_refusal(item))


_HARMLESS_OPTIONS: Final = {
    "--no-index": "not used: the workspace decides where packages come from",
    "--trusted-host": "not used: the workspace decides which hosts are trusted",
    "--pre": "not used: a pre-release is taken only where a requirement names one",
    "--prefer-binary": "not needed: wheels are always preferred",
    "--only-binary": "not needed: wheels are always preferred",
    "--no-binary": "not used: wheels are always preferred",
    "--require-hashes": "not needed: every locked package has its digest",
    "--use-feature": "not used: it is for pip alone",
    "--use-pep517": "not used: it is for pip alone",
}


def _unused(option: PipOption, reason: str) -> UnusedOption:
    return UnusedOption(name=option.name, value=option.value, source=option.source, reason=reason)


def _included(
    option: PipOption, path: str | None, files: dict[str, RequirementsTxt], above: tuple[str, ...]
) -> RequirementsTxt | Problem:
    shown_value = shown(option.value)
    if path is None:
        what = f"`{option.name} {shown_value}` leads out of the model directory"
    elif path in above or len(above) > _MAX_DEPTH:
        what = f"`{option.name} {shown_value}` includes itself, or too many files in a row"
    elif path not in files:
        what = f"`{option.name} {shown_value}`: there is no such file in the model directory"
    else:
        return files[path]
    return Problem(what=what, where=option.source, fix="write the lines of that file here")


def _refusal(item: PipLine) -> Problem:
    match item:
        case Problem():
            return item
        case Requirement():
            return Problem(
                what=f"`{shown(item.text)}` is fetched from a URL, not from an index",
                where=item.source,
                fix=f"write `{item.name}==VERSION` of a released version",
            )
        case DirectReference(kind="path"):
            return Problem(
                what=f"`{shown(item.location)}` is a path, which packages are not installed from",
                where=item.source,
                fix="publish the package to an index and write `name==version`",
            )
        case DirectReference():
            return Problem(
                what=f"`{shown(item.location)}` is a {item.kind}, not a package's name",
                where=item.source,
                fix="write `name==version` of a released package",
            )
        case _:
            return Problem(
                what=f"`{item.name} {shown(item.value)}` is not accepted",
                where=item.source,
                fix="write `name==version` of a released package",
            )


def _differences(winner: _Packages, loser: _Packages, *, by: Source | None) -> Iterable[Overridden]:
    for name, kept, lost in (
        ("requirements", winner.requirements, loser.requirements),
        ("constraints", winner.constraints, loser.constraints),
    ):
        meanings = {one.meaning: one for one in kept}
        by_name = {one.name: one for one in kept}
        for one in lost:
            if one.meaning in meanings:
                continue
            other = by_name.get(one.name)
            reason = f"`{other.text}` is asked for by a file that comes first" if other else "another list counts"
            yield Overridden(
                field=name, value=one.text, source=one.source, reason=reason, by=other.source if other else by
            )
    known = {problem.what for problem in winner.problems}
    for problem in loser.problems:
        if problem.what not in known and problem.where is not None:
            yield Overridden(
                field="requirements", value=problem.what, source=problem.where, reason="another list counts", by=by
            )


def _build_requirements(model: Model, problems: Problems, overridden: list[Overridden]) -> tuple[Requirement, ...]:
    """Return what is asked of pip, setuptools and wheel: conda.yaml counts where it has a version."""
    found: dict[str, Requirement] = {}
    for one in _conda_build_requirements(model, problems):
        found.setdefault(one.name, one)
    for line in model.python_env.build_dependencies if model.python_env is not None else ():
        for item in classify(line.value, source=line.source):
            if not isinstance(item, Requirement) or item.url is not None:
                problems.extend([_refusal(item)])
                continue
            winner = found.get(item.name)
            if winner is None or not winner.specifier:
                found[item.name] = item
            elif item.specifier and not _within(item, winner):
                reason = f"`{winner.text}` is asked for by a file that comes first"
                overridden.append(
                    Overridden(
                        field="build_requirements",
                        value=item.text,
                        source=item.source,
                        reason=reason,
                        by=winner.source,
                    )
                )
    return tuple(found[name] for name in sorted(found))


def _within(one: Requirement, other: Requirement) -> bool:
    """Whether `one` pins a version that `other` allows, or says the same."""
    clauses = list(ParsedRequirement(one.text).specifier)
    if len(clauses) == 1 and clauses[0].operator == "==" and not clauses[0].version.endswith("*"):
        return ParsedRequirement(other.text).specifier.contains(clauses[0].version, prereleases=True)
    return one.meaning == other.meaning


def _conda_build_requirements(model: Model, problems: Problems) -> Iterable[Requirement]:
    for one in model.conda.match_specs if model.conda is not None else ():
        if one.name in _BUILD_TOOLS:
            try:
                yield Requirement.parse(f"{canonicalize_name(one.name)}{_specifier(one)}", source=one.source)
            except InvalidFileError:
                problems.add(
                    f"`{shown(one.text)}` cannot be asked of pip's packages",
                    where=one.source,
                    fix="write `name`, `name==version` or `name>=low,<high`",
                )


def _specifier(one: MatchSpec) -> str:
    """Write conda's version in the words of PEP 440: `=1.2` is any 1.2.x."""
    clauses = []
    for clause in (one.version or "").split(","):
        bare = clause.lstrip("=")
        fuzzy = not clause.startswith(("==", "<", ">", "!", "~"))
        if fuzzy and bare:
            clauses.append(f"=={bare.removesuffix('.*').removesuffix('*')}.*")
        elif bare:
            clauses.append(clause)
    return ",".join(clauses)
