"""What the server can be told, and the environment variables it is told with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .log_format import FORMATS

if TYPE_CHECKING:
    from typing import Mapping

_PORTS = ("ENVBUILDER_PORT", "AIP_HTTP_PORT", "SAGEMAKER_BIND_TO_PORT", "PORT", "MLSERVER_HTTP_PORT")
"""The first that is set names the port: our own, Vertex AI's, SageMaker's, Cloud Run's, KServe's."""


class InvalidSettingError(Exception):
    """A setting whose value cannot be used."""


@dataclass(frozen=True)
class Settings:
    """The settings of one front and its workers."""

    model_dir: str = "/opt/ml/model"
    model_python: str = "/opt/env/bin/python"
    host: str = "0.0.0.0"  # noqa: S104 - a container's only interface; `serve --host` says otherwise
    port: int = 8080
    workers: int = 1
    request_timeout: float = 60.0
    max_body: int = 100 * 1024 * 1024
    load_attempts: int = 3
    """How often the model may fail to load, before it ever did, until the server gives up."""
    grace: float = 25.0
    """Seconds that requests in flight have to end after a SIGTERM; below the 30 of a Kubernetes pod."""
    max_waiting: int = 1000
    """Requests that wait for a worker; one more is refused with 503."""
    max_held: int = 512 * 1024 * 1024
    """Bytes of all bodies that are not answered yet; more are refused with 503."""
    header_timeout: float = 20.0
    """Seconds that the headers of a request may take."""
    body_timeout: float = 60.0
    """Seconds that the body of a request may take."""
    token: str = ""
    """What `Authorization: Bearer …` must say; empty where nothing is asked."""
    log_format: str = "text"
    predict_route: str = ""
    """Vertex AI's own name of the route for predictions; empty elsewhere."""
    health_route: str = ""
    example: str = "/opt/envbuilder/example.json"
    """A request that the model was tried with; it may be absent."""
    service_name: str = "ML service"
    """What Azure's description of the service is headed with."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read the settings of a process."""
        port = next((name for name in _PORTS if environment.get(name)), _PORTS[0])
        return cls(
            model_dir=environment.get("ENVBUILDER_MODEL_DIR") or cls.model_dir,
            model_python=environment.get("ENVBUILDER_MODEL_PYTHON") or cls.model_python,
            host=environment.get("ENVBUILDER_HOST") or cls.host,
            port=int(_number(environment, port, cls.port)),
            workers=int(_number(environment, "MLFLOW_MODELS_WORKERS", cls.workers, least=1)),
            request_timeout=_number(environment, "MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT", cls.request_timeout),
            max_body=int(_number(environment, "ENVBUILDER_MAX_BODY_BYTES", cls.max_body)),
            load_attempts=int(_number(environment, "ENVBUILDER_LOAD_ATTEMPTS", cls.load_attempts, least=1)),
            grace=_number(environment, "ENVBUILDER_GRACE_SECONDS", cls.grace),
            max_waiting=int(_number(environment, "ENVBUILDER_MAX_WAITING", cls.max_waiting)),
            max_held=int(_number(environment, "ENVBUILDER_MAX_HELD_BYTES", cls.max_held)),
            header_timeout=_number(environment, "ENVBUILDER_HEADER_SECONDS", cls.header_timeout, least=0.1),
            body_timeout=_number(environment, "ENVBUILDER_BODY_SECONDS", cls.body_timeout, least=0.1),
            token=_token(environment),
            log_format=_one_of(environment, "ENVBUILDER_LOG_FORMAT", FORMATS),
            predict_route=_route(environment, "AIP_PREDICT_ROUTE"),
            health_route=_route(environment, "AIP_HEALTH_ROUTE"),
            example=environment.get("ENVBUILDER_EXAMPLE") or cls.example,
            service_name=environment.get("SERVICE_NAME") or cls.service_name,
        )


def _number(environment: Mapping[str, str], name: str, default: float, *, least: float = 0) -> float:
    text = environment.get(name)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        raise InvalidSettingError(f"{name} is `{text}`, expected a number") from None
    if not least <= value < float("inf"):
        raise InvalidSettingError(f"{name} is `{text}`, expected at least {least:g}")
    return value


def _one_of(environment: Mapping[str, str], name: str, known: tuple[str, ...]) -> str:
    text = environment.get(name) or known[0]
    if text not in known:
        raise InvalidSettingError(f"{name} is `{text}`, expected {' or '.join(f'`{one}`' for one in known)}")
    return text


def _route(environment: Mapping[str, str], name: str) -> str:
    text = environment.get(name) or ""
    if text and not text.startswith("/"):
        raise InvalidSettingError(f"{name} is `{text}`, expected a path that begins with `/`")
    return text


def _token(environment: Mapping[str, str]) -> str:
    """Return the token of ENVBUILDER_TOKEN, or the first line of the file that ENVBUILDER_TOKEN_FILE names."""
    file = environment.get("ENVBUILDER_TOKEN_FILE")
    if not file:
        return environment.get("ENVBUILDER_TOKEN") or ""
    try:
        token = Path(file).read_text(encoding="utf-8").split("\n", 1)[0].strip()
    except (OSError, ValueError) as error:
        raise InvalidSettingError(f"ENVBUILDER_TOKEN_FILE is `{file}`, which cannot be read: {error}") from None
    if not token:
        raise InvalidSettingError(f"ENVBUILDER_TOKEN_FILE is `{file}`, which is empty")
    return token
