"""An environment variable that an image sets: its name, its value, and who asks for it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from envbuilder.fields import get_mapping, get_text
from envbuilder.problems import shown
from envbuilder.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

    from envbuilder.errors import Source
    from envbuilder.problems import Problems
    from envbuilder.yaml_text import Node

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RESERVED: Final = re.compile(r"PATH|HOME|LOGNAME|PYTHON(PATH|HOME|UNBUFFERED)|LD_.*|ENVBUILDER_.*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """One variable."""

    name: str
    value: str
    source: Source

    @property
    def is_reserved(self) -> bool:
        """Whether the image sets it itself, or the loader and the interpreter obey it."""
        return _RESERVED.fullmatch(self.name) is not None


def read(mapping: Mapping[str, Node], key: str, source: Source, problems: Problems) -> tuple[Variable, ...]:
    """Return the variables of the mapping at `key`; none where there is none."""
    members = get_mapping(mapping, key, source, problems) or {}
    found = []
    for name in members:
        where = source.child(key).child(shown(name))
        if not _NAME.fullmatch(name):
            problems.add(
                f"`{shown(name)}` is not the name of a variable",
                where=where,
                fix="use letters, digits and `_`, not a digit first",
            )
            continue
        value = get_text(members, name, source.child(key), problems)
        if value is not None and not value.value.isprintable():
            problems.add(f"`{name}` holds control characters", where=where, fix="write the value on one line")
        elif value is not None and Secret.find(value.value) is not None:
            problems.add(
                f"`{name}` holds credentials, which would stand in the image for everyone to read",
                where=where,
                fix="give it to the container when it is run: `docker run -e …`",
            )
        elif value is not None:
            found.append(Variable(name=name, value=value.value, source=value.source))
    return tuple(found)
