from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import envbuilder
from envbuilder.errors import ModelError
from tests.conftest import BASE, EXAMPLES

if TYPE_CHECKING:
    from pathlib import Path

    from envbuilder.machine import Machine


def test_every_verb_of_the_command_line_is_a_function() -> None:
    for verb in ("resolve", "lock", "render", "build", "run", "serve", "predict", "audit_report", "doctor"):
        assert callable(getattr(envbuilder, verb))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute `deploy`"):
        _ = envbuilder.deploy


def test_resolve_gives_a_value() -> None:
    spec = envbuilder.resolve(EXAMPLES / "iris")
    assert spec.python.value.exact == "3.11.7"
    with pytest.raises(ModelError):
        envbuilder.resolve(EXAMPLES / "nowhere")


def test_an_audit_gives_a_value() -> None:
    found = envbuilder.audit_report(EXAMPLES / "scale")
    assert "no-lock" in {one.rule for one in found.findings}
    assert not found.is_broken


@pytest.mark.network
def test_lock_and_build_give_values(machine: Machine) -> None:
    choices = envbuilder.Choices(engine="oci", base=BASE, tag="api-scale:1")
    lock = envbuilder.lock(EXAMPLES / "scale", choices, machine=machine)
    report = envbuilder.build(EXAMPLES / "scale", choices, machine=machine)
    assert report.lock_digest == lock.locks[0].digest
    assert report.references[0] == "api-scale:1"


@pytest.mark.network
def test_render_writes_a_context(machine: Machine, tmp_path: Path) -> None:
    choices = envbuilder.Choices(engine="oci", base=BASE)
    envbuilder.render(EXAMPLES / "scale", tmp_path / "context", choices, machine=machine)
    dockerfile = (tmp_path / "context" / "Dockerfile").read_text()
    assert "FROM envbuilder-base:debian-bookworm-" in dockerfile
