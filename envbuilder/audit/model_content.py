"""What in a model's files can harm or give away: pickles, secrets, paths of its author's machine. Nothing is loaded."""

from __future__ import annotations

import io
import re
import zipfile
from typing import TYPE_CHECKING, Final

from envbuilder import zip_directory
from envbuilder.audit import pickle_imports
from envbuilder.audit_finding import Finding
from envbuilder.errors import Source
from envbuilder.problems import shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import IO

    from envbuilder.audit.pickle_imports import PickleImports
    from envbuilder.model import Model
    from envbuilder.model_files import ModelFiles

_PICKLES: Final = (".pkl", ".pickle", ".joblib", ".pt", ".pth", ".bin", ".ckpt", ".dill", ".cloudpickle")
_TEXTS: Final = (".py", ".yaml", ".yml", ".json", ".txt", ".toml", ".ini", ".cfg", ".env", ".md", ".sh", ".ipynb")
_LONGEST_TEXT: Final = 2 << 20
_LONGEST_MEMBER: Final = 64 << 20
_MOST_MEMBERS: Final = 2000
_SHOWN: Final = 8
_SECRETS: Final = (
    ("a key of AWS", re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b")),
    ("a token of GitHub", re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60,})")),
    ("a token of Hugging Face", re.compile(r"\bhf_[A-Za-z0-9]{30,}\b")),
    ("a token of Databricks", re.compile(r"\bdapi[0-9a-f]{32}\b")),
    ("a key of OpenAI or Anthropic", re.compile(r"\bsk-(?:proj-|ant-)?[A-Za-z0-9_-]{32,}")),
    ("a key of Azure storage", re.compile(r"AccountKey=[A-Za-z0-9+/]{80,}={0,2}")),
    ("a token of Slack", re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{20,}")),
    ("a private key", re.compile(r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----")),
    ("a password in a URL", re.compile(r"\b[a-z][a-z0-9+.-]{1,15}://[^\s/:@'\"{}$<>]{1,64}:[^\s/:@'\"{}$<>*]{3,}@")),
)
_HOME: Final = re.compile(
    r"(?:/home/[a-z_][a-z0-9_-]{0,31}|/Users/[A-Za-z][A-Za-z0-9._-]{0,31}"
    r"|[A-Z]:\\{1,2}Users\\{1,2}[A-Za-z0-9._ -]{1,31}"
    r"|/dbfs|/databricks|file:///(?:home|Users|tmp))(?:[/\\]|\b)"
)


def check(model: Model, files: ModelFiles) -> Iterator[Finding]:
    """Give what is found in the model, file by file."""
    where = model.mlmodel.source
    if model.mlmodel.signature is None:
        yield Finding(
            rule="no-signature",
            kind="model",
            severity="warning",
            what="the model has no signature: what it takes is not checked when it is asked",
            where=where,
            fix="log it with `signature=infer_signature(…)`",
        )
    if model.mlmodel.input_example is None:
        yield Finding(
            rule="no-input-example",
            kind="model",
            severity="note",
            what="the model has no input example to try its image with",
            where=where,
            fix="log it with `input_example=…`",
        )
    for file in files.files:
        path = files.directory / file.path
        place = Source(file=file.path)
        if file.path.lower().endswith(_PICKLES):
            yield from _of_pickle(path, place)
        elif file.path.lower().endswith(_TEXTS) or "." not in file.path.rpartition("/")[2]:
            yield from _of_text(path, place)


def _of_pickle(path: Path, place: Source) -> Iterator[Finding]:
    try:
        with path.open("rb") as stream:
            start = stream.read(4)
            stream.seek(0)
            if start == b"PK\3\4":
                for name, found in _members(path):
                    yield from _told(found, place.child(shown(name)), is_surely=True)
            else:
                # Many formats are called `.bin`; a pickle of protocol 2 or later says that it is one.
                is_surely = start[:1] == b"\x80"
                if is_surely or not path.name.lower().endswith((".bin", ".ckpt")):
                    yield from _told(pickle_imports.read(stream), place, is_surely=is_surely)
    except (OSError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile, EOFError) as cause:
        yield Finding(
            rule="unreadable-pickle",
            kind="model",
            severity="warning",
            what=f"it cannot be read without loading it ({type(cause).__name__})",
            where=place,
            fix="save the model anew",
        )


def _members(path: Path) -> Iterator[tuple[str, PickleImports]]:
    """Give the pickles in an archive as torch and skops write it."""
    zip_directory.check(path)
    with zipfile.ZipFile(path) as archive:
        names = [one for one in archive.infolist() if one.filename.endswith((".pkl", ".pickle"))]
        for one in names[:_MOST_MEMBERS]:
            with archive.open(one) as stream:
                data = stream.read(_LONGEST_MEMBER + 1)
            yield one.filename, pickle_imports.read(io.BytesIO(data[:_LONGEST_MEMBER]))


def _told(found: PickleImports, place: Source, *, is_surely: bool) -> Iterator[Finding]:
    if not is_surely and not found.names and not found.is_whole:
        return
    modules = sorted({name.partition(".")[0] for name in found.names})
    shown_modules = ", ".join(shown(one) for one in modules[:_SHOWN]) + (", …" if len(modules) > _SHOWN else "")
    why = "loading it runs whatever it says; a signed or trusted source is all that protects"
    yield Finding(
        rule="pickle",
        kind="model",
        severity="note",
        what=f"it is a pickle that imports {shown_modules or 'nothing'}",
        where=place,
        why=why,
        fix="where there is a choice, save it as safetensors, ONNX, skops or the library's own format",
    )
    if found.dangerous:
        names = ", ".join(f"`{shown(one)}`" for one in found.dangerous[:_SHOWN])
        yield Finding(
            rule="dangerous-pickle",
            kind="model",
            severity="error",
            what=f"loading it can run any program: it asks for {names}",
            where=place,
            why=why,
            fix="do not load it; ask who made it",
        )
    if found.unknown:
        yield Finding(
            rule="hidden-import",
            kind="model",
            severity="error",
            what="it puts the name of what it imports together while it is loaded, as no library does",
            where=place,
            why=why,
            fix="do not load it; ask who made it",
        )
    if is_surely and not found.is_whole:
        yield Finding(
            rule="unreadable-pickle",
            kind="model",
            severity="warning",
            what="it is a pickle that is damaged, or longer than it is read",
            where=place,
            fix="save the model anew",
        )


def _of_text(path: Path, place: Source) -> Iterator[Finding]:
    data = _start(path)
    if b"\0" in data[:1024]:
        return
    homes: set[str] = set()
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        for name, grammar in _SECRETS:
            if grammar.search(line):
                yield Finding(
                    rule="secret",
                    kind="model",
                    severity="error",
                    what=f"it holds what looks like {name}",
                    where=place.child(f"line {number}"),
                    why="whoever has the image has it too",
                    fix="revoke it, and log the model anew without it",
                )
        match = _HOME.search(line)
        if match is not None and match[0] not in homes:
            homes.add(match[0])
            yield Finding(
                rule="author-path",
                kind="model",
                severity="note",
                what=f"it names `{shown(match[0])}`, a place on its author's machine",
                where=place.child(f"line {number}"),
                fix="use paths relative to the model",
            )


def _start(path: Path) -> bytes:
    with path.open("rb") as stream:
        data: IO[bytes] = stream
        return data.read(_LONGEST_TEXT)
