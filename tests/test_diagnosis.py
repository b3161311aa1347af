from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from envbuilder.diagnosis import diagnose

if TYPE_CHECKING:
    from envbuilder.finding import Finding
    from envbuilder.machine import Machine

pytestmark = [pytest.mark.network, pytest.mark.process]


def found(machine: Machine) -> dict[str, Finding]:
    return {finding.subject: finding for finding in diagnose(machine, [("oci", None), ("docker", "it sleeps")])}


def test_an_engine_that_cannot_be_used_comes_with_its_reason_and_a_fix(machine: Machine) -> None:
    findings = found(machine)
    assert findings["engine oci"].ok
    assert not findings["engine docker"].ok
    assert findings["engine docker"].detail == "it sleeps"
    assert "DOCKER_HOST" in findings["engine docker"].fix


def test_an_index_that_does_not_answer_is_found(machine: Machine) -> None:
    other = replace(machine, settings=replace(machine.settings, index_url="http://127.0.0.1:9/simple"))
    finding = found(other)["package index"]
    assert not finding.ok
    assert "did not answer" in finding.detail
    assert "ENVBUILDER_INDEX_URL" in finding.fix


def test_mirrors_that_were_given_are_named(machine: Machine) -> None:
    other = replace(machine, settings=replace(machine.settings, debian_mirrors=("http://mirror.example/debian",)))
    assert "ENVBUILDER_DEBIAN_MIRRORS" in found(other)["Debian mirror"].detail
