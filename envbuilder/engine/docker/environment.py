"""Environment images in the engine: all that lies below a model, made once and shared by models with the same lock.

Their name is envbuilder's own, not a model's: what a pulled image says of itself in its labels is not believed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from docker.errors import ImageNotFound

from envbuilder.image_plan import ENVIRONMENT_LABEL

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.images import Image as EngineImage

    from envbuilder.image_plan import ImagePlan

_REPOSITORY: Final = "envbuilder-environment"


def name(plan: ImagePlan) -> str:
    """Return what the engine calls the plan's environment."""
    return f"{_REPOSITORY}:{plan.environment_tag}"


def find(plan: ImagePlan, client: DockerClient) -> EngineImage | None:
    """Return the plan's environment, if the engine has it."""
    try:
        image = client.images.get(name(plan))
    except ImageNotFound:
        return None
    labels = (image.attrs.get("Config") or {}).get("Labels") or {}
    # The tag has 12 digits of it.
    return image if labels.get(ENVIRONMENT_LABEL) == plan.environment_digest else None


def keep(identity: str, plan: ImagePlan, client: DockerClient) -> None:
    """Let a finished image be the plan's environment."""
    client.images.get(identity).tag(_REPOSITORY, tag=plan.environment_tag)
