"""What two specs ask for differently, thing by thing. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from envbuilder.environment_spec import Entry, EnvironmentSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that one of two specs asks for, or that they ask for differently."""

    field: str
    name: str
    before: tuple[Entry, ...]
    after: tuple[Entry, ...]

    @property
    def text(self) -> str:
        """One line for people: `- ` and `+ ` as in a patch."""
        sides = [f"-{one.value}" for one in self.before] + [f"+{one.value}" for one in self.after]
        return f"{self.field}: {'  '.join(sides)}"

    def to_dict(self) -> dict[str, object]:
        """Return the difference in the types of JSON."""
        sides = {"before": self.before, "after": self.after}
        return {
            "field": self.field,
            "name": self.name,
            **{
                side: [
                    {"value": one.value, "source": {"file": one.source.file, "key": one.source.key}} for one in entries
                ]
                for side, entries in sides.items()
            },
        }


def compare(first: EnvironmentSpec, second: EnvironmentSpec) -> tuple[Difference, ...]:
    """Return what differs, in the order in which a spec is read; equal spellings are no difference."""
    # Which environment was chosen is not what is asked for.
    sides = [[one for one in spec.entries() if one.field != "environment"] for spec in (first, second)]
    keys = dict.fromkeys((one.field, one.name) for side in sides for one in side)
    found = []
    for field, name in keys:
        before, after = (tuple(one for one in side if (one.field, one.name) == (field, name)) for side in sides)
        if {one.meaning for one in before} != {one.meaning for one in after}:
            found.append(Difference(field=field, name=name, before=before, after=after))
    # The order of these is their priority.
    for field in ("channels", "indexes"):
        before, after = (tuple(one for one in side if one.field == field) for side in sides)
        orders = [[one.meaning for one in side] for side in (before, after)]
        if orders[0] != orders[1] and sorted(orders[0]) == sorted(orders[1]):
            found.append(Difference(field=field, name="order", before=before, after=after))
    return tuple(found)
