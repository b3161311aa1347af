"""Templates of the Dockerfile that a workspace puts in place of envbuilder's own. Pure."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from envbuilder import digest
from envbuilder.errors import Source
from envbuilder.problems import Problems, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from envbuilder.digest import Digest

FOLDER: Final = "templates"
"""Where a workspace has them."""

SUFFIX: Final = ".j2"
_INCLUDED: Final = re.compile(r"""\{%-?\s*(?:include|extends|import|from)\s+["']([^"']+)["']""")


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateSet:
    """Texts of templates by name."""

    folder: str = ""
    texts: tuple[tuple[str, str], ...] = ()
    """Sorted by name."""

    @classmethod
    def of(cls, texts: Mapping[str, str], *, folder: str, known: Iterable[str]) -> TemplateSet:
        """Return the set; raise `InvalidFileError` with every template that nothing would use.

        One has the name of one of envbuilder's own, `known`, or another one of the set includes it.
        """
        problems = Problems()
        known = sorted(known)
        included = {name for text in texts.values() for name in _INCLUDED.findall(text)}
        for name in sorted(texts.keys() - included - set(known)):
            near = difflib.get_close_matches(name, known, n=1)
            problems.add(
                f"`{shown(name)}` is no template of the Dockerfile, and none includes it",
                where=Source(file=f"{folder}/{name}"),
                fix=f"did you mean `{near[0]}`?" if near else f"name it like one of {', '.join(known)}",
            )
        problems.finish()
        return cls(folder=folder, texts=tuple(sorted(texts.items())))

    @property
    def digest(self) -> Digest:
        """The digest of their texts."""
        return digest.of_json([list(pair) for pair in self.texts])

    @property
    def names(self) -> tuple[str, ...]:
        """The names, sorted."""
        return tuple(name for name, _ in self.texts)

    def get(self, name: str) -> str | None:
        """Return the text of a template, None where the set has none of that name."""
        return dict(self.texts).get(name)

    def file(self, name: str) -> str:
        """Return where a template of the set is."""
        return f"{self.folder}/{name}"
