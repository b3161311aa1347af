"""What uv says when it finds nothing, in the project's words: which index, which line, and the fix. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from packaging.utils import canonicalize_name

from envbuilder import proxy
from envbuilder.errors import LockImpossibleError, Problem, Source, UnreachableError
from envbuilder.secret import visible
from envbuilder.url import without_credentials

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from packaging.utils import NormalizedName

    from envbuilder.conda_package import CondaPackage
    from envbuilder.environment_spec import EnvironmentSpec
    from envbuilder.package_index import PackageIndex
    from envbuilder.settings import Settings
    from envbuilder.target import Target

_MAX_LINES: Final = 12
_MAX_NAMES: Final = 3
_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_LOGIN_FIX: Final = "check the user and password: in the index's URL, in .netrc, or what `keyring get URL USER` prints"
_DISABLED: Final = re.compile(r"network (was|connectivity is) disabled", re.IGNORECASE)
_PROXY: Final = (
    "the proxy{proxy} did not let through to the package index",
    "check HTTP_PROXY, HTTPS_PROXY and NO_PROXY, and the user and password in them",
)
_NO_ANSWER: Final = (
    "the package index did not answer",
    "check the network, the proxy settings and ENVBUILDER_INDEX_URL, then try again",
)
_UNREACHABLE: Final = (
    (
        r"invalid peer certificate|UnknownIssuer|certificate verify",
        (
            "the package index's certificate is not trusted",
            "name the CA that signed it: set ENVBUILDER_CA_FILE to its PEM file",
        ),
    ),
    (r"tunnel error|\(?\b407 Proxy", _PROXY),
    (
        r"lack of valid authentication credentials|\b401 Unauthorized",
        ("the package index asks for a login, or did not take the one it got (401)", _LOGIN_FIX),
    ),
    (r"\b403 Forbidden", ("the package index refused{package} (403)", _LOGIN_FIX)),
    (
        r"HTTP status server error|\b429 Too Many",
        ("the package index cannot answer now ({status})", "try again later"),
    ),
    (
        r"end of file before message|error decoding response body|body from connection",
        (
            "the answer of the package index was cut off",
            "try again; if it stays, tell who runs the index, or the proxy before it",
        ),
    ),
    (r"HTTP status client error", ("the package index answered {status}", "check its URL")),
    (
        r"error sending request|failed to fetch|client error|dns error|connection (refused|reset)|timed out",
        _NO_ANSWER,
    ),
)
"""What uv's words match, what that means, and the fix; the first that matches counts."""

_NO_WHEEL: Final = re.compile(
    rf"({_NAME})\S* (?:has|have) (?:no (?:usable )?wheels|an invalid package format)|"
    rf"building source distributions is disabled.*?({_NAME})==",
    re.IGNORECASE,
)
_NO_PACKAGE: Final = re.compile(rf"({_NAME}) was not found in the package registry")
_NO_VERSION: Final = re.compile(
    rf"there is no version of ({_NAME})\S* and you require \1|only \S+ is available and you"
)
_YANKED: Final = re.compile(rf"({_NAME})\S* was yanked \(reason")
_OTHER_PYTHON: Final = re.compile(r"requested Python version \S+ does not satisfy|\brequires Python ?[<>=!~]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What uv was asked."""

    python_version: str
    target: Target
    settings: Settings
    indexes: tuple[PackageIndex, ...] = ()
    """Those of the spec."""

    exclude_newer: str | None = None


def error(said: Sequence[str], question: Question) -> LockImpossibleError | UnreachableError:
    """Return the error that tells of what uv printed before it failed."""
    text, settings = "\n".join(said), question.settings
    if settings.offline and _DISABLED.search(text):
        return LockImpossibleError(
            f"not all that is needed is in the cache, and `--offline` forbids to ask the index\n{_shown(said)}",
            fix="run once without `--offline`, or bring the cache of a machine that has it",
        )
    found = next((words for pattern, words in _UNREACHABLE if re.search(pattern, text, re.IGNORECASE)), None)
    if found is not None:
        return _unreachable(said, text, found, question)
    because, fix = _reason(text, question)
    failure = LockImpossibleError(f"no set of packages satisfies the requirements{because}\n{_shown(said)}", fix=fix)
    failure.explanation = text
    return failure


def with_places(
    cause: LockImpossibleError, spec: EnvironmentSpec, provided: Mapping[NormalizedName, CondaPackage]
) -> LockImpossibleError:
    """Add the lines of the model's files, its constraints and its conda packages that take part in it."""
    (problem,) = cause.problems
    flat = " ".join(f"{problem.what} {cause.explanation}".split())
    words = _names(re.findall(_NAME, flat))
    required = _names(
        name
        for part in re.findall(r"you require (?!one of|any of)(.*?)(?=, we can|\. |\.$|$)", flat)
        for name in re.findall(rf"(?:^|and )({_NAME})", part)
    )
    lines = [one for one in spec.requirements if one.name in required]
    lines = lines or [one for one in spec.requirements if one.name in words]
    lines += [one for one in spec.constraints if one.name in words]
    # The one that uv is said to have no wheel of, or no version, comes first.
    blamed = _names(re.findall(rf"`({_NAME})", problem.what.partition("\n")[0]))
    lines.sort(key=lambda one: one.name not in blamed)
    places = [(f"`{one.text}`", one.source) for one in lines]
    places += [(f"`{one.text}`", one.source) for one in spec.match_specs if _provides(one.name, words, provided)]
    if not places or _OTHER_PYTHON.search(flat):
        places.append((f"Python {spec.python.value.text}", spec.python.source))
    (_, first), *others = places
    return LockImpossibleError(
        (
            Problem(what=problem.what, where=first, fix=problem.fix),
            *(Problem(what=f"{text} takes part in it", where=where) for text, where in others),
        )
    )


def _names(words: Iterable[str]) -> set[NormalizedName]:
    return {canonicalize_name(word.rstrip(".")) for word in words}


def _provides(name: str, words: set[NormalizedName], provided: Mapping[NormalizedName, CondaPackage]) -> bool:
    return any(package.name == name.lower() and pip_name in words for pip_name, package in provided.items())


def _reason(text: str, question: Question) -> tuple[str, str]:
    """Return what the whole explanation comes down to, and the fix."""
    flat = " ".join(text.split())
    here = f"for Python {'.'.join(question.python_version.split('.')[:2])} on {question.target.subdir}"
    later = ", or for a later date than `--exclude-newer`" if question.exclude_newer is not None else ""
    if (found := _NO_PACKAGE.search(flat)) is not None:
        return (
            f": no index has `{found[1]}`",
            f"check its name{later}, or name an index that has it: ENVBUILDER_EXTRA_INDEX_URLS, or the workspace's",
        )
    if (found := _YANKED.search(flat)) is not None:
        return f": `{found[1]}` was yanked", f"ask for another version, or pin it (`{found[1]}==VERSION`) to take it"
    names = list(dict.fromkeys(one for pair in _NO_WHEEL.findall(flat) for one in pair if one))
    if names:
        shown = ", ".join(f"`{name}`" for name in names[:_MAX_NAMES]) + (", …" if len(names) > _MAX_NAMES else "")
        fix = "it exists only as source for this target: ask for a version that has a wheel, offer one in an index, "
        fix += f"or let it be built: `--allow-source {names[0]}`"
        return f": of {shown} there is no fitting wheel {here}", fix
    if _OTHER_PYTHON.search(flat):
        return f" {here}", "ask for a version that supports this Python, or for a Python that it supports"
    if _NO_VERSION.search(flat):
        return ": there is no such version", f"ask for a version that exists{later}"
    return "", "loosen or remove one of the lines that are named here"


def _shown(said: Iterable[str]) -> str:
    """Return uv's explanation from its end, without its hints, which name options of its own, and no secret."""
    kept: list[str] = []
    for line in said:
        # A hint ends with the paragraph.
        if line.strip().startswith("hint:"):
            break
        if line.strip() and not line.startswith(("warning:", "error: No solution found")):
            kept.append(visible(line.strip().removeprefix("error: ").removeprefix("cause: ")))
    more = len(kept) - _MAX_LINES
    return "\n".join([f"… {more} lines before, all of them with `-v`"] * (more > 0) + kept[-_MAX_LINES:])


def _unreachable(said: Sequence[str], text: str, words: tuple[str, str], question: Question) -> UnreachableError:
    what, fix = words
    url = next(iter(re.findall(r"https?://[^\s)`,]+", text)), "")
    through = proxy.host(url, dict(question.settings.environ))
    if words == _NO_ANSWER and through is not None:
        what, fix = _PROXY
    elif fix == _LOGIN_FIX and through is not None:
        fix = f"{fix}, or ask who runs the proxy {through}"
    status = re.search(r"error \((\d{3}[^)]*)\)", text)
    package = _NO_PACKAGE.search(text)
    shown = what.format(
        proxy=f" {through}" if through is not None else "",
        status=status[1] if status is not None else "with an error",
        package=f" `{package[1]}`" if package is not None else "",
    )
    # Of an index that lets nobody in, uv goes on to tell that it has no packages.
    details = "" if "No solution found" in text else f"\n{_shown(said)}"
    return UnreachableError(f"{shown}{details}", where=_place(url, question.indexes), fix=fix)


def _place(url: str, indexes: tuple[PackageIndex, ...]) -> Source | None:
    """Return where the index is named that the URL belongs to, else the URL of the index itself."""
    try:
        plain = without_credentials(url)
    except ValueError:
        plain = ""
    if not plain:
        return None
    for index in indexes:
        if f"{plain}/".startswith(f"{index.url.rstrip('/')}/"):
            return index.source
    parts = urlsplit(plain)
    page = re.match(r"(.*/simple)(?:/|$)", parts.path)
    return Source(file=visible(f"{parts.scheme}://{parts.netloc}{page[1] if page is not None else parts.path}"))
