"""URIs of logged models, as MLflow writes them: `runs:/…`, `models:/…`, `mlflow-artifacts:/…`, `s3://…`. Pure."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urlsplit

from envbuilder.errors import ModelError, Source
from envbuilder.problems import shown
from envbuilder.secret import printable

Kind = Literal["run", "version", "alias", "stage", "latest", "logged-model", "artifacts", "storage"]

_OWN: Final = ("runs", "models", "mlflow-artifacts")
_STORAGE: Final = ("s3", "gs", "wasbs", "abfss", "r2", "b2", "hdfs", "viewfs", "dbfs", "azureml")
"""Places that MLflow's artifact repositories read; a package of their own does it for each."""

_LONGEST: Final = 2000
_SHOWN: Final = 200
_STAGES: Final = {stage.lower(): stage for stage in ("Staging", "Production", "Archived")}
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
_RUN_ID: Final = re.compile(r"[A-Za-z0-9_-]+")
_MODEL_ID: Final = re.compile(r"m-\w+", re.ASCII)
_VERSION: Final = re.compile(r"[0-9]{1,18}")
_NUMBERED: Final = re.compile(r"v[0-9]{1,18}", re.IGNORECASE)
_ALIAS: Final = re.compile(r"[\w-]{1,255}")
_FORMS: Final = "`models:/NAME/VERSION`, `models:/NAME@ALIAS` or `models:/NAME/latest`"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUri:
    """Where a model is, as given; some forms mean another model tomorrow."""

    kind: Kind
    name: str = ""
    """A run's id, a registered model's name or a LoggedModel's id."""

    selector: str = ""
    """The version, alias or stage."""

    path: str = ""
    """Inside the run's artifacts."""

    location: str = ""
    """The whole URI of files that are named by their place."""

    @classmethod
    def parse(cls, text: str, source: Source | None = None) -> ModelUri:
        """Read a model URI; raises ModelError, with the form that was probably meant, for anything else."""
        reader = _Reader(text, source)
        scheme = reader.scheme()
        rest = text[len(scheme) + 1 :]
        if scheme == "runs":
            return _run(rest, reader)
        if scheme == "models":
            return _registered(rest, reader)
        return cls(kind="artifacts" if scheme in _OWN else "storage", location=_location(scheme, rest, reader))

    @property
    def needs_server(self) -> bool:
        """True when a tracking server has to be asked where the files are, or for the files."""
        return self.kind != "storage"

    def __str__(self) -> str:
        match self.kind:
            case "run":
                return f"runs:/{self.name}/{self.path}".rstrip("/")
            case "logged-model":
                return f"models:/{self.name}"
            case "latest":
                return f"models:/{self.name}/latest"
            case "alias":
                return f"models:/{self.name}@{self.selector}"
            case "version" | "stage":
                return f"models:/{self.name}/{self.selector}"
            case _:
                return self.location


def is_uri(text: str) -> bool:
    """Tell a model URI, also a misspelt one, from a path.

    `SCHEME:/…` is a URI, and so is everything that begins with one of MLflow's own schemes: `models:churn` is a slip
    far more often than a directory, which can be written `./models:churn`. Any other text with a colon is a path.
    """
    found = _SCHEME.match(text.lstrip())
    return found is not None and (found[1].lower() in (*_OWN, "azureml") or found.string.startswith("/", found.end()))


class _Reader:
    """The text, what may be shown of it, and what is wrong with it."""

    def __init__(self, text: str, source: Source | None) -> None:
        self.text = text
        self.visible = printable(_without_credentials(text)[:_SHOWN])
        self.where = source or Source(file=self.visible)

    def wrong(self, what: str, fix: str) -> ModelError:
        return ModelError(what, where=self.where, fix=fix)

    def scheme(self) -> str:
        """Return the scheme, if all that is said about the text as a whole holds."""
        text = self.text
        if not text.isprintable() or text != text.strip():
            raise self.wrong("a model URI holds no spaces around it and no control characters", "remove them")
        if len(text) > _LONGEST:
            raise self.wrong(f"a model URI is not longer than {_LONGEST} characters", "check what was pasted")
        found = _SCHEME.match(text)
        if found is None:
            raise self.wrong("this is no model URI", f"write `runs:/RUN_ID/PATH`, {_FORMS}")
        scheme = found[1]
        if scheme not in (*_OWN, *_STORAGE):
            raise self._unread(scheme)
        if not text[found.end() :].startswith("/"):
            fix = f"write `{self.visible.replace(':', ':/', 1)}`, or `./{self.visible}` for a directory of that name"
            if scheme == "azureml":
                fix = "set MLFLOW_TRACKING_URI to the workspace's tracking URI and give `models:/NAME/VERSION`"
            raise self.wrong(f"`{scheme}:` is followed by `/` in a model URI", fix)
        return scheme

    def segments(self, rest: str) -> list[str]:
        """Return the parts of a path that must stay where it begins."""
        parts = [part for part in rest.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise self.wrong("`..` leads out of the run or the place that the URI names", "write the path without it")
        if any(part != part.strip() for part in parts):
            raise self.wrong("a folder of this path begins or ends with a space", "remove the space")
        return parts

    def without_host(self, rest: str, scheme: str) -> str:
        """Return the path, which begins with its only slash."""
        if rest.startswith("//"):
            raise self.wrong(
                f"two slashes name a host, which `{scheme}:` URIs do not have",
                f"write `{re.sub(':/+', ':/', self.visible, count=1)}`; MLFLOW_TRACKING_URI names the server",
            )
        return rest

    def _unread(self, scheme: str) -> ModelError:
        """Say what is wrong with a scheme that is not read, and what to write instead."""
        lower, rest = scheme.lower(), self.visible[len(scheme) + 1 :]
        near = difflib.get_close_matches(lower, (*_OWN, *_STORAGE), n=1, cutoff=0.75)
        if lower in ("http", "https"):
            what = "the address of a server or a web page is no model URI"
            fix = "set MLFLOW_TRACKING_URI to the tracking server's address and give `models:/NAME/VERSION`"
        elif lower == "file":
            what = "files of this machine need no URI"
            fix = f"give the path: `/{rest.lstrip('/')}`"
        elif near:
            what = f"`{scheme}:` is not how URIs of models begin"
            fix = f"write `{near[0]}:{rest}`"
        else:
            what = f"models are not read from `{scheme}:`"
            fix = f"give `runs:/RUN_ID/PATH`, {_FORMS}, the URI of a bucket (s3, gs, wasbs, abfss), or a directory"
        return self.wrong(what, fix)


def _without_user(text: str) -> str:
    """Hide what may be credentials; a password may hold slashes, so all up to the last `@` does."""
    scheme, slashes, rest = text.partition("://")
    user, at, place = rest.rpartition("@")
    # A container or a bucket may stand before the `@` too, but then without a colon.
    is_secret = at and (":" in user or scheme.lower() not in _STORAGE)
    return f"{scheme}{slashes}***@{place}" if is_secret else text


def _without_credentials(text: str) -> str:
    """Hide users, and the values of a query: signatures, tokens."""
    return re.sub(r"\?[^#]*", "?***", _without_user(text))


def _run(rest: str, reader: _Reader) -> ModelUri:
    parts = reader.segments(reader.without_host(rest, "runs"))
    if not parts:
        raise reader.wrong("the run's id is missing", "write `runs:/RUN_ID/PATH`")
    run_id, *path = parts
    if not _RUN_ID.fullmatch(run_id):
        raise reader.wrong(
            f"`{shown(run_id)}` is no run's id", "write `runs:/RUN_ID/PATH` with the id, not the run's name"
        )
    while path and path[-1] == "MLmodel":
        path.pop()
    return ModelUri(kind="run", name=run_id, path="/".join(path))


def _registered(rest: str, reader: _Reader) -> ModelUri:
    name, slash, selector = reader.without_host(rest, "models").strip("/").partition("/")
    if not name.strip():
        raise reader.wrong("the model's name is missing", f"write {_FORMS}")
    if "/" in selector:
        raise reader.wrong("only a model's name and its version make up a `models:` URI", f"write {_FORMS}")
    if slash:
        return _selected(name, selector, reader)
    model, at, alias = name.rpartition("@")
    if at:
        return _aliased(model, alias, reader)
    if _MODEL_ID.fullmatch(name):
        return ModelUri(kind="logged-model", name=name)
    raise reader.wrong(f"`models:/{shown(name)}` names no version", f"write {_forms_of(name)}")


def _selected(name: str, selector: str, reader: _Reader) -> ModelUri:
    lower = selector.lower()
    if lower == "latest":
        return ModelUri(kind="latest", name=name)
    if _VERSION.fullmatch(selector):
        return ModelUri(kind="version", name=name, selector=str(int(selector)))
    if lower in _STAGES:
        return ModelUri(kind="stage", name=name, selector=_STAGES[lower])
    if _NUMBERED.fullmatch(selector):
        meant = f"`models:/{shown(name)}/{selector[1:]}`"
    elif _ALIAS.fullmatch(selector):
        meant = f"`models:/{shown(name)}@{selector}` for an alias, or a number"
    else:
        meant = _forms_of(name)
    raise reader.wrong(f"`{shown(selector)}` is no version, stage or `latest`", f"write {meant}")


def _aliased(name: str, alias: str, reader: _Reader) -> ModelUri:
    if not name.strip():
        raise reader.wrong("the model's name is missing", f"write {_FORMS}")
    if not alias:
        raise reader.wrong("the alias is missing", f"write {_forms_of(name)}")
    if alias.lower() == "latest":
        raise reader.wrong("`latest` is no alias", f"write `models:/{shown(name)}/latest`")
    if _NUMBERED.fullmatch(alias):
        raise reader.wrong(f"`{alias}` is no alias", f"write `models:/{shown(name)}/{alias[1:]}` for the version")
    if not _ALIAS.fullmatch(alias):
        raise reader.wrong(f"`{shown(alias)}` is no alias", "an alias is made of letters, digits, `_` and `-`")
    return ModelUri(kind="alias", name=name, selector=alias)


def _forms_of(name: str) -> str:
    return _FORMS.replace("NAME", shown(name))


def _location(scheme: str, rest: str, reader: _Reader) -> str:
    is_storage = scheme in _STORAGE
    form = f"{scheme}://BUCKET/PATH" if is_storage else f"{scheme}:/PATH"
    if _without_user(reader.text) != reader.text:
        raise reader.wrong(
            "a model URI holds no user and no password",
            "remove them, and set "
            + (
                "the variables that the storage's own client reads"
                if is_storage
                else "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            ),
        )
    try:
        parts = urlsplit(f"{scheme}:{rest}")
        host, _ = parts.hostname, parts.port
    except ValueError as cause:
        raise reader.wrong("the host of this URI cannot be read", f"write `{form}`") from cause
    if {"?", "#"} & set(rest):
        raise reader.wrong("a model URI has no `?` and no `#`", "remove what begins there")
    path = reader.segments(parts.path)
    while path and path[-1] == "MLmodel":
        path.pop()
    if not path and not (host and is_storage):
        raise reader.wrong("the path is missing", f"write `{form}` of the directory that holds `MLmodel`")
    return f"{scheme}:{'//' + parts.netloc if parts.netloc else ''}/{'/'.join(path)}".rstrip("/")
