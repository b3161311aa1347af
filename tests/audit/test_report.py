"""Locks and models with known answers: every finding that is due, and no other."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING

import pytest

from envbuilder import digest
from envbuilder.audit import audited, html_report, markdown, report, sarif
from envbuilder.choices import Choices
from envbuilder.errors import InvalidFileError, Source
from envbuilder.locked import WheelSource
from envbuilder.policy import Policy
from envbuilder.workspace_yaml import WorkspaceYaml
from tests.audit import samples
from tests.audit.samples import KNOWN, conda, lock_of, pinned
from tests.conftest import EXAMPLES, command_line

if TYPE_CHECKING:
    from pathlib import Path

    from envbuilder.audit.report import Report
    from envbuilder.locked import Lock
    from envbuilder.machine import Machine

TODAY = date(2026, 3, 1)
DEFAULTS = "https://repo.anaconda.com/pkgs/main"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = samples.machine_at(tmp_path)
    samples.take_over(made, tmp_path, *KNOWN)
    return made


def policy(text: str) -> Policy:
    return WorkspaceYaml.parse(f"policy: {text}", file="envbuilder.yaml").policy


def of_lock(lock: Lock, machine: Machine, folder: Path, rules: Policy | None = None) -> Report:
    file = samples.write_lock(folder, lock)
    subject = audited.read(str(file), choices=Choices(), machine=machine)
    return report.make(subject, rules or Policy(), today=TODAY, tool_version="1", machine=machine)


def test_the_age_of_a_policy_is_days() -> None:
    assert policy("{minimum_age: 7}").minimum_age == 7


def rules_of(made: Report) -> set[tuple[str, str]]:
    return {(one.rule, one.package) for one in made.findings}


SOURCE = WheelSource(url="https://files.example/built-1.0.tar.gz", digest=digest.of_bytes(b"archive"))
BUILT = replace(pinned("built", "1.0"), url="built-1.0-py3-none-any.whl", source=SOURCE)

LOCKS: dict[str, tuple[Lock, str, set[tuple[str, str]], bool]] = {
    "clean": (lock_of(pinned("numpy", "2.0.0")), "{}", set(), False),
    "old jinja2": (lock_of(pinned("jinja2", "3.1.0")), "{}", {("CVE-2024-1", "jinja2")}, False),
    "new jinja2": (lock_of(pinned("jinja2", "3.1.4")), "{}", set(), False),
    "old pillow": (lock_of(pinned("pillow", "9.0.0")), "{}", {("CVE-2023-1", "pillow")}, True),
    "torch of conda": (lock_of(conda=[conda("pytorch", "2.3.1")]), "{}", {("GHSA-torch", "pytorch")}, True),
    "a program called jinja2": (lock_of(conda=[conda("jinja2", "3.1.0", python=False)]), "{}", set(), False),
    "defaults": (
        lock_of(conda=[conda("numpy", "2.0.0", channel=DEFAULTS)]),
        "{}",
        {("defaults-channel", "")},
        False,
    ),
    "defaults denied": (
        lock_of(conda=[conda("numpy", "2.0.0", channel=DEFAULTS)]),
        "{channels: {deny: [defaults]}}",
        {("defaults-channel", "")},
        True,
    ),
    "a channel denied": (
        lock_of(conda=[conda("numpy", "2.0.0")]),
        "{channels: {deny: ['https://conda.example/main/']}}",
        {("forbidden-channel", "")},
        True,
    ),
    "forbidden": (
        lock_of(pinned("left-pad", "1.0"), conda=[conda("numpy", "2.0.0")]),
        "{packages: {deny: [Left_Pad, NumPy]}}",
        {("forbidden-package", "left-pad"), ("forbidden-package", "numpy")},
        True,
    ),
    "old python": (lock_of(python="3.8.10"), "{}", {("python-end-of-life", "python")}, True),
    "aging python": (lock_of(python="3.10.4"), "{}", set(), False),
    "built": (lock_of(BUILT), "{}", {("built-from-source", "built")}, False),
    "no base": (lock_of(has_base=False), "{}", {("no-base", "")}, False),
    "unknown licence": (
        lock_of(pinned("numpy", "2.0.0")),
        "{licenses: {deny: [GPL-3.0-only]}}",
        {("license-unknown", "numpy")},
        False,
    ),
    "strict": (lock_of(has_base=False), "{fail_on: note}", {("no-base", "")}, True),
}


@pytest.mark.parametrize(("lock", "text", "due", "is_broken"), LOCKS.values(), ids=LOCKS)
def test_a_lock_has_the_findings_that_are_due_and_no_other(
    lock: Lock, text: str, due: set[tuple[str, str]], *, is_broken: bool, machine: Machine, tmp_path: Path
) -> None:
    made = of_lock(lock, machine, tmp_path, policy(text))
    assert rules_of(made) == due
    assert made.is_broken is is_broken


def test_a_python_that_ends_soon_is_a_warning(machine: Machine, tmp_path: Path) -> None:
    file = samples.write_lock(tmp_path, lock_of(python="3.10.4"))
    subject = audited.read(str(file), choices=Choices(), machine=machine)
    made = report.make(subject, Policy(), today=date(2026, 6, 1), tool_version="1", machine=machine)
    assert rules_of(made) == {("python-end-of-life-soon", "python")}
    assert not made.is_broken


def test_licences_are_held_against_both_lists(machine: Machine, tmp_path: Path) -> None:
    gpl = samples.with_license("gpl", "License-Expression: GPL-3.0-only", machine)
    either = samples.with_license("either", "License-Expression: GPL-3.0-only OR MIT", machine)
    lock = lock_of(either, gpl)
    assert rules_of(of_lock(lock, machine, tmp_path, policy("{licenses: {deny: [GPL-3.0-only]}}"))) == {
        ("license", "gpl")
    }
    assert rules_of(of_lock(lock, machine, tmp_path, policy("{licenses: {allow: [MIT]}}"))) == {("license", "gpl")}
    assert rules_of(of_lock(lock, machine, tmp_path, policy("{licenses: {allow: [GPL-3.0-only]}}"))) == set()


def test_a_vulnerability_is_told_once_with_all_its_names_and_the_version_that_mends_it(
    machine: Machine, tmp_path: Path
) -> None:
    (found,) = of_lock(lock_of(pinned("jinja2", "3.1.0")), machine, tmp_path).findings
    assert (found.rule, found.aliases) == ("CVE-2024-1", ("GHSA-jinja", "PYSEC-jinja"))
    assert (found.severity, found.fix, found.is_guess) == ("warning", "fixed in 3.1.4", False)
    assert found.amendment == "amend: {pip: {bump: ['jinja2==3.1.4']}}"
    assert str(found.where).endswith("conda-lock.yml: package.jinja2")


def test_what_a_conda_package_is_upstream_is_called_a_guess(machine: Machine, tmp_path: Path) -> None:
    (found,) = of_lock(lock_of(conda=[conda("pytorch", "2.3.1")]), machine, tmp_path).findings
    assert found.is_guess
    assert "is a guess" in found.why
    assert found.amendment == "amend: {conda: {bump: ['pytorch=2.6.0']}}"


def test_what_is_ignored_comes_back_when_its_day_is_over(machine: Machine, tmp_path: Path) -> None:
    lock = lock_of(pinned("pillow", "9.0.0"))
    text = "{{ignore: [{{rule: GHSA-pillow, package: Pillow, reason: no images, expires: {day}}}]}}"
    made = of_lock(lock, machine, tmp_path, policy(text.format(day="2026-03-01")))
    assert (made.findings, len(made.ignored), made.is_broken) == ((), 1, False)
    made = of_lock(lock, machine, tmp_path, policy(text.format(day="2026-02-28")))
    assert made.is_broken
    assert "it was ignored until 2026-02-28" in made.findings[0].why


@pytest.mark.parametrize(
    ("text", "what", "where"),
    [
        ("{fail_on: always}", "`always` is no severity", "policy.fail_on"),
        ("{licenses: {deny: [GPL]}}", "`GPL` is not the SPDX identifier", "policy.licenses.deny[0]"),
        ("{licenses: {allow: ['MIT OR ISC']}}", "not the SPDX identifier", "policy.licenses.allow[0]"),
        ("{ignore: [x]}", "expected what is ignored, got text", "policy.ignore[0]"),
        ("{ignore: [{rule: x, expires: 2027-01-01}]}", "no `reason`", "policy.ignore[0]"),
        ("{ignore: [{rule: x, reason: y}]}", "no `expires`", "policy.ignore[0]"),
        ("{ignore: [{rule: x, reason: y, expires: soon}]}", "`soon` is not a date", "policy.ignore[0]"),
        ("{license: {}}", "license", "policy"),
        ("{minimum_age: week}", "`week` is no number of days", "policy.minimum_age"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_an_error_with_its_place(text: str, what: str, where: str) -> None:
    with pytest.raises(InvalidFileError) as caught:
        policy(text)
    assert what in str(caught.value)
    assert where in str(caught.value)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model that does everything wrong."""
    folder = tmp_path / "model"
    shutil.copytree(EXAMPLES / "scale", folder)
    (folder / "requirements.txt").unlink(missing_ok=True)
    (folder / "conda.yaml").write_text(
        "dependencies:\n- python=3.8\n- scipy\n- pip:\n  - numpy\n  - pytest==8.0.0\n"
        "  - tool @ git+https://git.example/tool@main\n"
    )
    (folder / "model.pkl").write_bytes(pickle.dumps({"a": date(2020, 1, 1)}))
    (folder / "evil.pkl").write_bytes(b"cos\nsystem\n(S'touch /tmp/never'\ntR.")
    (folder / "config.json").write_text('{"key": "AKIAABCDEFGHIJKLMNOP", "path": "/home/anna/data"}\n')
    return folder


def test_a_model_has_the_findings_that_are_due(model: Path, machine: Machine) -> None:
    subject = audited.read(str(model), choices=Choices(), machine=machine)
    made = report.make(subject, Policy(), today=TODAY, tool_version="1", machine=machine)
    found = {(one.rule, one.package or (one.where.file if one.where is not None else "")) for one in made.findings}
    base = str(model / "conda.yaml")
    assert found >= {
        ("no-lock", base),
        ("unpinned", "numpy"),
        ("unpinned", "scipy"),
        ("test-tool", "pytest"),
        ("no-commit", "tool"),
        ("python-end-of-life", "python"),
        ("python-not-exact", "python"),
        ("azure-no-channels", base),
        ("azure-no-pip", base),
        ("pickle", "model.pkl"),
        ("pickle", "evil.pkl"),
        ("dangerous-pickle", "evil.pkl"),
        ("secret", "config.json"),
        ("author-path", "config.json"),
    }
    assert {rule for rule, _ in found} <= {
        "no-lock", "unpinned", "test-tool", "no-commit", "python-end-of-life", "python-not-exact", "azure-no-channels",
        "azure-no-pip", "pickle", "dangerous-pickle", "secret", "author-path", "sources-disagree",
    }  # fmt: skip
    assert made.is_broken
    assert "AKIA" not in json.dumps(made.to_dict())


def test_every_amendment_is_one_that_can_be_used(model: Path, machine: Machine, tmp_path: Path) -> None:
    from envbuilder import model_environment  # noqa: PLC0415

    lock = lock_of(pinned("jinja2", "3.1.0"), python="3.8.10")
    found = of_lock(lock, machine, tmp_path).findings
    subject = audited.read(str(model), choices=Choices(), machine=machine)
    found += report.make(subject, Policy(), today=TODAY, tool_version="1", machine=machine).findings
    amendments = {one.amendment for one in found if one.amendment}
    assert len(amendments) >= 2
    for one in amendments:
        if "jinja2" not in one:
            model_environment.resolve(model, Choices(environment=f"{{{one}}}"), machine=machine)


HOSTILE = "<script>alert(1)</script>"


def test_each_form_names_all_findings_and_shows_what_a_model_says_as_text(machine: Machine, tmp_path: Path) -> None:
    subject = replace(
        audited.read(
            str(samples.write_lock(tmp_path, lock_of(pinned("jinja2", "3.1.0"), pinned("pillow", "9.0.0")))),
            choices=Choices(),
            machine=machine,
        ),
        given=f"/x/{HOSTILE}",
    )
    made = report.make(subject, Policy(), today=TODAY, tool_version="1", machine=machine)
    page, text, log = html_report.to_text(made), markdown.to_text(made), sarif.to_dict(made)
    for one in ("CVE-2023-1", "CVE-2024-1"):
        assert one in page
        assert one.replace("-", r"\-") in text
        assert one in {result["ruleId"] for result in log["runs"][0]["results"]}
    assert "<script" not in page
    assert "<script" not in text
    assert "amend: {pip: {bump: ['pillow==10.0.1']}}" in text
    assert {result["level"] for result in log["runs"][0]["results"]} == {"error", "warning"}
    assert html_report.to_text(made) == page


def test_each_form_says_what_is_not_known_and_what_is_ignored(machine: Machine, tmp_path: Path) -> None:
    made = of_lock(lock_of(pinned("pillow", "9.0.0")), machine, tmp_path)
    quiet = replace(made, findings=(), ignored=made.findings, databases=(), is_broken=False)
    assert "1 more are ignored" in markdown.to_text(quiet)
    assert "there is no database here" in markdown.to_text(quiet)
    some = replace(made, ignored=made.findings)
    assert "1 more are ignored" in html_report.to_text(some)
    placeless = replace(made.findings[0], where=None, amendment="", why="", fix="")
    log = sarif.to_dict(replace(made, findings=(placeless,), ignored=made.findings))
    first, second = log["runs"][0]["results"]
    assert "locations" not in first
    assert second["suppressions"] == [{"kind": "external"}]
    whole = replace(made.findings[0], where=Source(file="MLmodel"))
    (result,) = sarif.to_dict(replace(made, findings=(whole,)))["runs"][0]["results"]
    assert "logicalLocations" not in result["locations"][0]
    assert "| " in markdown.to_text(replace(made, findings=(placeless,)))


@pytest.mark.process
def test_the_command_line_ends_with_1_where_the_policy_is_broken(tmp_path: Path) -> None:
    (tmp_path / "all.zip").write_bytes(samples.zipped(*KNOWN))
    file = samples.write_lock(tmp_path, lock_of(pinned("pillow", "9.0.0")))
    updated = command_line(tmp_path / "cache", "audit", "--update-database", str(tmp_path / "all.zip"))
    assert (updated.returncode, updated.stdout) == (0, "")
    assert "4 entries of PyPI, 1 skipped" in updated.stderr
    ended = command_line(tmp_path / "cache", "audit", str(file), "--json")
    assert ended.returncode == 1
    found = json.loads(ended.stdout)
    assert [one["rule"] for one in found["findings"]] == ["CVE-2023-1"]
    (tmp_path / "envbuilder.yaml").write_text(
        "policy: {ignore: [{rule: CVE-2023-1, reason: no images, expires: 2099-01-01}]}\n"
    )
    ended = command_line(tmp_path / "cache", "audit", str(file), "--format", "markdown", cwd=tmp_path)
    assert (ended.returncode, "may be shipped" in ended.stdout) == (0, True)
    ended = command_line(tmp_path / "cache", "audit")
    assert ended.returncode == 2
    assert "nothing is named" in ended.stderr
