from __future__ import annotations

import pytest

from envbuilder.errors import InvalidFileError
from envbuilder.template_set import TemplateSet

KNOWN = ("pip.Dockerfile.j2", "_config.j2")


def of(**texts: str) -> TemplateSet:
    return TemplateSet.of({f"{name}.j2": text for name, text in texts.items()}, folder="w/templates", known=KNOWN)


def test_a_set_holds_texts_by_name() -> None:
    found = of(_config="x", _extra="y", **{"pip.Dockerfile": '{% include "_extra.j2" %}'})
    assert found.names == ("_config.j2", "_extra.j2", "pip.Dockerfile.j2")
    assert (found.get("_extra.j2"), found.get("_image.j2")) == ("y", None)
    assert found.file("_extra.j2") == "w/templates/_extra.j2"


def test_its_digest_is_that_of_names_and_texts() -> None:
    assert of(_config="x").digest == of(_config="x").digest
    assert of(_config="x").digest != of(_config="y").digest


def test_a_template_that_nothing_uses_is_refused_with_the_name_that_was_meant() -> None:
    with pytest.raises(InvalidFileError) as caught:
        of(_confg="x", unlike="y")
    near, far = caught.value.problems
    assert str(near.where) == "w/templates/_confg.j2"
    assert near.fix == "did you mean `_config.j2`?"
    assert far.fix == "name it like one of _config.j2, pip.Dockerfile.j2"
