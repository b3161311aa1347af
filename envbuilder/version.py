"""The version of envbuilder, which locks, labels and Dockerfiles name."""

from __future__ import annotations

__version__ = "0.1.0"
