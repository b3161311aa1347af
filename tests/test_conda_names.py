from __future__ import annotations

import pytest
from packaging.utils import canonicalize_name

from envbuilder import conda_names
from envbuilder.conda_package import CondaPackage
from envbuilder.digest import of_bytes


def package(name: str, *depends: str, purls: tuple[str, ...] | None = None, noarch: bool = False) -> CondaPackage:
    return CondaPackage(
        name=name,
        version="1.0",
        build="0",
        subdir="linux-64",
        url=f"https://conda.example/c/linux-64/{name}-1.0-0.conda",
        sha256=of_bytes(name.encode()),
        depends=depends,
        noarch="python" if noarch else None,
        purls=purls,
    )


@pytest.mark.parametrize(
    ("conda", "pypi"),
    [
        ("pytorch", "torch"),
        ("py-xgboost", "xgboost"),
        ("matplotlib-base", "matplotlib"),
        ("pytables", "tables"),
        ("msgpack-python", "msgpack"),
        ("pytorch_geometric", "torch-geometric"),
        ("docker-py", "docker"),
        ("python-graphviz", "graphviz"),
        ("scikit-learn", "scikit-learn"),
        ("typing_extensions", "typing-extensions"),
        ("ruamel.yaml", "ruamel-yaml"),
    ],
)
def test_a_name_is_known_in_both_directions(conda: str, pypi: str) -> None:
    assert conda_names.pypi_names(conda) == (pypi,)
    assert canonicalize_name(conda) in conda_names.conda_names(pypi)


def test_the_likeliest_name_on_a_channel_comes_first() -> None:
    assert conda_names.conda_names("Torch")[0] == "pytorch"
    assert conda_names.conda_names("xgboost") == ("py-xgboost", "py-xgboost-cpu", "py-xgboost-gpu", "xgboost")
    assert conda_names.conda_names("numpy") == ("numpy",)
    assert conda_names.conda_names("opencv_python_headless") == ("py-opencv", "opencv-python-headless")


def test_the_list_holds_no_name_twice_and_none_that_needs_no_entry() -> None:
    for conda, names in conda_names._RENAMED.items():
        assert canonicalize_name(conda) == conda
        assert all(canonicalize_name(name) == name for name in names)
        assert conda not in names
    assert list(conda_names._RENAMED) == sorted(conda_names._RENAMED)


def test_what_conda_packages_hold_is_found_by_the_indexs_names() -> None:
    torch, sklearn = package("pytorch", "python >=3.11"), package("scikit-learn", "python_abi 3.11.* *_cp311")
    six, graphviz = package("six", noarch=True), package("graphviz", "cairo")
    python = package("python", "libffi", "tzdata")
    found = conda_names.provided((torch, sklearn, six, graphviz, python, package("python-dateutil", "pythonic")))
    assert found == {"torch": torch, "scikit-learn": sklearn, "six": six}


def test_what_a_channel_says_itself_counts() -> None:
    says = package("odd", purls=("pkg:pypi/Other_Name@1.0", "pkg:pypi/second?x=y", "pkg:conda/odd@1.0"))
    nothing = package("numpy", "python", purls=())
    assert conda_names.provided((says, nothing)) == {"other-name": says, "second": says}


def test_the_first_of_two_packages_of_one_project_counts() -> None:
    core, whole = package("dask-core", "python"), package("dask", "python")
    assert conda_names.provided((core, whole)) == {"dask": core}
