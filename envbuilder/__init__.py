"""envbuilder turns a logged MLflow model into a locked, reproducible image that serves its predict.

The verbs of the command line are functions here: `envbuilder.build("models/churn", envbuilder.Choices(tag="churn:1"))`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from envbuilder.version import __version__

if TYPE_CHECKING:
    from envbuilder.api import (
        Batch,
        BatchReport,
        Choices,
        Wish,
        Workspace,
        audit_report,
        build,
        build_all,
        diff,
        doctor,
        lock,
        predict,
        predict_on_ray,
        render,
        reproduce,
        resolve,
        run,
        serve,
        this_machine,
        verify,
    )

__all__ = [
    "Batch",
    "BatchReport",
    "Choices",
    "Wish",
    "Workspace",
    "__version__",
    "audit_report",
    "build",
    "build_all",
    "diff",
    "doctor",
    "lock",
    "predict",
    "predict_on_ray",
    "render",
    "reproduce",
    "resolve",
    "run",
    "serve",
    "this_machine",
    "verify",
]


def __getattr__(name: str) -> object:
    """Import the API when it is first used: the command line needs none of it to print its help."""
    if name in __all__:
        from envbuilder import api  # noqa: PLC0415

        return getattr(api, name)
    message = f"module `envbuilder` has no attribute `{name}`"
    raise AttributeError(message)
