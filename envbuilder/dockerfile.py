"""The Dockerfile of an image plan: the values its template may use, and how each is written down. Pure.

Docker reads a value in up to two passes (words, then a shell-like expansion); every filter here is named by the place
it writes for, and gives text that Docker reads back as exactly the value, or refuses the value.
"""

from __future__ import annotations

import json
import re
import shlex
import traceback
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final

from jinja2 import FunctionLoader, StrictUndefined, TemplateError, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from envbuilder import dockerfile_check, template_files
from envbuilder.base_image import REPOSITORY
from envbuilder.errors import InvalidFileError, Source
from envbuilder.image_plan import (
    CONTRACT_FILE,
    ENVIRONMENT_PREFIX,
    EXAMPLE_FILE,
    LOCK_FILE,
    MODEL_DIRECTORY,
    SERVER_PREFIX,
)
from envbuilder.template_set import TemplateSet

if TYPE_CHECKING:
    from collections.abc import Callable

    from envbuilder.image_plan import ImagePlan

OWN: Final = TemplateSet()
"""No template but envbuilder's own."""

_BARE: Final = re.compile(r"[A-Za-z0-9_./:@%+,=-]+\Z")
_BARE_NAME: Final = re.compile(r"[A-Za-z0-9_./:-]+\Z")
_PATH: Final = re.compile(r"[A-Za-z0-9_./-]+\Z")
_IMAGE: Final = re.compile(r"[A-Za-z0-9_./:@-]+\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerfileInputs:
    """All that the templates may use."""

    version: str
    spec_digest: str
    environment: str
    """The environment's own image, which the model is laid over; empty: it is made in the same build."""

    has_model: bool
    """False for the environment's own image."""

    base: str
    """As the engine must name it to get exactly this base."""

    base_note: str
    """Where the base comes from when no registry has it; may be empty."""

    python: str
    """The base's interpreter, as an absolute path."""

    pip_wheel: str
    """File name of the wheel that the context brings."""

    buildkit: bool
    """For BuildKit (secret and cache mounts), or for the classic builder."""

    has_ca: bool
    """Whether the context holds a CA bundle; only the classic builder needs it there."""

    has_conda: bool
    """Whether conda packages make the environment; else its Python is the base's."""

    has_wheels: bool
    brings_wheels: bool
    """Whether the context holds wheels that no index has."""

    apt_packages: tuple[str, ...]
    """Debian packages that apt installs."""

    has_system: bool
    """Whether the context holds the files of Debian packages."""

    has_example: bool
    environment_prefix: str = ENVIRONMENT_PREFIX
    server_prefix: str = SERVER_PREFIX
    model_directory: str = MODEL_DIRECTORY
    contract_file: str = CONTRACT_FILE
    example_file: str = EXAMPLE_FILE
    lock_file: str = LOCK_FILE
    environ: tuple[tuple[str, str], ...]
    labels: tuple[tuple[str, str], ...]
    user: str
    working_directory: str
    ports: tuple[str, ...]
    stop_signal: str
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]

    @classmethod
    def of(
        cls,
        plan: ImagePlan,
        *,
        pip_wheel: str,
        buildkit: bool,
        has_ca: bool,
        has_model: bool = True,
        environment: str = "",
    ) -> DockerfileInputs:
        """Take from the plan what the Dockerfile says; what the base says already is inherited."""
        config = plan.config if has_model else plan.environment_config
        note = ""
        if plan.base.pinned.startswith(REPOSITORY):
            note = f"The base is {plan.base.reference}, which envbuilder gives to the engine; no registry has it."
        inherited = set(plan.base.labels)
        return cls(
            version=plan.tool_version,
            spec_digest=plan.spec.digest,
            environment=environment,
            has_model=has_model,
            base=plan.base.pinned,
            base_note=note,
            python=plan.base.interpreter.executable,
            pip_wheel=pip_wheel,
            buildkit=buildkit,
            has_ca=has_ca,
            has_conda=bool(plan.lock.conda_packages),
            has_wheels=bool(plan.lock.packages),
            brings_wheels=not all(one.is_of_index for one in plan.lock.packages),
            apt_packages=plan.apt_packages,
            has_system=plan.addition is not None and bool(plan.addition.packages),
            has_example=plan.model.example_request is not None,
            environ=plan.added_environ if has_model else plan.common_environ,
            labels=tuple(label for label in config.labels if label not in inherited),
            user=config.user,
            working_directory=config.working_dir,
            ports=config.ports,
            stop_signal=config.stop_signal,
            entrypoint=config.entrypoint,
            command=config.command,
        )


def render(inputs: DockerfileInputs, templates: TemplateSet = OWN) -> str:
    """Return the Dockerfile of envbuilder's templates, or of those that `templates` puts in their place.

    Raises InvalidFileError for a value that no Dockerfile can say, for a template that cannot be read, and for a
    Dockerfile that lacks what an image must have.
    """
    values = {field.name: getattr(inputs, field.name) for field in fields(inputs)}
    template = "conda.Dockerfile.j2" if inputs.has_conda else "pip.Dockerfile.j2"
    if inputs.environment:
        template = "model.Dockerfile.j2"
    try:
        text = _environment(templates).get_template(template).render(values)
    except TemplateError as cause:
        raise _unreadable(templates, cause) from cause
    text = re.sub(r"\n{3,}", "\n\n", text)
    if inputs.has_model:
        below = () if inputs.environment else (inputs.environment_prefix, inputs.server_prefix)
        dockerfile_check.check(
            text,
            copied=(*below, inputs.model_directory),
            labels=[f"{name(label)}={quoted(value)}" for label, value in inputs.labels],
            where=Source(file=templates.folder or "templates/dockerfile"),
        )
    return text


def _unreadable(templates: TemplateSet, cause: TemplateError) -> InvalidFileError:
    files = {templates.file(name) for name in templates.names}
    file, line = templates.folder, 0
    if isinstance(cause, TemplateSyntaxError):
        file, line = cause.filename or file, cause.lineno
    for step, number in traceback.walk_tb(cause.__traceback__):
        if step.f_code.co_filename in files:
            file, line = step.f_code.co_filename, number
    return InvalidFileError(
        f"the template cannot be rendered: {cause.message or type(cause).__name__}",
        where=Source(file=file, key=f"line {line}" if line else ""),
        fix="templates may use " + ", ".join(field.name for field in fields(DockerfileInputs)),
    )


def shell(value: str) -> str:
    """Write one word of a command in shell form."""
    return shlex.quote(_one_line(value, "a command"))


def exec_form(value: tuple[str, ...]) -> str:
    """Write a command in exec form: a JSON array, in which nothing is expanded."""
    for word in value:
        _sayable(word, "a command")
    return json.dumps(list(value), ensure_ascii=False)


def quoted(value: str) -> str:
    """Write a value of ENV, LABEL, USER, WORKDIR, EXPOSE or STOPSIGNAL: bare where that reads back the same."""
    _one_line(value, "an instruction")
    if _BARE.match(value):
        return value
    return '"' + re.sub(r'(["\\$])', r"\\\1", value) + '"'


def name(value: str) -> str:
    """Write the name of a variable or label; `=` ends a name however it is quoted."""
    if not value or "=" in value:
        raise _unsayable(value, "the name of a variable or label")
    return value if _BARE_NAME.match(value) else quoted(value)


def copy_path(value: str) -> str:
    """Write a path of COPY; ours are plain, and what Docker would match as a pattern is refused."""
    return _plain(value, _PATH, "COPY")


def image(value: str) -> str:
    """Write an image of FROM."""
    return _plain(value, _IMAGE, "FROM")


def comment(value: str) -> str:
    """Write text into a comment."""
    return _one_line(value, "a comment")


FILTERS: Final[dict[str, Callable[..., str]]] = {
    "shell": shell,
    "exec_form": exec_form,
    "env_name": name,
    "env_value": quoted,
    "label_name": name,
    "label_value": quoted,
    "word": quoted,
    "copy_path": copy_path,
    "image": image,
    "comment": comment,
}
"""The grammars by the name that the templates use."""


def _environment(templates: TemplateSet) -> ImmutableSandboxedEnvironment:
    def load(template: str) -> tuple[str, str, Callable[[], bool]] | None:
        given = templates.get(template)
        if given is not None:
            return given, templates.file(template), lambda: True
        if template in template_files.names():
            return template_files.read(f"dockerfile/{template}").decode(), template, lambda: True
        return None

    environment = ImmutableSandboxedEnvironment(
        loader=FunctionLoader(load),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters.update(FILTERS)
    return environment


def _one_line(value: str, place: str) -> str:
    _sayable(value, place)
    if "\n" in value or "\r" in value:
        raise _unsayable(value, place)
    return value


def _sayable(value: str, place: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as cause:
        raise _unsayable(value, place) from cause
    if "\0" in value:
        raise _unsayable(value, place)


def _plain(value: str, pattern: re.Pattern[str], place: str) -> str:
    if not pattern.match(value):
        raise _unsayable(value, place)
    return value


def _unsayable(value: str, place: str) -> InvalidFileError:
    return InvalidFileError(
        f"{value!r} cannot be written in {place} of a Dockerfile",
        where=Source(file="Dockerfile"),
        fix="change the value, or build with `--engine oci`, which writes no Dockerfile",
    )
