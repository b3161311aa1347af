"""The program that asks an MLflow tracking server which models are registered; `model_store` starts it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from envbuilder import model_download
from envbuilder.model_failure import FailedError, Failure
from envbuilder.model_place import check_store

if TYPE_CHECKING:
    from envbuilder.model_download import Progress
    from envbuilder.model_place import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Names of registered models with their aliases."""

    models: tuple[tuple[str, tuple[str, ...]], ...]


def answer(request: Request, progress: Progress) -> Listing:
    """Read the list of those that have a version, to its end or to `max_files` models."""
    del progress
    import mlflow  # noqa: PLC0415 - half a second, and often missing

    check_store(os.environ["MLFLOW_TRACKING_URI"])
    client = mlflow.MlflowClient()
    is_databricks = mlflow.get_registry_uri().startswith(("databricks", "uc:"))
    found: list[tuple[str, tuple[str, ...]]] = []
    token = None
    while True:
        page = client.search_registered_models(page_token=token)
        # Databricks does not say here which versions there are.
        found += [
            (model.name, tuple(getattr(model, "aliases", None) or ()))
            for model in page
            if model.latest_versions or is_databricks
        ]
        token = page.token
        if not token:
            return Listing(models=tuple(found))
        if len(found) > request.max_files:
            raise FailedError(Failure(kind="endless", detail=str(request.max_files)))


def main() -> None:
    """Answer the request on standard input."""
    model_download.serve(answer)
