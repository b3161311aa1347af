"""Where a built image is pushed to: whether that is allowed, asked before anything is built, and what is there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from envbuilder import digest
from envbuilder.engine import BuiltImage, BuiltLayer
from envbuilder.errors import InvalidFileError, RegistryRefusedError, Source, UnreachableError
from envbuilder.image_reference import DOCKER_HUB, ImageReference

if TYPE_CHECKING:
    from collections.abc import Callable

    from envbuilder.choices import Choices
    from envbuilder.digest import Digest
    from envbuilder.image_plan import ImagePlan
    from envbuilder.machine import Machine
    from envbuilder.registry.published import Published
    from envbuilder.registry.push import Pushed
    from envbuilder.reporter import Timings


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A repository that takes our images."""

    reference: ImageReference
    is_reached: bool
    """False where only the engine may have a way to the registry."""

    machine: Machine

    @classmethod
    def of(cls, choices: Choices, engine: str, *, machine: Machine, timings: Timings) -> Destination:
        """Check that a push can succeed; raises what it would fail with."""
        from envbuilder.registry import published  # noqa: PLC0415 - most builds talk to no registry

        reference = _reference(choices, machine)
        with timings.stage("registry", reference.name) as note:
            try:
                published.check(reference, settings=machine.settings, reporter=machine.reporter)
            except UnreachableError:
                # Docker and Podman may know mirrors, proxies and insecure registries that we do not.
                if engine == "oci":
                    raise
                note.text = "left to the engine"
                return cls(reference=reference, is_reached=False, machine=machine)
            note.text = "takes images"
        return cls(reference=reference, is_reached=True, machine=machine)

    def find(self, content: str, plan: ImagePlan) -> Published | None:
        """Return the image with this content tag, if the registry has one whose labels say the same."""
        from envbuilder.registry import published  # noqa: PLC0415

        if not self.is_reached:
            return None
        machine = self.machine
        found = published.find(ImageReference.parse(content), settings=machine.settings, reporter=machine.reporter)
        return found if found is not None and set(plan.labels) <= set(found.labels) else None

    def push(self, there: Published | None, push: Callable[[], Pushed]) -> Pushed:
        """Name what is there already, else push."""
        return push() if there is None else there.name((self.reference,))

    def attach(self, pushed: Pushed, sbom: Callable[[], bytes], *, media_type: str, title: str) -> Digest | None:
        """Attach the bill of materials to what was pushed; an image is good without one, so no failure ends a push."""
        from envbuilder.registry import referrers  # noqa: PLC0415

        if not self.is_reached:
            self.machine.reporter.warning("the bill of materials is not attached: only the engine reaches the registry")
            return None
        try:
            artifact = referrers.attach(
                self.reference,
                pushed.digest,
                media_type=media_type,
                data=sbom(),
                title=title,
                settings=self.machine.settings,
                reporter=self.machine.reporter,
            )
        except (RegistryRefusedError, UnreachableError) as error:
            self.machine.reporter.warning(f"the bill of materials is not attached: {error.problems[0].what}")
            return None
        return digest.of_bytes(artifact.manifest_bytes())


def built(published: Published) -> BuiltImage:
    """Return an image of a registry as an engine would show it."""
    return BuiltImage(
        identity=published.digest,
        digest=published.digest,
        layers=tuple(
            BuiltLayer(comment=comment or "base", digest=blob.digest, size=blob.size, reused=True)
            for comment, blob in published.layers
        ),
    )


def _reference(choices: Choices, machine: Machine) -> ImageReference:
    where = Source(file="--push")
    if machine.settings.offline:
        raise InvalidFileError("`--offline` forbids to push", where=where, fix="leave out one of the two")
    if choices.tag is None:
        raise InvalidFileError("the registry to push to is not named", where=where, fix="add `-t REGISTRY/NAME:TAG`")
    reference = ImageReference.parse_name_tag(choices.tag)
    if reference.registry == DOCKER_HUB and reference.name.count("/") == 0:
        raise InvalidFileError(
            f"`{choices.tag}` names no registry, and Docker Hub's `{reference.repository}` is not yours",
            where=where,
            fix=f"write `-t REGISTRY/{choices.tag}`, or `-t USER/{choices.tag}` for Docker Hub",
        )
    return reference
