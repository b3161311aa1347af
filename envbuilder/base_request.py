"""What an image is to be built on, as somebody asked for it: an image by name, or a build context. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from envbuilder.fields import get_text
from envbuilder.problems import shown
from envbuilder.secret import redact

if TYPE_CHECKING:
    from collections.abc import Mapping

    from envbuilder.errors import Source
    from envbuilder.problems import Problems
    from envbuilder.yaml_text import Node

# As long as any registry allows, and nothing that a shell or a Dockerfile could take for something else.
_IMAGE: Final = re.compile(r"[A-Za-z0-9_./:@+-]{1,1000}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseRequest:
    """A base image; exactly one of `image` and `context` is given."""

    image: str | None = None
    """Whatever `--base` takes."""
    context: str | None = None
    """A directory with a Dockerfile, or a URL of one."""
    dockerfile: str = "Dockerfile"
    """Relative to the context."""
    digest: str | None = None
    """Of the names and contents of the context's files."""
    source: Source

    @property
    def text(self) -> str:
        """What people see."""
        return self.image if self.image is not None else f"build {self.context} ({self.dockerfile})"

    @property
    def meaning(self) -> str:
        """What is compared: an image's name, or the content of a context."""
        return self.image if self.image is not None else f"build {self.digest or self.context} {self.dockerfile}"


def read_image(mapping: Mapping[str, Node], key: str, source: Source, problems: Problems) -> BaseRequest | None:
    """Read the name of a base image; None where there is none."""
    stated = get_text(mapping, key, source, problems)
    if stated is None:
        return None
    name = redact(stated.value)
    if name == stated.value and _IMAGE.fullmatch(name):
        return BaseRequest(image=name, source=stated.source)
    problems.add(
        f"`{shown(name)}` is not the name of an image",
        where=stated.source,
        fix="write `REGISTRY/NAME:TAG` or `NAME@sha256:…`; credentials belong into Docker's config.json",
    )
    return None
