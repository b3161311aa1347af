from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from dockerfile_parse import DockerfileParser
from hypothesis import given, settings
from hypothesis import strategies as st

from envbuilder import digest, dockerfile
from envbuilder.base_image import REPOSITORY, BaseImage, Interpreter
from envbuilder.bases.debian_addition import Addition
from envbuilder.bases.debian_index import Package
from envbuilder.conda_package import CondaPackage
from envbuilder.dockerfile import DockerfileInputs
from envbuilder.environment_spec import EnvironmentSpec
from envbuilder.errors import InvalidFileError, Source
from envbuilder.fields import Stated
from envbuilder.image_plan import ImagePlan
from envbuilder.locked import Lock, LockedBase, LockedPackage
from envbuilder.model import Model
from envbuilder.model_files import ModelFiles
from envbuilder.oci_image import Platform
from envbuilder.python_request import PythonRequest
from envbuilder.server_kit import ServerKit
from envbuilder.system_needs import SystemNeeds, SystemPackage
from envbuilder.target import Target
from envbuilder.template_set import TemplateSet
from envbuilder.variable import Variable

if TYPE_CHECKING:
    from envbuilder.digest import Digest

GOLDEN: Final = Path(__file__).parent / "golden" / "dockerfile"
PIP: Final = "pip-1.2.3-py3-none-any.whl"


def invented(text: str) -> Digest:
    return digest.of_bytes(text.encode())


def package(name: str, version: str) -> LockedPackage:
    return LockedPackage(
        name=name,
        version=version,
        url=f"https://index.example/{name}-{version}-py3-none-any.whl",
        sha256=invented(name),
    )


def plan_of(folder: Path) -> ImagePlan:
    """A plan in which everything is invented but the model, which is written to `folder`."""
    model = folder / "model"
    (model / "data").mkdir(parents=True)
    (model / "MLmodel").write_text("flavors: {python_function: {loader_module: churn}}\nmlflow_version: 3.1.4\n")
    (model / "data" / "weights.bin").write_bytes(bytes(range(256)) * 20)
    reference = "python:3.11-slim"
    base = BaseImage(
        reference=reference,
        pinned=f"{reference}@{invented('base')}",
        digest=invented("base"),
        platform=Platform(os="linux", architecture="amd64"),
        interpreter=Interpreter(version="3.11.9", executable="/usr/local/bin/python3.11", glibc="2.36"),
        environ=(("PATH", "/usr/local/bin:/usr/bin:/bin"),),
        labels=(("maintainer", "somebody\nwith two lines"),),
    )
    lock = Lock(
        packages=(package("numpy", "2.4.6"), package("scikit-learn", "1.9.1")),
        target=Target.of_image(base.interpreter, base.platform),
        packages_digest=invented("spec"),
        base=LockedBase(reference=reference, digest=base.digest),
        python_version="3.11.9",
        tool_version="0.1.0",
    )
    return ImagePlan(
        base=base,
        lock=lock,
        kit=ServerKit(requirements="starlette==1.0\n", files=(("envbuilder/server/__init__.py", b"x = 1\n"),)),
        server_packages=(package("starlette", "1.0"),),
        spec=EnvironmentSpec(python=Stated(value=PythonRequest.parse("3.11"), source=Source(file="conda.yaml"))),
        model=Model.read(model),
        files=ModelFiles.read(model),
        tool_version="0.1.0",
    )


def conda_plan_of(folder: Path) -> ImagePlan:
    """The same plan with a conda environment."""
    plan = plan_of(folder)
    packages = tuple(
        CondaPackage(
            name=name,
            version="1.0",
            build="0",
            subdir="linux-64",
            url=f"https://conda.example/main/linux-64/{name}-1.0-0.conda",
            sha256=invented(name),
        )
        for name in ("gdal", "python")
    )
    lock = replace(plan.lock, conda_packages=packages, python_version="3.10.4")
    return replace(plan, lock=lock, activation=(("GDAL_DATA", "/opt/env/share/gdal"),))


LIBGOMP: Final = Package(
    name="libgomp1",
    version="12.2.0-14",
    architecture="amd64",
    multi_arch="same",
    url="https://mirror.example/pool/libgomp1.deb",
    digest=invented("libgomp1"),
    size=1,
    needs=(),
    provides=(),
)
NEEDS: Final = SystemNeeds(
    packages=(
        SystemPackage(name="libgl1", needed_by=("opencv-python",), libraries=("libGL.so.1",)),
        SystemPackage(name="libgomp1", needed_by=("lightgbm",), libraries=("libgomp.so.1",)),
    )
)


def system_plan_of(folder: Path) -> ImagePlan:
    """The same plan with Debian packages that apt installs."""
    return replace(plan_of(folder), system=NEEDS)


def unpacked_plan_of(folder: Path) -> ImagePlan:
    """The same plan with Debian packages that are unpacked onto the base."""
    return replace(plan_of(folder), system=NEEDS, addition=Addition(packages=(LIBGOMP,), status=""))


PLANS: Final = {"": plan_of, "conda-": conda_plan_of, "system-": system_plan_of, "unpacked-": unpacked_plan_of}


def inputs_of(plan: ImagePlan, *, buildkit: bool = True, has_ca: bool = False) -> DockerfileInputs:
    return DockerfileInputs.of(plan, pip_wheel=PIP, buildkit=buildkit, has_ca=has_ca)


@pytest.mark.parametrize("variant", ["buildkit", "classic"])
@pytest.mark.parametrize("kind", PLANS, ids=["wheels", "conda", "system packages", "unpacked"])
def test_the_dockerfile_is_the_golden_one(kind: str, variant: str, tmp_path: Path) -> None:
    text = dockerfile.render(inputs_of(PLANS[kind](tmp_path), buildkit=variant == "buildkit", has_ca=True))
    golden = GOLDEN / f"{kind}{variant}.Dockerfile"
    if os.environ.get("ENVBUILDER_WRITE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.process
def test_hadolint_finds_nothing_in_any_golden_dockerfile() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("hadolint has no wheel for this machine")
    goldens = sorted(GOLDEN.iterdir())
    assert len(goldens) == 2 * len(PLANS) + 2
    # Every rule counts; the lines that ignore one say why in the Dockerfile itself.
    command = [str(hadolint), "--no-color", "--failure-threshold=style", *map(str, goldens)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.stdout == ""
    assert finished.returncode == 0


def test_each_rule_of_hadolint_that_is_ignored_has_its_reason_above() -> None:
    for golden in GOLDEN.iterdir():
        lines = golden.read_text().splitlines()
        for number, line in enumerate(lines):
            if "hadolint ignore" in line:
                above = next(one for one in reversed(lines[:number]) if not one.startswith(("USER", "ARG")))
                assert above.startswith("# "), f"{golden.name}: {line}"


def test_the_environments_own_image_and_a_models_over_it_are_the_golden_ones(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    environment = DockerfileInputs.of(plan, pip_wheel=PIP, buildkit=True, has_ca=False, has_model=False)
    model = DockerfileInputs.of(plan, pip_wheel="", buildkit=True, has_ca=False, environment="environment:env-0")
    for name, inputs in (("environment", environment), ("model", model)):
        golden = GOLDEN / f"{name}.Dockerfile"
        if os.environ.get("ENVBUILDER_WRITE_GOLDEN"):
            golden.write_text(dockerfile.render(inputs))
        assert dockerfile.render(inputs) == golden.read_text()


def test_a_conda_environment_without_wheels_asks_no_index_for_any(tmp_path: Path) -> None:
    plan = conda_plan_of(tmp_path)
    text = dockerfile.render(inputs_of(replace(plan, lock=replace(plan.lock, packages=()))))
    assert "environment.txt" not in text
    assert "finish.py /opt/env\n" in text


def test_no_syntax_line_no_path_of_this_machine_no_clock(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    text = dockerfile.render(inputs_of(plan))
    assert text == dockerfile.render(inputs_of(plan))
    assert "syntax=" not in text
    assert str(tmp_path) not in text
    assert text.startswith(f"# Generated by envbuilder 0.1.0 from conda.yaml {plan.spec.digest}; edit that instead.")


def test_a_base_that_no_registry_has_is_explained(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    other = replace(plan, base=replace(plan.base, reference="debian:bookworm", pinned=f"{REPOSITORY}:x"))
    note = "The base is debian:bookworm, which envbuilder gives to the engine; no registry has it."
    assert note in dockerfile.render(inputs_of(other))
    assert note not in dockerfile.render(inputs_of(plan))


def test_what_the_base_says_already_is_not_said_again(tmp_path: Path) -> None:
    assert "maintainer" not in dockerfile.render(inputs_of(plan_of(tmp_path)))


def test_instructions_say_what_the_plan_says(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    said = instructions(dockerfile.render(inputs_of(plan)))
    final = said[max(i for i, (name, _) in enumerate(said) if name == "FROM") :]
    only = dict(final)
    assert pairs(only["LABEL"]) == [label for label in plan.labels if label not in plan.base.labels]
    assert dict(pairs(only["ENV"])) == dict(plan.added_environ)
    assert json.loads(only["ENTRYPOINT"]) == list(plan.config.entrypoint)
    assert json.loads(only["CMD"]) == ["serve"]
    assert only["USER"] == "1000:1000"
    assert only["FROM"] == plan.base.pinned


# What Docker does with a value, after buildkit's parser (parseWords) and shell lexer (processDoubleQuote).

LINES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\n\r"))
HOSTILE = st.one_of(LINES, st.text(alphabet="'\"$\\{} a=#`<|&;\t"))


def instructions(text: str) -> list[tuple[str, str]]:
    lines = [line for line in text.split("\n") if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\[ \t]*\n", "", "\n".join(lines))
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in joined.split("\n") if line.strip())]


def words(rest: str) -> list[str]:
    """Part a line at spaces outside of quotes; quotes and escapes stay."""
    found: list[str] = []
    word, quote, skip = "", "", False
    for letter in rest:
        if skip:
            word, skip = word + letter, False
        elif letter == "\\" and quote != "'":
            word, skip = word + letter, True
        elif quote:
            word, quote = word + letter, "" if letter == quote else quote
        elif letter in "'\"":
            word, quote = word + letter, letter
        elif letter.isspace():
            found, word = ([*found, word] if word else found), ""
        else:
            word += letter
    assert not quote, f"an open quote in {rest!r}"
    return [*found, word] if word else found


def expanded(word: str) -> str:
    """Take quotes and escapes away; a bare `$` would be a variable."""
    result, quote, rest = "", "", list(word)
    while rest:
        letter = rest.pop(0)
        if letter == "$" and quote != "'":
            pytest.fail(f"a variable in {word!r}")
        if letter == "\\" and quote != "'":
            following = rest[0] if rest else ""
            if not quote or following in ('"', "$", "\\"):
                letter = rest.pop(0)
            result += letter
        elif letter == quote:
            quote = ""
        elif letter in "'\"" and not quote:
            quote = letter
        else:
            result += letter
    return result


def pairs(rest: str) -> list[tuple[str, str]]:
    split = (word.partition("=") for word in words(rest))
    return [(expanded(name), expanded(value)) for name, _, value in split]


@given(st.lists(st.tuples(LINES.filter(lambda name: name and "=" not in name), HOSTILE), min_size=1))
def test_any_pairs_come_back(given_pairs: list[tuple[str, str]]) -> None:
    said = " \\\n    ".join(f"{dockerfile.name(name)}={dockerfile.quoted(value)}" for name, value in given_pairs)
    [(_, rest)] = instructions(f"LABEL {said}\n")
    assert pairs(rest) == given_pairs


@given(HOSTILE)
def test_any_word_of_a_command_comes_back(value: str) -> None:
    [(_, rest)] = instructions(f"RUN echo {dockerfile.shell(value)}\n")
    assert shlex.split(rest) == ["echo", value]
    # Newer builders read a here-document from an unquoted `<<`.
    assert "<<" not in value or dockerfile.shell(value).startswith("'")


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))))
def test_any_command_comes_back_in_exec_form(value: list[str]) -> None:
    [(_, rest)] = instructions(f"CMD {dockerfile.exec_form(tuple(value))}\n")
    assert json.loads(rest) == value


@pytest.mark.parametrize(
    ("grammar", "value"),
    [
        ("shell", "a\nb"),
        ("shell", "a\0b"),
        ("exec_form", ("a\0b",)),
        ("exec_form", ("\ud800",)),
        ("env_value", "a\nb"),
        ("label_value", "a\rb"),
        ("label_value", "a\0b"),
        ("label_name", "a=b"),
        ("env_name", ""),
        ("copy_path", "a b"),
        ("copy_path", "a*"),
        ("copy_path", "$a"),
        ("image", "a AS b"),
        ("image", ""),
        ("comment", "a\nRUN b"),
    ],
)
def test_what_cannot_be_said_is_refused(grammar: str, value: object) -> None:
    with pytest.raises(InvalidFileError, match="cannot be written") as raised:
        dockerfile.FILTERS[grammar](value)
    assert raised.value.problems[0].fix is not None


def parsed(text: str, folder: Path) -> list[dict[str, str]]:
    """Read the last stage with dockerfile-parse."""
    parser = DockerfileParser(str(folder / "Dockerfile"))
    parser.content = text
    said: list[dict[str, str]] = parser.structure
    return said[max(i for i, one in enumerate(said) if one["instruction"] == "FROM") :]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.from_regex(r"[A-Z_]{1,8}", fullmatch=True), HOSTILE), min_size=1, max_size=4), HOSTILE)
def test_hostile_values_are_one_argument_each_for_a_parser_that_is_not_ours(
    variables: list[tuple[str, str]], label: str
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plan = system_plan_of(folder)
        spec = replace(
            plan.spec,
            variables=tuple(
                Variable(name=key, value=value, source=Source(file="x")) for key, value in dict(variables).items()
            ),
        )
        text = dockerfile.render(replace(inputs_of(replace(plan, spec=spec)), labels=(("hostile", label),)))
        said = parsed(text, folder)
        names = [one["instruction"] for one in said if one["instruction"] != "COMMENT"]
        assert names == [
            one["instruction"]
            for one in parsed(dockerfile.render(inputs_of(plan)), folder)
            if one["instruction"] != "COMMENT"
        ]
        values = {one["instruction"]: one["value"] for one in said}
        assert dict(pairs(values["ENV"])) == dict(replace(plan, spec=spec).added_environ)
        assert pairs(values["LABEL"]) == [("hostile", label)]


def test_names_of_system_packages_are_one_word_each_of_the_command(tmp_path: Path) -> None:
    hostile = SystemNeeds(packages=(SystemPackage(name="x; rm -rf / $(id)"),))
    text = dockerfile.render(inputs_of(replace(plan_of(tmp_path), system=hostile)))
    (run,) = (rest for name, rest in instructions(text) if name == "RUN" and "apt-get" in rest)
    assert "x; rm -rf / $(id)" in shlex.split(run)


def templates(**texts: str) -> TemplateSet:
    return TemplateSet(folder="w/templates", texts=tuple(sorted((f"{name}.j2", text) for name, text in texts.items())))


def test_a_workspaces_part_stands_in_place_of_ours(tmp_path: Path) -> None:
    own = (GOLDEN.parents[2] / "templates" / "dockerfile" / "_config.j2").read_text()
    changed = templates(_config=own + "HEALTHCHECK NONE\n{% include '_more.j2' %}", _more="ONBUILD RUN true\n")
    text = dockerfile.render(inputs_of(plan_of(tmp_path)), changed)
    assert text.endswith('CMD ["serve"]\nHEALTHCHECK NONE\nONBUILD RUN true\n')


def test_a_workspaces_template_is_checked_before_it_is_built(tmp_path: Path) -> None:
    with pytest.raises(InvalidFileError) as caught:
        dockerfile.render(inputs_of(plan_of(tmp_path)), templates(_config="USER root\n"))
    told = [problem.what for problem in caught.value.problems]
    assert [what.partition(": ")[2].partition(":")[0] for what in told] == [
        "the image would run as root",
        "there is no `ENTRYPOINT` in exec form",
        "labels are missing",
    ]
    assert str(caught.value.problems[0].where) == "w/templates"


@pytest.mark.parametrize(
    ("text", "what", "where"),
    [
        ("\n{% if %}\n", "Expected an expression", "w/templates/_config.j2: line 2"),
        ("\n\n{{ pasword | word }}\n", "'pasword' is undefined", "w/templates/_config.j2: line 3"),
        ("{% include '_gone.j2' %}", "_gone.j2", "w/templates/_config.j2: line 1"),
        ("{{ ''.__class__.__mro__ }}", "access to attribute '__class__'", "w/templates/_config.j2: line 1"),
        ("{{ user | shout }}", "No filter named 'shout'", "w/templates/_config.j2: line 1"),
    ],
    ids=["syntax", "variable", "part", "way out", "filter"],
)
def test_a_template_that_cannot_be_rendered_is_told_with_its_line(
    text: str, what: str, where: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidFileError) as caught:
        dockerfile.render(inputs_of(plan_of(tmp_path)), templates(_config=text))
    (problem,) = caught.value.problems
    assert what in problem.what
    assert str(problem.where) == where
    assert problem.fix is not None
    assert "environ" in problem.fix


def test_every_value_goes_through_a_filter() -> None:
    folder = Path(__file__).parent.parent / "templates" / "dockerfile"
    for template in folder.iterdir():
        for inserted in re.findall(r"\{\{(.*?)\}\}", template.read_text()):
            assert "|" in inserted or "loop.last" in inserted, f"{template.name}: {inserted}"


def test_the_template_that_the_documentation_shows_is_a_whole_one(tmp_path: Path) -> None:
    text = (GOLDEN.parents[2] / "docs" / "workspace.md").read_text()
    (shown,) = (block for block in text.split("```") if "FROM {{ base | image }}" in block)
    said = instructions(dockerfile.render(inputs_of(plan_of(tmp_path)), templates(_image=shown.lstrip("\n"))))
    assert said[-1][0] == "HEALTHCHECK"
    assert json.loads(said[-1][1].removeprefix("CMD "))[0] == "/opt/env/bin/python"
