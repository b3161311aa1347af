"""What rattler says when it finds nothing, in the project's words: which channel, which line, and the fix. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from envbuilder import proxy
from envbuilder.errors import (
    DiskFullError,
    EngineMissingError,
    EnvBuilderError,
    InvalidFileError,
    LockImpossibleError,
    Problem,
    Source,
    UnreachableError,
)
from envbuilder.secret import visible

if TYPE_CHECKING:
    from collections.abc import Mapping

    from envbuilder.channel import Channel
    from envbuilder.conda_settings import CondaSettings
    from envbuilder.conda_yaml import MatchSpec
    from envbuilder.target import Target

_MAX_LINES: Final = 60
_MAX_LINE: Final = 400
_HEADINGS: Final = ("Cannot solve the request because of: ", "The following packages are incompatible\n")
_FULL: Final = re.compile(r"No space left on device|os error (28|122)\b")
_CONNECT: Final = re.compile(r"client error \(Connect\)")
_PROXY: Final = (
    "the proxy{proxy} did not let through to {channel}",
    "check HTTP_PROXY, HTTPS_PROXY and NO_PROXY, and the user and password in them",
)
_OFFLINE: Final = (
    "the package list of {channel} is not in the cache, and `--offline` forbids to download it",
    "run once without `--offline`, or bring the cache of a machine that has it",
)
_NO_ANSWER: Final = (
    "{channel} did not answer",
    "check the network, the proxy settings and the channel's address, then try again",
)
_LOGIN_FIX: Final = (
    "check the user and password, or the token: in the channel's URL, in .netrc, or in the file of RATTLER_AUTH_FILE"
)
_FAILURES: Final = (
    (
        r"invalid peer certificate|UnknownIssuer|certificate verify",
        (
            "{channel} has a certificate that is not trusted",
            "name the CA that signed it: set ENVBUILDER_CA_FILE to its PEM file",
        ),
    ),
    (r"tunnel error|\(407 ", _PROXY),
    (r"no usable repodata cache", _OFFLINE),
    (r"operation timed out", _NO_ANSWER),
    (
        r"failed to parse|error decoding response body|end of file before message|decompress",
        (
            "the package list of {channel} is broken or was cut off",
            "try again; if it stays, tell who runs the channel, or the mirror or proxy before it",
        ),
    ),
    (
        r"could not find subdir|\(404 ",
        (
            "there is no channel at {url}",
            "check its name; names are looked up below ENVBUILDER_CHANNEL_ALIAS, and some channels need a login",
        ),
    ),
    (r"\(401 ", ("{channel} asks for a login (401)", _LOGIN_FIX)),
    (r"\(403 ", ("{channel} refused (403)", _LOGIN_FIX)),
    (r"HTTP status (?:client|server) error", ("{channel} cannot answer now ({status})", "try again later")),
)
"""What rattler's words match, what that means, and the fix; the first that matches counts."""

_NO_FIX: Final = "change one of these lines"
_FIXES: Final = (
    (
        r"has no timestamp|exclude.newer|uploaded after|newer than",
        "ask for a later date than `--exclude-newer`, or for none",
    ),
    (
        r"strict channel priority",
        "name the channel in the line, as `channel::name`, or change the order of the channels",
    ),
    (r"No candidates were found for", "check the name, the version and the channels"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A match spec, and how rattler is asked for it."""

    match_spec: MatchSpec
    text: str
    subdir: str | None = None
    """The folder of the channel that the line asks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What was asked for, and where."""

    channels: tuple[Channel, ...]
    """The first has the highest priority."""

    wishes: tuple[Wish, ...]


def error(answer: Mapping[str, Any], asked: Asked, target: Target, settings: CondaSettings) -> EnvBuilderError:
    """Return the error that tells of the failure in an answer of `conda_solve`."""
    text = str(answer.get("text", ""))
    match answer.get("failure"):
        case "missing":
            return EngineMissingError(
                f"the conda solver cannot be loaded ({visible(text)})",
                fix="reinstall: `pip install --force-reinstall py-rattler`",
            )
        case "match-spec":
            spec = asked.wishes[int(answer["number"])].match_spec
            return InvalidFileError(
                f"`{spec.text}` is not a match spec: {_shown(text)}",
                where=spec.source,
                fix="write `name`, `name=version`, `name=version=build` or `channel::name>=low,<high`",
            )
        case "credentials":
            return InvalidFileError(
                f"the file of credentials cannot be read: {_shown(text)}",
                where=Source(file="RATTLER_AUTH_FILE"),
                fix="write it as `rattler auth login` does: a JSON object of hosts",
            )
        case "unsatisfiable":
            return _unsatisfiable(text, asked, target)
        case _ if _FULL.search(text):
            return DiskFullError(
                "no space left on the disk",
                where=Source(file=str(settings.settings.cache_dir)),
                fix="free space there, or point ENVBUILDER_CACHE_DIR to a larger disk",
            )
        case _:
            return _unreachable(text, answer.get("url"), asked, settings)


def _shown(text: str) -> str:
    """Return rattler's words without its headings and credentials, and no more of them than can be read."""
    for heading in _HEADINGS:
        text = text.replace(heading, "", 1)
    lines = [visible(line.rstrip()[:_MAX_LINE]) for line in text.splitlines() if line.strip()]
    more = [f"… and {len(lines) - _MAX_LINES} lines more"] if len(lines) > _MAX_LINES else []
    return "\n".join([*lines[:_MAX_LINES], *more])


def _unsatisfiable(text: str, asked: Asked, target: Target) -> LockImpossibleError:
    """Name the lines of the model's files whose packages the explanation names."""
    words = {word.lower() for word in re.findall(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", text)}
    named = [one.match_spec for one in asked.wishes if one.match_spec.name.lower() in words]
    what = f"no set of conda packages satisfies what is asked for on {target.subdir}\n{_shown(text)}"
    first, *others = named or [asked.wishes[0].match_spec]
    problems = [Problem(what=what, where=first.source, fix=_fix(text, target))]
    problems += [Problem(what=f"`{one.text}` takes part in it", where=one.source) for one in others]
    return LockImpossibleError(tuple(problems))


def _fix(text: str, target: Target) -> str:
    lacking = set(re.findall(r"(__[a-z]+)[^,\n]*, for which no candidates were found", text))
    if "__cuda" in lacking and target.cuda is None:
        return "it needs a GPU, and none is counted on: take the build for CPUs, e.g. `name=version=*cpu*`"
    if lacking:
        has = ", ".join(f"`{name} {version}`" for name, version, _ in target.virtual_packages() if name in lacking)
        return f"the target has {has or 'none of it'}: take another target, or another version of the package"
    return next((fix for pattern, fix in _FIXES if re.search(pattern, text)), _NO_FIX)


def _unreachable(text: str, url: str | None, asked: Asked, settings: CondaSettings) -> UnreachableError:
    channel = _named_channel(url or text, asked.channels, settings)
    address = re.search(r"https?://[^\s)]+", text)
    through = proxy.host(address[0], dict(settings.settings.environ)) if address is not None else None
    what, fix = next((words for pattern, words in _FAILURES if re.search(pattern, text)), _NO_ANSWER)
    if (what, fix) == _NO_ANSWER and through is not None and _CONNECT.search(text):
        what, fix = _PROXY
    elif (what, fix) == _NO_ANSWER and settings.settings.offline:
        what, fix = _OFFLINE
    status = re.search(r"error \((\d{3}[^)]*)\)", text)
    shown = what.format(
        channel=f"the channel `{channel.name}`" if channel is not None else "a channel",
        url=channel.urls[0] if channel is not None else "the address",
        proxy=f" {through}" if through is not None else "",
        status=status[1] if status is not None else "",
    )
    return UnreachableError(f"{shown}\n{_shown(text)}", where=channel.source if channel is not None else None, fix=fix)


def _named_channel(text: str, channels: tuple[Channel, ...], settings: CondaSettings) -> Channel | None:
    """Return the channel whose address, or whose mirror's, the text names; the only one in any case."""
    if len(channels) == 1:
        return channels[0]
    # As the addresses stand without login and token.
    plain = re.sub(r"/t/[^/]+", "", re.sub(r"(?<=://)[^/\s@]+@", "", text))
    for channel in channels:
        for address in channel.addresses:
            places = [address.url]
            for of, mirrors in settings.mirrors:
                if f"{address.url}/".startswith(f"{of.url}/"):
                    places += [f"{mirror.url}{address.url[len(of.url) :]}" for mirror in mirrors]
            if any(f"{place}/" in f"{plain}/" for place in places):
                return channel
    return None
