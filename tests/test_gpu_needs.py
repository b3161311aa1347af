from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from envbuilder import digest, gpu_needs
from envbuilder.errors import InvalidFileError
from envbuilder.gpu_needs import Generation, GpuNeeds, GpuTable
from envbuilder.locked import LockedPackage
from envbuilder.workspace import Workspace

if TYPE_CHECKING:
    from pathlib import Path

TWELVE_EIGHT = Generation(cuda=(12, 8), driver="525.60.13", oldest="5.0", newest="12.0")


def package(name: str, version: str) -> LockedPackage:
    url = f"https://index.example/{name}-{version}-py3-none-any.whl"
    return LockedPackage(name=name, version=version, url=url, sha256=digest.of_bytes(name.encode()))


def find(*some: tuple[str, str], table: GpuTable | None = None) -> GpuNeeds | None:
    return (table or gpu_needs.load()).find([package(*one) for one in some])


@pytest.mark.parametrize(
    ("packages", "cuda", "driver"),
    [
        ([("torch", "2.9.1"), ("nvidia-cuda-runtime-cu12", "12.8.90")], "12.8", "525.60.13"),
        ([("nvidia-cuda-runtime", "13.0.48")], "13.0", "580.65.06"),
        ([("torch", "2.5.1+cu124")], "12.4", "525.60.13"),
        ([("torch", "2.0.1+cu118")], "11.8", "450.80.02"),
        ([("cupy-cuda11x", "13.3.0")], "11", "450.80.02"),
        ([("cupy-cuda12x", "13.3.0"), ("torch", "2.0.1+cu118")], "11.8", "450.80.02"),
        ([("nvidia-cublas-cu12", "12.9.1.4")], "12", "525.60.13"),
    ],
)
def test_packages_tell_their_cuda(packages: list[tuple[str, str]], cuda: str, driver: str) -> None:
    found = find(*packages)
    assert found is not None
    assert (found.cuda, found.generation and found.generation.driver) == (cuda, driver)
    assert found.warning(None) is None


@pytest.mark.parametrize(
    "packages",
    [
        [],
        [("torch", "2.5.1+cpu"), ("numpy", "2.2.6")],
        [("mine", "1.0+cu124")],
        [("nvidia-ml-py", "12.560.30"), ("cupy", "13.0")],
        [("nvidia-cuda-runtime", "latest")],
        [("torch", "2.5.1+cu12")],
    ],
)
def test_an_environment_without_cuda_needs_no_gpu(packages: list[tuple[str, str]]) -> None:
    assert find(*packages) is None


@pytest.mark.parametrize(
    ("known", "told"), [("11.8", True), ("12.2", False), ("12.9", False), ("13.0", False), ("13", False)]
)
def test_a_driver_of_an_older_major_version_is_told(known: str, told: bool) -> None:  # noqa: FBT001
    found = find(("torch", "2.5.1+cu124"))
    assert found is not None
    text = (
        "`torch==2.5.1+cu124` is made for CUDA 12.4 (driver 525.60.13 or newer), "
        f"the GPU's driver is said to know {known}"
    )
    assert found.warning(known) == (text if told else None)


def test_a_cuda_that_the_table_does_not_know_is_told_and_no_failure() -> None:
    found = find(("nvidia-cuda-runtime", "21.3"))
    assert found is not None
    assert found.generation is None
    assert found.warning(None) is not None
    assert "nothing is known of CUDA 21.3" in (found.warning("1.0") or "")
    assert found.to_dict() == {
        "package": "nvidia-cuda-runtime==21.3",
        "cuda": "21.3",
        "driver": None,
        "compute_capability": None,
    }


def test_the_newest_row_that_is_not_newer_counts() -> None:
    found = find(("nvidia-cuda-runtime-cu12", "12.9.79"))
    assert found is not None
    assert found.generation == TWELVE_EIGHT
    assert found.to_dict()["compute_capability"] == ["5.0", "12.0"]


def test_a_workspace_adds_to_the_table(tmp_path: Path) -> None:
    assert Workspace.read(tmp_path).gpu_table == gpu_needs.load()
    (tmp_path / "gpu.toml").write_text(
        '[cuda.21]\ndriver = "999.1"\noldest = "20.0"\nnewest = "21.0"\n'
        '[cuda."12.8"]\ndriver = "530"\noldest = "7.0"\nnewest = "12.0"\n[local]\npackages = ["mine"]\n'
    )
    table = Workspace.read(tmp_path).gpu_table
    own = find(("mine", "1+cu128"), table=table)
    assert own is not None
    assert own.generation is not None
    assert own.generation.driver == "530"
    new = find(("nvidia-cuda-runtime", "21.3"), table=table)
    assert new is not None
    assert new.generation is not None
    assert new.generation.driver == "999.1"


@pytest.mark.parametrize(
    "text",
    ["cuda = ", "cuda = 1", "[cuda.12]\noldest = '5'\n", "[cuda.x]\ndriver='1'\noldest='1'\nnewest='1'\n"],
    ids=["no TOML", "no table", "no driver", "no version"],
)
def test_a_table_that_cannot_be_read_says_where(text: str, tmp_path: Path) -> None:
    (tmp_path / "gpu.toml").write_text(text)
    with pytest.raises(InvalidFileError, match="the table of GPUs cannot be read") as caught:
        _ = Workspace.read(tmp_path).gpu_table
    (problem,) = caught.value.problems
    assert str(problem.where) == str(tmp_path / "gpu.toml")
    assert problem.fix is not None
