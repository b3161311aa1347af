"""What a project is called on conda's channels and on the Python package index. Pure.

Only names that differ after normalization are listed. What a channel says itself (`purls`) counts before this list.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from packaging.utils import NormalizedName

    from envbuilder.conda_package import CondaPackage

_RENAMED: Final = {
    "brotli-python": ("brotli",),
    "cupy-core": ("cupy",),
    "cvxpy-base": ("cvxpy",),
    "dask-core": ("dask",),
    "docker-py": ("docker",),
    "faiss": ("faiss-cpu",),
    "geopandas-base": ("geopandas",),
    "matplotlib-base": ("matplotlib",),
    "modin-core": ("modin",),
    "msgpack-python": ("msgpack",),
    "ortools-python": ("ortools",),
    "py-opencv": ("opencv-python", "opencv-python-headless"),
    "py-xgboost": ("xgboost",),
    "py-xgboost-cpu": ("xgboost",),
    "py-xgboost-gpu": ("xgboost",),
    "pyarrow-core": ("pyarrow",),
    "pyg": ("torch-geometric",),
    "pymc-base": ("pymc",),
    "pyqt": ("pyqt5",),
    "pytables": ("tables",),
    "pytensor-base": ("pytensor",),
    "python-annoy": ("annoy",),
    "python-blosc": ("blosc",),
    "python-clang": ("clang",),
    "python-confluent-kafka": ("confluent-kafka",),
    "python-duckdb": ("duckdb",),
    "python-eccodes": ("eccodes",),
    "python-fastjsonschema": ("fastjsonschema",),
    "python-flatbuffers": ("flatbuffers",),
    "python-graphviz": ("graphviz",),
    "python-gssapi": ("gssapi",),
    "python-hdfs": ("hdfs",),
    "python-igraph": ("igraph",),
    "python-kaleido": ("kaleido",),
    "python-lmdb": ("lmdb",),
    "python-tzdata": ("tzdata",),
    "python-wget": ("wget",),
    "python-xxhash": ("xxhash",),
    "python-zstd": ("zstd",),
    "pytorch": ("torch",),
    "pytorch-cluster": ("torch-cluster",),
    "pytorch-cpu": ("torch",),
    "pytorch-geometric": ("torch-geometric",),
    "pytorch-gpu": ("torch",),
    "pytorch-scatter": ("torch-scatter",),
    "pytorch-sparse": ("torch-sparse",),
    "pytorch-spline-conv": ("torch-spline-conv",),
    "ray-core": ("ray",),
    "ray-default": ("ray",),
    "seaborn-base": ("seaborn",),
    "sentencepiece-python": ("sentencepiece",),
    "spacy-model-en-core-web-lg": ("en-core-web-lg",),
    "spacy-model-en-core-web-md": ("en-core-web-md",),
    "spacy-model-en-core-web-sm": ("en-core-web-sm",),
    "tensorflow-base": ("tensorflow",),
    "vtk-base": ("vtk",),
}
"""conda's name, normalized as the index does it → the index's names of the same project."""


def pypi_names(conda_name: str) -> tuple[NormalizedName, ...]:
    """Return what the index calls the project that is `conda_name` on a channel."""
    name = canonicalize_name(conda_name)
    return tuple(canonicalize_name(one) for one in _RENAMED.get(name, (name,)))


def conda_names(pypi_name: str) -> tuple[str, ...]:
    """Return the names under which channels may have the project that the index calls `pypi_name`, likeliest first."""
    name = canonicalize_name(pypi_name)
    renamed = tuple(conda for conda, names in _RENAMED.items() if name in names)
    return (*renamed, name) if name not in _RENAMED else renamed


def provided(packages: Iterable[CondaPackage]) -> dict[NormalizedName, CondaPackage]:
    """Return the projects of the index that the packages hold, by the index's name.

    A package that does not need Python holds none, whatever it is called: conda's `graphviz` and `zstd` are programs.
    """
    found: dict[NormalizedName, CondaPackage] = {}
    for package in packages:
        if package.purls is not None:
            names = tuple(_names_in(package.purls))
        else:
            names = pypi_names(package.name) if _needs_python(package) else ()
        for name in names:
            # `dask` is only a list of packages where `dask-core` is there too: either has the project's version.
            found.setdefault(name, package)
    return found


def _needs_python(package: CondaPackage) -> bool:
    return package.noarch == "python" or any(re.match(r"python(_abi)?(\s|$)", one) for one in package.depends)


def _names_in(purls: Iterable[str]) -> Iterable[NormalizedName]:
    for purl in purls:
        kind, _, rest = purl.partition("pkg:pypi/")
        if not kind and rest:
            yield canonicalize_name(unquote(re.split(r"[@?#]", rest, maxsplit=1)[0]))
