from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envbuilder.errors import ModelError, Source
from envbuilder.model_uri import ModelUri, is_uri

_SCHEMES = st.sampled_from(["runs", "models", "mlflow-artifacts", "s3", "wasbs", "azureml", "Models", "run", "http"])
_PIECES = st.sampled_from(
    ["/", "//", ":", "@", "..", ".", "?", "#", "[", "m-", "latest", "1", "v2", "\0", "\n", " ", "a"]
)
_TEXTS = st.builds("{}:{}".format, _SCHEMES, st.lists(_PIECES | st.text(max_size=4), max_size=8).map("".join))


@given(_TEXTS | st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        uri = ModelUri.parse(text)
    except ModelError as error:
        (problem,) = error.problems
        assert problem.fix
        assert str(problem).replace("\n", "").isprintable()
        return
    assert is_uri(text)
    assert str(uri).isprintable()
    assert ModelUri.parse(str(uri)) == uri


@given(
    st.text(max_size=20), st.text(st.characters(categories=["L", "N"]), min_size=8, max_size=20), st.text(max_size=20)
)
def test_a_password_is_never_shown(user: str, password: str, rest: str) -> None:
    canary = f"canary{password}"
    for text in (f"mlflow-artifacts://{user}:{canary}@host/{rest}", f"s3://{user}:{canary}@host/{rest}"):
        with pytest.raises(ModelError) as caught:
            ModelUri.parse(text)
        assert canary not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("runs:/abc", ModelUri(kind="run", name="abc")),
        ("runs:/abc/", ModelUri(kind="run", name="abc")),
        ("runs:/abc/model", ModelUri(kind="run", name="abc", path="model")),
        ("runs:/abc/a//./b/MLmodel", ModelUri(kind="run", name="abc", path="a/b")),
        ("models:/churn/3", ModelUri(kind="version", name="churn", selector="3")),
        ("models:/churn/03/", ModelUri(kind="version", name="churn", selector="3")),
        ("models:/main.team.churn/3", ModelUri(kind="version", name="main.team.churn", selector="3")),
        ("models:/a@b/3", ModelUri(kind="version", name="a@b", selector="3")),
        ("models:/churn/latest", ModelUri(kind="latest", name="churn")),
        ("models:/churn/Latest", ModelUri(kind="latest", name="churn")),
        ("models:/churn/production", ModelUri(kind="stage", name="churn", selector="Production")),
        ("models:/churn@champion", ModelUri(kind="alias", name="churn", selector="champion")),
        ("models:/a@b@champion", ModelUri(kind="alias", name="a@b", selector="champion")),
        ("models:/m-0123abcd", ModelUri(kind="logged-model", name="m-0123abcd")),
        ("mlflow-artifacts:/1/abc/artifacts", ModelUri(kind="artifacts", location="mlflow-artifacts:/1/abc/artifacts")),
        ("mlflow-artifacts://h:5000/1/MLmodel", ModelUri(kind="artifacts", location="mlflow-artifacts://h:5000/1")),
        ("s3://bucket/a/b", ModelUri(kind="storage", location="s3://bucket/a/b")),
        ("s3://bucket", ModelUri(kind="storage", location="s3://bucket")),
        ("wasbs://c@a.example/b/", ModelUri(kind="storage", location="wasbs://c@a.example/b")),
        ("dbfs:/a/b", ModelUri(kind="storage", location="dbfs:/a/b")),
    ],
)
def test_each_form_is_read(text: str, expected: ModelUri) -> None:
    uri = ModelUri.parse(text)
    assert uri == expected
    assert ModelUri.parse(str(uri)) == expected
    assert uri.needs_server == (expected.kind != "storage")


@pytest.mark.parametrize(
    ("text", "what", "fix"),
    [
        ("runs:/", "the run's id is missing", "write `runs:/RUN_ID/PATH`"),
        ("runs:/my run/x", "`my run` is no run's id", "write `runs:/RUN_ID/PATH` with the id, not the run's name"),
        ("runs://abc/x", "two slashes name a host", "write `runs:/abc/x`; MLFLOW_TRACKING_URI names the server"),
        ("runs:/abc/../x", "`..` leads out", "write the path without it"),
        ("runs:abc", "`runs:` is followed by `/`", "write `runs:/abc`, or `./runs:abc` for a directory of that name"),
        ("models:/", "the model's name is missing", "write `models:/NAME/VERSION`, `models:/NAME@ALIAS` or"),
        ("models:/@x", "the model's name is missing", "write `models:/NAME/VERSION`"),
        ("models:/churn", "names no version", "write `models:/churn/VERSION`, `models:/churn@ALIAS` or"),
        ("models://churn/1", "two slashes name a host", "write `models:/churn/1`"),
        ("models:///churn/1", "two slashes name a host", "write `models:/churn/1`"),
        ("models:/churn/1/x", "only a model's name and its version", "write `models:/NAME/VERSION`"),
        ("models:/churn/v3", "`v3` is no version", "write `models:/churn/3`"),
        ("models:/churn/champion", "`champion` is no version", "write `models:/churn@champion` for an alias"),
        ("models:/churn/1.0", "`1.0` is no version", "write `models:/churn/VERSION`"),
        ("models:/churn@", "the alias is missing", "write `models:/churn/VERSION`"),
        ("models:/churn@latest", "`latest` is no alias", "write `models:/churn/latest`"),
        ("models:/churn@v3", "`v3` is no alias", "write `models:/churn/3` for the version"),
        ("models:/churn@a b", "`a b` is no alias", "an alias is made of letters, digits, `_` and `-`"),
        ("model:/churn/1", "`model:` is not how", "write `models:/churn/1`"),
        ("Runs:/abc", "`Runs:` is not how", "write `runs:/abc`"),
        ("mlflow-artifact://u:canary@h/x", "is not how", "write `mlflow-artifacts://***@h/x`"),
        ("mlflow-artifacts:/", "the path is missing", "write `mlflow-artifacts:/PATH` of the directory"),
        ("mlflow-artifacts://host", "the path is missing", "write `mlflow-artifacts:/PATH` of the directory"),
        ("mlflow-artifacts://u:canary@h/x", "no user and no password", "set MLFLOW_TRACKING_USERNAME"),
        ("mlflow-artifacts://u:1/canary@h/x", "no user and no password", "set MLFLOW_TRACKING_USERNAME"),
        ("mlflow-artifacts://canary@h/x", "no user and no password", "set MLFLOW_TRACKING_USERNAME"),
        ("mlflow-artifacts://h:99999/x", "the host of this URI cannot be read", "write `mlflow-artifacts:/PATH`"),
        ("s3://key:canary@bucket/x", "no user and no password", "variables that the storage's own client reads"),
        ("s3://[/x", "the host of this URI cannot be read", "write `s3://BUCKET/PATH`"),
        ("s3:///", "the path is missing", "write `s3://BUCKET/PATH`"),
        ("s3://b/x?versionId=1", "has no `?` and no `#`", "remove what begins there"),
        ("azureml:churn:3", "`azureml:` is followed by `/`", "give `models:/NAME/VERSION`"),
        ("https://u:canary@h/#/models/churn", "the address of a server or a web page", "set MLFLOW_TRACKING_URI"),
        ("file:///srv/model", "files of this machine need no URI", "give the path: `/srv/model`"),
        ("ftp://u:canary@h/x", "models are not read from `ftp:`", "give `runs:/RUN_ID/PATH`"),
        ("models/churn", "this is no model URI", "write `runs:/RUN_ID/PATH`"),
        (" runs:/abc", "no spaces around it", "remove them"),
        ("runs:/abc\x1b[31m", "no control characters", "remove them"),
        (f"runs:/{'a' * 3000}", "not longer than 2000", "check what was pasted"),
    ],
)
def test_what_is_wrong_is_told_with_what_was_probably_meant(text: str, what: str, fix: str) -> None:
    with pytest.raises(ModelError) as caught:
        ModelUri.parse(text)
    (problem,) = caught.value.problems
    assert what in problem.what
    assert problem.fix is not None
    assert fix in problem.fix
    assert "canary" not in str(caught.value)


def test_the_place_of_a_uri_in_a_file_is_named() -> None:
    source = Source(file="workspace.yaml", key="model")
    with pytest.raises(ModelError) as caught:
        ModelUri.parse("models:/churn", source=source)
    assert caught.value.problems[0].where == source


@pytest.mark.parametrize(
    "text", ["runs:/a", "runs:a", "runs:", "MODELS:/a/1", "model:/a", "s3://b/x", "azureml:a:1", "foo:/bar", " runs:/a"]
)
def test_uris_are_told_from_paths_even_when_they_are_wrong(text: str) -> None:
    assert is_uri(text)


@pytest.mark.parametrize(
    "text", ["models/churn", "./runs:a", "/runs:/a", "a:b", "a:b/c", "C:/models", "2024-01-01T00:00", "", ":", "s3:b"]
)
def test_paths_stay_paths_whatever_colons_they_hold(text: str) -> None:
    assert not is_uri(text)
