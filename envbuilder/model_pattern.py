"""Which registered models a fleet is made of: `models:/`, `models:/churn-*`, `models:/churn-*@champion`. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from envbuilder.errors import ModelError, Source
from envbuilder.fleet_yaml import Member
from envbuilder.problems import shown

if TYPE_CHECKING:
    from collections.abc import Iterable

_SCHEME: Final = "models:"
_NEAR: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A registered model: its name and its aliases."""

    name: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPattern:
    """Names of registered models, and which version of each is meant."""

    names: str
    """With `*`, `?` and `[…]` as in the names of files."""

    alias: str | None = None
    """None: the latest version."""

    @classmethod
    def parse(cls, text: str, *, source: Source) -> ModelPattern:
        """Read a pattern; raises ModelError for anything else."""
        rest = text.removeprefix(_SCHEME).removesuffix("/latest")
        names, at, alias = rest.removeprefix("/").partition("@")
        if not rest.startswith("/") or "/" in names or (at and not alias):
            raise ModelError(
                f"`{shown(text)}` names no models of a registry",
                where=source,
                fix="write `models:/` for the latest version of all, `models:/NAME*` or `models:/NAME*@ALIAS`",
            )
        return cls(names=names or "*", alias=alias or None)

    def members(self, registered: Iterable[Registered], *, source: Source) -> tuple[Member, ...]:
        """Return those that are meant, by name; with an alias, those that have it. Raises ModelError where none is."""
        models = sorted(registered, key=lambda one: one.name)
        named = [one for one in models if fnmatchcase(one.name, self.names)]
        meant = [one for one in named if self.alias is None or self.alias in one.aliases]
        if not meant:
            near = ", ".join(f"`{shown(one.name)}`" for one in (named or models)[:_NEAR])
            without = f" with the alias `{self.alias}`" if self.alias is not None else ""
            raise ModelError(
                f"the registry has no model `{shown(self.names)}`{without}",
                where=source,
                fix=f"there are {near}" if near else "register one, or check MLFLOW_TRACKING_URI",
            )
        version = f"@{self.alias}" if self.alias is not None else "/latest"
        return tuple(Member(model=f"{_SCHEME}/{one.name}{version}", source=source) for one in meant)


def is_pattern(text: str) -> bool:
    """Tell a pattern, also a misspelt one, from the name of a file."""
    return text.startswith(_SCHEME)
