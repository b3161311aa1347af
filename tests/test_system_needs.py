from __future__ import annotations

from envbuilder import system_needs
from envbuilder.base_system import BaseSystem
from envbuilder.errors import Source
from envbuilder.fields import Stated
from envbuilder.system_needs import Carried, SystemNeeds, SystemPackage, UnknownLibrary, WheelLibrary
from envbuilder.system_table import SystemTable

BASE = BaseSystem(distribution="debian", version="12", suite="bookworm", libraries=("libc.so.6",))
TABLE = SystemTable.parse("""
[libraries]
"libgomp.so.1" = "libgomp1"
"libglib-2.0.so.0" = ["libglib2.0-0", "libglib2.0-0t64"]
"libgthread-2.0.so.0" = ["libglib2.0-0", "libglib2.0-0t64"]
"libsndfile.so.1" = "libsndfile1"
"libpq.so.5" = "libpq5"
"libtbb.so.12" = "libtbb12"
[opened]
soundfile = ["libsndfile.so.1"]
psycopg = ["libpq.so.5", "libunheard.so.1"]
[instead]
psycopg = ["psycopg-binary"]
[programs]
pytesseract = ["tesseract-ocr"]
[optional]
numba = ["libtbb.so.12"]
[driver]
nvidia = ["libcuda.so.1"]
""")


def carried(name: str, *libraries: WheelLibrary) -> Carried:
    return Carried(name=name, libraries=libraries)


def library(path: str, *needed: str, search: tuple[str, ...] = ()) -> WheelLibrary:
    return WheelLibrary(path=path, needed=needed, search=search)


def find(*some: Carried, base: BaseSystem = BASE, present: tuple[str, ...] = ()) -> SystemNeeds:
    return system_needs.find(some, base, TABLE, present=present)


LIGHTGBM = carried("lightgbm", library("lightgbm/lib/lib_lightgbm.so", "libgomp.so.1", "libc.so.6"))


def test_what_a_wheel_needs_and_nobody_has_is_a_package() -> None:
    assert find(LIGHTGBM).packages == (
        SystemPackage(name="libgomp1", needed_by=("lightgbm",), libraries=("libgomp.so.1",)),
    )


def test_what_the_base_or_conda_has_is_none() -> None:
    assert find(LIGHTGBM, base=BaseSystem(libraries=("libc.so.6", "libgomp.so.1"))) == SystemNeeds()
    assert find(LIGHTGBM, present=("libgomp.so.1",)) == SystemNeeds()


def test_of_a_base_that_nobody_looked_into_nothing_is_said() -> None:
    assert find(LIGHTGBM, base=BaseSystem(distribution="debian")) == SystemNeeds()


def test_a_search_path_leads_to_a_library_of_its_own_wheel_or_of_another() -> None:
    torch = carried(
        "torch",
        library(
            "torch/lib/libtorch.so", "libc10.so", "libcudnn.so.9", search=("$ORIGIN", "${ORIGIN}/../../nvidia/lib")
        ),
        library("torch/lib/libc10.so"),
    )
    cudnn = carried("nvidia-cudnn", library("nvidia/lib/libcudnn.so.9"))
    assert find(torch, cudnn) == SystemNeeds()
    assert find(torch).unknown == (UnknownLibrary(name="libcudnn.so.9", needed_by=("torch",)),)


def test_a_search_path_that_leaves_the_packages_or_names_this_machine_leads_nowhere() -> None:
    one = carried("one", library("one/a.so", "libb.so", search=("/one", "$ORIGIN/../../..", "$LIB", "$ORIGINAL")))
    assert find(one, carried("two", library("libc.so"))).unknown[0].name == "libb.so"


def test_a_package_loads_what_it_carries_itself() -> None:
    one = carried("one", library("one/a.so", "libb.so.1"), library("one.libs/libb.so.1"))
    assert find(one) == SystemNeeds()


def test_a_library_of_another_package_counts_where_debian_has_none() -> None:
    one = carried("one", library("one/a.so", "libb.so.1", "libgomp.so.1"))
    two = carried("two", library("two/libb.so.1"), library("two/libgomp.so.1"))
    found = find(one, two)
    assert (found.names, found.unknown) == (("libgomp1",), ())


def test_a_path_in_place_of_a_name_is_not_looked_up() -> None:
    assert find(carried("one", library("one/a.so", "/opt/vendor/lib/libb.so"))) == SystemNeeds()


def test_libraries_of_one_package_are_told_together_by_the_name_of_the_suite() -> None:
    cv = carried("opencv-python", library("cv2/cv2.so", "libgthread-2.0.so.0", "libglib-2.0.so.0"))
    (package,) = find(cv, carried("other", library("other/o.so", "libglib-2.0.so.0"))).packages
    assert package.name == "libglib2.0-0"
    assert package.needed_by == ("opencv-python", "other")
    assert package.libraries == ("libglib-2.0.so.0", "libgthread-2.0.so.0")
    assert find(cv, base=BaseSystem(distribution="debian", version="13", libraries=("x",))).names == (
        "libglib2.0-0t64",
    )


def test_what_a_package_does_without_is_not_needed() -> None:
    pool = library("numba/np/ufunc/tbbpool.so", "libtbb.so.12")
    assert find(carried("numba", pool)) == SystemNeeds()
    assert find(carried("other", pool)).names == ("libtbb12",)


def test_a_driver_comes_from_the_host() -> None:
    found = find(carried("torch", library("torch/lib/a.so", "libcuda.so.1")))
    assert found == SystemNeeds(driven=("torch",))


def test_what_is_opened_by_name_counts_unless_somebody_carries_it() -> None:
    assert find(carried("soundfile")).names == ("libsndfile1",)
    assert find(carried("soundfile", library("_soundfile_data/libsndfile_x86_64.so"))) == SystemNeeds()
    assert find(carried("soundfile"), present=("libsndfile.so.1",)) == SystemNeeds()
    assert find(carried("psycopg")).names == ("libpq5",)
    assert find(carried("psycopg"), carried("psycopg-binary")) == SystemNeeds()


def test_programs_are_needed_by_who_starts_them() -> None:
    assert find(carried("pytesseract")).packages == (SystemPackage(name="tesseract-ocr", needed_by=("pytesseract",)),)


def test_what_is_asked_for_keeps_its_place() -> None:
    source = Source(file="lean.yaml", key="amend.system_packages.add[0]")
    asked = (Stated(value="libgomp1", source=source), Stated(value="fonts-dejavu", source=source))
    found = system_needs.find([LIGHTGBM], BASE, TABLE, asked=asked)
    assert [one.to_dict() for one in found.packages] == [
        {
            "name": "fonts-dejavu",
            "needed_by": [],
            "libraries": [],
            "source": {"file": "lean.yaml", "key": "amend.system_packages.add[0]"},
        },
        {
            "name": "libgomp1",
            "needed_by": ["lightgbm"],
            "libraries": ["libgomp.so.1"],
            "source": {"file": "lean.yaml", "key": "amend.system_packages.add[0]"},
        },
    ]
    assert find(LIGHTGBM).packages[0].to_dict()["source"] is None
