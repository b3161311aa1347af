"""A report as one HTML file that needs nothing else: findings, sizes by package, the dependency graph. Pure.

No script, no link, no font from elsewhere; its own content policy forbids them too. What a model says is text.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from envbuilder.audit.bill import Bill
    from envbuilder.audit.component import Component
    from envbuilder.audit.report import Report

_LARGEST: Final = 25
_MEGABYTE: Final = 1e6
_ROW: Final = 22
_STYLE: Final = """
body{font:15px/1.45 system-ui,sans-serif;margin:0 auto;max-width:70rem;padding:1.5rem;color:#1b1f24;background:#fff}
h1{font-size:1.6rem;margin:0}h2{font-size:1.15rem;margin:2rem 0 .5rem}
.verdict{display:inline-block;border-radius:.4rem;padding:.2rem .7rem;margin:.6rem 0;color:#fff;background:#1a7f37}
.broken{background:#b42318}.quiet{color:#59636e}
table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.35rem .6rem .35rem 0;
border-bottom:1px solid #d8dee4;overflow-wrap:anywhere}
.severity{font-weight:600;white-space:nowrap}.error{color:#b42318}.warning{color:#8a5a00}.note{color:#59636e}
code{font:13px/1.4 ui-monospace,monospace;background:#f3f5f7;padding:.05rem .25rem;border-radius:.2rem}
details{border-bottom:1px solid #d8dee4;padding:.25rem 0}summary{cursor:pointer}ul{margin:.2rem 0 .4rem}
svg{max-width:100%;height:auto}
"""


def to_text(report: Report) -> str:
    """Return the page."""
    counts = ", ".join(f"{count} {severity}{'s' if count != 1 else ''}" for severity, count in report.counts.items())
    verdict = ("must not be shipped", " broken") if report.is_broken else ("may be shipped", "")
    databases = ", ".join(report.databases) or "none: vulnerabilities were not looked up"
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        f"<title>{escape(report.name)}: audit</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(report.name)}</h1>",
        f'<p class="verdict{verdict[1]}">{verdict[0]}</p>',
        f'<p class="quiet">{counts}. Databases of vulnerabilities: {escape(databases)}.</p>',
        f'<p class="quiet">Made by envbuilder {escape(report.tool_version)}.</p>',
        *_findings(report),
    ]
    if report.bill is not None:
        parts += [*_sizes(report.bill), *_graph(report.bill)]
    return "\n".join([*parts, "</body></html>\n"])


def _findings(report: Report) -> Iterable[str]:
    yield '<h2 id="findings">Findings</h2>'
    if not report.findings:
        yield "<p>None.</p>"
        return
    yield "<table><tr><th></th><th>What</th><th>Where</th><th>Fix</th></tr>"
    for one in report.findings:
        names = ", ".join((one.rule, *one.aliases))
        why = f'<br><span class="quiet">{escape(one.why)}</span>' if one.why else ""
        amendment = f"<br><code>{escape(one.amendment)}</code>" if one.amendment else ""
        where = escape(str(one.where)) if one.where is not None else ""
        yield (
            f'<tr><td class="severity {one.severity}">{one.severity}</td>'
            f"<td>{escape(one.what)}<br><code>{escape(names)}</code>{why}</td>"
            f"<td>{where}</td><td>{escape(one.fix)}{amendment}</td></tr>"
        )
    yield "</table>"
    if report.ignored:
        yield f'<p class="quiet">{len(report.ignored)} more are ignored by the workspace\'s policy.</p>'


def _sizes(bill: Bill) -> Iterable[str]:
    """Draw what makes the image big: the archives' sizes, the largest first."""
    sized = sorted(
        ((one.size, one) for one in bill.components if one.size is not None), key=lambda pair: (-pair[0], pair[1].ref)
    )
    yield '<h2 id="sizes">What makes it big</h2>'
    if not sized:
        yield "<p>The archives are not in the caches of this machine.</p>"
        return
    total, shown = sum(size for size, _ in sized), sized[:_LARGEST]
    yield f"<p>{total / _MEGABYTE:.1f} MB in {len(sized)} archives, as they are packed.</p>"
    height = _ROW * len(shown)
    yield f'<svg viewBox="0 0 800 {height}" width="800" height="{height}" role="img" aria-label="sizes by package">'
    largest = shown[0][0]
    for index, (size, one) in enumerate(shown):
        width, middle = max(440 * size / largest, 1), _ROW * index + 15
        color = "#2f6feb" if one.kind == "pypi" else "#1a7f37"
        yield f'<text x="230" y="{middle}" text-anchor="end" font-size="13">{escape(_short(one))}</text>'
        yield f'<rect x="240" y="{_ROW * index + 3}" width="{width:.1f}" height="{_ROW - 6}" fill="{color}"/>'
        yield f'<text x="{250 + width:.1f}" y="{middle}" font-size="12">{size / _MEGABYTE:.1f} MB</text>'
    yield "</svg>"
    rest = sized[_LARGEST:]
    if rest:
        yield f'<p class="quiet">{len(rest)} more, {sum(size for size, _ in rest) / _MEGABYTE:.1f} MB together.</p>'


def _short(one: Component) -> str:
    text = f"{one.name} {one.version}"
    return text if len(text) <= 32 else f"{text[:31]}…"  # noqa: PLR2004 - what fits


def _graph(bill: Bill) -> Iterable[str]:
    """Write who needs whom; each name leads to its own entry."""
    numbers = {one.ref: number for number, one in enumerate(bill.components)}
    names = {one.ref: _short(one) for one in bill.components}
    needed_by: dict[str, list[str]] = {}
    for one in bill.components:
        for ref in one.depends:
            needed_by.setdefault(ref, []).append(one.ref)

    def links(refs: Iterable[str]) -> str:
        return ", ".join(f'<a href="#c{numbers[ref]}">{escape(names[ref])}</a>' for ref in refs)

    yield '<h2 id="graph">Who needs whom</h2>'
    for one in bill.components:
        licence = one.license or one.license_text or ("" if one.kind in {"deb", "part"} else "licence unknown")
        head = f'{escape(names[one.ref])} <span class="quiet">{one.kind} {escape(licence)}</span>'
        yield f'<details id="c{numbers[one.ref]}"><summary>{head}</summary><ul>'
        if one.identities:
            yield f"<li><code>{escape(one.purl)}</code></li>"
        if one.depends:
            yield f"<li>needs {links(one.depends)}</li>"
        if one.ref in needed_by:
            yield f"<li>needed by {links(needed_by[one.ref])}</li>"
        yield "</ul></details>"
