"""Models that are named by URI: fetched through MLflow's client, kept by content, found again without the network.

`content/` holds each model once, `known/` what a model with a certain MLmodel, place and list of files is, `last/` what
each URI meant when it was last asked for. A URI is resolved anew each time; its files are downloaded only when unknown.
"""

from __future__ import annotations

import json
import shutil
import sys
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from envbuilder import digest, disk, model_files, process
from envbuilder.errors import ModelError, Source, UnreachableError
from envbuilder.model_download import Answer
from envbuilder.model_failure import Failure, error_of
from envbuilder.model_files import ModelFiles
from envbuilder.model_pattern import Registered
from envbuilder.model_place import Request
from envbuilder.model_uri import ModelUri

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from filelock import FileLock

    from envbuilder.digest import Digest
    from envbuilder.machine import Machine

_MEGABYTE: Final = 1_000_000
_START: Final = (
    "import json, sys; from importlib import import_module; sys.path += json.loads(sys.argv[1]); "
    "import_module(sys.argv[2]).main()"
)
"""Run isolated, so that nothing is imported from the current directory, but with the packages that are found here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLocation:
    """What a URI meant when it was resolved; nothing in it is a credential."""

    server: str
    """The tracking server, where one was asked."""

    artifacts: str
    """Where the files are."""

    version: str = ""
    run_id: str = ""
    model_id: str = ""

    def __str__(self) -> str:
        named = (("version", self.version), ("run", self.run_id), ("model", self.model_id))
        facts = [f"{name} {value}" for name, value in named if value]
        return ", ".join((*facts, f"{self.artifacts} at {self.server}" if self.server else self.artifacts))


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedModel:
    """A model on this disk. Its directory is never changed; another content gets another directory."""

    directory: Path
    digest: Digest
    location: ModelLocation


def fetch(uri: ModelUri, *, machine: Machine) -> FetchedModel:
    """Return the model that the URI means now, downloading it unless it is here already.

    Raises ModelError when there is no such model, UnreachableError when the server does not answer or refuses (and,
    offline, when the URI was not fetched before), EngineMissingError when MLflow's client or a storage's is missing.
    """
    server = _server(uri, machine)
    key = digest.hex_of(digest.of_json([str(uri), server]))
    note = machine.models / "last" / f"{key}.json"
    if machine.settings.offline:
        return _recalled(note, uri, server, machine)
    with _turn(key, machine):
        _sweep(key, machine)
        with disk.temporary_directory(machine.models / "staging" / key) as folder:
            answer, found = _ask(uri, server, folder, machine)
    location = ModelLocation(
        server=server,
        artifacts=answer.artifacts,
        version=answer.version,
        run_id=answer.run_id,
        model_id=answer.model_id,
    )
    record = {"uri": str(uri), "key": answer.key, "location": asdict(location)}
    disk.write_file(note, json.dumps(record).encode())
    return FetchedModel(directory=_directory(found, machine), digest=found, location=location)


def registered(*, machine: Machine) -> tuple[Registered, ...]:
    """Return the models that are registered with the tracking server; raises what `fetch` does."""
    uri = ModelUri(kind="artifacts", location="models:/")
    if machine.settings.offline:
        raise UnreachableError(
            "`--offline` forbids to ask which models are registered",
            where=Source(file=str(uri)),
            fix="run without `--offline`, or list the models in a file",
        )
    request = Request(
        kind="registered",
        name="",
        selector="",
        path="",
        location="",
        server=_server(uri, machine),
        directory="",
        known="",
        max_files=model_files.MAX_FILES,
    )
    found = _run("envbuilder.model_listing", request, uri, machine)["models"]
    return tuple(Registered(name=name, aliases=tuple(aliases)) for name, aliases in found)


def _server(uri: ModelUri, machine: Machine) -> str:
    """Return the tracking server as it may be shown; raises ModelError where it is needed and not named."""
    text = dict(machine.settings.model_store_environ).get("MLFLOW_TRACKING_URI", "").strip()
    if not uri.needs_server:
        return ""
    if not text:
        # MLflow would take, or make, a store in the current directory.
        raise ModelError(
            f"no tracking server is named, and `{uri}` is a model of one",
            where=Source(file="MLFLOW_TRACKING_URI"),
            fix="set it to the server's address, e.g. `http://mlflow.example:5000`, or to a store of files",
        )
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError as cause:
        raise ModelError(
            "the address of the tracking server cannot be read",
            where=Source(file="MLFLOW_TRACKING_URI"),
            fix="write it as `http://HOST:PORT`",
        ) from cause
    if "@" not in parts.netloc and not parts.query and not parts.fragment:
        return text
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


@contextmanager
def _turn(key: str, machine: Machine) -> Iterator[None]:
    """Wait until no other process fetches for this key: it would download the same."""
    lock = _lock(key, machine)
    try:
        lock.acquire(timeout=0)
    except TimeoutError:
        machine.reporter.line("fetch", "another envbuilder fetches this model; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _lock(key: str, machine: Machine) -> FileLock:
    from filelock import FileLock  # noqa: PLC0415 - brings asyncio along, which most runs do without

    folder = machine.models / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / f"{key}.lock")


def _sweep(own: str, machine: Machine) -> None:
    """Remove what processes that were killed left behind: whoever holds no lock any more writes no more."""
    staging = machine.models / "staging"
    for left in sorted(staging.iterdir()) if staging.is_dir() else ():
        if left.name == own:
            shutil.rmtree(left, ignore_errors=True)
            continue
        with suppress(TimeoutError), _lock(left.name, machine).acquire(timeout=0):
            shutil.rmtree(left, ignore_errors=True)


def _ask(uri: ModelUri, server: str, folder: Path, machine: Machine) -> tuple[Answer, Digest]:
    """Return what the server answers and the digest of the model, which is in the store then."""
    directory = folder / "model"
    directory.mkdir()
    request = Request(
        kind=uri.kind,
        name=uri.name,
        selector=uri.selector,
        path=uri.path,
        location=uri.location,
        server=server,
        directory=str(directory),
        known=str(machine.models / "known"),
        max_files=model_files.MAX_FILES,
    )
    fields = _run("envbuilder.model_download", request, uri, machine)
    answer = Answer(**{**fields, "files": tuple((path, size) for path, size in fields["files"])})
    if not answer.is_known:
        return answer, _keep(answer, directory, folder, machine)
    found = _known(answer.key, machine)
    if found is not None:
        return answer, found
    # The note was there and the files are not, or not whole: somebody cleaned up by hand.
    (machine.models / "known" / f"{answer.key}.json").unlink(missing_ok=True)
    shutil.rmtree(directory)
    return _ask(uri, server, folder, machine)


def _run(program: str, request: Request, uri: ModelUri, machine: Machine) -> dict[str, Any]:
    """Run a program that talks to MLflow, and return the fields of its answer."""
    settings = machine.settings
    environ = settings.program_environ()
    if settings.ca_file is not None:
        environ["REQUESTS_CA_BUNDLE"] = str(settings.ca_file)
    environ.update(settings.model_store_environ)
    import_path = json.dumps([path for path in sys.path if Path(path).is_absolute()])
    finished = process.run(
        (sys.executable, "-I", "-c", _START, import_path, program),
        environ=environ,
        stdin=json.dumps(asdict(request)).encode(),
        on_line=_progress(machine),
    )
    where = Source(file=str(uri))
    if finished.code < 0:
        raise UnreachableError(
            f"the download was killed (signal {-finished.code})",
            where=where,
            fix="try again; the machine may be short of memory",
        )
    try:
        ((kind, fields),) = json.loads(finished.stdout).items()
    except ValueError as cause:
        message = "\n".join((f"the download ended with code {finished.code} and no answer", *finished.tail))
        raise RuntimeError(message) from cause
    if kind == Failure.__name__:
        failure = Failure(**{**fields, "near": tuple(fields["near"])})
        raise error_of(failure, uri, server=request.server, cache=machine.models)
    answer: dict[str, Any] = fields
    return answer


def _progress(machine: Machine) -> Callable[[str], None]:
    shown = -1

    def on_line(line: str) -> None:
        nonlocal shown
        with suppress(ValueError, KeyError, TypeError):
            event = json.loads(line)
            megabytes = -(-event["done"] // _MEGABYTE)
            if event["total"] and megabytes != shown:
                shown = megabytes
                machine.reporter.progress("fetch", megabytes, -(-event["total"] // _MEGABYTE), "MB")

    return on_line


def _keep(answer: Answer, directory: Path, folder: Path, machine: Machine) -> Digest:
    """Give the downloaded model its name in the store."""
    found = ModelFiles.read(directory)
    for path in (directory, *directory.rglob("*")):
        # Whatever the umask: a sandbox runs as another user.
        path.chmod(0o755 if path.is_dir() else 0o444)
    target = _directory(found.digest, machine)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and not _is_whole(target, dict(answer.files)):
        target.rename(folder / "damaged")
    disk.move_directory(directory, target)
    record = {"digest": found.digest, "files": answer.files}
    disk.write_file(machine.models / "known" / f"{answer.key}.json", json.dumps(record).encode())
    return found.digest


def _known(key: str, machine: Machine) -> Digest | None:
    """Return the digest of the known model, if all its files are here."""
    try:
        record: dict[str, Any] = json.loads((machine.models / "known" / f"{key}.json").read_bytes())
        found = digest.parse(record["digest"])
        sizes = {str(path): int(size) for path, size in record["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if _is_whole(_directory(found, machine), sizes) else None


def _is_whole(directory: Path, sizes: dict[str, int]) -> bool:
    try:
        return {path: file.stat().st_size for path, file in model_files.walk(directory).items()} == sizes
    except (OSError, ModelError):
        return False


def _recalled(note: Path, uri: ModelUri, server: str, machine: Machine) -> FetchedModel:
    try:
        record = json.loads(note.read_bytes())
        location = ModelLocation(**record["location"])
        found = _known(record["key"], machine)
    except (OSError, ValueError, KeyError, TypeError):
        found, location = None, None
    if found is None or location is None:
        raise UnreachableError(
            f"`{uri}` was not fetched{f' from `{server}`' if server else ''} yet, and `--offline` forbids to do it now",
            where=Source(file=str(uri)),
            fix="run once without `--offline`, or give the directory of the model",
        )
    return FetchedModel(directory=_directory(found, machine), digest=found, location=location)


def _directory(found: Digest, machine: Machine) -> Path:
    return machine.models / "content" / digest.hex_of(found)
