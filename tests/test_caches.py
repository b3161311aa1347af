from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from envbuilder import cache_lock, caches, digest, stages
from envbuilder.cache_entry import size_of
from envbuilder.choices import Choices
from envbuilder.oci_image import LAYER_GZIP, Descriptor, Image, Layer, Platform, RunConfig
from tests.conftest import BASE, EXAMPLES, command_line

if TYPE_CHECKING:
    from pathlib import Path

    from envbuilder.machine import Machine

DAY = 86_400


@pytest.fixture
def own(machine: Machine, tmp_path: Path) -> Machine:
    """A machine with empty caches."""
    return replace(machine, settings=replace(machine.settings, cache_dir=tmp_path / "cache"))


def put(machine: Machine, name: str, content: bytes, *, days: float = 0) -> Path:
    """Write a file of the caches that was last used so many days ago."""
    path = machine.settings.cache_dir / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    age(path, days)
    return path


def age(path: Path, days: float) -> None:
    then = time.time() - days * DAY
    os.utime(path, (then, then))


def image(machine: Machine, *contents: bytes, names: tuple[str, ...], days: float = 0) -> Image:
    layers = []
    for content in contents:
        described = Descriptor(media_type=LAYER_GZIP, digest=machine.store.add_blob(content), size=len(content))
        layers.append(Layer(blob=described, diff_id=digest.of_bytes(content + b"tar")))
    made = Image(platform=Platform.parse("linux/amd64"), config=RunConfig(), layers=tuple(layers))
    descriptor = machine.store.add_image(made)
    machine.store.tag(descriptor, *names)
    for blob in machine.store.blobs_of(descriptor):
        age(machine.store.blob_path(blob), days)
    return made


def prune(machine: Machine, *, days: float | None = None, most: int | None = None) -> caches.Pruned:
    before = time.time() - days * DAY if days is not None else None
    return caches.prune(machine, used_before=before, most_bytes=most, on_wait=lambda: pytest.fail("nobody runs"))


def kinds(machine: Machine) -> dict[str, int]:
    entries = caches.read(machine)
    return {kind: sum(one.kind == kind for one in entries) for kind in {one.kind for one in entries}}


def test_what_is_in_the_caches_is_told_by_kind(own: Machine) -> None:
    assert caches.read(own) == ()
    put(own, "wheels/ab/a.whl", b"w" * 9000)
    put(own, "conda/packages/cd/x.conda", b"c")
    put(own, "uv/simple/x", b"u")
    put(own, "uv/simple/y", b"u")
    put(own, "debian/packages/ef.deb", b"d")
    image(own, b"one", b"two", names=("a:1", "a:env"))
    image(own, b"one", b"three", names=("b:1",))
    own.store.add_blob(b"of nobody")
    assert kinds(own) == {"wheels": 1, "conda": 1, "uv": 1, "debian": 1, "images": 3}
    disk = sum({one.stat().st_ino: one.stat().st_blocks * 512 for one in own.store.root.rglob("sha256/*")}.values())
    assert size_of(one for one in caches.read(own) if one.kind == "images") == disk


def test_hard_links_count_once(own: Machine) -> None:
    first = put(own, "trees/one/file", b"x" * 100_000)
    (own.trees / "two").mkdir()
    before = size_of(caches.read(own))
    os.link(first, own.trees / "two" / "file")
    assert size_of(caches.read(own)) == before


def test_what_was_not_used_for_long_is_removed_and_locks_stay(own: Machine) -> None:
    old, new = put(own, "wheels/ab/a.whl", b"w", days=40), put(own, "wheels/cd/b.whl", b"w", days=2)
    lock = put(own, "locks/x.conda-lock.yml", b"l", days=400)
    for folder in (old.parent, new.parent):
        age(folder, 40)
    pruned = prune(own, days=30)
    assert [one.name for one in pruned.removed] == ["wheels/ab"]
    assert (old.exists(), new.exists(), lock.exists()) == (False, True, True)
    assert pruned.freed > 0
    assert pruned.left == size_of(caches.read(own))


def test_an_old_image_loses_its_names_and_only_the_blobs_that_no_other_has(own: Machine) -> None:
    old = image(own, b"shared", b"old", names=("old:1", "old:env"), days=40)
    new = image(own, b"shared", b"new", names=("new:1",), days=1)
    age(own.store.blob_path(old.layers[0].blob.digest), 40)
    caches.read(own)
    caches.verify(own, on_bytes=lambda _: None)
    pruned = prune(own, days=30)
    assert [one.names for one in pruned.removed] == [("old:1", "old:env")]
    assert set(own.store.references()) == {"new:1"}
    assert own.store.image(new.descriptor().digest) == new
    assert all(own.store.holds(layer.blob) for layer in new.layers)
    assert not own.store.has(old.layers[1].blob.digest)
    assert not own.store.has(old.descriptor().digest)


def test_the_oldest_are_removed_until_the_rest_is_small_enough(own: Machine) -> None:
    for number in range(5):
        put(own, f"sources/{number}", bytes(100_000), days=number)
    each = size_of(caches.read(own)) // 5
    pruned = prune(own, most=2 * each)
    assert [one.name for one in pruned.removed] == ["sources/4", "sources/3", "sources/2"]
    assert pruned.left == 2 * each


def test_what_a_killed_process_left_is_always_removed(own: Machine) -> None:
    for name in (
        "wheels/.tmp-abc/x.whl",
        "images/blobs/sha256/.incoming-12-ab",
        "images/.tmp-x/1",
        "conda/packages/.tmp-y",
        "trees/.tmp-1-numpy/a",
    ):
        put(own, name, b"half")
    (own.snapshots).mkdir()
    (own.snapshots / "gone").symlink_to(own.trees / "gone")
    whole = put(own, "wheels/ab/a.whl", b"w")
    assert len(prune(own).removed) == 6
    assert [one.name for one in caches.read(own)] == ["wheels/ab"]
    assert whole.exists()


def test_images_that_are_served_stay_with_what_they_are_made_of(own: Machine) -> None:
    image(own, b"one", names=("a:1",), days=40)
    put(own, "trees/t/x", b"t", days=40)
    put(own, "snapshots/s/x", b"s", days=40)
    put(own, "wheels/ab/a.whl", b"w", days=40)
    with cache_lock.serving(own.settings.cache_dir):
        pruned = prune(own, most=0)
    assert pruned.is_served_from
    assert {one.kind for one in pruned.removed} == {"wheels"}
    assert {one.kind for one in prune(own, most=0).removed} == {"images", "trees", "snapshots"}
    assert caches.read(own) == ()


def test_what_is_damaged_is_found_and_removed(own: Machine) -> None:
    made = image(own, b"intact", b"layer", names=("damaged:1",))
    image(own, b"intact", names=("intact:1",))
    content = b"wheel"
    name = digest.hex_of(digest.of_bytes(content))
    good = put(own, f"wheels/{name}/good.whl", content)
    bad = put(own, f"wheels/{name}/bad.whl", b"whee1")
    package = put(own, f"conda/packages/{name}/x.conda", b"flipped")
    archive = put(own, f"debian/packages/{name}.deb", b"flipped")
    source = put(own, f"sources/{name}", b"flipped")
    facts = put(own, f"conda/packages/{name}/facts.json", b"{}")
    layer = own.store.blob_path(made.layers[1].blob.digest)
    layer.write_bytes(b"iayer")
    seen: list[int] = []
    found = caches.verify(own, on_bytes=seen.append)
    assert set(found.damaged) == {
        path.relative_to(own.settings.cache_dir).as_posix() for path in (bad, package, archive, source, layer)
    }
    assert found.names == ("damaged:1",)
    assert set(own.store.references()) == {"intact:1"}
    assert (good.exists(), facts.exists()) == (True, True)
    assert not any(path.exists() for path in (bad, package, archive, source, layer))
    assert seen[-1] == found.bytes
    again = caches.verify(own, on_bytes=seen.append)
    assert (again.damaged, again.names) == ((), ())


def test_checking_is_no_use(own: Machine) -> None:
    content = b"wheel"
    path = put(own, f"wheels/{digest.hex_of(digest.of_bytes(content))}/a.whl", content, days=40)
    caches.verify(own, on_bytes=lambda _: None)
    assert path.stat().st_atime < time.time() - 39 * DAY


@pytest.mark.process
def test_the_command_line_tells_sizes_and_exits_with_1_for_damage(own: Machine) -> None:
    cache = own.settings.cache_dir
    content = b"wheel"
    name = digest.hex_of(digest.of_bytes(content))
    path = put(own, f"wheels/{name}/a.whl", content, days=9)
    told = command_line(cache, "cache", "size", "--json")
    assert json.loads(told.stdout)["kinds"][0]["kind"] == "wheels"
    assert command_line(cache, "cache", "verify").returncode == 0
    path.write_bytes(b"other")
    found = command_line(cache, "cache", "verify")
    assert (found.returncode, found.stdout.strip()) == (1, f"wheels/{name}/a.whl")
    old = put(own, "sources/x", b"old", days=9)
    pruned = command_line(cache, "cache", "prune", "--older-than", "1w", "--json")
    assert json.loads(pruned.stdout)["freed"] > 0
    assert not old.exists()
    for option, value, expected in (("--older-than", "3x", "is no age"), ("--to", "big", "is no size")):
        refused = command_line(cache, "cache", "prune", option, value)
        assert refused.returncode == 2
        assert expected in refused.stderr


@pytest.mark.network
def test_a_build_after_damage_comes_to_the_same_image(machine: Machine) -> None:
    choices = Choices(engine="oci", base=BASE, tag="pruned:1", smoke=False)
    before = stages.build(EXAMPLES / "scale", choices, machine=machine)
    damaged = machine.store.blob_path(before.image.layers[-2].digest)
    damaged.write_bytes(b"\0" + damaged.read_bytes()[1:])
    assert caches.verify(machine, on_bytes=lambda _: None).damaged
    after = stages.build(EXAMPLES / "scale", choices, machine=machine)
    assert after.image.digest == before.image.digest
    assert [item.comment for item in after.image.layers if not item.reused] == ["server"]
    assert caches.verify(machine, on_bytes=lambda _: None).damaged == ()
    # Without `verify` too, where it shows at once: a document that cannot be read, a layer that is too short.
    machine.store.blob_path(before.image.digest).write_bytes(b"{")
    layer = machine.store.blob_path(before.image.layers[-1].digest)
    layer.write_bytes(layer.read_bytes()[:-1])
    again = stages.build(EXAMPLES / "scale", choices, machine=machine)
    assert again.image.digest == before.image.digest
    assert [item.comment for item in again.image.layers if not item.reused] == ["model"]
    assert caches.verify(machine, on_bytes=lambda _: None).damaged == ()
