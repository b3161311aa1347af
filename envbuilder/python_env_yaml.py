"""python_env.yaml as a value: Python, what builds packages, and the lines of the pip list. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from envbuilder.errors import Source
from envbuilder.fields import Stated, get_document, get_text, get_texts
from envbuilder.problems import Problems
from envbuilder.requirement import redact
from envbuilder.yaml_text import load


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonEnvYaml:
    """What a python_env.yaml says; its lines are without credentials."""

    python: Stated[str] | None
    build_dependencies: tuple[Stated[str], ...]
    dependencies: tuple[Stated[str], ...]
    source: Source

    @classmethod
    def parse(cls, text: str | bytes, *, file: str) -> PythonEnvYaml:
        """Read the text of a python_env.yaml; raise `InvalidFileError` with all its problems."""
        source = Source(file=file)
        document = get_document(load(text, source_file=file), source, "a Python environment")
        problems = Problems()
        python = get_text(document, "python", source, problems)
        build_dependencies = get_texts(document, "build_dependencies", source, problems)
        dependencies = get_texts(document, "dependencies", source, problems)
        problems.finish()
        return cls(
            python=python,
            build_dependencies=_redacted(build_dependencies),
            dependencies=_redacted(dependencies),
            source=source,
        )


def _redacted(lines: tuple[Stated[str], ...]) -> tuple[Stated[str], ...]:
    return tuple(Stated(value=redact(line.value), source=line.source) for line in lines)
