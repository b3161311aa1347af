"""Whether what is locked may be shipped by the workspace's policy: packages, licences, channels. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from packaging.utils import canonicalize_name

from envbuilder import license_expression
from envbuilder.audit_finding import Finding
from envbuilder.errors import Source

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from envbuilder.audit.bill import Bill
    from envbuilder.policy import Policy

_DEFAULTS: Final = re.compile(r"https?://repo\.anaconda\.com/pkgs/|(?:^|/)defaults(?:/|$)")


def check(bill: Bill, policy: Policy, *, lock_file: str) -> Iterator[Finding]:
    """Give what breaks the policy in what is locked."""
    where = Source(file=lock_file, key="package")
    for one in bill.components:
        if one.kind in {"pypi", "conda"} and str(canonicalize_name(one.name)) in policy.deny_packages:
            yield Finding(
                rule="forbidden-package",
                kind="policy",
                severity="error",
                what=f"`{one.name}` is on the workspace's list of packages that must not be used",
                package=one.name,
                version=one.version,
                where=where.child(one.name),
                fix="use another package",
                amendment=f"amend: {{{'pip' if one.kind == 'pypi' else 'conda'}: {{remove: [{one.name}]}}}}",
            )
        allow, deny = policy.allow_licenses, policy.deny_licenses
        if one.license is not None and not license_expression.is_allowed(one.license, allow=allow, deny=deny):
            yield Finding(
                rule="license",
                kind="policy",
                severity="error",
                what=f"`{one.name}` is under {one.license}, which the workspace does not allow",
                package=one.name,
                version=one.version,
                where=where.child(one.name),
                fix="use another package, or ask who decides on licences",
            )
        if one.license is None and one.kind in {"pypi", "conda"} and (allow or deny):
            stated = f" (it says `{one.license_text}`)" if one.license_text is not None else ""
            missing = ": its archive is not in the caches" if one.size is None else stated
            yield Finding(
                rule="license-unknown",
                kind="policy",
                severity="warning",
                what=f"nobody knows the licence of `{one.name}`{missing}",
                package=one.name,
                version=one.version,
                where=where.child(one.name),
                fix="build or reproduce it once here, or read its licence and ignore this with the reason",
            )
    yield from _channels(bill.lock.channels, policy, Source(file=lock_file, key="metadata.channels"))


def _channels(channels: Iterable[str], policy: Policy, where: Source) -> Iterator[Finding]:
    for url in channels:
        is_defaults = _DEFAULTS.search(url) is not None
        is_denied = url.rstrip("/") in policy.deny_channels or (is_defaults and "defaults" in policy.deny_channels)
        if is_denied or is_defaults:
            yield Finding(
                rule="defaults-channel" if is_defaults else "forbidden-channel",
                kind="policy",
                severity="error" if is_denied else "warning",
                what=f"packages come from `{url}`",
                where=where,
                why="Anaconda's terms want a paid licence of most organisations" if is_defaults else "",
                fix="take them from conda-forge",
                amendment="amend: {channels: {swap: {defaults: conda-forge}}}" if is_defaults else "",
            )
