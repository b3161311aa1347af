"""python_env.yaml as a value: Python, what builds packages, and the lines of the pip list. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from envbuilder.errors import Source
from envbuilder.fields import Stated, get_document, get_text, get_texts
from envbuilder.pip_line import Line
from envbuilder.problems import Problems
from envbuilder.yaml_text import load


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonEnvYaml:
    """What a python_env.yaml says; its lines are without credentials."""

    python: Stated[str] | None
    build_dependencies: tuple[Line, ...]
    dependencies: tuple[Line, ...]
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
            build_dependencies=_lines(build_dependencies),
            dependencies=_lines(dependencies),
            source=source,
        )


def _lines(texts: tuple[Stated[str], ...]) -> tuple[Line, ...]:
    return tuple(Line.of(text.value, source=text.source) for text in texts)
