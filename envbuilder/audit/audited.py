"""What is audited: a model, a lock, an environment directory or an image, and the lock and the base that it has."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from envbuilder import digest, disk, image_environment, kept_lock, model_environment, model_uri
from envbuilder.audit import archive_facts, bill, debian_status
from envbuilder.audit.bill import Bill, Subject
from envbuilder.bases import dpkg_state
from envbuilder.errors import InvalidFileError, LockMismatchError, Source
from envbuilder.lockfile import Lockfile
from envbuilder.model_files import ModelFiles
from envbuilder.prefix_record import LOCK_FILE, RECORD_FILE
from envbuilder.version import __version__

if TYPE_CHECKING:
    from envbuilder.audit.debian_status import DebianPackage
    from envbuilder.choices import Choices, EngineName
    from envbuilder.engine import BuiltImage, Engine
    from envbuilder.environment_spec import EnvironmentSpec
    from envbuilder.image_environment import ImageEnvironment
    from envbuilder.locked import Lock
    from envbuilder.machine import Machine
    from envbuilder.model import Model

Kind = Literal["model", "lock", "prefix", "image"]

_MODEL_LABEL = "io.envbuilder.model.digest"
_MLFLOW_LABEL = "io.envbuilder.mlflow.version"


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """One thing that was named, with all that is known of it."""

    given: str
    kind: Kind
    lock: Lock | None = None
    lock_file: str = ""
    model: Model | None = None
    files: ModelFiles | None = None
    spec: EnvironmentSpec | None = None
    image: BuiltImage | None = None
    debian: tuple[DebianPackage, ...] | None = None
    """The packages of the base, and of the system layer; None where nobody knows them."""

    @property
    def name(self) -> str:
        """What people call it."""
        if self.model is not None:
            return self.model.name
        return self.given if self.kind == "image" else Path(self.given).name

    def bill(self, machine: Machine) -> Bill:
        """Return the bill of materials; raises LockMismatchError where there is no lock to read it from."""
        if self.lock is None:
            raise LockMismatchError(
                "there is no lock: what is in the environment is not decided yet",
                where=Source(file=self.given),
                fix="make it with `envbuilder lock MODEL -o FILE`, and name it by `--lock FILE`",
            )
        labels = dict(self.image.labels) if self.image is not None else {}
        files = labels.get(_MODEL_LABEL)
        subject = Subject(
            name=self.name,
            model_digest=self.files.digest if self.files is not None else digest.parse(files) if files else None,
            mlflow_version=(self.model.mlmodel.mlflow_version if self.model is not None else labels.get(_MLFLOW_LABEL)),
        )
        return bill_of(self.lock, subject, self.debian, machine)


def bill_of(lock: Lock, subject: Subject, debian: tuple[DebianPackage, ...] | None, machine: Machine) -> Bill:
    """Put a bill together from the lock and what the caches know of its archives."""
    facts = archive_facts.read(lock, machine)
    return bill.of_lock(lock, subject=subject, facts=facts, debian=debian, tool_version=__version__)


def read(
    given: str, *, lock: Path | None = None, engine: EngineName = "auto", choices: Choices, machine: Machine
) -> Audited:
    """Tell what `given` is and read it; raises the error of what it comes closest to.

    A file is a lock, a directory with a record of ours an environment, another directory or a URI a model, the rest an
    image.
    """
    path = Path(given)
    if not model_uri.is_uri(given) and (path.is_file() and path.name != "MLmodel"):
        return _of_lock(given, "lock", path, machine)
    if (path / RECORD_FILE).is_file():
        return _of_lock(given, "prefix", lock or path / LOCK_FILE, machine)
    if model_uri.is_uri(given) or path.exists():
        return _of_model(given, lock, choices, machine)
    return _of_image(image_environment.find(given, engine=engine, machine=machine), lock, machine)


def _of_lock(given: str, kind: Kind, file: Path, machine: Machine) -> Audited:
    lock = _first(file)
    return Audited(given=given, kind=kind, lock=lock, lock_file=str(file), debian=_known_debian(lock, machine))


def _first(file: Path) -> Lock:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as cause:
        raise InvalidFileError(
            f"the lock cannot be read ({cause})",
            where=Source(file=str(file)),
            fix="name a `conda-lock.yml` that `envbuilder lock` wrote",
        ) from cause
    return Lockfile.parse(text, file=str(file)).locks[0]


def _of_model(given: str, file: Path | None, choices: Choices, machine: Machine) -> Audited:
    model = model_environment.read_model(given, machine=machine)
    spec = model_environment.resolve_model(model, choices)
    workspace = choices.workspace.directory if choices.workspace is not None else None
    found = file or kept_lock.find(spec, workspace=workspace, model=model.directory)
    lock = _first(found) if found is not None else None
    return Audited(
        given=given,
        kind="model",
        lock=lock,
        lock_file=str(found or ""),
        model=model,
        files=ModelFiles.read(model.directory),
        spec=spec,
        debian=_known_debian(lock, machine) if lock is not None else None,
    )


def _of_image(found: ImageEnvironment, file: Path | None, machine: Machine) -> Audited:
    lock = _first(file) if file is not None else image_environment.lock_of(found, machine=machine)
    return Audited(
        given=found.reference,
        kind="image",
        lock=lock,
        lock_file=str(file or f"{found.reference}:/opt/envbuilder/conda-lock.yml"),
        image=found.image,
        debian=debian_in(found.module, found.image, machine),
    )


def debian_in(module: Engine, image: BuiltImage, machine: Machine, *, key: object = None) -> tuple[DebianPackage, ...]:
    """Return the Debian packages in an image, read from its layers; nothing of it is started.

    They are read once for each image, or for each `key` where the caller knows what decides on them.
    """
    record = machine.probes / f"debian-{digest.hex_of(digest.of_json(key or image.digest))}.json"
    try:
        status, os_release = json.loads(record.read_bytes())
    except (OSError, ValueError, TypeError):
        status, os_release = _dpkg_texts(module, image, machine)
        disk.write_file(record, json.dumps([status, os_release]).encode())
    return debian_status.parse(status, os_release=os_release)


def _dpkg_texts(module: Engine, image: BuiltImage, machine: Machine) -> tuple[str, str]:
    def text(path: str) -> str:
        return (module.read(image, path, machine=machine) or b"").decode("utf-8", "replace")

    status = text("/var/lib/dpkg/status")
    if not status:
        folder = "/var/lib/dpkg/status.d"
        names = (name for name in module.files(image, folder, machine=machine) if not name.endswith(".md5sums"))
        status = "\n\n".join(text(f"{folder}/{name}") for name in sorted(names))
    return status, text("/usr/lib/os-release") or text("/etc/os-release")


def _known_debian(lock: Lock, machine: Machine) -> tuple[DebianPackage, ...] | None:
    state = dpkg_state.known(lock.base.digest, machine) if lock.base is not None else None
    if state is None:
        return None
    files = dict(state.files)
    return debian_status.parse(state.text, os_release=files.get("/etc/os-release", b"").decode("utf-8", "replace"))
