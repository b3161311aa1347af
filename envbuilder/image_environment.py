"""What an image that envbuilder built says of its environment: the lock in it, held against its labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from envbuilder import engine_choice
from envbuilder.choices import ENGINE_NAMES
from envbuilder.errors import EngineMissingError, InvalidFileError, LockMismatchError, Source
from envbuilder.image_plan import LOCK_FILE, LOCK_LABEL
from envbuilder.image_reference import ImageReference
from envbuilder.lockfile import Lockfile

if TYPE_CHECKING:
    from envbuilder.choices import EngineName
    from envbuilder.engine import BuiltImage, Engine
    from envbuilder.locked import Lock
    from envbuilder.machine import Machine


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageEnvironment:
    """An image, and who holds it."""

    reference: str
    engine: str
    module: Engine
    image: BuiltImage


def find(reference: str, *, engine: EngineName = "auto", machine: Machine) -> ImageEnvironment:
    """Return the image of that name; raises EngineMissingError where no usable engine has one."""
    name = str(ImageReference.parse(reference))
    reasons = []
    for candidate in ENGINE_NAMES if engine == "auto" else (engine,):
        module = engine_choice.engine_module(candidate)
        # Reading an image takes no sandbox.
        reason = None if candidate == "oci" else module.available(machine)
        image = module.find(name, machine=machine) if reason is None else None
        if image is not None:
            return ImageEnvironment(reference=name, engine=candidate, module=module, image=image)
        reasons.append(f"`{candidate}`: {reason or 'has no image of that name'}")
    raise EngineMissingError(
        f"no engine here has the image `{name}`\n" + "\n".join(f"    {reason}" for reason in reasons),
        fix="name a directory or an image that is here; `docker pull` or `podman pull` brings one",
    )


def lock_of(found: ImageEnvironment, *, machine: Machine) -> Lock:
    """Return the lock in the image.

    Raises InvalidFileError where there is none, LockMismatchError where the image's labels are of another one.
    """
    text = found.module.read(found.image, LOCK_FILE, machine=machine)
    where = Source(file=found.reference, key=LOCK_FILE)
    if text is None:
        raise InvalidFileError(
            "the image holds no lock", where=where, fix="build it with this version of envbuilder, or name its model"
        )
    lock = Lockfile.parse(text.decode(errors="replace"), file=f"{found.reference}:{LOCK_FILE}").locks[0]
    label = dict(found.image.labels).get(LOCK_LABEL)
    if label != lock.digest:
        raise LockMismatchError(
            f"the image's label says {label or 'nothing'}, the lock in it is {lock.digest}",
            where=where,
            fix="the image was changed after it was built: build it again",
        )
    return lock
