"""envbuilder turns a logged MLflow model into a locked, reproducible image that serves its predict."""

from __future__ import annotations

__version__ = "0.1.0"
