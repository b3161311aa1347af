from __future__ import annotations

import errno
from pathlib import Path

import pytest
import requests

from envbuilder.errors import DiskFullError, EngineMissingError, EnvBuilderError, ModelError, UnreachableError
from envbuilder.model_failure import FailedError, Failure, error_of, failure_of, scrubbed
from envbuilder.model_uri import ModelUri

SERVER = "http://mlflow.example:5000"


class MlflowException(Exception):  # noqa: N818 - MLflow's name
    """Looks like MLflow's, which is not needed here."""

    def __init__(self, message: str, error_code: str = "INTERNAL_ERROR") -> None:
        super().__init__(message)
        self.error_code = error_code


MlflowException.__module__ = "mlflow.exceptions"


def wrapped(cause: BaseException) -> BaseException:
    """Return what MLflow makes of the failures of a request."""
    found = MlflowException(f"API request to {SERVER} failed with exception {cause}")
    found.__context__ = cause
    return found


def answered(status: int) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError(f"{status} for url: {SERVER}/x?X-Amz-Signature=canary", response=response)


CERTIFICATE = "(Caused by SSLError(SSLCertVerificationError(1, 'certificate verify failed: self-signed')))"


@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        (FailedError(Failure(kind="endless")), "endless"),
        (ModuleNotFoundError("No module named 'boto3'", name="boto3"), "package"),
        (NameError("name 'HadoopFileSystem' is not defined", name="HadoopFileSystem"), "package"),
        (wrapped(requests.ConnectionError("refused")), "unreachable"),
        (wrapped(requests.exceptions.RetryError("too many 503 error responses")), "unreachable"),
        (wrapped(requests.exceptions.SSLError(CERTIFICATE)), "certificate"),
        (wrapped(requests.exceptions.SSLError("wrong version number")), "unreachable"),
        (wrapped(requests.exceptions.InvalidURL("no host")), "address"),
        (answered(401), "denied"),
        (answered(403), "denied"),
        (answered(429), "unreachable"),
        (answered(502), "unreachable"),
        (answered(404), "unknown"),
        (MlflowException("You are not authenticated", "UNAUTHENTICATED"), "denied"),
        (MlflowException("Invalid Host header", "PERMISSION_DENIED"), "host"),
        (MlflowException("404 != 200", "ENDPOINT_NOT_FOUND"), "no-server"),
        (MlflowException("the response body was not in a valid JSON format"), "no-server"),
        (MlflowException("slow down", "REQUEST_LIMIT_EXCEEDED"), "unreachable"),
        (MlflowException("Could not find a registered artifact repository for: x:/"), "package"),
        (wrapped(OSError(errno.ENOSPC, "No space left on device")), "disk-full"),
        (OSError(errno.EFBIG, "File too large", "/tmp/weights.bin"), "longer"),  # noqa: S108 - only a name
        (OSError(errno.EIO, "I/O error"), "unknown"),
        (ValueError("anything else"), "unknown"),
    ],
)
def test_exceptions_are_told_apart(cause: BaseException, kind: str) -> None:
    failure = failure_of(cause)
    assert failure.kind == kind
    assert "canary" not in failure.detail


@pytest.mark.parametrize(
    ("kind", "expected", "fix"),
    [
        ("no-run", ModelError, "check the run's id"),
        ("no-logged-model", ModelError, "check the model's id"),
        ("no-registered-model", ModelError, "check the model's name"),
        ("no-alias", ModelError, "give a version"),
        ("no-version", ModelError, "register one"),
        ("no-store", ModelError, "check MLFLOW_TRACKING_URI"),
        ("no-model", ModelError, "give the path that the model was logged to"),
        ("outside", ModelError, "do not use this model"),
        ("endless", ModelError, "ask who runs the server"),
        ("longer", ModelError, "ask who runs the server"),
        ("shorter", UnreachableError, "try again"),
        ("unreachable", UnreachableError, "check that it runs"),
        ("denied", UnreachableError, "MLFLOW_TRACKING_TOKEN"),
        ("denied-elsewhere", UnreachableError, "give the place itself"),
        ("host", UnreachableError, "--allowed-hosts"),
        ("certificate", UnreachableError, "ENVBUILDER_CA_FILE"),
        ("no-server", UnreachableError, "without the path of a page"),
        ("address", UnreachableError, "`http://HOST:PORT`"),
        ("extra", EngineMissingError, "`pip install 'envbuilder[mlflow]'`"),
        ("old-client", EngineMissingError, "`pip install -U mlflow-skinny`"),
        ("package", EngineMissingError, "`pip install google-cloud-storage`"),
        ("store", EngineMissingError, "`pip install mlflow`"),
        ("disk-full", DiskFullError, "ENVBUILDER_CACHE_DIR"),
        ("unknown", ModelError, "check the URI"),
    ],
)
def test_each_failure_has_its_error_and_its_fix(kind: str, expected: type[EnvBuilderError], fix: str) -> None:
    failure = Failure(kind=kind, detail="what\x1b[31m", place="gs://bucket/model")
    error = error_of(failure, ModelUri.parse("models:/churn@champion"), server=SERVER, cache=Path("/cache"))
    assert type(error) is expected
    (problem,) = error.problems
    assert problem.fix is not None
    assert fix in problem.fix
    assert str(problem).replace("\n", "").isprintable()
    assert not problem.what.endswith(".")


def test_few_of_many_names_are_shown_the_likeliest_first() -> None:
    near = tuple(f"models:/churn@{name}" for name in ("blue", "champion", "green", "old", "red", "test", "white"))
    failure = Failure(kind="no-alias", near=near)
    error = error_of(failure, ModelUri.parse("models:/churn@chmpion"), server=SERVER, cache=Path("/cache"))
    fix = error.problems[0].fix
    assert fix is not None
    assert fix.startswith("there are: `models:/churn@champion`, ")
    assert fix.endswith(", …")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://user:canary@host/x failed", "http://***@host/x failed"),
        ("for url: https://host/x?sig=canary. Text", "for url: https://host/x Text"),
        ("Authorization: Bearer canary", "Authorization: Bearer ***"),
        ("Authorization: Basic dTpjYW5hcnk=, or", "Authorization: Basic *** or"),
        ("password%20with%20canary", "***"),
        ("password with canary", "***"),
        ("wasbs://container@account.example/x", "wasbs://container@account.example/x"),
        ("true", "true"),
    ],
)
def test_credentials_are_scrubbed(text: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "canary")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "password%20with%20canary")
    monkeypatch.setenv("AWS_USES_KEY", "true")
    assert scrubbed(text) == expected
