"""Why a model could not be had: MLflow's exceptions, told from one process to the other and as errors to the user.

No credential gets into a failure.
"""

from __future__ import annotations

import difflib
import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import unquote

from envbuilder.errors import (
    DiskFullError,
    EngineMissingError,
    EnvBuilderError,
    ModelError,
    Source,
    UnreachableError,
)
from envbuilder.problems import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envbuilder.model_uri import ModelUri

_PACKAGES: Final = {
    "s3": "boto3",
    "r2": "boto3",
    "b2": "boto3",
    "gs": "google-cloud-storage",
    "wasbs": "azure-storage-blob azure-identity",
    "abfss": "azure-storage-file-datalake azure-identity",
    "hdfs": "pyarrow",
    "viewfs": "pyarrow",
    "dbfs": "databricks-sdk",
    "azureml": "azureml-mlflow",
}
_TRY_AGAIN: Final = "try again, in case the model is being written; else ask who runs the server"
_LOGIN: Final = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
_Told: TypeAlias = tuple[type[EnvBuilderError], str, str]
_SECRET_NAMES: Final = re.compile(r"PASSWORD|TOKEN|SECRET|KEY|CREDENTIAL|CONNECTION_STRING|SAS")
_DENIED: Final = ("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED", "PERMISSION_DENIED")
_SHOWN: Final = 5
_SWITCHES: Final = ("", "0", "1", "true", "false")
_LATER: Final = ("TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED")


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why there is no model."""

    kind: str
    detail: str = ""
    near: tuple[str, ...] = ()
    """Names that exist."""

    place: str = ""
    """Where the files are, if that was known already."""


class FailedError(Exception):
    """Ends the program that talks to MLflow, with the failure."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.kind)
        self.failure = failure


def failure_of(cause: BaseException) -> Failure:
    """Return what went wrong, in words of ours where they are known."""
    for each in _chain(cause):
        found = _failure_of_one(each)
        if found is not None:
            return found
    return Failure(kind="unknown", detail=scrubbed(f"{type(cause).__name__}: {cause}"))


def _chain(cause: BaseException | None) -> Iterator[BaseException]:
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _failure_of_one(cause: BaseException) -> Failure | None:
    status = getattr(getattr(cause, "response", None), "status_code", None)
    library = type(cause).__module__.partition(".")[0]
    found: Failure | None = None
    if isinstance(cause, FailedError):
        found = cause.failure
    elif isinstance(cause, (ImportError, NameError)):
        # MLflow's repository for HDFS goes on without the import that failed.
        found = Failure(kind="package", detail=cause.name or "")
    elif isinstance(status, int):
        found = _failure_of_status(status, scrubbed(str(cause)))
    elif library == "requests":
        found = _failure_of_request(type(cause).__name__, str(cause))
    elif library == "mlflow":
        found = _failure_of_mlflow(cause)
    elif isinstance(cause, OSError):
        found = _failure_of_system(cause)
    return found


def _failure_of_request(name: str, text: str) -> Failure:
    if "certificate verify failed" in text:
        return Failure(kind="certificate")
    return Failure(kind="address" if name == "InvalidURL" else "unreachable", detail=name)


def _failure_of_system(cause: OSError) -> Failure | None:
    if cause.errno in (errno.ENOSPC, errno.EDQUOT):
        return Failure(kind="disk-full")
    if cause.errno == errno.EFBIG:
        return Failure(kind="longer", detail=Path(str(cause.filename or "")).name)
    return None


def _failure_of_status(status: int, text: str) -> Failure:
    if status in (401, 403):
        return Failure(kind="denied", detail=text)
    if status in (408, 429) or status >= 500:  # noqa: PLR2004 - HTTP's
        return Failure(kind="unreachable", detail=f"HTTP {status}")
    return Failure(kind="unknown", detail=text)


def _failure_of_mlflow(cause: BaseException) -> Failure | None:
    text, code = scrubbed(str(cause)), getattr(cause, "error_code", "")
    kinds = {
        "store": type(cause).__name__.startswith("Unsupported"),
        "package": "registered artifact repository" in text,
        "host": "Invalid Host header" in text,
        "denied": code in _DENIED,
        "no-server": code == "ENDPOINT_NOT_FOUND" or "not in a valid JSON" in text,
        "unreachable": code in _LATER,
    }
    kind = next((kind for kind, holds in kinds.items() if holds), None)
    return Failure(kind=kind, detail=text) if kind is not None else None


def scrubbed(text: str) -> str:
    """Return `text` without anything that is a credential: of URLs, and of this program's environment."""
    secrets = {value for name, value in os.environ.items() if _SECRET_NAMES.search(name)}
    secrets |= {unquote(secret) for secret in secrets}
    for secret in sorted(secrets, key=len, reverse=True):
        if secret.lower() not in _SWITCHES:
            text = text.replace(secret, "***")
    text = re.sub(r"\b(Basic|Bearer) \S+", r"\1 ***", text)
    text = re.sub(r"://[^/\s'\"]*:[^/\s'\"]*@", "://***@", text)
    # Signed URLs carry their credentials there.
    return re.sub(r"(://[^\s?'\"]*)\?[^\s'\")]*", r"\1", text)


def error_of(failure: Failure, uri: ModelUri, *, server: str, cache: Path) -> EnvBuilderError:
    """Return the error that tells the user about the failure, with what to do."""
    where = Source(file=str(uri))
    if failure.kind == "disk-full":
        fix = "free space there, or point ENVBUILDER_CACHE_DIR to a larger disk"
        return DiskFullError("no space left on the disk", where=Source(file=str(cache)), fix=fix)
    told = _absence(failure, uri, server) or _refusal(failure, server) or _untrusted(failure)
    if told is not None:
        kind, what, fix = told
        return kind(what, where=where, fix=fix)
    if failure.kind in ("extra", "old-client", "package", "store"):
        what, fix = _lack(failure, uri, server)
        return EngineMissingError(what, where=where, fix=fix)
    return ModelError(
        f"MLflow could not fetch the model{_at(failure.place)}: {shown(failure.detail, limit=500)}",
        where=where,
        fix="check the URI, MLFLOW_TRACKING_URI, and the login of the storage",
    )


def _absence(failure: Failure, uri: ModelUri, server: str) -> _Told | None:
    """Tell that the server, or the place, does not have what is asked for."""
    name, near = shown(uri.name), _listed(str(uri), failure.near)
    place = shown(failure.detail, limit=300)
    missing = {"latest": "no version", "stage": f"no version in the stage `{uri.selector}`"}
    told = {
        "no-run": (f"`{server}` knows no run `{name}`", _check("the run's id")),
        "no-logged-model": (f"`{server}` knows no model `{place}`", _check("the model's id")),
        "no-registered-model": (f"`{server}` has no registered model `{name}`", near or _check("the model's name")),
        "no-alias": (
            f"the model `{name}` of `{server}` has no alias `{uri.selector}`",
            near or f"it has none; give a version: `models:/{name}/VERSION`",
        ),
        "no-version": (
            f"the model `{name}` of `{server}` has {missing.get(uri.kind, f'no version `{uri.selector}`')}",
            near or "register one, or check the name",
        ),
        "no-store": (f"there is no store of files at `{server}`", "check MLFLOW_TRACKING_URI"),
        "no-model": (f"no `MLmodel` in `{place}`", near or "give the path that the model was logged to"),
    }
    if failure.kind == "no-model" and failure.detail.startswith(("/", "file:")) and _is_remote(server) and not near:
        what = f"no `MLmodel` in `{place}`, which the server names as its own disk"
        serve = "log the model to a server that passes files on (`mlflow server --serve-artifacts`)"
        return ModelError, what, f"run envbuilder where that directory is, or {serve}"
    return (ModelError, *told[failure.kind]) if failure.kind in told else None


def _refusal(failure: Failure, server: str) -> _Told | None:
    """Tell that the server did not answer, or not as hoped."""
    asked = f"the tracking server `{server}`" if server else "the storage"
    detail = shown(failure.detail, limit=300)
    told = {
        "unreachable": (
            f"no answer from {asked} ({detail})",
            "check that it runs, that MLFLOW_TRACKING_URI names it, and the proxy settings, then try again",
        ),
        "denied": (
            f"{asked} refuses access",
            f"set {_LOGIN}, to a login that may read the model",
        ),
        "denied-elsewhere": (
            f"{asked} keeps the files at `{detail}`, which refuses access without the login for {asked}",
            f"if that host may know your login, give the place itself: `{shown(failure.place, limit=300)}`",
        ),
        "host": (
            f"{asked} does not answer to that name",
            "start it with `--allowed-hosts` and that name, or use a name that it knows",
        ),
        "certificate": (
            f"the certificate of {asked} is not trusted",
            "name the CA that signed it: set ENVBUILDER_CA_FILE to its PEM file",
        ),
        "no-server": (
            f"`{server}` does not answer as an MLflow tracking server",
            "set MLFLOW_TRACKING_URI to the address alone, without the path of a page",
        ),
        "address": (
            f"`{server}` is no address of a tracking server",
            "write MLFLOW_TRACKING_URI as `http://HOST:PORT`",
        ),
        "shorter": (f"`{detail}` is shorter than the server announced", _TRY_AGAIN),
    }
    return (UnreachableError, *told[failure.kind]) if failure.kind in told else None


def _untrusted(failure: Failure) -> _Told | None:
    """Tell that what the server says cannot be a model."""
    detail = shown(failure.detail, limit=300)
    told = {
        "outside": (
            f"the model lists a file that is not inside it{f': `{detail}`' if detail else ''}",
            "do not use this model; ask who logged it",
        ),
        "endless": (f"the model lists more than {detail} files, or folders in folders without end", _TRY_AGAIN),
        "longer": (f"the file `{detail}` is longer than the server announced", _TRY_AGAIN),
    }
    return (ModelError, *told[failure.kind]) if failure.kind in told else None


def _lack(failure: Failure, uri: ModelUri, server: str) -> tuple[str, str]:
    """Return what is missing on this machine, and how to get it."""
    if failure.kind == "extra":
        return "models by URI need MLflow's client, which is not installed", "`pip install 'envbuilder[mlflow]'`"
    if failure.kind == "old-client":
        return "models by their own id need MLflow 3, and its client here is older", "`pip install -U mlflow-skinny`"
    scheme = (server if failure.kind == "store" else failure.place or str(uri)).partition(":")[0]
    packages = _PACKAGES.get(scheme, shown(failure.detail))
    if failure.kind == "package" or scheme in _PACKAGES:
        return f"the package that reads `{scheme}:` is not installed{_at(failure.place)}", f"`pip install {packages}`"
    return (
        f"MLflow's client alone cannot read the store `{server}`",
        "`pip install mlflow`, or start `mlflow server` on that store and set MLFLOW_TRACKING_URI to its address",
    )


def _is_remote(server: str) -> bool:
    return server.startswith(("http:", "https:"))


def _check(what: str) -> str:
    return f"check {what}, and that MLFLOW_TRACKING_URI names the server that it was logged to"


def _at(place: str) -> str:
    return f" (the files are at `{shown(place, limit=300)}`)" if place else ""


def _listed(wanted: str, near: tuple[str, ...]) -> str:
    """Return some of the names, those that look like the wanted one first."""
    close = difflib.get_close_matches(wanted, near, n=_SHOWN, cutoff=0)
    more = ", …" if len(near) > _SHOWN else ""
    return f"there are: {', '.join(f'`{shown(name)}`' for name in close)}{more}" if close else ""
