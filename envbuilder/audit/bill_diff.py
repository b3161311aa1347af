"""What changed between two bills of materials: packages, how far they jumped, Python, base, size, layers. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from envbuilder.audit.markdown import escaped

if TYPE_CHECKING:
    from collections.abc import Iterable

    from envbuilder.audit.bill import Bill
    from envbuilder.audit.component import Component

Kind = Literal["added", "removed", "changed", "moved"]
Jump = Literal["major", "minor", "patch", "build", "other"]

_PARTS: Final[tuple[Jump, ...]] = ("major", "minor", "patch")
_MEGABYTE: Final = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageChange:
    """One package that is not the same in both."""

    kind: Kind
    """`moved` is between conda and the index, whatever its version."""

    name: str
    before: Component | None = None
    after: Component | None = None

    @property
    def jump(self) -> Jump | None:
        """The first part of the version that differs; `build` where only the archive is another one."""
        if self.before is None or self.after is None:
            return None
        if self.before.version == self.after.version:
            return "build"
        try:
            old, new = (Version(one.version).release for one in (self.before, self.after))
        except InvalidVersion:
            return "other"
        for index, part in enumerate(_PARTS):
            sides = [release[index] if index < len(release) else 0 for release in (old, new)]
            if sides[0] != sides[1]:
                return part
        return "other"

    @property
    def is_downgrade(self) -> bool:
        """Whether the version went down."""
        if self.before is None or self.after is None:
            return False
        try:
            return Version(self.after.version) < Version(self.before.version)
        except InvalidVersion:
            return False

    @property
    def text(self) -> str:
        """One line for people."""
        before, after = (_shown(one, with_kind=self.kind == "moved") for one in (self.before, self.after))
        match self.kind:
            case "added":
                return f"+ {self.name} {after}"
            case "removed":
                return f"- {self.name} {before}"
            case _:
                down = ", down" if self.is_downgrade else ""
                return f"~ {self.name} {before} -> {after} ({self.jump}{down})"

    def to_dict(self) -> dict[str, Any]:
        """Return it in the types of JSON."""
        return {
            "kind": self.kind,
            "name": self.name,
            "jump": self.jump,
            "is_downgrade": self.is_downgrade,
            "before": _described(self.before),
            "after": _described(self.after),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """The layers of two images, by what is in them."""

    kept: int
    removed: tuple[str, ...]
    added: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BillDiff:
    """All that differs."""

    facts: tuple[tuple[str, str, str], ...]
    """Python, platform, base, model: what it is about, before and after."""

    packages: tuple[PackageChange, ...]
    size_before: int
    size_after: int
    """Bytes of the archives, as far as they are known."""

    is_size_known: bool
    layers: Layers | None = None
    """None where not both are images."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing differs."""
        return not self.facts and not self.packages and (self.layers is None or not self.layers.added)

    def lines(self) -> list[str]:
        """Return it line by line."""
        found = [f"~ {name} {before or 'none'} -> {after or 'none'}" for name, before, after in self.facts]
        found += [one.text for one in self.packages]
        if self.is_size_known and self.size_before != self.size_after:
            before, after = self.size_before / _MEGABYTE, self.size_after / _MEGABYTE
            found.append(f"~ archives {before:.1f} MB -> {after:.1f} MB ({after - before:+.1f} MB)")
        if self.layers is not None:
            found += [f"- layer {one}" for one in self.layers.removed] + [f"+ layer {one}" for one in self.layers.added]
            found.append(f"= {self.layers.kept} layers stay")
        return found

    def to_text(self) -> str:
        """Return it for people."""
        return "no difference" if self.is_empty else "\n".join(self.lines())

    def to_markdown(self) -> str:
        """Return it for a pull request."""
        if self.is_empty:
            return "No difference.\n"
        rows = [("changed", name, before, after, "") for name, before, after in self.facts]
        rows += [
            (
                one.kind,
                one.name,
                _shown(one.before, with_kind=True),
                _shown(one.after, with_kind=True),
                f"{one.jump or ''}{', down' if one.is_downgrade else ''}",
            )
            for one in self.packages
        ]
        table = ["| | what | before | after | jump |", "|---|---|---|---|---|"]
        table += [f"| {' | '.join(escaped(cell) for cell in row)} |" for row in rows]
        told = [line for line in self.lines() if line.startswith(("~ archives", "- layer", "+ layer", "= "))]
        return "\n".join([*table, *(["", "```", *told, "```"] if told else [])]) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Return it in the types of JSON."""
        layers = self.layers
        return {
            "equal": self.is_empty,
            "facts": {name: {"before": before, "after": after} for name, before, after in self.facts},
            "packages": [one.to_dict() for one in self.packages],
            "size": {"before": self.size_before, "after": self.size_after} if self.is_size_known else None,
            "layers": (
                {"kept": layers.kept, "removed": list(layers.removed), "added": list(layers.added)}
                if layers is not None
                else None
            ),
        }


def compare(first: Bill, second: Bill, *, layers: Layers | None = None) -> BillDiff:
    """Return what differs; Debian's packages are compared where both bases are known."""
    sides = [_by_name(bill, with_base=first.is_base_known and second.is_base_known) for bill in (first, second)]
    changes = [
        change
        for name in sorted(sides[0].keys() | sides[1].keys())
        if (change := _change(name, sides[0].get(name), sides[1].get(name))) is not None
    ]
    sizes = [[one.size for one in bill.components if one.kind in {"pypi", "conda"}] for bill in (first, second)]
    return BillDiff(
        facts=tuple(_facts(first, second)),
        packages=tuple(changes),
        size_before=sum(size or 0 for size in sizes[0]),
        size_after=sum(size or 0 for size in sizes[1]),
        is_size_known=None not in (*sizes[0], *sizes[1]),
        layers=layers,
    )


def compare_layers(first: Iterable[tuple[str, str]], second: Iterable[tuple[str, str]]) -> Layers:
    """Compare layers, each with its comment and digest."""
    before, after = ({digest: comment for comment, digest in side} for side in (first, second))
    return Layers(
        kept=len(before.keys() & after.keys()),
        removed=tuple(comment or digest for digest, comment in before.items() if digest not in after),
        added=tuple(comment or digest for digest, comment in after.items() if digest not in before),
    )


def _by_name(bill: Bill, *, with_base: bool) -> dict[str, Component]:
    found: dict[str, Component] = {}
    for one in bill.components:
        if one.kind in {"pypi", "conda"}:
            upstream = [identity.purl for identity in one.identities if identity.purl.startswith("pkg:pypi/")]
            name = upstream[0].removeprefix("pkg:pypi/").partition("@")[0] if upstream else f"conda:{one.name}"
            # Several conda packages may hold one project: `dask` is but a list where `dask-core` is there too.
            key = name if name not in found else f"{one.kind}:{one.name}"
            found[key] = one
        elif one.kind == "deb" and with_base:
            found[f"deb:{one.name}:{one.purl.rpartition('arch=')[2].partition('&')[0]}"] = one
    return found


def _change(name: str, before: Component | None, after: Component | None) -> PackageChange | None:
    shown = str(canonicalize_name(name)) if ":" not in name else name
    if before is None or after is None:
        return PackageChange(kind="added" if before is None else "removed", name=shown, before=before, after=after)
    if before.kind != after.kind:
        return PackageChange(kind="moved", name=shown, before=before, after=after)
    if (before.version, before.sha256) != (after.version, after.sha256):
        return PackageChange(kind="changed", name=shown, before=before, after=after)
    return None


def _facts(first: Bill, second: Bill) -> Iterable[tuple[str, str, str]]:
    for name, before, after in (
        ("python", first.lock.python_version, second.lock.python_version),
        ("platform", first.lock.subdir, second.lock.subdir),
        ("base", _base(first), _base(second)),
        ("model", first.subject.model_digest or "", second.subject.model_digest or ""),
    ):
        # What one of the two does not say is no difference of theirs.
        if before != after and (name != "model" or (before and after)):
            yield name, before, after


def _base(bill: Bill) -> str:
    return f"{bill.lock.base.reference}@{bill.lock.base.digest}" if bill.lock.base is not None else ""


def _shown(one: Component | None, *, with_kind: bool) -> str:
    if one is None:
        return ""
    return f"{one.version} ({one.kind})" if with_kind else one.version


def _described(one: Component | None) -> dict[str, Any] | None:
    if one is None:
        return None
    return {"kind": one.kind, "name": one.name, "version": one.version, "purl": one.purl, "size": one.size}
