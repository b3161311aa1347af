"""From what a model's files say, and the workspace's override, to the one environment that is asked for.

Pure. Python and packages come from one place each: an override, else conda.yaml, else python_env.yaml, else MLmodel or
requirements.txt. What loses is kept, with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from packaging.requirements import Requirement as ParsedRequirement
from packaging.utils import canonicalize_name

from envbuilder import flavor_version, package_index
from envbuilder.amending import amended
from envbuilder.amendment import Amendment
from envbuilder.environment_spec import EnvironmentSpec, Overridden, Unused
from envbuilder.errors import InvalidFileError, Problem, Source
from envbuilder.fields import Stated
from envbuilder.pip_line import classify
from envbuilder.pip_list import PipList, Surroundings
from envbuilder.problems import Problems, shown
from envbuilder.python_request import PythonRequest
from envbuilder.requirement import Requirement

if TYPE_CHECKING:
    from collections.abc import Iterable

    from envbuilder.base_request import BaseRequest
    from envbuilder.conda_yaml import CondaYaml, MatchSpec
    from envbuilder.environment_yaml import Replacement
    from envbuilder.model import Model
    from envbuilder.override import Override
    from envbuilder.pip_line import Line, PipLine
    from envbuilder.python_env_yaml import PythonEnvYaml
    from envbuilder.variable import Variable

_BUILD_TOOLS: Final = frozenset({"pip", "setuptools", "wheel"})
_TOOLS: Final = _BUILD_TOOLS | {"python"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Statements:
    """What the files of one environment say, the one that counts first in every list."""

    python: tuple[Stated[str], ...]
    lists: tuple[tuple[tuple[Line, ...], str], ...]
    """Every pip list, and the file it stands in."""
    conda: CondaYaml | None
    python_env: PythonEnvYaml | None
    base: BaseRequest | None


def resolve(
    model: Model, override: Override | None = None, *, allowed_indexes: tuple[str, ...] = ()
) -> EnvironmentSpec:
    """Return what `model` asks for, with the workspace's override; a model may name only `allowed_indexes`.

    Raises `InvalidFileError` with everything that is refused.
    """
    around = Surroundings(
        files={one.path: one for one in model.included},
        wheels={one.path: one.digest for one in model.wheels},
        allowed_indexes=allowed_indexes,
    )
    if override is None:
        return _own(model, around)
    content = override.environment.content
    if isinstance(content, Amendment):
        spec = amended(_own(model, around), content, reference=override.reference)
    else:
        spec = _replaced(model, content, override, around)
    return replace(
        spec,
        environment=Stated(value=override.reference, source=override.source),
        overridden=(*spec.overridden, *override.overridden),
    )


def own_python(model: Model) -> PythonRequest | None:
    """Return the Python that the model itself asks for, None where it says nothing that can be read."""
    found = _python(_statements(model).python, Problems(), [])
    return found.value if found is not None else None


def _own(model: Model, around: Surroundings) -> EnvironmentSpec:
    problems = Problems()
    problems.extend(model.problems)
    statements = _statements(model)
    if not model.problems:
        _check_stated(model, statements, problems)
    _check_channels(model.conda, problems)
    spec = _spec(statements, around, problems, missing=_missing_files(model))
    problems.finish()
    asked = _needed(spec, model)
    found = flavor_version.losers(model.mlmodel.flavor_versions, asked.requirements, asked.match_specs)
    return replace(asked, overridden=(*asked.overridden, *found))


def _check_channels(conda: CondaYaml | None, problems: Problems) -> None:
    """Refuse the folders of the machine that builds; a workspace's environment may name them."""
    named = [(one.value, one.source) for one in conda.channels] if conda is not None else []
    named += [(one.channel, one.source) for one in conda.match_specs if one.channel] if conda is not None else []
    for channel, source in named:
        if channel.lower().startswith(("file:", "/", ".", "~")):
            problems.add(
                f"the channel `{shown(channel)}` is a folder of the machine that builds",
                where=source,
                fix="write a channel's name or its https URL; an environment of the workspace may name folders",
            )


def _replaced(model: Model, content: Replacement, override: Override, around: Surroundings) -> EnvironmentSpec:
    """Return the spec of an environment that takes the place of the model's; only Python may still be the model's."""
    problems = Problems()
    conda = content.conda
    statements = _Statements(
        python=(*_conda_python(conda), *_statements(model).python),
        lists=((conda.pip_lines, str(conda.source)),) if conda is not None else (),
        conda=conda,
        python_env=None,
        base=content.base,
    )
    trusted = Surroundings(allowed_indexes=None, place="beside it")
    spec = _spec(statements, trusted, problems)
    problems.finish()
    spec = replace(_needed(spec, model), routes=content.routes)
    return replace(spec, overridden=(*spec.overridden, *_replaced_values(spec, model, around, override)))


def _replaced_values(
    spec: EnvironmentSpec, model: Model, around: Surroundings, override: Override
) -> Iterable[Overridden]:
    """Say of every value of the model's own environment that it is replaced; what cannot be read is replaced too."""
    reason = f"the environment `{override.reference}` replaces the model's"
    instead = {(one.field, one.name): one.source for one in spec.entries()}
    unread = Problems()
    own = _spec(_statements(model), around, unread, missing=_missing_files(model))
    for entry in own.entries() if own is not None else ():
        if entry.field != "python":
            yield Overridden(
                field=entry.field,
                value=entry.value,
                source=entry.source,
                reason=reason,
                by=instead.get((entry.field, entry.name), override.source),
            )
    for problem in (*model.problems, *unread.found):
        source = problem.where or model.mlmodel.source
        yield Overridden(field="requirements", value=problem.what, source=source, reason=reason, by=override.source)


def _statements(model: Model) -> _Statements:
    stated = [*_conda_python(model.conda)]
    if model.python_env is not None and model.python_env.python is not None:
        stated.append(model.python_env.python)
    if model.mlmodel.python_function.python_version is not None:
        stated.append(model.mlmodel.python_function.python_version)
    return _Statements(
        python=tuple(stated),
        lists=tuple(_pip_lists(model)),
        conda=model.conda,
        python_env=model.python_env,
        base=model.mlmodel.base,
    )


def _spec(
    statements: _Statements, around: Surroundings, problems: Problems, *, missing: Iterable[Overridden] = ()
) -> EnvironmentSpec | None:
    """Return the spec that the statements come to; None, or problems, where they do not."""
    overridden = list(missing)
    python = _python(statements.python, problems, overridden)
    packages = _packages(statements, around, problems, overridden)
    build_requirements = _build_requirements(statements, problems, overridden)
    if python is None:
        return None
    conda = statements.conda
    match_specs = conda.match_specs if conda is not None else ()
    variables = conda.variables if conda is not None else ()
    return EnvironmentSpec(
        python=python,
        base=statements.base,
        requirements=tuple(packages.requirements),
        constraints=tuple(packages.constraints),
        match_specs=tuple(one for one in match_specs if one.name not in _TOOLS),
        tool_match_specs=tuple(one for one in match_specs if one.name in _TOOLS),
        channels=conda.channels if conda is not None else (),
        indexes=tuple(sorted(packages.indexes, key=lambda one: package_index.KINDS.index(one.kind))),
        build_requirements=build_requirements,
        variables=tuple(one for one in variables if not one.is_reserved),
        unused=(*packages.unused, *(_reserved(one) for one in variables if one.is_reserved)),
        overridden=tuple(overridden),
    )


def _needed(spec: EnvironmentSpec | None, model: Model) -> EnvironmentSpec:
    if spec is not None:
        return spec
    raise InvalidFileError(
        "no Python version is stated anywhere",
        where=model.mlmodel.python_function.source.child("python_version"),
        fix="add `- python=3.11` (the version the model was trained with) to the `dependencies` of conda.yaml",
    )


def _reserved(one: Variable) -> Unused:
    return Unused(name="variables", value=one.name, source=one.source, reason="not used: the image itself sets it")


def _missing_files(model: Model) -> Iterable[Overridden]:
    for named in model.missing:
        yield Overridden(field="env", value=shown(named.value), source=named.source, reason="there is no such file")


def _check_stated(model: Model, statements: _Statements, problems: Problems) -> None:
    if statements.lists or (model.conda is not None and model.conda.match_specs):
        return
    missing = ", ".join(f"`{shown(one.value)}`" for one in model.missing)
    what = f"{missing} does not exist, and nothing else says" if missing else "nothing says"
    problems.add(
        f"{what} which packages the model needs",
        where=model.mlmodel.python_function.source.child("env"),
        fix="put a conda.yaml or a requirements.txt beside MLmodel, or choose another one with `--environment`",
    )


def _python(
    stated: tuple[Stated[str], ...], problems: Problems, overridden: list[Overridden]
) -> Stated[PythonRequest] | None:
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


def _conda_python(conda: CondaYaml | None) -> tuple[Stated[str], ...]:
    """Return what conda.yaml says about Python: all its match specs hold together."""
    specs = [one for one in (conda.match_specs if conda is not None else ()) if one.name == "python"]
    versions = [one.version for one in specs if one.version is not None]
    return (Stated(value=",".join(dict.fromkeys(versions)), source=specs[0].source),) if versions else ()


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


def _packages(
    statements: _Statements, around: Surroundings, problems: Problems, overridden: list[Overridden]
) -> PipList:
    lists = [PipList.read(lines, beside=beside, around=around) for lines, beside in statements.lists]
    if not lists:
        return PipList()
    winner, *losers = lists
    problems.extend(winner.problems)
    lines = statements.lists[0][0]
    first = lines[0].source if lines else None
    seen: set[tuple[str, Source]] = set()
    for loser in losers:
        for one in _differences(winner, loser, by=first):
            if (one.value, one.source) not in seen:
                seen.add((one.value, one.source))
                overridden.append(one)
    return winner


def _pip_lists(model: Model) -> Iterable[tuple[tuple[Line, ...], str]]:
    """Return every pip list of the model and the file it stands in, the one that counts first."""
    if model.conda is not None and model.conda.pip_lines:
        yield model.conda.pip_lines, "conda.yaml"
    if model.python_env is not None and model.python_env.dependencies:
        yield model.python_env.dependencies, "python_env.yaml"
    if model.requirements is not None:
        yield model.requirements.lines, model.requirements.path


def _differences(winner: PipList, loser: PipList, *, by: Source | None) -> Iterable[Overridden]:
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


def _build_requirements(
    statements: _Statements, problems: Problems, overridden: list[Overridden]
) -> tuple[Requirement, ...]:
    """Return what is asked of pip, setuptools and wheel: conda.yaml counts where it has a version."""
    found: dict[str, Requirement] = {}
    for one in _conda_build_requirements(statements.conda, problems):
        found.setdefault(one.name, one)
    for line in statements.python_env.build_dependencies if statements.python_env is not None else ():
        for item in classify(line):
            if not isinstance(item, Requirement) or item.is_direct:
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


def _refusal(item: PipLine) -> Problem:
    if isinstance(item, Problem):
        return item
    return Problem(
        what=f"`{shown(item.written)}` cannot be asked of what builds packages",
        where=item.source,
        fix="write `name==version` of a released package",
    )


def _within(one: Requirement, other: Requirement) -> bool:
    """Whether `one` pins a version that `other` allows, or says the same."""
    clauses = list(ParsedRequirement(one.text).specifier)
    if len(clauses) == 1 and clauses[0].operator == "==" and not clauses[0].version.endswith("*"):
        return ParsedRequirement(other.text).specifier.contains(clauses[0].version, prereleases=True)
    return one.meaning == other.meaning


def _conda_build_requirements(conda: CondaYaml | None, problems: Problems) -> Iterable[Requirement]:
    for one in conda.match_specs if conda is not None else ():
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
