"""Where the files of a model are, and which they are, as a tracking server says.

Runs beside MLflow, in the program `model_download`. What the server says is not trusted.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from envbuilder.model_failure import FailedError, Failure, scrubbed

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOGINS: Final = (
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_TRACKING_AUTH",
    "MLFLOW_TRACKING_AWS_SIGV4",
    "MLFLOW_TRACKING_CLIENT_CERT_PATH",
)
_DEPTH: Final = 64
_NEAR: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is wanted: the fields of a `ModelUri`, and where things are on this machine."""

    kind: str
    name: str
    selector: str
    path: str
    location: str
    server: str
    """The tracking server as it may be shown; part of what a known model is recognized by."""

    directory: str
    """Empty; the model's files go there."""

    known: str
    """Holds a file `KEY.json` for each model that need not be downloaded again."""

    max_files: int


@dataclass(slots=True)
class Place:
    """Where the files of the model are, as the server says."""

    location: str
    path: str = ""
    version: str = ""
    run_id: str = ""
    model_id: str = ""

    @property
    def shown(self) -> str:
        """The place without credentials."""
        return scrubbed(f"{self.location.rstrip('/')}/{self.path}".rstrip("/"))


def locate(request: Request) -> Place:
    """Ask the server where the model's files are."""
    if request.kind in ("artifacts", "storage"):
        return Place(request.location)
    from mlflow import MlflowClient  # noqa: PLC0415 - half a second, and often missing

    check_store(os.environ["MLFLOW_TRACKING_URI"])
    client = MlflowClient()
    if request.kind == "run":
        return _of_run(client, request.name, request.path)
    if request.kind == "logged-model":
        return _of_logged_model(client, request.name)
    return _of_version(client, request)


def check_store(uri: str) -> None:
    """Raise FailedError where a store of files does not exist: MLflow would make it."""
    parts = urlsplit(uri)
    is_files = parts.scheme in ("", "file") and uri not in ("databricks", "databricks-uc", "uc")
    if is_files and not Path(unquote(parts.path)).is_dir():
        raise FailedError(Failure(kind="no-store"))


def _of_run(client: Any, run_id: str, path: str) -> Place:  # noqa: ANN401 - MLflow's
    try:
        run = client.get_run(run_id)
    except Exception as cause:
        if _is_missing(cause):
            raise FailedError(Failure(kind="no-run")) from cause
        raise
    name, _, rest = path.partition("/")
    # Since MLflow 3 a model that was logged in a run is kept beside the run.
    for model in _logged_models(client, run, name) if name else ():
        return Place(model.artifact_location, path=rest, run_id=run_id, model_id=model.model_id)
    return Place(run.info.artifact_uri, path=path, run_id=run_id)


def _logged_models(client: Any, run: Any, name: str = "") -> Iterator[Any]:  # noqa: ANN401 - MLflow's
    """Yield the models that were logged in the run, the newest first; a server of MLflow 2 knows none."""
    if not hasattr(client, "search_logged_models") or "'" in name:
        return
    token, wanted = None, f"name = '{name}'" if name else None
    while True:
        try:
            page = client.search_logged_models(
                experiment_ids=[run.info.experiment_id], filter_string=wanted, page_token=token
            )
        except Exception as cause:
            if getattr(cause, "error_code", "") in ("ENDPOINT_NOT_FOUND", "NOT_IMPLEMENTED", "FEATURE_DISABLED"):
                return
            raise
        yield from (model for model in page if model.source_run_id == run.info.run_id)
        token = page.token
        if not token:
            return


def _of_logged_model(client: Any, model_id: str) -> Place:  # noqa: ANN401 - MLflow's
    if not hasattr(client, "get_logged_model"):
        raise FailedError(Failure(kind="old-client"))
    try:
        model = client.get_logged_model(model_id)
    except Exception as cause:
        if _is_missing(cause):
            raise FailedError(Failure(kind="no-logged-model", detail=model_id)) from cause
        raise
    return Place(model.artifact_location, run_id=model.source_run_id or "", model_id=model_id)


def _of_version(client: Any, request: Request) -> Place:  # noqa: ANN401 - MLflow's
    import mlflow  # noqa: PLC0415 - see `locate`

    name = request.name
    try:
        version = _version(client, request)
    except Exception as cause:
        if _is_missing(cause):
            raise _no_version(client, request) from cause
        raise
    if mlflow.get_registry_uri().startswith(("databricks", "uc:")):
        # These registries hand out credentials with each model.
        return Place(f"models:/{name}/{version.version}", version=version.version, run_id=version.run_id or "")
    location = client.get_model_version_download_uri(name, version.version)
    place = Place(location, run_id=version.run_id or "")
    if location.startswith("models:/"):
        place = _of_logged_model(client, location.removeprefix("models:/"))
    elif location.startswith("runs:/"):
        place = _of_run(client, *location.removeprefix("runs:/").partition("/")[::2])
    place.version = version.version
    if (version.source or "").startswith("models:/"):
        place.model_id = version.source.removeprefix("models:/")
    return place


def _version(client: Any, request: Request) -> Any:  # noqa: ANN401 - MLflow's
    if request.kind == "alias":
        return client.get_model_version_by_alias(request.name, request.selector)
    number = request.selector
    if request.kind != "version":
        from mlflow.store.artifact.utils import models  # noqa: PLC0415 - see `locate`

        resolve: Any = models.get_model_name_and_version
        _, number = resolve(client, f"models:/{request.name}/{request.selector or 'latest'}")
    return client.get_model_version(request.name, number)


def _no_version(client: Any, request: Request) -> FailedError:  # noqa: ANN401 - MLflow's
    """Say whether it is the model that does not exist or its version, and what exists instead."""
    with suppress(Exception):
        model = client.get_registered_model(request.name)
        if request.kind == "alias":
            return FailedError(
                Failure(kind="no-alias", near=tuple(f"models:/{request.name}@{alias}" for alias in model.aliases))
            )
        found = client.search_model_versions(f"name = '{request.name}'", max_results=_NEAR)
        return FailedError(
            Failure(kind="no-version", near=tuple(f"models:/{request.name}/{item.version}" for item in found))
        )
    with suppress(Exception):
        names = [model.name for model in client.search_registered_models(max_results=_NEAR)]
        return FailedError(Failure(kind="no-registered-model", near=tuple(names)))
    return FailedError(Failure(kind="no-registered-model"))


def _is_missing(cause: Exception) -> bool:
    """Tell whether the server says that there is no such thing."""
    code, text = getattr(cause, "error_code", ""), str(cause)
    return (
        code == "RESOURCE_DOES_NOT_EXIST"
        or (code == "INVALID_PARAMETER_VALUE" and "not found" in text)
        or text.startswith("No versions of")
    )


def keep_login(place: Place) -> str:
    """Forget the tracking server's login where the server, not the user, names another host for the files; return it.

    Whoever may log a model chooses that host.
    """
    parts = urlsplit(place.location)
    own = urlsplit(os.environ.get("MLFLOW_TRACKING_URI", ""))
    is_own = not parts.netloc or (parts.hostname, parts.port) == (own.hostname, own.port)
    if is_own or parts.scheme not in ("http", "https", "mlflow-artifacts"):
        return ""
    os.environ.setdefault("NETRC", str(Path("~/.netrc").expanduser()))
    # MLflow also takes a login from ~/.mlflow/credentials.
    os.environ["HOME"] = os.devnull
    for name in _LOGINS:
        os.environ.pop(name, None)
    return parts.netloc.rpartition("@")[2]


def repository_of(place: Place) -> Any:  # noqa: ANN401 - MLflow's
    """Return MLflow's repository for the place."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository  # noqa: PLC0415 - see above

    repository = get_artifact_repository(place.location)
    while hasattr(repository, "repo"):
        repository = repository.repo
    # Unity Catalog's is a shell around one that has credentials for this model.
    return repository._get_artifact_repo() if hasattr(repository, "_get_artifact_repo") else repository  # noqa: SLF001


def list_files(repository: Any, place: Place, request: Request) -> dict[str, int]:  # noqa: ANN401 - MLflow's
    """Return size by path of all files of the model."""
    files: dict[str, int] = {}
    waiting = [(place.path, 0)]
    seen = 0
    while waiting:
        folder, depth = waiting.pop()
        for item in _entries(repository, folder):
            seen += 1
            if seen > request.max_files or depth > _DEPTH:
                raise FailedError(Failure(kind="endless", detail=str(request.max_files)))
            path = _inside(item.path, place)
            if item.is_dir:
                waiting.append((item.path, depth + 1))
            else:
                # MLflow leaves the size of empty files out.
                files[path] = int(item.file_size or 0)
        if folder == place.path and "MLmodel" not in files:
            near = _near_models(repository, place, request)
            raise FailedError(Failure(kind="no-model", detail=place.shown, near=near))
    _check_links(repository, place, files)
    return files


def _entries(repository: Any, folder: str) -> list[Any]:  # noqa: ANN401 - MLflow's
    try:
        found = repository.list_artifacts(folder or None)
    except Exception as cause:
        if str(cause) == "Invalid path":
            raise FailedError(Failure(kind="outside")) from cause
        raise
    # Some stores list the folder itself.
    return [item for item in found if item.path not in (".", folder)]


def _inside(path: str, place: Place) -> str:
    """Return the path below the model's directory; raises FailedError where it is not below."""
    prefix = f"{place.path}/" if place.path else ""
    inside = path.removeprefix(prefix)
    if not path.startswith(prefix) or not path.isprintable() or {"", ".", ".."} & set(inside.split("/")):
        raise FailedError(Failure(kind="outside", detail=path))
    return inside


def _check_links(repository: Any, place: Place, files: dict[str, int]) -> None:  # noqa: ANN401 - MLflow's
    """Raise FailedError for files of this machine that the place does not hold itself: a server must not name them."""
    if urlsplit(place.location).scheme not in ("", "file"):
        return
    root = Path(os.path.realpath(Path(repository.artifact_dir) / place.path))
    for path in files:
        if not Path(os.path.realpath(root / path)).is_relative_to(root):
            raise FailedError(Failure(kind="outside", detail=path))


def _near_models(repository: Any, place: Place, request: Request) -> tuple[str, ...]:  # noqa: ANN401 - MLflow's
    """Return what could have been meant: folders with an MLmodel, and the models that the run logged."""
    found: set[str] = set()
    for above in {place.path, ""}:
        with suppress(Exception):
            folders = [item.path for item in _entries(repository, above) if item.is_dir]
            for folder in folders[:_NEAR]:
                if any(item.path == f"{folder}/MLmodel" for item in _entries(repository, folder)):
                    found.add(folder)
    if request.kind != "run":
        return tuple(f"{request.location}/{path}" for path in sorted(found))
    from mlflow import MlflowClient  # noqa: PLC0415 - see `locate`

    with suppress(Exception):
        client = MlflowClient()
        found.update(model.name for model in _logged_models(client, client.get_run(request.name)))
    return tuple(f"runs:/{request.name}/{path}" for path in sorted(found))
