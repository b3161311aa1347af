"""Whether a Dockerfile makes an image that envbuilder can try, name and audit, whoever wrote its templates. Pure."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from envbuilder.errors import InvalidFileError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from envbuilder.errors import Source

_CONTINUED: Final = re.compile(r"\\[ \t]*\n")
_ROOT: Final = ("", "0", "root")

Instruction = tuple[str, str]
"""A keyword in capitals, and the rest."""


def instructions(text: str) -> list[Instruction]:
    """Return a Dockerfile's instructions; comments are left out, lines that go on are joined."""
    lines = "\n".join(line for line in text.split("\n") if not line.lstrip().startswith("#"))
    pairs = (line.strip().partition(" ") for line in _CONTINUED.sub("", lines).split("\n") if line.strip())
    return [(keyword.upper(), rest.strip()) for keyword, _, rest in pairs]


def check(text: str, *, copied: Iterable[str], labels: Iterable[str], where: Source) -> None:
    """Raise InvalidFileError with everything that the last stage lacks.

    `copied` are the places that it must fill, `labels` the pairs that it must carry, as a Dockerfile writes them.
    """
    said = instructions(text)
    starts = [number for number, (keyword, _) in enumerate(said) if keyword == "FROM"]
    final = said[starts[-1] :] if starts else []
    missing = [
        *_missing_start(final),
        *(
            (f"nothing is copied to `{place}`", f"keep the `COPY` to `{place}`, as `_image.j2` has it")
            for place in copied
            if not any(keyword == "COPY" and rest.split()[-1].rstrip("/") == place for keyword, rest in final)
        ),
        *_missing_config(final, labels),
    ]
    if missing:
        raise InvalidFileError(
            tuple(
                Problem(what=f"the Dockerfile of these templates: {what}", where=where, fix=fix)
                for what, fix in missing
            )
        )


def _missing_start(final: Sequence[Instruction]) -> list[tuple[str, str]]:
    return [] if final else [("there is no `FROM`", "begin the last stage with `FROM {{ base | image }}`")]


def _missing_config(final: Sequence[Instruction], labels: Iterable[str]) -> list[tuple[str, str]]:
    last = dict(final)
    found = []
    if last.get("USER", "").split(":")[0] in _ROOT:
        found.append(("the image would run as root", "end with `USER {{ user | word }}`, or include `_config.j2`"))
    if not _is_exec_form(last.get("ENTRYPOINT", "")):
        fix = "write `ENTRYPOINT {{ entrypoint | exec_form }}`, or include `_config.j2`"
        found.append(("there is no `ENTRYPOINT` in exec form", fix))
    carried = " ".join(rest for keyword, rest in final if keyword == "LABEL")
    lost = [label.partition("=")[0] for label in labels if label not in carried]
    if lost:
        names = ", ".join(f"`{name}`" for name in lost)
        found.append((f"labels are missing: {names}", "write all pairs of `labels`, or include `_config.j2`"))
    return found


def _is_exec_form(text: str) -> bool:
    try:
        value = json.loads(text)
    except ValueError:
        return False
    return isinstance(value, list) and bool(value) and all(isinstance(word, str) for word in value)
