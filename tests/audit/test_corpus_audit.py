"""Real models, where they are at hand: the audit of each comes to its end, and how often each rule speaks is kept.

`ENVBUILDER_UPDATE_SNAPSHOTS=1` writes the counts anew.
"""

from __future__ import annotations

import os
from collections import Counter
from datetime import date
from typing import TYPE_CHECKING

import pytest

from envbuilder.audit import audited, report
from envbuilder.choices import Choices
from envbuilder.errors import EnvBuilderError
from envbuilder.policy import Policy
from tests.audit import samples
from tests.conftest import REPOSITORY
from tests.test_corpus import SHARED, directories

if TYPE_CHECKING:
    from pathlib import Path

SNAPSHOT = REPOSITORY / "tests" / "snapshots" / "corpus_audit.tsv"


@pytest.mark.skipif(not (SHARED / "corpus").is_dir(), reason="the corpus of real models is not at hand")
def test_every_real_model_is_audited_and_the_counts_are_as_before(tmp_path: Path) -> None:
    machine = samples.machine_at(tmp_path)
    findings: Counter[str] = Counter()
    models: Counter[str] = Counter()
    for directory in (*directories("corpus"), *directories("models")):
        try:
            subject = audited.read(str(directory), choices=Choices(), machine=machine)
        except EnvBuilderError as error:
            models[f"error: {error.kind}"] += 1
            continue
        made = report.make(subject, Policy(), today=date(2026, 3, 1), tool_version="1", machine=machine)
        models["broken" if made.is_broken else "shipped"] += 1
        findings.update(one.rule for one in made.findings)
        models.update({f"with {rule}" for rule in {one.rule for one in made.findings}})
    rows = [f"{name}\t{models[name]}\t{findings.get(name.removeprefix('with '), '')}" for name in sorted(models)]
    text = "\n".join(["outcome or rule\tmodels\tfindings", *rows]) + "\n"
    if os.environ.get("ENVBUILDER_UPDATE_SNAPSHOTS") == "1":
        SNAPSHOT.write_text(text)
    assert text == SNAPSHOT.read_text()
