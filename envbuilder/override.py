"""The environment that the workspace, or the user for one build, puts over a model's own, and who chose it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from envbuilder.environment_spec import Overridden
    from envbuilder.environment_yaml import Environment
    from envbuilder.errors import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """One environment for one model."""

    environment: Environment
    reference: str
    """How it is named: `slim:1.10`, or a file."""
    source: Source
    """Who chose it: `--environment`, or a rule of the workspace."""
    overridden: tuple[Overridden, ...] = ()
    """The rule that would have chosen another one."""
