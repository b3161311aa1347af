"""uv as a child process: from requirement lines to exact wheels, for another Python and platform than this one's."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from packaging.utils import parse_wheel_filename

from envbuilder import digest, package_index, process, uv_failure
from envbuilder.errors import EngineMissingError, LockImpossibleError
from envbuilder.locked import LockedPackage
from envbuilder.secret import visible
from envbuilder.url import without_credentials
from envbuilder.uv_failure import Question

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from packaging.tags import Tag

    from envbuilder.package_index import PackageIndex
    from envbuilder.reporter import Reporter
    from envbuilder.settings import Settings
    from envbuilder.target import Target

_SOME_MICRO: Final = 99
"""Later than every release of a minor version."""

_MAX_REASON: Final = 300
_YANKED: Final = re.compile(r"warning: `([^`]+)` is yanked(?: \(reason: \"(.*)\"\))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceMetadata:
    """What is known of a package that may be taken as source: uv then need not run its build to know it."""

    name: str
    version: str | None = None
    """None: for every version of which nothing else is known."""

    requires: tuple[str, ...] = ()


def compile_lines(  # noqa: PLR0913 - uv has as many wishes
    lines: tuple[str, ...],
    *,
    constraints: tuple[str, ...] = (),
    indexes: tuple[PackageIndex, ...] = (),
    provided: Mapping[str, str] | None = None,
    excluded: tuple[str, ...] = (),
    pins: tuple[str, ...] = (),
    update: tuple[str, ...] = (),
    exclude_newer: str | None = None,
    given: Mapping[str, LockedPackage] | None = None,
    sources: tuple[SourceMetadata, ...] = (),
    python_version: str,
    target: Target,
    settings: Settings,
    reporter: Reporter,
    dependencies: bool = True,
    on_yanked: Callable[[str, str], None] = lambda _pin, _reason: None,
) -> tuple[LockedPackage, ...]:
    """Return the wheels that satisfy the requirement lines, sorted by name; no line, no package.

    `indexes` are asked besides, or instead of, those of the settings. `provided` packages (name → version) are there
    already: they count, and are not in the answer; `excluded` ones do not even count. `pins` (`name==version`) are kept
    where they fit, but for those in `update`; what was uploaded after `exclude_newer` (RFC 3339) does not exist.
    `given` wheels are those that lines name by `@ file:`. Packages with `sources` are taken as source: in the answer
    they have the URL and the digest of that. `dependencies=False` takes the lines as the whole answer. `on_yanked`
    hears the pin of each package in the answer that its index marks as not to be taken any more, and why. Raises
    LockImpossibleError with uv's explanation when nothing fits or something exists only as source, UnreachableError
    when the index does not answer.
    """
    if not lines:
        return ()
    provided = provided or {}
    question = Question(
        python_version=python_version, target=target, settings=settings, indexes=indexes, exclude_newer=exclude_newer
    )
    said: list[str] = []
    with tempfile.TemporaryDirectory(prefix="envbuilder-uv-") as name:
        folder = Path(name)
        (folder / "requirements.in").write_text("\n".join(lines) + "\n", encoding="utf-8")
        limits = [*constraints, *(f"{name}=={version}" for name, version in sorted(provided.items()))]
        (folder / "constraints.in").write_text("\n".join(limits) + "\n", encoding="utf-8")
        always = [word for name in sorted(provided) for word in ("--no-emit-package", name)]
        always += ["--exclude-newer", exclude_newer] if exclude_newer is not None else []
        always += _only_wheels(folder, sources)
        if excluded:
            (folder / "excludes.in").write_text("\n".join(excluded) + "\n", encoding="utf-8")
            always += ["--excludes", "excludes.in"]
        extra: tuple[str, ...] = (*always, "--constraints", "constraints.in")
        edges: dict[str, list[str]] = {}
        if dependencies:
            # pylock.toml has no graph; the text form has it in its `# via` comments, and takes what it finds in its
            # output file as what is preferred.
            text = folder / "requirements.txt"
            text.write_text("\n".join(pins) + "\n", encoding="utf-8")
            updates = [word for name in update for word in ("--upgrade-package", name)]
            arguments = ("-o", str(text), "--annotation-style", "line", *extra, *updates)
            said = _compile(folder, question, reporter, arguments)
            answer = text.read_text(encoding="utf-8")
            edges = _edges(answer)
            # The second form of the same answer comes from uv's cache.
            (folder / "answer.in").write_text(answer, encoding="utf-8")
            extra = (*always, "--constraints", "constraints.in", "--constraints", "answer.in", "--offline")
        else:
            extra = (*extra, "--no-deps")
        pylock = folder / "pylock.toml"
        said += _compile(folder, question, reporter, ("--format", "pylock.toml", "-o", str(pylock), *extra))
        locked = tomllib.loads(pylock.read_text(encoding="utf-8"))
    yanked = {found[1]: found[2] for line in said if (found := _YANKED.match(line)) is not None}
    for pin, reason in yanked.items():
        on_yanked(pin, visible(reason or "")[:_MAX_REASON])
    ranks = target.tags(python_version)
    addresses = settings.asking(indexes).index_addresses
    packages = (_package(item, edges, ranks, addresses, given or {}) for item in locked.get("packages", ()))
    return tuple(sorted(packages, key=lambda package: package.name))


def _only_wheels(folder: Path, sources: tuple[SourceMetadata, ...]) -> list[str]:
    """Forbid uv to build anything: of the packages that may be source, it is told what a build would say."""
    if not sources:
        return ["--no-build", "--no-config"]
    # What JSON can hold is written in TOML alike.
    known = [
        f"{{ name = {json.dumps(one.name)}, "
        + (f"version = {json.dumps(one.version)}, " if one.version is not None else "")
        + f"requires-dist = {json.dumps(list(one.requires))} }}"
        for one in sources
    ]
    (folder / "uv.toml").write_text(f"dependency-metadata = [{', '.join(known)}]\n", encoding="utf-8")
    names = dict.fromkeys(one.name for one in sources)
    return [
        "--config-file",
        "uv.toml",
        "--only-binary",
        ":all:",
        *(word for name in names for word in ("--no-binary", name)),
    ]


def _package(
    item: dict[str, Any],
    edges: dict[str, list[str]],
    ranks: dict[Tag, int],
    addresses: tuple[str, ...],
    given: Mapping[str, LockedPackage],
) -> LockedPackage:
    name = str(item["name"])
    dependencies = tuple(sorted(edges.get(name, ())))
    if name in given:
        return replace(given[name], dependencies=dependencies)
    ranked = []
    for wheel in item.get("wheels", ()):
        *_, tags = parse_wheel_filename(unquote(PurePosixPath(urlsplit(wheel["url"]).path).name))
        fitting = [ranks[tag] for tag in tags if tag in ranks]
        if fitting and "sha256" in wheel.get("hashes", {}):
            ranked.append((min(fitting), str(wheel["url"]), str(wheel["hashes"]["sha256"])))
    sdist = item.get("sdist")
    if not ranked and sdist is not None and "sha256" in sdist.get("hashes", {}):
        ranked = [(0, str(sdist["url"]), str(sdist["hashes"]["sha256"]))]
    if not ranked:
        raise LockImpossibleError(
            f"`{name}` has no wheel for the target",
            fix="ask for a version that has one, or provide the wheel through an index of your own",
        )
    _, url, sha256 = min(ranked)
    return LockedPackage(
        name=name,
        version=str(item["version"]),
        url=package_index.without_token(without_credentials(url), addresses),
        sha256=digest.of_hex(sha256),
        dependencies=dependencies,
    )


def _edges(text: str) -> dict[str, list[str]]:
    """Read `name==1.0  # via a, b` lines into: package → the packages it needs."""
    edges: dict[str, list[str]] = {}
    for line in text.splitlines():
        requirement, marker, parents = line.partition("# via ")
        if marker:
            name = re.split(r"==| @ ", requirement)[0].strip()
            for parent in parents.split(","):
                # Parents in the form `-r requirements.in` are the lines asked for, not packages.
                if not parent.strip().startswith("-"):
                    edges.setdefault(parent.strip(), []).append(name)
    return edges


def _compile(folder: Path, question: Question, reporter: Reporter, arguments: tuple[str, ...]) -> list[str]:
    """Run uv, and return what it said; raises what `uv_failure` makes of it when it fails."""
    settings, target = question.settings, question.target
    said: list[str] = []

    def hear(line: str) -> None:
        said.append(line)
        reporter.line("lock", visible(line))

    environ = {**settings.program_environ(), **dict(settings.keyring_environ)}
    environ.update(UV_PYTHON_DOWNLOADS="never", UV_NO_PROGRESS="1", NO_COLOR="1", MACOSX_DEPLOYMENT_TARGET=target.macos)
    # Indexes may carry credentials: not on a command line that every user of the machine can list.
    asked = settings.asking(question.indexes)
    if asked.index_url is not None:
        environ["UV_DEFAULT_INDEX"] = asked.index_url
    if asked.extra_index_urls:
        environ["UV_INDEX"] = " ".join(asked.extra_index_urls)
    if asked.find_links:
        environ["UV_FIND_LINKS"] = ",".join(url.replace(",", "%2C") for url in asked.find_links)
    if asked.keyring:
        environ["UV_KEYRING_PROVIDER"] = "subprocess"
    # uv keeps the pages of indexes as they are, with the tokens that some have in their links.
    cache = settings.cache_dir / "uv"
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    command = (
        find(),
        "pip",
        "compile",
        "requirements.in",
        "--no-header",
        "--cache-dir",
        str(cache),
        # Else uv starts every Python on the PATH, only to replace what it learns by the target's.
        "--python",
        sys.executable,
        "--python-version",
        _release(question.python_version),
        "--python-platform",
        target.uv_platform,
        *(("--offline",) if settings.offline and "--offline" not in arguments else ()),
        *arguments,
    )
    finished = process.run(command, environ=environ, cwd=folder, on_line=hear, timeout=600)
    if not finished.ok:
        raise uv_failure.error(said, question)
    return said


def _release(python_version: str) -> str:
    """Return what uv is told: a minor version alone is its latest release, where uv would take the first one."""
    return python_version if python_version.count(".") > 1 else f"{python_version}.{_SOME_MICRO}"


def find() -> str:
    """Return the path of the uv program; raises EngineMissingError when the wheel that brings it is broken."""
    from uv import find_uv_bin  # noqa: PLC0415 - needed only when something is locked

    try:
        return str(find_uv_bin())
    except FileNotFoundError as cause:
        raise EngineMissingError(
            "the `uv` program is missing", fix="reinstall: `pip install --force-reinstall uv`"
        ) from cause
