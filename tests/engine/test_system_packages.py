"""System packages that apt installs in a Docker build, on a base that has it, from the mirrors of the settings."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from envbuilder import build_context, stages
from envbuilder.bases import BaseReference, apt_sources, debian_addition, dpkg_state
from envbuilder.choices import Choices
from envbuilder.engine import docker, oci
from envbuilder.engine.docker import buildkit
from envbuilder.engine.docker import classic as docker_classic
from envbuilder.engine.docker import client as docker_client
from envbuilder.engine.docker import index as docker_index
from envbuilder.engine.docker import log as docker_log
from envbuilder.errors import BuildFailedError, EngineMissingError
from envbuilder.layer import write_layer
from envbuilder.oci_image import Platform
from envbuilder.reporter import Timings
from tests.conftest import BASE, EXAMPLES

if TYPE_CHECKING:
    from envbuilder.build_context import Variant
    from envbuilder.image_plan import ImagePlan
    from envbuilder.machine import Machine

pytestmark = [pytest.mark.engine, pytest.mark.network]

APT = [
    "apt",
    "coreutils",
    "debconf",
    "debian-archive-keyring",
    "debianutils",
    "diffutils",
    "dpkg",
    "grep",
    "gzip",
    "mawk",
    "openssl",
    "perl-base",
    "python3",
    "sed",
    "tar",
]
"""apt, what it and dpkg start, and what bases made of packages leave out though others depend on it."""


@pytest.fixture
def base_with_apt(machine: Machine, tmp_path: Path) -> str:
    """Debian's packages put on a base made of Debian's packages: apt itself, with nothing in its sources."""
    base = oci.base_image(BaseReference.parse(BASE), platform=Platform.parse("linux/amd64"), machine=machine)
    state = dpkg_state.read(
        base, ask=lambda asked, step: oci.run_in_base(asked, step, machine=machine), machine=machine
    )
    addition = debian_addition.resolve(dict.fromkeys(APT), base, state, machine=machine)
    made = write_layer(machine.store, debian_addition.entries(addition, machine=machine), comment="apt")
    assert base.image is not None
    image = replace(base.image, layers=(*base.image.layers, made))
    layout = tmp_path / "layout"
    machine.store.export(machine.store.add_image(image), ("with-apt:1",), layout)
    return f"oci:{layout}"


@pytest.fixture
def mirrored(docker_machine: Machine) -> Machine:
    """The machine, with the archives of its apt sources named as mirrors."""
    urls = tuple(dict.fromkeys(one.url for one in apt_sources.read(Path("/"))))
    if not urls:
        pytest.skip("this machine has no apt sources")
    return replace(docker_machine, settings=replace(docker_machine.settings, debian_mirrors=urls))


def plan_of(base: str, machine: Machine, package: str = "libgomp1") -> ImagePlan:
    environment = f"{{amend: {{system_packages: {{add: [{package}]}}}}}}"
    choices = Choices(engine="docker", base=base, environment=environment)
    return stages.make_plan(EXAMPLES / "scale", docker, choices, machine=machine, timings=Timings(machine.reporter))


def built(plan: ImagePlan, variant: Variant, machine: Machine) -> str:
    apt = docker_index.apt_list(plan, machine.settings)
    context = build_context.make(plan, variant=variant, machine=machine)
    with docker_client.opened(machine, timeout=None) as client, docker_log.kept(machine, "test") as log:
        if variant == "classic":
            return docker_classic.build(client, context, apt=apt, log=log, machine=machine)
        program = buildkit.find(client, machine)
        assert program is not None
        return buildkit.build(program, client, context, apt=apt, log=log, machine=machine)


def files_of(identity: str, machine: Machine) -> dict[str, bytes]:
    """Return what is below `usr/lib` and `var` in the image, with the content of dpkg's status."""
    with docker_client.opened(machine) as client:
        container = client.containers.create(identity)
        try:
            data = b"".join(container.export())  # type: ignore[arg-type]  # the stubs say text
        finally:
            container.remove()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {
            member.name: stream.read() if member.isfile() and (stream := tar.extractfile(member)) else b""
            for member in tar
            if member.name.startswith(("var/", "tmp/", "run/")) or "libgomp" in member.name
        }


@pytest.mark.parametrize("variant", ["buildkit", "classic"])
def test_apt_installs_in_the_build_and_leaves_no_lists_and_no_sources(
    variant: Variant, base_with_apt: str, mirrored: Machine
) -> None:
    plan = plan_of(base_with_apt, mirrored)
    assert plan.apt_packages == ("libgomp1",)
    identity = built(plan, variant, mirrored)
    found = files_of(identity, mirrored)
    assert "usr/lib/x86_64-linux-gnu/libgomp.so.1" in found
    assert b"Package: libgomp1\nStatus: install ok installed\n" in found["var/lib/dpkg/status"]
    assert [name for name in found if name.startswith("var/lib/apt/lists/") and name.count("/") > 3] == []
    left = (".deb", ".bin", "run/apt.list", "tmp/apt.list")
    assert [name for name in found if name.endswith(left)] == []
    with docker_client.opened(mirrored) as client:
        history = str(client.images.get(identity).history())
    # The classic builder has no secrets: its arguments are in the history, which is why no password may be in them.
    assert (mirrored.settings.debian_mirrors[0] in history) is (variant == "classic")


def test_an_apt_without_sources_says_what_to_set(base_with_apt: str, docker_machine: Machine) -> None:
    # Another package than the test above: BuildKit keeps the layer that it made with mirrors.
    plan = plan_of(base_with_apt, docker_machine, "libsnappy1v5")
    with pytest.raises(BuildFailedError, match="Unable to locate package libsnappy1v5") as caught:
        built(plan, "buildkit", docker_machine)
    assert "ENVBUILDER_DEBIAN_MIRRORS" in (caught.value.problems[0].fix or "")


def test_a_mirror_with_a_password_is_not_given_to_the_classic_builder(base_with_apt: str, mirrored: Machine) -> None:
    plan = plan_of(base_with_apt, mirrored)
    secret = replace(mirrored.settings, debian_mirrors=("https://me:open-sesame@mirror.example/debian",))
    apt = docker_index.apt_list(plan, secret)
    assert docker_index.secrets(secret, apt=apt)["apt.list"] == apt.encode()
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    assert apt.startswith(f"deb [signed-by={keyring}] https://me:open-sesame@mirror.example/debian bookworm main\n")
    with pytest.raises(EngineMissingError, match="the Debian mirror needs a password") as caught:
        docker_index.arguments(secret, apt=apt)
    assert "open-sesame" not in str(caught.value)
