"""The program that finds a model at an MLflow tracking server and downloads it; `model_store` starts it.

MLflow stays out of envbuilder's own process: its import is slow, installs handlers and sends telemetry. One `Request`
comes on standard input, one `Answer` or `Failure` leaves on standard output, how far it is goes to standard error.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from envbuilder import digest
from envbuilder.model_failure import FailedError, Failure, failure_of
from envbuilder.model_place import Request, keep_login, list_files, locate, repository_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import DataclassInstance

    from envbuilder.model_place import Place

_ALWAYS: Final = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # A store of files is only read here, and somebody named it.
    "MLFLOW_ALLOW_FILE_STORE": "true",
}
_UNLESS_SET: Final = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    # A server may ask for hours.
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
}
_PARALLEL: Final = 4
_ATTEMPTS: Final = 3
_TICK: Final = 0.2
_SMALLEST_LIMIT: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What was found, and downloaded unless it is known."""

    key: str
    is_known: bool
    files: tuple[tuple[str, int], ...]
    artifacts: str
    """Where the files are, without credentials."""

    version: str = ""
    run_id: str = ""
    model_id: str = ""


@dataclass(slots=True)
class Progress:
    """Counts bytes, and tells the parent; a parent that is gone ends the program."""

    answers: int
    events: int
    total: int = 0
    finished: int = 0
    running: dict[Path, int] = field(default_factory=dict)
    last_word: threading.Lock = field(default_factory=threading.Lock)

    def tick(self) -> None:
        """Look at the files that are being written, and report."""
        done = self.finished
        for path, announced in list(self.running.items()):
            with suppress(OSError):
                size = path.stat().st_size
                if size > announced:
                    self.finish(Failure(kind="longer", detail=path.name))
                done += size
        try:
            os.write(self.events, json.dumps({"done": done, "total": self.total}).encode() + b"\n")
        except OSError:
            os._exit(1)

    def keep_ticking(self) -> None:
        """Report until the program ends."""
        pause = threading.Event()
        while not pause.wait(_TICK):
            self.tick()

    def finish(self, result: DataclassInstance) -> NoReturn:
        """Give the result and end the program, whatever its threads and those of MLflow still do."""
        with self.last_word, os.fdopen(self.answers, "wb") as stream:
            stream.write(json.dumps({type(result).__name__: asdict(result)}).encode())
            stream.flush()
            os._exit(0)


def answer(request: Request, progress: Progress) -> Answer:
    """Find the model and, unless it is known, download it; raises FailedError and whatever MLflow raises."""
    place = locate(request)
    other_host = keep_login(place) if request.kind != "artifacts" else ""
    try:
        return _fetched(place, request, progress)
    except Exception as cause:
        failure = replace(failure_of(cause), place=place.shown)
        if other_host and failure.kind == "denied":
            failure = replace(failure, kind="denied-elsewhere", detail=other_host)
        raise FailedError(failure) from cause


def _fetched(place: Place, request: Request, progress: Progress) -> Answer:
    repository = repository_of(place)
    listing = list_files(repository, place, request)
    directory = Path(request.directory)
    limit = max(_SMALLEST_LIMIT, *listing.values())
    # Whatever a server sends, no file gets longer than the longest announced.
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    download(repository, place, {"MLmodel": listing["MLmodel"]}, directory, progress)
    files = tuple(sorted(listing.items()))
    key = digest.hex_of(digest.of_json([digest.of_file(directory / "MLmodel"), request.server, place.shown, files]))
    is_known = (Path(request.known) / f"{key}.json").exists()
    if not is_known:
        rest = {path: size for path, size in files if path != "MLmodel"}
        download(repository, place, rest, directory, progress)
    return Answer(
        key=key,
        is_known=is_known,
        files=files,
        artifacts=place.shown,
        version=place.version,
        run_id=place.run_id,
        model_id=place.model_id,
    )


def download(
    repository: Any,  # noqa: ANN401 - MLflow's
    place: Place,
    files: dict[str, int],
    directory: Path,
    progress: Progress,
) -> None:
    """Download the files, some at a time; raises FailedError for one that is not as long as announced."""
    progress.total += sum(files.values())

    def fetch(path: str, size: int) -> None:
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        progress.running[target] = size
        _fetch(repository, f"{place.path}/{path}".lstrip("/"), target)
        del progress.running[target]
        found = target.lstat().st_size
        if found != size:
            raise FailedError(Failure(kind="longer" if found > size else "shorter", detail=path))
        progress.finished += size

    with ThreadPoolExecutor(_PARALLEL) as pool:
        running = [pool.submit(fetch, path, size) for path, size in files.items()]
        try:
            for future in as_completed(running):
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _fetch(repository: Any, path: str, target: Path) -> None:  # noqa: ANN401 - MLflow's
    import requests  # noqa: PLC0415 - comes with MLflow

    for attempt in range(1, _ATTEMPTS + 1):
        try:
            # Not `download_artifacts`: it would list the folder again for each file, and choose the path itself.
            repository._download_file(path, str(target))  # noqa: SLF001 - what plugins implement
        except (requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError):
            if attempt == _ATTEMPTS:
                raise
        else:
            return


def main() -> None:
    """Answer the request on standard input."""
    serve(answer)


def serve(answer: Callable[[Request, Progress], DataclassInstance]) -> NoReturn:
    """Answer the request on standard input with what the function returns."""
    progress = Progress(answers=os.dup(1), events=os.dup(2))
    # What MLflow prints is for nobody, and may hold URLs with credentials.
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    request = Request(**json.load(sys.stdin.buffer))
    os.environ.update(_ALWAYS)
    for name, value in _UNLESS_SET.items():
        os.environ.setdefault(name, value)
    threading.Thread(target=progress.keep_ticking, daemon=True).start()
    try:
        import mlflow  # noqa: F401, PLC0415 - half a second, and often missing
    except ImportError:
        progress.finish(Failure(kind="extra"))
    try:
        found = answer(request, progress)
    except Exception as cause:  # noqa: BLE001 - told by the parent
        progress.finish(failure_of(cause))
    progress.tick()
    progress.finish(found)
