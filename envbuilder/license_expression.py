"""What packages say of their licence, as an SPDX expression where it is one, or is known to mean one. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

if TYPE_CHECKING:
    from collections.abc import Iterable

_CLASSIFIERS: Final = {
    "Apache Software License": "Apache-2.0",
    "BSD License": None,
    "GNU Affero General Public License v3": "AGPL-3.0-only",
    "GNU Affero General Public License v3 or later (AGPLv3+)": "AGPL-3.0-or-later",
    "GNU General Public License v2 (GPLv2)": "GPL-2.0-only",
    "GNU General Public License v2 or later (GPLv2+)": "GPL-2.0-or-later",
    "GNU General Public License v3 (GPLv3)": "GPL-3.0-only",
    "GNU General Public License v3 or later (GPLv3+)": "GPL-3.0-or-later",
    "GNU Lesser General Public License v2 or later (LGPLv2+)": "LGPL-2.0-or-later",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0-or-later",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
    "zlib/libpng License": "Zlib",
}
"""The last part of PyPI's classifiers; None where several licences go by the name."""

_KNOWN: Final = {
    "3-clause bsd": "BSD-3-Clause",
    "apache": "Apache-2.0",
    "apache 2": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license version 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd 3-clause": "BSD-3-Clause",
    "bsd 3-clause license": "BSD-3-Clause",
    "bsd-3": "BSD-3-Clause",
    "gplv2": "GPL-2.0-only",
    "gplv3": "GPL-3.0-only",
    "gplv3+": "GPL-3.0-or-later",
    "lgplv3": "LGPL-3.0-only",
    "mit license": "MIT",
    "mpl 2.0": "MPL-2.0",
    "mpl-2": "MPL-2.0",
    "new bsd": "BSD-3-Clause",
    "psf": "PSF-2.0",
    "the mit license": "MIT",
}
_LONGEST: Final = 200


def parse(text: str) -> str | None:
    """Return what `text` means as an SPDX expression, None where nobody can say; whole licence texts are not read."""
    stripped = text.strip()
    if not stripped or len(stripped) > _LONGEST:
        return None
    known = _KNOWN.get(stripped.lower())
    if known is not None:
        return known
    try:
        return str(canonicalize_license_expression(stripped))
    except (InvalidLicenseExpression, ValueError, RecursionError):
        return None


def of_metadata(expression: str, text: str, classifiers: Iterable[str]) -> str | None:
    """Return the licence of a wheel: its own expression, else what its text means, else its classifiers."""
    for stated in (expression, text):
        found = parse(stated)
        if found is not None:
            return found
    names = [one.rpartition(" :: ")[2] for one in classifiers if one.startswith("License ::")]
    meant = {_CLASSIFIERS.get(name) for name in names}
    return meant.pop() if len(meant) == 1 else None


def is_allowed(expression: str, *, allow: frozenset[str], deny: frozenset[str]) -> bool:
    """Tell whether one choice that the expression leaves is allowed: of `A OR B` one is enough, of `A AND B` both.

    An empty `allow` allows all; `deny` counts more.
    """
    tokens = re.findall(r"\(|\)|[A-Za-z0-9][A-Za-z0-9.+-]*", expression)

    def either() -> bool:
        value = both()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            value = both() or value
        return value

    def both() -> bool:
        value = one()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            value = one() and value
        return value

    def one() -> bool:
        word = tokens.pop(0)
        if word == "(":
            value = either()
            tokens.pop(0)
            return value
        if tokens and tokens[0] == "WITH":
            exception = tokens.pop(1)
            tokens.pop(0)
            combined = f"{word} WITH {exception}"
            return combined in allow or (word not in deny and (not allow or word in allow))
        return word not in deny and (not allow or word in allow)

    return either()
