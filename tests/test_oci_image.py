from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envbuilder import digest
from envbuilder.oci_image import CONFIG, LAYER_GZIP, MANIFEST, Descriptor, Image, Layer, Platform, RunConfig, to_json

TEXT = st.text(min_size=1, max_size=10)
NAMES = st.from_regex(r"[A-Z_]{1,8}", fullmatch=True)
CONFIGS = st.builds(
    RunConfig,
    user=st.text(max_size=5),
    env=st.lists(st.tuples(NAMES, st.text(max_size=10)), max_size=4).map(tuple),
    entrypoint=st.lists(TEXT, max_size=3).map(tuple),
    command=st.lists(TEXT, max_size=3).map(tuple),
    working_dir=st.text(max_size=5),
    labels=st.dictionaries(TEXT, st.text(max_size=10), max_size=4).map(lambda labels: tuple(sorted(labels.items()))),
    ports=st.lists(TEXT, unique=True, max_size=3).map(lambda ports: tuple(sorted(ports))),
    stop_signal=st.text(max_size=5),
)
DESCRIPTOR = Descriptor(media_type=LAYER_GZIP, digest=digest.of_bytes(b"blob"), size=4)
IMAGE = Image(
    platform=Platform.parse("linux/arm64/v8"),
    config=RunConfig(user="1000", env=(("PATH", "/bin"),)),
    layers=(Layer(blob=DESCRIPTOR, diff_id=digest.of_bytes(b"tar"), comment="files"),),
)


@given(CONFIGS)
def test_a_config_reads_back_as_it_was_written(config: RunConfig) -> None:
    assert RunConfig.parse(json.loads(to_json(config.to_dict()))) == config


def test_an_empty_config_is_an_empty_object() -> None:
    assert RunConfig().to_dict() == {}
    assert RunConfig.parse({"Env": None, "Labels": None, "User": None, "ExposedPorts": None}) == RunConfig()


def test_a_variable_keeps_the_equals_signs_of_its_value() -> None:
    assert RunConfig.parse({"Env": ["A=b=c", "ALONE"]}).env == (("A", "b=c"), ("ALONE", ""))


@pytest.mark.parametrize("text", ["linux/amd64", "linux/arm64/v8"])
def test_a_platform_is_written_as_it_is_read(text: str) -> None:
    assert str(Platform.parse(text)) == text


@pytest.mark.parametrize("text", ["", "linux", "linux/", "/amd64", "a/b/c/d", "linux//v8"])
def test_what_is_no_platform_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a platform"):
        Platform.parse(text)


def test_a_descriptor_reads_back_as_it_was_written() -> None:
    assert Descriptor.parse(DESCRIPTOR.to_dict()) == DESCRIPTOR


@pytest.mark.parametrize(
    "change", [{"digest": "sha256:0"}, {"size": "many"}, {"mediaType": None}], ids=["digest", "size", "media type"]
)
def test_a_broken_descriptor_is_refused(change: dict[str, object]) -> None:
    value = {key: content for key, content in {**DESCRIPTOR.to_dict(), **change}.items() if content is not None}
    with pytest.raises((ValueError, KeyError)):
        Descriptor.parse(value)


def test_the_manifest_names_config_and_layers_by_digest() -> None:
    manifest, config = json.loads(IMAGE.manifest_bytes()), IMAGE.config_bytes()
    assert (manifest["schemaVersion"], manifest["mediaType"]) == (2, MANIFEST)
    assert manifest["config"] == {"mediaType": CONFIG, "digest": digest.of_bytes(config), "size": len(config)}
    assert manifest["layers"] == [DESCRIPTOR.to_dict()]
    assert IMAGE.descriptor().digest == digest.of_bytes(IMAGE.manifest_bytes())


def test_the_config_holds_no_clock() -> None:
    config = json.loads(IMAGE.config_bytes())
    assert config["created"] == config["history"][0]["created"] == "1970-01-01T00:00:00Z"
    assert config["rootfs"] == {"type": "layers", "diff_ids": [digest.of_bytes(b"tar")]}
    assert (config["os"], config["architecture"], config["variant"]) == ("linux", "arm64", "v8")
    assert "variant" not in json.loads(replace(IMAGE, platform=Platform.parse("linux/amd64")).config_bytes())


@pytest.mark.parametrize(
    "other",
    [
        replace(IMAGE, platform=Platform.parse("linux/amd64")),
        replace(IMAGE, config=RunConfig(user="0")),
        replace(IMAGE, layers=()),
        replace(IMAGE, layers=(replace(IMAGE.layers[0], comment="other"),)),
    ],
    ids=["platform", "config", "layers", "comment"],
)
def test_each_part_of_an_image_counts(other: Image) -> None:
    assert other.descriptor().digest != IMAGE.descriptor().digest
