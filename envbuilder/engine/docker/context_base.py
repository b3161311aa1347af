"""Bases that are built from a context of the workspace: once for each content, then known by a name of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envbuilder import digest
from envbuilder.base_image import REPOSITORY
from envbuilder.build_context import BuildContext
from envbuilder.engine.docker import base as docker_base
from envbuilder.engine.docker import buildkit
from envbuilder.engine.docker import classic as docker_classic
from envbuilder.engine.docker import log as docker_log
from envbuilder.layer import tree_entries, with_parents

if TYPE_CHECKING:
    from pathlib import Path

    from docker import DockerClient

    from envbuilder.base_image import BaseImage
    from envbuilder.base_request import BaseRequest
    from envbuilder.machine import Machine
    from envbuilder.oci_image import Platform


def have(
    request: BaseRequest, directory: Path, *, platform: Platform, client: DockerClient, machine: Machine
) -> BaseImage:
    """Build the context in `directory`, unless the engine has what came of it, and ask its Python what it is.

    What is built stays: images that a Dockerfile begins with move on, and a lock is for one base.
    """
    tag = f"context-{digest.short(digest.of_json([request.digest, request.dockerfile, str(platform)]))}"
    name = f"{REPOSITORY}:{tag}"
    image = docker_base.held(name, platform, client)
    if image is None:
        context = BuildContext(entries=tuple(with_parents(tree_entries(directory))))
        with docker_log.kept(machine, tag) as log:
            program = buildkit.find(client, machine)
            if program is not None:
                identity = buildkit.build(
                    program, client, context, dockerfile=request.dockerfile, log=log, machine=machine
                )
            else:
                identity = docker_classic.build(
                    client, context, dockerfile=request.dockerfile, log=log, machine=machine
                )
        image = client.images.get(identity)
        image.tag(REPOSITORY, tag=tag)
    found = digest.parse(str(image.id))
    return docker_base.described(request.text, image, found=found, pinned=name, client=client, machine=machine)
