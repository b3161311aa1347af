from __future__ import annotations

import pytest

from envbuilder.server.settings import InvalidSettingError, Settings


def test_an_empty_environment_gives_the_images_layout() -> None:
    settings = Settings.from_environment({"MLFLOW_MODELS_WORKERS": ""})
    assert settings == Settings()
    assert (settings.model_dir, settings.model_python) == ("/opt/ml/model", "/opt/env/bin/python")
    assert (settings.port, settings.workers, settings.request_timeout) == (8080, 1, 60)


def test_the_environment_says_otherwise() -> None:
    settings = Settings.from_environment(
        {
            "ENVBUILDER_MODEL_DIR": "/m",
            "ENVBUILDER_MODEL_PYTHON": "/p",
            "ENVBUILDER_HOST": "::1",
            "ENVBUILDER_PORT": "9",
            "MLFLOW_MODELS_WORKERS": "3",
            "MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT": "1.5",
            "ENVBUILDER_MAX_BODY_BYTES": "10",
            "ENVBUILDER_LOAD_ATTEMPTS": "4",
            "ENVBUILDER_GRACE_SECONDS": "5",
        }
    )
    assert settings == Settings("/m", "/p", "::1", 9, 3, 1.5, 10, 4, 5.0)


@pytest.mark.parametrize("text", ["many", "nan", "inf", "0", "-1"])
def test_a_useless_number_is_named(text: str) -> None:
    with pytest.raises(InvalidSettingError, match=f"MLFLOW_MODELS_WORKERS is `{text}`"):
        Settings.from_environment({"MLFLOW_MODELS_WORKERS": text})
