"""Azure ML's own rules for environments, which its service applies after an upload. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from envbuilder.audit_finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envbuilder.conda_yaml import CondaYaml
    from envbuilder.environment_spec import EnvironmentSpec

_LONGEST_NAME: Final = 255
_CURATED: Final = re.compile(r"(?i)(azureml|microsoft)")


def check(spec: EnvironmentSpec, conda: CondaYaml | None) -> Iterator[Finding]:
    """Give what Azure ML would refuse or warn of."""
    if conda is not None:
        if not spec.channels:
            yield _warning(
                "azure-no-channels", "conda.yaml names no channels", conda, fix="write `channels: [conda-forge]`"
            )
        tools = {one.name: one for one in spec.tool_match_specs}
        if spec.requirements and "pip" not in tools:
            yield _warning(
                "azure-no-pip", "conda.yaml has a pip list and does not ask for pip", conda, fix="add `- pip=VERSION`"
            )
        elif spec.requirements and tools["pip"].version is None:
            yield _warning("azure-pip-not-pinned", "pip has no version", conda, fix="write `pip=VERSION`")
    yield from _of_base(spec)
    yield from _of_name(spec)


def _of_base(spec: EnvironmentSpec) -> Iterator[Finding]:
    base = spec.base
    if base is not None and base.image is not None:
        name = base.image.rpartition("/")[2]
        if ":" not in name and "@" not in name:
            yield Finding(
                rule="base-not-pinned",
                kind="azure",
                severity="warning",
                what=f"the base image `{base.image}` has neither tag nor digest",
                where=base.source,
                fix="write `NAME:TAG@sha256:…`",
            )
        elif name.endswith(":latest"):
            yield Finding(
                rule="base-not-pinned",
                kind="azure",
                severity="warning",
                what=f"the base image `{base.image}` is another one each time",
                where=base.source,
                fix="name a version, or a digest",
            )


def _of_name(spec: EnvironmentSpec) -> Iterator[Finding]:
    environment = spec.environment
    if environment is not None:
        name = environment.value.partition(":")[0]
        if _CURATED.match(name):
            yield Finding(
                rule="azure-curated-prefix",
                kind="azure",
                severity="warning",
                what=f"`{name}` begins as Azure's own environments do, which it refuses to register",
                where=environment.source,
                fix="choose another name",
            )
        if len(name) > _LONGEST_NAME:
            yield Finding(
                rule="azure-name-too-long",
                kind="azure",
                severity="warning",
                what=f"the name of the environment has more than {_LONGEST_NAME} characters",
                where=environment.source,
                fix="choose a shorter name",
            )


def _warning(rule: str, what: str, conda: CondaYaml, *, fix: str) -> Finding:
    return Finding(rule=rule, kind="azure", severity="note", what=what, where=conda.source, fix=fix)
