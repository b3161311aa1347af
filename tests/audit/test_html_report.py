"""The report as a page: opened in a real browser, from disk, with no network."""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING

import pytest

from envbuilder.audit import audited, html_report, report
from envbuilder.audit.archive_facts import ArchiveFacts
from envbuilder.audit.bill import of_lock
from envbuilder.choices import Choices
from envbuilder.policy import Policy
from tests import chromium as chromium_program
from tests.audit import samples
from tests.audit.samples import KNOWN, conda, lock_of, pinned

if TYPE_CHECKING:
    from pathlib import Path

    from envbuilder.audit.report import Report
    from tests.chromium import Chromium

chromium = chromium_program.chromium


@pytest.fixture
def made(tmp_path: Path) -> Report:
    machine = samples.machine_at(tmp_path)
    samples.take_over(machine, tmp_path, *KNOWN)
    packages = [replace(pinned("pillow", "9.0.0"), dependencies=("jinja2", "part-7")), pinned("jinja2", "3.1.0")]
    packages += [pinned(f"part-{number}", "1.0") for number in range(40)]
    lock = lock_of(*packages, conda=[conda("pytorch", "2.3.1")], python="3.8.10")
    subject = audited.read(str(samples.write_lock(tmp_path, lock)), choices=Choices(), machine=machine)
    found = report.make(subject, Policy(), today=date(2026, 3, 1), tool_version="1", machine=machine)
    assert found.bill is not None
    facts = {one.sha256: ArchiveFacts(size=100_000 * (index + 1), license="MIT") for index, one in enumerate(packages)}
    bill = of_lock(lock, subject=found.bill.subject, facts=facts, debian=None, tool_version="1")
    return replace(found, name="churn <b>&amp;", bill=bill)


@pytest.mark.process
def test_a_browser_shows_findings_sizes_and_the_graph_without_a_network(
    made: Report, chromium: Chromium, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    page.write_text(html_report.to_text(made), encoding="utf-8")
    document = chromium.document(page)
    assert "<h1>churn &lt;b&gt;&amp;amp;</h1>" in document
    assert document.count('class="severity') == len(made.findings) == 4
    assert len(re.findall("<rect", document)) == 25
    targets = set(re.findall(r'href="#(c\d+)"', document))
    assert targets
    assert targets <= set(re.findall(r'id="(c\d+)"', document))
    assert not re.search(r"""(?:src|href)=["'](?!#)""", document)
    picture = tmp_path / "report.png"
    chromium.draw(page, picture, size="1000,1000")
    assert colors(picture) >= {(0xB4, 0x23, 0x18), (0x2F, 0x6F, 0xEB)}


def test_a_report_shows_sizes_licences_and_who_needs_whom(made: Report) -> None:
    page = html_report.to_text(made)
    assert len(re.findall("<rect", page)) == 25
    assert re.search(r"\d+ more, [\d.]+ MB together", page)
    assert re.search(r'<li>needs <a href="#c\d+">', page)
    assert re.search(r'<li>needed by <a href="#c\d+">', page)
    assert "MIT</span>" in page
    assert page.count('class="severity') == len(made.findings)


def test_a_report_without_a_lock_or_findings_is_a_page_too(made: Report) -> None:
    page = html_report.to_text(replace(made, bill=None, findings=(), databases=(), is_broken=False))
    assert "<p>None.</p>" in page
    assert "may be shipped" in page
    assert "vulnerabilities were not looked up" in page
    assert made.bill is not None
    bare = tuple(replace(one, identities=(), size=None) for one in made.bill.components[:1])
    page = html_report.to_text(replace(made, bill=replace(made.bill, components=bare)))
    assert "The archives are not in the caches" in page
    assert "<li>" not in page
    few = replace(made.bill, components=tuple(one for one in made.bill.components if one.size is not None)[:0])
    assert "<details" not in html_report.to_text(replace(made, bill=few))
    sized = tuple(replace(one, depends=(), size=5) for one in made.bill.components[:2])
    assert "more, " not in html_report.to_text(replace(made, bill=replace(made.bill, components=sized)))


def colors(picture: Path) -> set[tuple[int, int, int]]:
    """Return the colors of a PNG of 8 bits that is not interlaced."""
    data = picture.read_bytes()
    width, height, _, kind = struct.unpack(">IIBB", data[16:26])
    step = {2: 3, 6: 4}[kind]
    chunks, at = b"", 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        chunks += data[at + 8 : at + 8 + length] if data[at + 4 : at + 8] == b"IDAT" else b""
        at += length + 12
    raw, stride = zlib.decompress(chunks), width * step
    found: set[tuple[int, int, int]] = set()
    above = bytearray(stride)
    for row in range(height):
        start = row * (stride + 1)
        line = _unfiltered(raw[start], bytearray(raw[start + 1 : start + 1 + stride]), above, step)
        found |= {(line[index], line[index + 1], line[index + 2]) for index in range(0, stride, step)}
        above = line
    return found


def _unfiltered(kind: int, line: bytearray, above: bytearray, step: int) -> bytearray:
    for index in range(len(line)):
        left = line[index - step] if index >= step else 0
        up, corner = above[index], above[index - step] if index >= step else 0
        guess = left + up - corner
        paeth = min((left, up, corner), key=lambda one: abs(guess - one))
        line[index] = (line[index] + (0, left, up, (left + up) // 2, paeth)[kind]) & 0xFF
    return line
