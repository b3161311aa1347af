from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from envbuilder import digest, image_plan
from envbuilder.base_image import BaseImage, Interpreter
from envbuilder.bases.debian_addition import Addition
from envbuilder.environment_spec import EnvironmentSpec
from envbuilder.errors import Source
from envbuilder.fields import Stated
from envbuilder.gpu_needs import Generation, GpuNeeds
from envbuilder.image_plan import ImagePlan
from envbuilder.layer import Entry
from envbuilder.locked import Lock, LockedBase
from envbuilder.lockfile import Lockfile
from envbuilder.model import Model
from envbuilder.model_files import ModelFiles
from envbuilder.oci_image import Platform
from envbuilder.python_request import PythonRequest
from envbuilder.server_kit import ServerKit
from envbuilder.system_needs import SystemNeeds, SystemPackage
from envbuilder.target import Target
from envbuilder.template_set import TemplateSet
from envbuilder.variable import Variable
from tests.package_index import wheel

BASE = BaseImage(
    reference="python:3.11-slim",
    pinned="python@sha256:0",
    digest=digest.of_bytes(b"base"),
    platform=Platform.parse("linux/amd64"),
    interpreter=Interpreter(version="3.11.2", executable="/usr/local/bin/python3.11", glibc="2.36"),
    environ=(("PATH", "/usr/local/bin:/bin"), ("LANG", "de"), ("GPG_KEY", "x")),
    labels=(("maintainer", "them"), ("org.opencontainers.image.title", "theirs")),
)
LOCK = Lock(
    packages=(wheel("top").locked(),),
    target=Target.of_image(BASE.interpreter, BASE.platform),
    packages_digest=digest.of_bytes(b"spec"),
    base=LockedBase(reference=BASE.reference, digest=BASE.digest),
    python_version="3.11.2",
    tool_version="0.1.0",
)
SPEC = EnvironmentSpec(python=Stated(value=PythonRequest.parse("3.11"), source=Source(file="conda.yaml")))
MLMODEL = """\
flavors:
  python_function:
    loader_module: mlflow.sklearn
    env: conda.yaml
mlflow_version: 2.9.2
"""


@pytest.fixture
def plan(tmp_path: Path) -> ImagePlan:
    directory = tmp_path / "model"
    (directory / "data").mkdir(parents=True)
    (directory / "MLmodel").write_text(MLMODEL)
    (directory / "data" / "model.pkl").write_bytes(b"weights")
    (directory / "conda.yaml").write_text("dependencies: [python=3.11]\n")
    return ImagePlan(
        base=BASE,
        lock=LOCK,
        kit=ServerKit(requirements="a==1", files=()),
        server_packages=(),
        spec=SPEC,
        model=Model.read(directory),
        files=ModelFiles.read(directory),
        tool_version="0.1.0",
    )


def test_the_content_tag_names_environment_and_model(plan: ImagePlan) -> None:
    assert plan.content_tag == (f"env-{digest.short(plan.environment_digest)}-model-{digest.short(plan.model_digest)}")


def test_the_environments_own_image_says_and_sets_nothing_of_a_model(plan: ImagePlan) -> None:
    spec = replace(SPEC, variables=(Variable(name="TOKEN_FILE", value="/x", source=SPEC.python.source),))
    model = replace(plan, spec=spec)
    assert model.content_tag.startswith(f"{plan.environment_tag}-model-")
    assert model.environment_config == plan.environment_config
    config = plan.environment_config
    assert "TOKEN_FILE" in dict(model.config.env)
    assert set(config.env) == set(model.config.env) - {("TOKEN_FILE", "/x")}
    assert (config.entrypoint, config.command, config.user) == ((), (), "1000:1000")
    told = dict(config.labels)
    assert told[image_plan.ENVIRONMENT_LABEL] == plan.environment_digest
    assert set(told) < set(dict(plan.labels))
    assert not any("model.digest" in name or "spec.digest" in name for name in told)


@pytest.mark.parametrize(
    "part", ["package", "base", "kit", "tool", "name of the base", "model", "example", "contract", "spec"]
)
def test_each_ingredient_changes_the_content_tag(part: str, plan: ImagePlan) -> None:
    match part:
        case "package":
            other = replace(plan, lock=replace(LOCK, packages=(wheel("top", "2.0").locked(),)))
        case "base":
            other = replace(plan, base=replace(BASE, digest=digest.of_bytes(b"other")))
        case "kit":
            other = replace(plan, kit=replace(plan.kit, requirements="a==2"))
        case "tool":
            other = replace(plan, tool_version="9")
        case "name of the base":
            other = replace(plan, base=replace(BASE, reference="mirror.example/python"))
        case "spec":
            python = Stated(value=PythonRequest.parse("3.11.2"), source=SPEC.python.source)
            other = replace(plan, spec=replace(SPEC, python=python))
        case "model":
            (plan.model.directory / "data" / "model.pkl").write_bytes(b"other weights")
            other = replace(plan, files=ModelFiles.read(plan.model.directory))
        case "contract":
            other = replace(plan, model=replace(plan.model, contract=b"{}"))
        case _:
            other = replace(plan, model=replace(plan.model, example_request=b"{}"))
    environment, model = plan.content_tag.split("-model-")
    expected: tuple[str | None, str | None]
    expected = (environment, None) if part in ("model", "example", "contract", "spec") else (None, model)
    if part == "package":
        # The lock lies beside the model.
        expected = (None, None)
    changed = tuple(
        new if new == old else None
        for new, old in zip(other.content_tag.split("-model-"), (environment, model), strict=True)
    )
    assert changed == expected


@pytest.mark.parametrize("part", ["who locked", "place of a package", "digest of the wishes"])
def test_what_a_lock_says_beside_its_packages_changes_only_the_file_that_holds_it(part: str, plan: ImagePlan) -> None:
    match part:
        case "who locked":
            other = replace(plan, lock=replace(LOCK, tool_version="9"))
        case "digest of the wishes":
            # What was asked for counts by the spec, what came of it by the packages.
            other = replace(plan, lock=replace(LOCK, packages_digest=digest.of_bytes(b"other")))
        case _:
            package = replace(LOCK.packages[0], url="https://mirror.example/top-1.0-py3-none-any.whl")
            other = replace(plan, lock=replace(LOCK, packages=(package,)))
    assert other.environment_digest == plan.environment_digest
    assert other.content_tag != plan.content_tag


@pytest.mark.parametrize("part", ["pinned name", "place of the model"])
def test_nothing_else_changes_the_content_tag(part: str, plan: ImagePlan, tmp_path: Path) -> None:
    match part:
        case "pinned name":
            other = replace(plan, base=replace(BASE, pinned="x"))
        case _:
            moved = plan.model.directory.rename(tmp_path / "moved")
            (moved / "MLmodel").touch()
            other = replace(plan, model=Model.read(moved), files=ModelFiles.read(moved))
    assert other.content_tag == plan.content_tag


def test_labels_say_what_it_was_made_from(plan: ImagePlan) -> None:
    assert dict(plan.labels) == {
        "maintainer": "them",
        "org.opencontainers.image.base.name": "python:3.11-slim",
        "org.opencontainers.image.base.digest": BASE.digest,
        "org.opencontainers.image.title": "MLflow model server",
        "io.envbuilder.version": "0.1.0",
        "io.envbuilder.lock.digest": LOCK.digest,
        "io.envbuilder.spec.digest": plan.spec.digest,
        "io.envbuilder.model.digest": plan.files.digest,
        "io.envbuilder.base.digest": BASE.digest,
        "io.envbuilder.environment.digest": plan.environment_digest,
        "io.envbuilder.python.version": "3.11.2",
        "io.envbuilder.mlflow.version": "2.9.2",
    }
    assert list(plan.labels) == sorted(plan.labels)


def test_a_model_that_names_no_mlflow_has_no_label_for_it(plan: ImagePlan) -> None:
    mlmodel = replace(plan.model.mlmodel, mlflow_version=None)
    other = replace(plan, model=replace(plan.model, mlmodel=mlmodel))
    assert "io.envbuilder.mlflow.version" not in dict(other.labels)


def test_a_container_starts_the_server_as_a_user_without_rights(plan: ImagePlan) -> None:
    config = plan.config
    assert (config.user, config.working_dir, config.ports) == ("1000:1000", "/opt/ml/model", ("8080/tcp",))
    assert config.entrypoint == ("/opt/envbuilder/bin/python", "-I", "-m", "envbuilder.server")
    assert (config.command, config.stop_signal) == (("serve",), "SIGTERM")
    assert config.labels == plan.labels


def test_the_bases_variables_stay_unless_the_image_sets_them(plan: ImagePlan) -> None:
    environ = dict(plan.config.env)
    assert environ["PATH"] == "/opt/env/bin:/usr/local/bin:/bin"
    assert (environ["GPG_KEY"], environ["LANG"], environ["HOME"]) == ("x", "C.UTF-8", "/tmp")  # noqa: S108
    bare = replace(plan, base=replace(BASE, environ=()))
    assert dict(bare.config.env)["PATH"] == "/opt/env/bin:/usr/local/bin:/usr/bin:/bin"


def test_the_variables_that_are_asked_for_are_set_after_the_images_own(plan: ImagePlan) -> None:
    variables = tuple(Variable(name=name, value="2", source=Source(file="x")) for name in ("THREADS", "GPG_KEY"))
    other = replace(plan, spec=replace(SPEC, variables=variables))
    assert other.added_environ == (*plan.added_environ, ("GPG_KEY", "2"), ("THREADS", "2"))
    assert dict(other.config.env)["GPG_KEY"] == "2"


def test_the_model_layer_holds_the_models_files(plan: ImagePlan) -> None:
    entries = plan.model_entries()
    assert [entry.path for entry in entries] == [
        "opt/ml/model",
        "opt/ml/model/MLmodel",
        "opt/ml/model/conda.yaml",
        "opt/ml/model/data/model.pkl",
        "opt/envbuilder/contract.json",
        "opt/envbuilder/conda-lock.yml",
    ]
    assert {entry.mode for entry in entries[1:]} == {0o644}
    assert isinstance(entries[3].content, Path)
    assert entries[3].content.read_bytes() == b"weights"


def test_the_request_and_the_lock_lie_beside_the_server(plan: ImagePlan) -> None:
    entries = replace(plan, model=replace(plan.model, example_request=b"{}")).model_entries()
    assert entries[-2] == Entry(path="opt/envbuilder/example.json", mode=0o644, content=b"{}")
    lock = entries[-1].content
    assert isinstance(lock, bytes)
    assert Lockfile.parse(lock.decode(), file="x").locks == (LOCK,)


def test_a_prefix_is_a_virtual_environment_without_scripts() -> None:
    entries = {entry.path: entry for entry in image_plan.prefix_entries("/opt/env", BASE.interpreter)}
    assert entries["opt/env/pyvenv.cfg"].content == (
        b"home = /usr/local/bin\ninclude-system-site-packages = false\nversion = 3.11.2\n"
    )
    assert entries["opt/env/bin/python"].link == "/usr/local/bin/python3.11"
    assert entries["opt/env/bin/python3"].link == entries["opt/env/bin/python3.11"].link == "python"
    assert entries["opt/env/lib/python3.11/site-packages"].is_directory
    assert len(entries) == 5


def test_packages_lie_where_the_bases_python_looks(plan: ImagePlan) -> None:
    assert plan.site_packages == "lib/python3.11/site-packages"


def test_debian_packages_are_part_of_the_environment_and_of_the_labels(plan: ImagePlan) -> None:
    needs = SystemNeeds(packages=(SystemPackage(name="libgomp1"),))
    by_apt = replace(plan, system=needs)
    assert by_apt.apt_packages == ("libgomp1",)
    assert dict(by_apt.labels)["io.envbuilder.system.packages"] == "libgomp1"
    addition = Addition(packages=(), status="Package: libc6\n")
    unpacked = replace(by_apt, addition=addition)
    assert unpacked.apt_packages == ()
    assert dict(unpacked.labels)["io.envbuilder.system.packages"] == ""
    other = replace(unpacked, addition=replace(addition, status=""))
    assert len({one.environment_digest for one in (plan, by_apt, unpacked, other)}) == 4


def test_cuda_and_the_driver_it_needs_are_labels(plan: ImagePlan) -> None:
    generation = Generation(cuda=(12, 0), driver="525.60.13", oldest="5.0", newest="9.0")
    labels = dict(replace(plan, gpu=GpuNeeds(package="torch==2", cuda="12.4", generation=generation)).labels)
    assert (labels["io.envbuilder.cuda.version"], labels["io.envbuilder.cuda.driver"]) == ("12.4", ">=525.60.13")
    unknown = dict(replace(plan, gpu=GpuNeeds(package="x==1", cuda="99.0", generation=None)).labels)
    assert "io.envbuilder.cuda.driver" not in unknown


def test_templates_of_the_workspace_make_another_environment(plan: ImagePlan) -> None:
    other = replace(plan, templates=TemplateSet(folder="w", texts=(("_config.j2", "x"),)))
    assert other.environment_digest != plan.environment_digest
