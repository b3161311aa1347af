"""Base images in a Docker engine: there already, pulled, or put together here and loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from docker.errors import APIError, ImageNotFound, NotFound

from envbuilder import bases, digest, docker_archive
from envbuilder.base_image import BaseImage
from envbuilder.engine import probe
from envbuilder.engine.docker import container as docker_container
from envbuilder.errors import BaseImageError, Source, UnreachableError
from envbuilder.image_reference import ImageReference
from envbuilder.oci_image import Platform

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.images import Image as EngineImage

    from envbuilder.bases import BaseReference
    from envbuilder.digest import Digest
    from envbuilder.errors import EnvBuilderError
    from envbuilder.machine import Machine

_INSTEAD: Final = "pass `--base debian:bookworm`, an OCI layout directory or a rootfs tar: those need no registry"
_PROBE_SECONDS: Final = 60
_MEGABYTE: Final = 1_000_000


def have(reference: BaseReference, *, platform: Platform, client: DockerClient, machine: Machine) -> BaseImage:
    """Bring the base into the engine and ask its Python what it is."""
    if reference.is_assembled:
        found, pinned, image = _loaded(reference, platform, client, machine)
    else:
        found, pinned, image = _pulled(reference, platform, client, machine)
    return described(reference.text, image, found=found, pinned=pinned, client=client, machine=machine)


def described(
    reference: str, image: EngineImage, *, found: Digest, pinned: str, client: DockerClient, machine: Machine
) -> BaseImage:
    """Return what the engine says of an image that it holds, and what its Python is."""
    config = image.attrs.get("Config") or {}
    environ = tuple(_pair(item) for item in config.get("Env") or ())
    provided = _probe(reference, image, environ, client, machine)
    return BaseImage(
        reference=reference,
        pinned=pinned,
        digest=found,
        platform=Platform(
            os=image.attrs["Os"], architecture=image.attrs["Architecture"], variant=image.attrs.get("Variant") or ""
        ),
        interpreter=provided.interpreter,
        system=provided.system,
        environ=environ,
        labels=tuple(sorted((config.get("Labels") or {}).items())),
    )


def _loaded(
    reference: BaseReference, platform: Platform, client: DockerClient, machine: Machine
) -> tuple[Digest, str, EngineImage]:
    found, image = bases.fetch(reference, platform=platform, machine=machine)
    name = reference.name_in_engine(found)
    known = held(name, platform, client)
    if known is None:
        client.images.load(docker_archive.stream(image, (name,), machine.store))  # type: ignore[arg-type]  # any iterable
        known = client.images.get(name)
    return found, name, known


def _pulled(
    reference: BaseReference, platform: Platform, client: DockerClient, machine: Machine
) -> tuple[Digest, str, EngineImage]:
    named = ImageReference.parse(reference.text)
    known = held(str(named), platform, client)
    if known is None:
        if machine.settings.offline:
            raise BaseImageError(
                f"the engine has no image `{reference.text}`, and `--offline` forbids to pull it",
                where=Source(file=reference.text),
                fix=f"run once without `--offline`, or {_INSTEAD}",
            )
        _pull(named, platform, client, machine)
        known = client.images.get(str(named))
    for item in known.attrs.get("RepoDigests") or ():
        listed = ImageReference.parse(item)
        if listed.name == named.name and listed.digest is not None and named.digest in (None, listed.digest):
            tag = f":{named.tag}" if named.tag else ""
            return listed.digest, f"{named.name}{tag}@{listed.digest}", known
    # Made on this machine: no registry knows it, and the builder takes it by its name only.
    return digest.parse(str(known.id)), str(named), known


def held(name: str, platform: Platform, client: DockerClient) -> EngineImage | None:
    """Return the image of this name, if the engine has it for the platform."""
    try:
        image = client.images.get(name)
    except ImageNotFound:
        return None
    is_fit = (image.attrs["Os"], image.attrs["Architecture"]) == (platform.os, platform.architecture)
    return image if is_fit else None


def _pull(named: ImageReference, platform: Platform, client: DockerClient, machine: Machine) -> None:
    done: dict[str, tuple[int, int]] = {}
    try:
        events = client.api.pull(
            named.name,
            tag=named.digest or named.tag,
            stream=True,
            decode=True,
            platform=str(platform),
        )
        error = ""
        # Read to the end after an error too: a stream that is left keeps its connection.
        for event in events:
            error = error or str(event.get("error", ""))
            _count(event, done, machine)
    except APIError as cause:
        raise _not_pulled(named, str(cause.explanation or cause)) from cause
    if error:
        raise _not_pulled(named, error)


def _count(event: dict[str, Any], done: dict[str, tuple[int, int]], machine: Machine) -> None:
    detail = event.get("progressDetail") or {}
    if event.get("status") == "Downloading" and "total" in detail:
        done[str(event.get("id"))] = (int(detail["current"]), int(detail["total"]))
        now, total = (sum(numbers) // _MEGABYTE for numbers in zip(*done.values(), strict=True))
        machine.reporter.progress("base", now, total, "MB")


def _not_pulled(named: ImageReference, text: str) -> EnvBuilderError:
    said = text.lower()
    where = Source(file=str(named))
    # Registries that need a login answer "denied" for what does not exist, too.
    if "no matching manifest" in said:
        return BaseImageError(f"the base image is not made for this platform: {text}", where=where, fix=_INSTEAD)
    if "not found" in said or "manifest unknown" in said or "does not exist" in said:
        absent = BaseImageError(
            f"the registry has no such image: {text}", where=where, fix=f"check the name, or {_INSTEAD}"
        )
        absent.is_absent = True
        return absent
    if any(word in said for word in ("denied", "unauthorized", "authentication", "no basic auth")):
        return BaseImageError(
            f"the registry refused: {text}",
            where=where,
            fix=f"check the name and log in with `docker login`, or {_INSTEAD}",
        )
    return UnreachableError(f"the base image cannot be pulled: {text}", where=where, fix=_INSTEAD)


def _probe(
    reference: str,
    image: EngineImage,
    environ: tuple[tuple[str, str], ...],
    client: DockerClient,
    machine: Machine,
) -> probe.Found:
    def ask() -> bytes:
        try:
            ended = docker_container.run(
                client,
                str(image.id),
                entrypoint=("python3",),
                command=probe.ARGUMENTS,
                timeout=_PROBE_SECONDS,
            )
        except NotFound as cause:
            raise probe.no_python(reference) from cause
        except APIError as cause:
            text = str(cause.explanation or cause)
            if "executable file not found" in text or "no such file or directory" in text:
                raise probe.no_python(reference) from cause
            raise probe.does_not_run(reference, (text,)) from cause
        if ended is None or ended.code != 0:
            raise probe.does_not_run(reference, ended.log if ended is not None else ("it did not end",))
        return ended.stdout

    return probe.find(reference, diff_ids=image.attrs["RootFS"]["Layers"], environ=environ, ask=ask, machine=machine)


def _pair(item: str) -> tuple[str, str]:
    name, _, value = item.partition("=")
    return name, value
