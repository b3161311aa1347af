"""The layers of an image in a Docker engine, as people are shown them.

`docker history` knows sizes and what made a layer, `docker inspect` knows digests; nothing says which belong together
but their order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from envbuilder import digest
from envbuilder.engine import BuiltImage, BuiltLayer
from envbuilder.image_plan import (
    CONTRACT_FILE,
    ENVIRONMENT_PREFIX,
    EXAMPLE_FILE,
    LOCK_FILE,
    MODEL_DIRECTORY,
    SERVER_PREFIX,
)

if TYPE_CHECKING:
    from docker.models.images import Image as EngineImage

_COMMENTS: Final = {
    ENVIRONMENT_PREFIX: "environment",
    SERVER_PREFIX: "server",
    MODEL_DIRECTORY: "model",
    CONTRACT_FILE: "contract",
    EXAMPLE_FILE: "example",
    LOCK_FILE: "lock",
}


def built(image: EngineImage, *, since: float | None) -> BuiltImage:
    """Return the image with its layers; those made after `since` (seconds of the epoch) are new."""
    diff_ids = [digest.parse(item) for item in image.attrs["RootFS"]["Layers"]]
    history: list[dict[str, Any]] = list(reversed(image.history()))
    first = max((i for i, item in enumerate(history) if _comment(item) == "environment"), default=len(history))
    if first and _is_system(history[first - 1]):
        first -= 1
    ours = [item for item in history[first:] if _makes_layer(item)][: len(diff_ids)]
    below = len(diff_ids) - len(ours)
    layers = [
        BuiltLayer(comment="base", digest=item, size=size, reused=True)
        for item, size in zip(diff_ids[:below], _sizes(history[:first], below), strict=True)
    ]
    layers += [
        BuiltLayer(
            comment=_comment(made),
            digest=item,
            size=int(made["Size"]),
            reused=since is None or int(made["Created"]) < int(since),
        )
        for item, made in zip(diff_ids[below:], ours, strict=True)
    ]
    identity = str(image.id)
    labels = tuple(sorted((image.attrs["Config"].get("Labels") or {}).items()))
    return BuiltImage(identity=identity, digest=digest.parse(identity), layers=tuple(layers), labels=labels)


def _sizes(history: list[dict[str, Any]], count: int) -> list[int]:
    """Return the sizes of the base's layers; where empty ones hide which is which, the first carries all."""
    filled = [int(item["Size"]) for item in history if item["Size"] > 0]
    if len(filled) == count:
        return filled
    return [sum(filled), *([0] * (count - 1))][:count]


def _makes_layer(item: dict[str, Any]) -> bool:
    made_by = str(item["CreatedBy"])
    # BuildKit makes an (empty) layer for WORKDIR, the classic builder does not.
    return (
        "COPY " in made_by
        or _is_system(item)
        or (made_by.startswith("WORKDIR ") and "buildkit" in str(item.get("Comment")))
    )


def _is_system(item: dict[str, Any]) -> bool:
    """Tell whether this step installed Debian packages: with apt, or unpacked."""
    made_by = str(item["CreatedBy"]).replace("# buildkit", "").strip()
    return "apt-get " in made_by or ("COPY " in made_by and made_by.split()[-1] == "/")


def _comment(item: dict[str, Any]) -> str:
    """Return what one of our own layers holds, by the instruction that made it; nothing for the base's."""
    made_by = str(item["CreatedBy"]).replace("# buildkit", "")
    if made_by.startswith("WORKDIR "):
        return "working directory"
    if _is_system(item):
        return "system"
    return _COMMENTS.get(made_by.split()[-1].rstrip("/"), "") if "COPY " in made_by else ""
