"""What the server can be told, and the environment variables it is told with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping


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

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read the settings of a process."""
        return cls(
            model_dir=environment.get("ENVBUILDER_MODEL_DIR") or cls.model_dir,
            model_python=environment.get("ENVBUILDER_MODEL_PYTHON") or cls.model_python,
            host=environment.get("ENVBUILDER_HOST") or cls.host,
            port=int(_number(environment, "ENVBUILDER_PORT", cls.port)),
            workers=int(_number(environment, "MLFLOW_MODELS_WORKERS", cls.workers, least=1)),
            request_timeout=_number(environment, "MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT", cls.request_timeout),
            max_body=int(_number(environment, "ENVBUILDER_MAX_BODY_BYTES", cls.max_body)),
            load_attempts=int(_number(environment, "ENVBUILDER_LOAD_ATTEMPTS", cls.load_attempts, least=1)),
            grace=_number(environment, "ENVBUILDER_GRACE_SECONDS", cls.grace),
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
