"""The plan of an image: what lies where in it, and what it starts with. Pure; both kinds of engine follow it.

The layout is part of the product: model at /opt/ml/model, environment at /opt/env, server at /opt/envbuilder.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from envbuilder import digest
from envbuilder.layer import LAYOUT_VERSION, Entry
from envbuilder.lockfile import Lockfile
from envbuilder.oci_image import RunConfig
from envbuilder.system_needs import SystemNeeds
from envbuilder.template_set import TemplateSet

if TYPE_CHECKING:
    from envbuilder.base_image import BaseImage, Interpreter
    from envbuilder.bases.debian_addition import Addition
    from envbuilder.digest import Digest
    from envbuilder.environment_spec import EnvironmentSpec
    from envbuilder.gpu_needs import GpuNeeds
    from envbuilder.locked import Lock, LockedPackage
    from envbuilder.model import Model
    from envbuilder.model_files import ModelFiles
    from envbuilder.server_kit import ServerKit

MODEL_DIRECTORY: Final = "/opt/ml/model"
ENVIRONMENT_PREFIX: Final = "/opt/env"
SERVER_PREFIX: Final = "/opt/envbuilder"
EXAMPLE_FILE: Final = "/opt/envbuilder/example.json"
CONTRACT_FILE: Final = "/opt/envbuilder/contract.json"
"""What the server knows of MLmodel."""

LOCK_FILE: Final = "/opt/envbuilder/conda-lock.yml"
"""What the environment was made from: for `verify` and `reproduce --from-image`."""

USER: Final = "1000:1000"
PORT: Final = 8080
_LABEL: Final = "io.envbuilder"
ENVIRONMENT_LABEL: Final = f"{_LABEL}.environment.digest"
LOCK_LABEL: Final = f"{_LABEL}.lock.digest"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePlan:
    """Everything an engine needs to know to make the image."""

    base: BaseImage
    lock: Lock
    kit: ServerKit
    server_packages: tuple[LockedPackage, ...]
    spec: EnvironmentSpec
    model: Model
    files: ModelFiles
    tool_version: str
    activation: tuple[tuple[str, str], ...] = ()
    """What activating the conda environment sets; sorted."""

    system: SystemNeeds = field(default_factory=SystemNeeds)
    """What is needed of the system below the environment."""

    addition: Addition | None = None
    """The Debian packages that are unpacked onto the base; None where apt installs them in the build, or none are."""

    gpu: GpuNeeds | None = None
    """What its CUDA asks of the machine that serves; None where it has none."""

    templates: TemplateSet = field(default_factory=TemplateSet)
    """What the workspace puts in place of the Dockerfile's templates."""

    @property
    def apt_packages(self) -> tuple[str, ...]:
        """The Debian packages that apt installs in the build."""
        return self.system.names if self.addition is None else ()

    @property
    def environment_digest(self) -> Digest:
        """The digest of all that lies below the model, and of what the labels say of it: models share it."""
        parts: list[object] = [
            self.lock.digest,
            self.base.digest,
            self.base.reference,
            self.kit.digest,
            self.tool_version,
            LAYOUT_VERSION,
        ]
        if self.system.packages:
            parts.append(self.addition.digest if self.addition is not None else self.system.names)
        if self.templates.texts:
            parts.append(self.templates.digest)
        return digest.of_json(parts)

    @property
    def lock_text(self) -> bytes:
        """The lock as the image holds it."""
        return _text_of(self.lock)

    @property
    def model_digest(self) -> Digest:
        """The digest of the model's files, what lies beside the server because of them, and what was asked for."""
        example = self.model.example_request
        tried_with = digest.of_bytes(example) if example is not None else None
        contract = digest.of_bytes(self.model.contract)
        return digest.of_json(
            [self.files.digest, tried_with, contract, digest.of_bytes(self.lock_text), self.spec.digest]
        )

    @property
    def environment_tag(self) -> str:
        """The tag of the environment's own image, which all models with this lock share."""
        return f"env-{digest.short(self.environment_digest)}"

    @property
    def content_tag(self) -> str:
        """The tag that says what is in the image; equal tags, equal content."""
        return f"{self.environment_tag}-model-{digest.short(self.model_digest)}"

    @property
    def site_packages(self) -> str:
        """Where the environment's packages lie below a prefix, e.g. `lib/python3.11/site-packages`."""
        return f"lib/python{self.base.interpreter.minor}/site-packages"

    @property
    def environment_labels(self) -> tuple[tuple[str, str], ...]:
        """The labels of the environment's own image, sorted."""
        labels = {
            **dict(self.base.labels),
            "org.opencontainers.image.base.name": self.base.reference,
            "org.opencontainers.image.base.digest": self.base.digest,
            "org.opencontainers.image.title": "environment of MLflow models",
            f"{_LABEL}.version": self.tool_version,
            LOCK_LABEL: self.lock.digest,
            f"{_LABEL}.base.digest": self.base.digest,
            ENVIRONMENT_LABEL: self.environment_digest,
            f"{_LABEL}.python.version": self.lock.python_version,
        }
        return tuple(sorted(labels.items()))

    @property
    def labels(self) -> tuple[tuple[str, str], ...]:
        """The image's labels, sorted: OCI's annotation names, and the digests of what it was made from."""
        labels = {
            **dict(self.environment_labels),
            "org.opencontainers.image.title": "MLflow model server",
            f"{_LABEL}.spec.digest": self.spec.digest,
            f"{_LABEL}.model.digest": self.files.digest,
        }
        if self.system.packages:
            exact = self.addition.versions if self.addition is not None else self.system.names
            labels[f"{_LABEL}.system.packages"] = " ".join(exact)
        if self.gpu is not None:
            labels[f"{_LABEL}.cuda.version"] = self.gpu.cuda
            if self.gpu.generation is not None:
                labels[f"{_LABEL}.cuda.driver"] = f">={self.gpu.generation.driver}"
        if self.model.mlmodel.mlflow_version:
            labels[f"{_LABEL}.mlflow.version"] = self.model.mlmodel.mlflow_version
        return tuple(sorted(labels.items()))

    @property
    def added_environ(self) -> tuple[tuple[str, str], ...]:
        """The variables the image sets beside those of its base."""
        return (*self.common_environ, *sorted((one.name, one.value) for one in self.spec.variables))

    @property
    def common_environ(self) -> tuple[tuple[str, str], ...]:
        """What of it models with the same lock share."""
        path = dict(self.base.environ).get("PATH", "/usr/local/bin:/usr/bin:/bin")
        return (
            ("PATH", f"{ENVIRONMENT_PREFIX}/bin:{path}"),
            ("LANG", "C.UTF-8"),
            # Libraries look for a user's name and home; the user has no entry and the root is read-only.
            ("HOME", "/tmp"),  # noqa: S108 - the container's own
            ("LOGNAME", "model"),
            ("PYTHONUNBUFFERED", "1"),
            *self._conda_environ,
        )

    @property
    def _conda_environ(self) -> tuple[tuple[str, str], ...]:
        return (("CONDA_PREFIX", ENVIRONMENT_PREFIX), *self.activation) if self.lock.conda_packages else ()

    @property
    def config(self) -> RunConfig:
        """What a container of the image starts with."""
        return RunConfig(
            user=USER,
            env=tuple({**dict(self.base.environ), **dict(self.added_environ)}.items()),
            entrypoint=(f"{SERVER_PREFIX}/bin/python", "-I", "-m", "envbuilder.server"),
            command=("serve",),
            working_dir=MODEL_DIRECTORY,
            labels=self.labels,
            ports=(f"{PORT}/tcp",),
            stop_signal="SIGTERM",
        )

    @property
    def environment_config(self) -> RunConfig:
        """What a container of the environment's own image starts with: nothing in particular, it holds no model."""
        environ = {**dict(self.base.environ), **dict(self.common_environ)}
        return RunConfig(user=USER, env=tuple(environ.items()), labels=self.environment_labels)

    def model_entries(self) -> tuple[Entry, ...]:
        """Return the model layer: the model's files, what the server knows of them, the example, and the lock."""
        top = MODEL_DIRECTORY.lstrip("/")
        entries = [Entry(path=top, mode=0o755)]
        entries += [
            Entry(path=f"{top}/{file.path}", mode=0o644, content=self.files.directory / file.path)
            for file in self.files.files
        ]
        entries.append(Entry(path=CONTRACT_FILE.lstrip("/"), mode=0o644, content=self.model.contract))
        if self.model.example_request is not None:
            entries.append(Entry(path=EXAMPLE_FILE.lstrip("/"), mode=0o644, content=self.model.example_request))
        entries.append(Entry(path=LOCK_FILE.lstrip("/"), mode=0o644, content=self.lock_text))
        return tuple(entries)


@functools.cache
def _text_of(lock: Lock) -> bytes:
    """Write the lock; a plan's digests ask for it again and again."""
    return Lockfile.of([lock]).to_text().encode()


def prefix_entries(prefix: str, interpreter: Interpreter) -> tuple[Entry, ...]:
    """Return the skeleton of a virtual environment (PEP 405) at `prefix`: no activation scripts, no pip."""
    top = prefix.lstrip("/")
    config = f"home = {interpreter.directory}\ninclude-system-site-packages = false\nversion = {interpreter.version}\n"
    return (
        Entry(path=f"{top}/pyvenv.cfg", mode=0o644, content=config.encode()),
        Entry(path=f"{top}/bin/python", mode=0o777, link=interpreter.executable),
        Entry(path=f"{top}/bin/python3", mode=0o777, link="python"),
        Entry(path=f"{top}/bin/python{interpreter.minor}", mode=0o777, link="python"),
        Entry(path=f"{top}/lib/python{interpreter.minor}/site-packages", mode=0o755),
    )
