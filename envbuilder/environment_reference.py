"""How people name an environment: `NAME:VERSION`, `NAME@LABEL`, `NAME`, or a file. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from envbuilder.environment_yaml import NAME, VERSION
from envbuilder.errors import InvalidFileError
from envbuilder.problems import shown
from envbuilder.secret import redact

if TYPE_CHECKING:
    from envbuilder.errors import Source

LATEST: Final = "latest"

_SUFFIXES: Final = (".yaml", ".yml")

_FIX: Final = "write `NAME:VERSION`, `NAME@latest`, `NAME`, or the path of an environment file such as `./slim.yaml`"
_AZURE: Final = re.compile(r"(azureml:)?(azureml://|/subscriptions/)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentReference:
    """A registered environment by its name, with a version, a label, or neither; or the path of a file."""

    name: str | None = None
    version: str | None = None
    label: str | None = None
    path: str | None = None
    source: Source

    @classmethod
    def parse(cls, text: str, *, source: Source) -> EnvironmentReference:
        """Read a reference; raise `InvalidFileError` for one that names nothing of a workspace."""
        stripped = text.strip()
        if _AZURE.match(stripped):
            raise InvalidFileError(
                f"`{shown(stripped)}` is in Azure, which is not asked",
                where=source,
                fix="save it with `az ml environment show … > FILE` and register that: "
                "`envbuilder environment register FILE`",
            )
        if "://" in stripped:
            raise InvalidFileError(
                f"`{shown(redact(stripped))}` is a URL, which environments are not read from", where=source, fix=_FIX
            )
        if not stripped.isprintable():
            raise InvalidFileError(f"`{shown(stripped)}` names no environment", where=source, fix=_FIX)
        if not stripped.startswith("azureml:") and (
            stripped.endswith(_SUFFIXES) or stripped.startswith((".", "~")) or "/" in stripped
        ):
            return cls(path=stripped, source=source)
        found = re.fullmatch(r"(?:azureml:)?([^:@]*)(?:(:)(.*)|(@)(.*))?", stripped)
        name, version, label = (found[1], found[3], found[5]) if found is not None else ("", None, None)
        if not NAME.fullmatch(name) or any(one is not None and not VERSION.fullmatch(one) for one in (version, label)):
            raise InvalidFileError(f"`{shown(stripped)}` names no environment", where=source, fix=_FIX)
        if version == LATEST:
            # Azure's samples write `NAME:latest` where they mean the label.
            version, label = None, LATEST
        return cls(name=name, version=version, label=label, source=source)

    def __str__(self) -> str:
        if self.path is not None:
            return self.path
        end = f"@{self.label}" if self.label is not None else f":{self.version}" if self.version is not None else ""
        text = f"{self.name}{end}"
        return f"azureml:{text}" if text.endswith(_SUFFIXES) or text.startswith("azureml:") else text
