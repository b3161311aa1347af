"""From a spec and an amendment to the amended spec; an operation that finds nothing to do is kept, too. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from envbuilder.environment_spec import EnvironmentSpec, Overridden, Unused

if TYPE_CHECKING:
    from collections.abc import Callable

    from envbuilder.amendment import Amendment, Edits
    from envbuilder.conda_yaml import MatchSpec
    from envbuilder.errors import Source
    from envbuilder.fields import Stated
    from envbuilder.package_index import PackageIndex
    from envbuilder.pip_line import Line
    from envbuilder.requirement import Requirement


class _Sourced(Protocol):
    """What stands somewhere."""

    @property
    def source(self) -> Source: ...


T = TypeVar("T", bound=_Sourced)


@dataclass(slots=True, kw_only=True)
class _Record:
    """What lost, and what had no effect."""

    overridden: list[Overridden] = field(default_factory=list)
    unused: list[Unused] = field(default_factory=list)

    def lost(self, field_name: str, value: str, source: Source, by: Source, reason: str) -> None:
        self.overridden.append(Overridden(field=field_name, value=value, source=source, reason=reason, by=by))

    def no_effect(self, name: str, value: str, source: Source, reason: str) -> None:
        self.unused.append(Unused(name=name, value=value, source=source, reason=reason))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind(Generic[T]):
    """How one kind of thing is told apart and shown."""

    field: str
    key: str
    """The key of the amendment."""
    name: Callable[[T], str]
    text: Callable[[T], str]
    meaning: Callable[[T], str]
    carry: Callable[[list[T], T], T] = lambda _old, new: new
    """What the new thing takes over from the old ones it replaces."""


def amended(spec: EnvironmentSpec, amendment: Amendment, *, reference: str) -> EnvironmentSpec:
    """Return the spec as the amendment, which people call `reference`, changes it."""
    record = _Record()
    requirements = _edited(spec.requirements, amendment.requirements, _REQUIREMENTS, record)
    changed = replace(
        spec,
        requirements=requirements,
        constraints=_loosened(spec.constraints, requirements, amendment.requirements, record),
        match_specs=_edited(spec.match_specs, amendment.match_specs, _MATCH_SPECS, record),
        channels=_edited(spec.channels, amendment.channels, _CHANNELS, record),
        indexes=_indexes(spec, amendment, record),
        system_packages=_edited(spec.system_packages, amendment.system_packages, _SYSTEM_PACKAGES, record),
    )
    changed = _with_variables(
        _with_base(_with_python(changed, amendment, record), amendment, record), amendment, record
    )
    if changed.digest == spec.digest:
        source = next((one.source for one in record.unused), spec.python.source)
        record.no_effect("environment", reference, source, "it changes nothing for this model")
    return replace(
        changed,
        overridden=(*spec.overridden, *record.overridden),
        unused=(*spec.unused, *record.unused),
    )


def _edited(items: tuple[T, ...], edits: Edits[T], kind: _Kind[T], record: _Record) -> tuple[T, ...]:
    found = items
    for bump in edits.bump:
        found = _bumped(found, bump, kind, record)
    for swap in sorted(edits.swap, key=lambda one: one.old.value):
        found = _swapped(found, swap.old, swap.new, kind, record)
    for stated in edits.remove:
        kept = tuple(one for one in found if kind.name(one) != stated.value)
        for one in found:
            if kind.name(one) == stated.value:
                record.lost(kind.field, kind.text(one), one.source, stated.source, "the workspace removes it")
        if kept == found:
            record.no_effect(f"{kind.key}.remove", stated.value, stated.source, "the model does not ask for it")
        found = kept
    for new in edits.add:
        same = [one for one in found if kind.name(one) == kind.name(new)]
        if same:
            hint = "" if kind.meaning(same[0]) == kind.meaning(new) else "; `bump` would change that"
            reason = f"`{kind.text(same[0])}` is asked for already{hint}"
            record.no_effect(f"{kind.key}.add", kind.text(new), new.source, reason)
        else:
            found = (*found, new)
    return found


def _bumped(items: tuple[T, ...], new: T, kind: _Kind[T], record: _Record) -> tuple[T, ...]:
    old = [one for one in items if kind.name(one) == kind.name(new)]
    operation = f"{kind.key}.bump"
    if not old:
        reason = "the model does not ask for it; `add` would"
        record.no_effect(operation, kind.text(new), new.source, reason)
        return items
    new = kind.carry(old, new)
    if {kind.meaning(one) for one in old} == {kind.meaning(new)}:
        record.no_effect(operation, kind.text(new), new.source, "the model asks for the same")
        return items
    return _put(items, old, new, kind, record)


def _swapped(items: tuple[T, ...], stated: Stated[str], new: T, kind: _Kind[T], record: _Record) -> tuple[T, ...]:
    old = [one for one in items if kind.name(one) == stated.value]
    if not old:
        value = f"{stated.value} → {kind.text(new)}"
        record.no_effect(f"{kind.key}.swap", value, stated.source, f"the model does not ask for `{stated.value}`")
        return items
    present = [one for one in items if kind.name(one) == kind.name(new) and one not in old]
    return _put(items, [*old, *present], kind.carry(old, new), kind, record)


def _put(items: tuple[T, ...], old: list[T], new: T, kind: _Kind[T], record: _Record) -> tuple[T, ...]:
    """Put `new` in the place of the first of `old`, and take the others away."""
    for one in old:
        record.lost(kind.field, kind.text(one), one.source, new.source, f"the workspace takes `{kind.text(new)}`")
    found: list[T] = []
    for one in items:
        if one not in old:
            found.append(one)
        elif one is old[0] or (one == old[0] and new not in found):
            found.append(new)
    return tuple(found)


def _carry_requirement(old: list[Requirement], new: Requirement) -> Requirement:
    """Keep the extras, the marker, and on a swap that names no version the version, of what is replaced."""
    extras = tuple(sorted({*new.extras, *(extra for one in old for extra in one.extras)}))
    found = replace(new, extras=extras, marker=new.marker or _only({one.marker for one in old}))
    if new.specifier or new.is_direct or new.name == old[0].name:
        return found
    return replace(found, specifier=_only({one.specifier for one in old}) or "")


def _carry_match_spec(old: list[MatchSpec], new: MatchSpec) -> MatchSpec:
    version = _only({one.version for one in old})
    if new.version is not None or new.build is not None or new.name == old[0].name or version is None:
        return new
    channel = f"{new.channel}::" if new.channel else ""
    text = f"{channel}{new.name}{version if version[0] in '=<>!~' else f' {version}'}"
    return replace(new, version=version, text=text)


def _only(values: set[str | None] | set[str]) -> str | None:
    """Return what all say, None where they differ."""
    return next(iter(values)) if len(values) == 1 else None


def _loosened(
    constraints: tuple[Requirement, ...],
    requirements: tuple[Requirement, ...],
    edits: Edits[Requirement],
    record: _Record,
) -> tuple[Requirement, ...]:
    """Drop the constraints of packages that the workspace decides on."""
    added = (one for one in edits.add if one.specifier or one.is_direct)
    sources = {one.source for one in (*edits.bump, *(swap.new for swap in edits.swap), *added)}
    by: dict[str, Source] = {one.name: one.source for one in requirements if one.source in sources}
    by |= {swap.old.value: swap.new.source for swap in edits.swap if swap.new.source in by.values()}
    for one in constraints:
        if one.name in by:
            record.lost("constraints", one.text, one.source, by[one.name], "the workspace decides on this package")
    return tuple(one for one in constraints if one.name not in by)


def _with_python(spec: EnvironmentSpec, amendment: Amendment, record: _Record) -> EnvironmentSpec:
    chosen = amendment.python
    if chosen is None:
        return spec
    if chosen.value.meaning == spec.python.value.meaning:
        record.no_effect("python", chosen.value.text, chosen.source, "the model asks for the same")
        return spec
    reason = f"the workspace takes `{chosen.value.text}`"
    record.lost("python", spec.python.value.text, spec.python.source, chosen.source, reason)
    return replace(spec, python=chosen)


def _with_base(spec: EnvironmentSpec, amendment: Amendment, record: _Record) -> EnvironmentSpec:
    chosen = amendment.base
    if chosen is None:
        return spec
    if spec.base is not None and spec.base.meaning == chosen.meaning:
        record.no_effect("image", chosen.text, chosen.source, "the model asks for the same")
        return spec
    if spec.base is not None:
        reason = f"the workspace takes `{chosen.text}`"
        record.lost("base", spec.base.text, spec.base.source, chosen.source, reason)
    return replace(spec, base=chosen)


def _with_variables(spec: EnvironmentSpec, amendment: Amendment, record: _Record) -> EnvironmentSpec:
    found = {one.name: one for one in spec.variables}
    for new in amendment.add_variables:
        old = found.get(new.name)
        if old is not None and old.value == new.value:
            record.no_effect("environment_variables.add", f"{new.name}={new.value}", new.source, "it is set already")
            continue
        if old is not None:
            value = f"{old.name}={old.value}"
            record.lost("variables", value, old.source, new.source, f"the workspace sets `{new.value}`")
        found[new.name] = new
    for stated in amendment.remove_variables:
        gone = found.pop(stated.value, None)
        if gone is None:
            record.no_effect("environment_variables.remove", stated.value, stated.source, "it is not set")
        else:
            value = f"{gone.name}={gone.value}"
            record.lost("variables", value, gone.source, stated.source, "the workspace removes it")
    return replace(spec, variables=tuple(found.values()))


def _indexes(spec: EnvironmentSpec, amendment: Amendment, record: _Record) -> tuple[PackageIndex, ...]:
    by_kind = {
        kind: tuple(one for one in spec.indexes if one.kind == kind)
        for kind in ("index_url", "extra_index_url", "find_links")
    }
    primary = by_kind["index_url"]
    chosen = amendment.index_url
    if chosen is not None:
        if [one.meaning for one in primary] == [chosen.meaning]:
            record.no_effect("index_url", chosen.url, chosen.source, "the model asks for the same")
        else:
            for one in primary:
                record.lost(
                    "indexes", _index_text(one), one.source, chosen.source, f"the workspace takes `{chosen.url}`"
                )
            primary = (chosen,)
    extra = _edited(by_kind["extra_index_url"], amendment.extra_index_urls, _EXTRA_INDEXES, record)
    links = _edited(by_kind["find_links"], amendment.find_links, _FIND_LINKS, record)
    return (*primary, *extra, *links)


def _index_text(one: PackageIndex) -> str:
    return f"{one.kind} {one.url}"


def _index_name(one: PackageIndex) -> str:
    return one.meaning.partition(" ")[2]


def _text(one: Stated[str]) -> str:
    return one.value


_REQUIREMENTS: Final[_Kind[Requirement]] = _Kind(
    field="requirements",
    key="pip",
    name=lambda one: one.name,
    text=lambda one: one.text,
    meaning=lambda one: one.meaning,
    carry=_carry_requirement,
)
_MATCH_SPECS: Final[_Kind[MatchSpec]] = _Kind(
    field="match_specs",
    key="conda",
    name=lambda one: one.name,
    text=lambda one: one.text,
    meaning=lambda one: one.meaning,
    carry=_carry_match_spec,
)
_CHANNELS: Final[_Kind[Line]] = _Kind(field="channels", key="channels", name=_text, text=_text, meaning=_text)
_SYSTEM_PACKAGES: Final = _Kind(field="system_packages", key="system_packages", name=_text, text=_text, meaning=_text)
_EXTRA_INDEXES: Final = _Kind(
    field="indexes",
    key="extra_index_urls",
    name=_index_name,
    text=_index_text,
    meaning=lambda one: one.meaning,
)
_FIND_LINKS: Final = replace(_EXTRA_INDEXES, key="find_links")
