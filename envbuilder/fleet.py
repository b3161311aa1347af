"""Many models at once: each environment is locked and built once, then comes one layer and one manifest per model.

A model that fails stops no other. What an earlier run made is found by its content, also where that run was killed.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from envbuilder import cache_lock, disk, engine_choice, fleet_yaml, model_environment, model_pattern, stages
from envbuilder.errors import BuildFailedError, EnvBuilderError, InvalidFileError, LockImpossibleError, Source
from envbuilder.image_reference import ImageReference
from envbuilder.model_pattern import ModelPattern
from envbuilder.reporter import Reporter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from envbuilder.base_image import BaseImage
    from envbuilder.bases import BaseReference
    from envbuilder.choices import Choices
    from envbuilder.engine import Engine
    from envbuilder.fleet_yaml import Member
    from envbuilder.machine import Machine
    from envbuilder.model import Model
    from envbuilder.oci_image import Platform
    from envbuilder.stages import BuildReport

State = Literal["built", "existed", "failed"]
NAME: Final = "{name}"
"""Stands for the model's name in the tag that is chosen for all."""

_READERS: Final = 4
_BUG: Final = 70


class Watch:
    """Hears what becomes of each model; every method is a no-op here. Models are read several at a time."""

    def listed(self, members: tuple[Member, ...]) -> None:
        """Hear which models are going to be built."""

    def reporter(self, number: int) -> Reporter:
        """Return who hears of the model's stages."""
        del number
        return Reporter()

    def ended(self, number: int, outcome: Outcome) -> None:
        """Hear that the model with this place in the list was built, or failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one model."""

    member: Member
    environment: str | None = None
    """The digest of the packages that are asked for; on one base, models with the same one differ in the last layer."""

    report: BuildReport | None = None
    error: Exception | None = None
    """What is no EnvBuilderError is a bug."""

    seconds: float = 0.0

    @property
    def state(self) -> State:
        """Whether an image was made, was there, or could not be made."""
        if self.report is None:
            return "failed"
        return "existed" if self.report.existed else "built"

    def to_dict(self) -> dict[str, Any]:
        """Return the outcome in the types of JSON."""
        error: dict[str, Any] | None = None
        if isinstance(self.error, EnvBuilderError):
            error = self.error.to_dict()
        elif self.error is not None:
            error = {"kind": "bug", "exit_code": _BUG, "problems": [{"what": repr(self.error)}]}
        return {
            "model": self.member.model,
            "listed": str(self.member.source),
            "state": self.state,
            "environment": self.environment,
            "seconds": round(self.seconds, 3),
            "error": error,
            "report": self.report.to_dict() if self.report is not None else None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetReport:
    """What became of all models, in the order in which they were listed."""

    outcomes: tuple[Outcome, ...]
    seconds: float

    @property
    def environments(self) -> int:
        """How many environments the models have."""
        return len({one.environment for one in self.outcomes if one.environment is not None})

    def count(self, state: State) -> int:
        """Return how many models came to this."""
        return sum(one.state == state for one in self.outcomes)

    @property
    def exit_code(self) -> int:
        """0 where nothing failed; the code of the failures where they are all of one kind, else that of builds."""
        codes = {
            one.error.exit_code if isinstance(one.error, EnvBuilderError) else _BUG
            for one in self.outcomes
            if one.error is not None
        }
        return 0 if not codes else codes.pop() if len(codes) == 1 else BuildFailedError.exit_code

    def to_dict(self) -> dict[str, Any]:
        """Return the report in the types of JSON."""
        return {
            "environments": self.environments,
            **{state: self.count(state) for state in ("built", "existed", "failed")},
            "exit_code": self.exit_code,
            "seconds": round(self.seconds, 3),
            "models": [one.to_dict() for one in self.outcomes],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """A model that was read, and what will be built of it."""

    number: int
    member: Member
    model: Model
    choices: Choices
    environment: str
    base: str


def members(given: str, *, machine: Machine) -> tuple[Member, ...]:
    """Return the models that a file lists, or those of a registry that `models:/…` names."""
    source = Source(file="--all")
    if model_pattern.is_pattern(given):
        from envbuilder import model_store  # noqa: PLC0415 - most fleets are files

        return ModelPattern.parse(given, source=source).members(model_store.registered(machine=machine), source=source)
    try:
        text = Path(given).read_bytes()
    except OSError as cause:
        raise InvalidFileError(
            f"`{given}` cannot be read: {cause.strerror}", where=source, fix="name a file that lists models"
        ) from cause
    return fleet_yaml.parse(text, file=given)


@cache_lock.used
@disk.readable_by_all()
def build(listed: Iterable[Member], choices: Choices, *, machine: Machine, watch: Watch | None = None) -> FleetReport:
    """Build all models, those with the same environment one after the other; never raises for a single model."""
    begin = time.monotonic()
    listed, watch = tuple(listed), watch or Watch()
    _check(choices)
    name, chosen = engine_choice.choose_engine(choices, machine)
    engine = (name, cast("Engine", _Remembering(chosen)))
    watch.listed(listed)
    outcomes: dict[int, Outcome] = {}

    def end(number: int, outcome: Outcome) -> None:
        outcomes[number] = outcome
        watch.ended(number, outcome)

    known = []
    for number, found in enumerate(_read(listed, choices, machine, watch)):
        if isinstance(found, _Known):
            known.append(found)
        else:
            end(number, found)
    for one, clash in _named_alike(known):
        end(one.number, _failed(one, clash))
    waiting: dict[tuple[str, str], list[_Known]] = {}
    for one in known:
        if one.number not in outcomes:
            waiting.setdefault((one.environment, one.base), []).append(one)
    for group in waiting.values():
        unlockable: LockImpossibleError | None = None
        for one in group:
            # What cannot be locked for one cannot be for the others either; asking again takes as long.
            outcome = _failed(one, unlockable) if unlockable is not None else _built(one, engine, machine, watch)
            if isinstance(outcome.error, LockImpossibleError):
                unlockable = outcome.error
            end(one.number, outcome)
    return FleetReport(
        outcomes=tuple(outcomes[number] for number in range(len(listed))), seconds=time.monotonic() - begin
    )


def _check(choices: Choices) -> None:
    """Raise InvalidFileError for what is chosen for all and can be of one model only."""
    if choices.tag is not None and NAME not in choices.tag:
        raise InvalidFileError(
            f"`{choices.tag}` would be the name of every image",
            where=Source(file="--tag"),
            fix=f"write `{NAME}` where each model's name goes, e.g. `registry.example/team/{NAME}:1`",
        )
    for option, value in (("--lock", choices.lock), ("--output", choices.output)):
        if value is not None:
            raise InvalidFileError(f"`{option}` is for one model", where=Source(file=option), fix="leave it out")


def _read(listed: tuple[Member, ...], choices: Choices, machine: Machine, watch: Watch) -> Iterable[_Known | Outcome]:
    def read(number: int) -> _Known | Outcome:
        member = listed[number]

        def known() -> _Known:
            reporter = watch.reporter(number)
            model = model_environment.read_model(member.model, machine=replace(machine, reporter=reporter))
            own = replace(
                choices,
                environment=member.environment or choices.environment,
                tag=member.tag or (choices.tag or f"{NAME}:latest").replace(NAME, stages.name_of(model)),
            )
            spec = model_environment.resolve_model(model, own)
            return _Known(
                number=number,
                member=member,
                model=model,
                choices=own,
                environment=spec.packages_digest,
                base=str(spec.base.meaning) if spec.base is not None else "",
            )

        found = _attempt(known, machine)
        return Outcome(member=member, error=found) if isinstance(found, Exception) else found

    with ThreadPoolExecutor(_READERS) as pool:
        yield from pool.map(read, range(len(listed)))


def _named_alike(known: list[_Known]) -> Iterable[tuple[_Known, InvalidFileError]]:
    """Return those whose name another one has too: one image would take it from the other."""
    names: dict[str, list[_Known]] = {}
    for one in known:
        names.setdefault(str(ImageReference.parse_name_tag(one.choices.tag or "")), []).append(one)
    for name, group in names.items():
        for one in group if len(group) > 1 else ():
            others = ", ".join(f"`{other.member.model}`" for other in group if other is not one)
            yield (
                one,
                InvalidFileError(
                    f"the image of {others} has the name `{name}` too",
                    where=one.member.source,
                    fix="give each a `tag`: `- {model: PATH_OR_URI, tag: NAME:TAG}`",
                ),
            )


class _Remembering:
    """An engine that is asked for each base once: a fleet has the same one again and again."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._bases: dict[tuple[BaseReference, Platform], BaseImage] = {}

    def __getattr__(self, name: str) -> object:
        return getattr(self._engine, name)

    def base_image(self, reference: BaseReference, *, platform: Platform, machine: Machine) -> BaseImage:
        key = reference, platform
        if key not in self._bases:
            self._bases[key] = self._engine.base_image(reference, platform=platform, machine=machine)
        return self._bases[key]


def _built(one: _Known, engine: tuple[str, Engine], machine: Machine, watch: Watch) -> Outcome:
    begin = time.monotonic()
    own = replace(machine, reporter=watch.reporter(one.number))
    found = _attempt(lambda: stages.build(one.model, one.choices, machine=own, engine=engine), machine)
    seconds = time.monotonic() - begin
    if isinstance(found, Exception):
        return replace(_failed(one, found), seconds=seconds)
    return Outcome(member=one.member, environment=one.environment, report=found, seconds=seconds)


def _failed(one: _Known, error: Exception) -> Outcome:
    return Outcome(member=one.member, environment=one.environment, error=error)


def _attempt(work: Callable[[], Any], machine: Machine) -> Any:  # noqa: ANN401 - what the work returns
    try:
        with disk.full_disk_named(machine.settings.cache_dir):
            return work()
    except Exception as error:  # noqa: BLE001 - also a bug that one model meets must not stop the others
        return error
