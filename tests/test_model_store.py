from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from envbuilder import model_store
from envbuilder.errors import EngineMissingError, EnvBuilderError, ModelError, UnreachableError
from envbuilder.machine import Machine
from envbuilder.model_files import ModelFiles
from envbuilder.model_uri import ModelUri
from envbuilder.reporter import Reporter
from envbuilder.settings import Settings
from tests import tracking_server as servers
from tests.tracking_server import LOGIN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from envbuilder.model_store import FetchedModel
    from tests.tracking_server import FakeServer, TrackingServer

    StartFake = Callable[[], FakeServer]

pytestmark = [pytest.mark.process, pytest.mark.network]

mlflow_python = servers.mlflow_python
tracking_server = servers.tracking_server
tracking_server_with_login = servers.tracking_server_with_login
fake_server = servers.fake_server

REPOSITORY = Path(__file__).resolve().parent.parent
MODEL = {"MLmodel": b"flavors: {}\n", "code/__init__.py": b"", "weights.bin": b"w" * 3_000_000}


class Listener(Reporter):
    def __init__(self) -> None:
        self.amounts: list[tuple[str, int, int, str]] = []
        self.lines: list[str] = []

    def progress(self, stage: str, done: int, total: int, unit: str = "") -> None:
        self.amounts.append((stage, done, total, unit))

    def line(self, stage: str, text: str) -> None:
        self.lines.append(f"{stage}: {text}")


def machine_for(folder: Path, **variables: str) -> Machine:
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PIP_CONFIG_FILE": "/dev/null",
        "ENVBUILDER_CACHE_DIR": str(folder / "cache"),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        **variables,
    }
    return Machine(settings=Settings.from_environ(environ), reporter=Listener())


def offline(machine: Machine) -> Machine:
    return replace(machine, settings=replace(machine.settings, offline=True))


def login(user: str = LOGIN[0], password: str = LOGIN[1]) -> dict[str, str]:
    return {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": password}


@pytest.fixture
def machine(tmp_path: Path, tracking_server: TrackingServer) -> Machine:
    return machine_for(tmp_path, MLFLOW_TRACKING_URI=tracking_server.url)


def fetch(text: str, machine: Machine) -> FetchedModel:
    return model_store.fetch(ModelUri.parse(text), machine=machine)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def stored(machine: Machine) -> list[str]:
    folder = machine.models / "content"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def spoken(caught: pytest.ExceptionInfo[EnvBuilderError]) -> str:
    (problem,) = caught.value.problems
    assert problem.fix
    return str(problem)


FORMS = (
    "runs:/{run_id}/iris",
    "runs:/{run_id}/model",
    "models:/churn/1",
    "models:/churn@champion",
    "models:/churn/latest",
    "models:/churn/Production",
    "models:/{model_id}",
    "mlflow-artifacts:/0/{run_id}/artifacts/iris",
    "mlflow-artifacts://{host}/0/{run_id}/artifacts/iris/MLmodel",
)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_uri_gives_the_files_that_the_server_keeps(
    form: str, tracking_server: TrackingServer, machine: Machine
) -> None:
    first, second = tracking_server.logged["model_ids"]
    host = tracking_server.url.removeprefix("http://")
    found = fetch(form.format(run_id=tracking_server.run_id, model_id=first, host=host), machine)
    model = second if form in ("models:/churn/latest", "runs:/{run_id}/model") else first
    place = f"0/{tracking_server.run_id}/artifacts/iris" if "iris" in form else f"0/models/{model}/artifacts"
    assert contents(found.directory) == contents(tracking_server.files(place))
    assert found.location.artifacts.endswith(place)
    assert found.location.server == tracking_server.url
    assert ModelFiles.read(found.directory).digest == found.digest


def test_a_location_says_what_an_alias_meant(tracking_server: TrackingServer, machine: Machine) -> None:
    found = fetch("models:/churn@champion", machine).location
    model_id = tracking_server.logged["model_ids"][0]
    assert (found.version, found.run_id, found.model_id) == ("1", tracking_server.run_id, model_id)
    assert str(found) == (
        f"version 1, run {tracking_server.run_id}, model {model_id}, "
        f"mlflow-artifacts:/0/models/{model_id}/artifacts at {tracking_server.url}"
    )


def test_progress_is_told_in_megabytes(machine: Machine) -> None:
    fetch("models:/churn/1", machine)
    assert isinstance(machine.reporter, Listener)
    assert machine.reporter.amounts[-1] == ("fetch", 2, 2, "MB")


def test_a_second_fetch_downloads_nothing_but_the_mlmodel(tracking_server: TrackingServer, machine: Machine) -> None:
    first = fetch("models:/churn/1", machine)
    before = len(tracking_server.downloads())
    assert fetch("models:/churn/1", machine) == first
    # The same model by its other names.
    again = [
        fetch(f"models:/{tracking_server.logged['model_ids'][0]}", machine),
        fetch("models:/churn@champion", machine),
    ]
    assert {found.directory for found in again} == {first.directory}
    assert [path.rpartition("/")[2] for path in tracking_server.downloads()[before:]] == ["MLmodel"] * 3


def test_the_same_content_from_two_places_is_kept_once(tracking_server: TrackingServer, machine: Machine) -> None:
    run = f"runs:/{tracking_server.run_id}"
    assert fetch(f"{run}/iris", machine).directory == fetch(f"{run}/overwritten", machine).directory
    assert len(stored(machine)) == 1


def test_an_alias_that_moves_is_followed(tracking_server: TrackingServer, machine: Machine) -> None:
    tracking_server.set_alias("churn", "moving", 1)
    first = fetch("models:/churn@moving", machine)
    tracking_server.set_alias("churn", "moving", 2)
    second = fetch("models:/churn@moving", machine)
    assert (first.location.version, second.location.version) == ("1", "2")
    assert first.directory != second.directory
    assert ModelFiles.read(first.directory).digest == first.digest


def test_artifacts_that_were_overwritten_are_fetched_anew(tracking_server: TrackingServer, machine: Machine) -> None:
    uri, place = f"runs:/{tracking_server.run_id}/rewritten", f"0/{tracking_server.run_id}/artifacts/rewritten"
    tracking_server.put(f"{place}/MLmodel", MODEL["MLmodel"])
    tracking_server.put(f"{place}/weights", b"old")
    old = fetch(uri, machine)
    tracking_server.put(f"{place}/weights", b"newer")
    assert (fetch(uri, machine).directory / "weights").read_bytes() == b"newer"
    assert (old.directory / "weights").read_bytes() == b"old"


def test_a_store_of_files_is_read(tracking_server: TrackingServer, tmp_path: Path) -> None:
    machine = machine_for(tmp_path, MLFLOW_TRACKING_URI=tracking_server.logged["file_store"])
    found = fetch(f"runs:/{tracking_server.logged['file_store_run_id']}/model", machine)
    assert (found.directory / "MLmodel").is_file()
    assert "code/helpers/__init__.py" in contents(found.directory)


def test_damaged_files_are_fetched_again(machine: Machine) -> None:
    found = fetch("models:/churn/1", machine)
    whole = contents(found.directory)
    (found.directory / "MLmodel").chmod(0o644)
    (found.directory / "MLmodel").write_bytes(b"cut")
    (found.directory / "stray").touch()
    assert contents(fetch("models:/churn/1", machine).directory) == whole


def test_a_cache_that_was_half_deleted_is_filled_again(machine: Machine) -> None:
    found = fetch("models:/churn/1", machine)
    found.directory.rename(machine.models / "elsewhere")
    assert contents(fetch("models:/churn/1", machine).directory) == contents(machine.models / "elsewhere")


MISSING = {
    "runs:/0123456789abcdef/model": (ModelError, "knows no run `0123456789abcdef`", "the run's id"),
    "runs:/{run_id}/nosuch": (ModelError, "no `MLmodel` in", "`runs:/{run_id}/iris`, `runs:/{run_id}/"),
    "runs:/{run_id}": (ModelError, "no `MLmodel` in", "`runs:/{run_id}/model`"),
    "models:/chrun/1": (ModelError, "has no registered model `chrun`", "there are: `churn`"),
    "models:/churn/9": (ModelError, "has no version `9`", "there are: `models:/churn/"),
    "models:/churn@champoin": (ModelError, "has no alias `champoin`", "there are: `models:/churn@champion`"),
    "models:/empty@champion": (ModelError, "has no alias `champion`", "`models:/empty/VERSION`"),
    "models:/empty/latest": (ModelError, "has no version", "register one"),
    "models:/churn/archived": (ModelError, "no version in the stage `Archived`", "`models:/churn/1`"),
    "models:/m-0123456789abcdef": (ModelError, "knows no model `m-0123456789abcdef`", "the model's id"),
    "mlflow-artifacts:/0/nosuch": (ModelError, "no `MLmodel` in `mlflow-artifacts:/0/nosuch`", "logged to"),
    "s3://bucket/model": (EngineMissingError, "`s3:` is not installed", "`pip install boto3`"),
    "azureml://place/model": (EngineMissingError, "`azureml:` is not installed", "azureml-mlflow"),
}


@pytest.mark.parametrize("form", MISSING)
def test_what_does_not_exist_is_named_with_what_does(
    form: str, tracking_server: TrackingServer, machine: Machine
) -> None:
    kind, what, fix = MISSING[form]
    uri = form.format(run_id=tracking_server.run_id)
    with pytest.raises(kind) as caught:
        fetch(uri, machine)
    said = spoken(caught)
    assert what in said
    assert fix.format(run_id=tracking_server.run_id) in said
    assert f"at {ModelUri.parse(uri)}" in said
    assert not stored(machine)


SERVERS = {
    "": (ModelError, "no tracking server is named", "e.g. `http://mlflow.example:5000`"),
    "http://127.0.0.1:9": (
        UnreachableError,
        "no answer from the tracking server `http://127.0.0.1:9`",
        "check that it",
    ),
    "http://user:canary@127.0.0.1:9": (UnreachableError, "server `http://127.0.0.1:9`", "MLFLOW_TRACKING_URI"),
    "https://{host}": (UnreachableError, "no answer from the tracking server `https://", "check that it"),
    "{url}/nosuch": (UnreachableError, "does not answer as an MLflow tracking server", "address alone"),
    "http://[::canary": (ModelError, "cannot be read", "`http://HOST:PORT`"),
    "file:///no/such/store": (ModelError, "there is no store of files at `file:///no/such/store`", "check"),
    "nosuch": (ModelError, "there is no store of files at `nosuch`", "check"),
    "sqlite:////no/such.db": (EngineMissingError, "cannot read the store `sqlite:", "start `mlflow server`"),
    "postgresql://user:canary@host/db": (
        EngineMissingError,
        "the store `postgresql://host/db`",
        "`pip install mlflow`",
    ),
    "azureml://place": (EngineMissingError, "`azureml:` is not installed", "`pip install azureml-mlflow`"),
}


@pytest.mark.parametrize("uri", SERVERS)
def test_a_server_that_cannot_be_asked_is_named(uri: str, tracking_server: TrackingServer, tmp_path: Path) -> None:
    kind, what, fix = SERVERS[uri]
    host = tracking_server.url.removeprefix("http://")
    machine = machine_for(tmp_path, MLFLOW_TRACKING_URI=uri.format(host=host, url=tracking_server.url))
    with pytest.raises(kind) as caught:
        fetch("models:/churn/1", machine)
    said = spoken(caught)
    assert what in said
    assert fix in said
    assert "canary" not in said


def test_no_credential_is_shown_or_kept(
    tracking_server_with_login: TrackingServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    user, password = LOGIN
    url = tracking_server_with_login.url
    said = []
    for variables in (
        {"MLFLOW_TRACKING_URI": url, **login()},
        {"MLFLOW_TRACKING_URI": url.replace("//", f"//{user}:{quote(password, safe='')}@")},
    ):
        machine = machine_for(tmp_path, **variables)
        said += [repr(machine.settings), repr(fetch("models:/churn@champion", machine))]
        with pytest.raises(ModelError) as caught:
            fetch("models:/nosuch/1", machine)
        assert isinstance(machine.reporter, Listener)
        said += [spoken(caught), *machine.reporter.lines]
    said.append(caplog.text)
    kept = [path.name.encode() + path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    basic = base64.b64encode(f"{user}:{password}".encode()).decode()
    for canary in (password, quote(password), quote(password, safe=""), basic):
        assert canary not in "\n".join(said)
        assert not any(canary.encode() in data for data in kept)


@pytest.mark.parametrize("variables", [{}, login(password="wrong-canary")], ids=["no login", "a wrong one"])
def test_a_login_that_is_refused_is_unreachable(
    variables: dict[str, str], tracking_server_with_login: TrackingServer, tmp_path: Path
) -> None:
    machine = machine_for(tmp_path, MLFLOW_TRACKING_URI=tracking_server_with_login.url, **variables)
    with pytest.raises(UnreachableError, match="refuses access") as caught:
        fetch("models:/churn/1", machine)
    assert "MLFLOW_TRACKING_PASSWORD" in spoken(caught)
    assert "canary" not in spoken(caught)


def test_a_name_that_the_server_does_not_answer_to_is_not_a_matter_of_logins(
    tracking_server: TrackingServer, tmp_path: Path
) -> None:
    url = tracking_server.url.replace("127.0.0.1", "localhost")
    with pytest.raises(UnreachableError, match="does not answer to that name") as caught:
        fetch("models:/churn/1", machine_for(tmp_path, MLFLOW_TRACKING_URI=url, **login()))
    assert "--allowed-hosts" in spoken(caught)


def test_offline_finds_what_was_fetched_before(tracking_server: TrackingServer, machine: Machine) -> None:
    uri = "models:/churn@champion"
    with pytest.raises(UnreachableError, match="yet, and `--offline` forbids to do it now"):
        fetch(uri, offline(machine))
    found = fetch(uri, machine)
    before = len(tracking_server.downloads())
    assert fetch(uri, offline(machine)) == found
    assert len(tracking_server.downloads()) == before
    next(found.directory.iterdir()).unlink()
    with pytest.raises(UnreachableError):
        fetch(uri, offline(machine))


def test_offline_does_not_mistake_one_server_for_another(fake_server: StartFake, tmp_path: Path) -> None:
    server = fake_server()
    server.files = MODEL
    fetch("runs:/r1", machine_for(tmp_path, MLFLOW_TRACKING_URI=server.url))
    with pytest.raises(UnreachableError, match="was not fetched from `http://other"):
        fetch("runs:/r1", offline(machine_for(tmp_path, MLFLOW_TRACKING_URI="http://other.example")))


def test_nothing_is_imported_from_the_current_directory(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("mlflow", "json", "requests", "envbuilder"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from the current directory')")
    monkeypatch.chdir(tmp_path)
    assert (fetch("models:/churn/1", machine).directory / "MLmodel").is_file()


def test_variables_of_the_model_store_reach_no_other_program(tmp_path: Path) -> None:
    settings = machine_for(tmp_path, **login(), AWS_SECRET_ACCESS_KEY="canary", REQUESTS_CA_BUNDLE="/ca.pem").settings
    kept = dict(settings.model_store_environ)
    assert kept.keys() >= {*login(), "AWS_SECRET_ACCESS_KEY", "REQUESTS_CA_BUNDLE"}
    assert not kept.keys() & settings.program_environ().keys()


def test_without_the_extra_the_fix_is_to_install_it(tmp_path: Path) -> None:
    # An environment that has everything but MLflow.
    subprocess.run((sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"), check=True)
    packages = tmp_path / "packages"
    packages.mkdir()
    for folder in {Path(json.__file__).parent, *map(Path, sys.path)}:
        if folder.name == "site-packages":
            for entry in folder.iterdir():
                if not entry.name.startswith("mlflow") and not (packages / entry.name).exists():
                    (packages / entry.name).symlink_to(entry)
    code = f"{HEADER}\nfetch('models:/churn/1')"
    environ = {"PYTHONPATH": f"{packages}:{REPOSITORY}", "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    done = subprocess.run(
        (tmp_path / "venv/bin/python", "-c", code, tmp_path / "cache"),
        env={"PATH": os.environ["PATH"], **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "EngineMissingError: models by URI need MLflow's client, which is not installed" in done.stderr
    assert "pip install 'envbuilder[mlflow]'" in done.stderr


HEADER = textwrap.dedent(
    """
    import os, sys
    from envbuilder import model_store
    from envbuilder.machine import Machine
    from envbuilder.model_uri import ModelUri
    from envbuilder.reporter import Reporter
    from envbuilder.settings import Settings

    def fetch(text):
        settings = Settings.from_environ({**os.environ, "ENVBUILDER_CACHE_DIR": sys.argv[1]})
        machine = Machine(settings=settings, reporter=Reporter())
        print(model_store.fetch(ModelUri.parse(text), machine=machine).directory, flush=True)
    """
)


def fetching(server: FakeServer, folder: Path) -> subprocess.Popen[str]:
    """Start another process that fetches the fake server's model into the cache in `folder`."""
    return subprocess.Popen(
        (sys.executable, "-c", f"{HEADER}\nfetch('runs:/r1')", folder / "cache"),
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "MLFLOW_TRACKING_URI": server.url},
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for(condition: Callable[[], object]) -> None:
    for _ in range(500):
        if condition():
            return
        time.sleep(0.02)
    pytest.fail("it did not happen")


def is_gone(pid: int) -> bool:
    try:
        return "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Opened at the end, so that no server waits for ever."""
    event = threading.Event()
    yield event
    event.set()


def waiting(begun: threading.Event, gate: threading.Event) -> Callable[[str], None]:
    """Return what stops a server in the middle of the large file."""

    def wait(path: str) -> None:
        if path == "weights.bin":
            begun.set()
            gate.wait(20)

    return wait


def test_a_fetch_that_was_killed_leaves_nothing_and_the_next_one_cleans_up(
    fake_server: StartFake, tmp_path: Path, gate: threading.Event
) -> None:
    server, begun = fake_server(), threading.Event()
    server.files = MODEL

    server.on_file = waiting(begun, gate)
    machine = machine_for(tmp_path, MLFLOW_TRACKING_URI=server.url)
    with fetching(server, tmp_path) as parent:
        assert begun.wait(20)
        (child,) = children(parent.pid)
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        wait_for(lambda: is_gone(child))
    assert not stored(machine)
    assert list((machine.models / "staging").rglob("weights.bin"))
    gate.set()
    assert contents(fetch("runs:/other", machine).directory) == MODEL
    assert not list((machine.models / "staging").rglob("*.bin"))
    assert contents(fetch("runs:/r1", machine).directory) == MODEL


def test_two_fetches_at_once_download_once(fake_server: StartFake, tmp_path: Path, gate: threading.Event) -> None:
    server, begun = fake_server(), threading.Event()
    server.files = MODEL

    server.on_file = waiting(begun, gate)
    machine = machine_for(tmp_path, MLFLOW_TRACKING_URI=server.url)
    listener = machine.reporter
    assert isinstance(listener, Listener)
    with fetching(server, tmp_path) as other:
        assert begun.wait(20)

        def open_when_both_are_there() -> None:
            wait_for(lambda: listener.lines)
            gate.set()

        opener = threading.Thread(target=open_when_both_are_there)
        opener.start()
        found = fetch("runs:/r1", machine)
        opener.join()
        assert other.stdout is not None
        assert other.stdout.read().strip() == str(found.directory)
    assert listener.lines == ["fetch: another envbuilder fetches this model; waiting for it"]
    assert server.served.count("weights.bin") == 1
    assert contents(found.directory) == MODEL


def entry(path: str, size: int | None = 3, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {"path": path, "is_dir": False, "file_size": size, **more}


OUTSIDE = {
    "above": entry("../outside"),
    "absolute": entry("/outside"),
    "above, encoded": entry("%2e%2e/outside"),
    "above, further on": entry("code/../../outside"),
    "a folder above": {"path": "..", "is_dir": True},
    "nothing": entry("a//b"),
}


@pytest.mark.parametrize("listed", OUTSIDE.values(), ids=OUTSIDE)
def test_a_path_that_leads_out_of_the_model_is_refused(
    listed: dict[str, Any], fake_server: StartFake, tmp_path: Path
) -> None:
    server = fake_server()
    server.files = {**MODEL, "../outside": b"out", "/outside": b"out"}
    server.listings[""] = [entry("MLmodel", len(MODEL["MLmodel"])), listed]
    machine = machine_for(tmp_path, MLFLOW_TRACKING_URI=server.url)
    with pytest.raises(ModelError, match="lists a file that is not inside it") as caught:
        fetch("runs:/r1", machine)
    assert "ask who logged it" in spoken(caught)
    assert not list(tmp_path.rglob("*outside*"))
    assert not stored(machine)


@pytest.mark.parametrize("listed", ["folders in folders", "files"])
def test_a_listing_without_end_is_refused(
    listed: str, fake_server: StartFake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = fake_server()
    server.files = MODEL
    monkeypatch.setattr("envbuilder.model_files.MAX_FILES", 2000)
    mlmodel = entry("MLmodel", len(MODEL["MLmodel"]))
    if listed == "files":
        server.listings[""] = [mlmodel, *(entry(f"file{number}") for number in range(2001))]
    else:
        server.listings[""] = [mlmodel, {"path": "d", "is_dir": True}]
        for depth in range(1, 80):
            server.listings["/".join("d" * depth)] = [{"path": "d", "is_dir": True}]
    with pytest.raises(ModelError, match="lists more than 2000 files, or folders in folders without end"):
        fetch("runs:/r1", machine_for(tmp_path, MLFLOW_TRACKING_URI=server.url))


@pytest.mark.parametrize("size", [0, 1, 2_000_000, 2_999_999])
def test_a_file_that_is_longer_than_announced_is_cut_off(size: int, fake_server: StartFake, tmp_path: Path) -> None:
    server = fake_server()
    server.files = MODEL
    server.listings[""] = [entry("MLmodel", len(MODEL["MLmodel"])), entry("weights.bin", size)]
    machine = machine_for(tmp_path, MLFLOW_TRACKING_URI=server.url)
    with pytest.raises(ModelError, match="is longer than the server announced"):
        fetch("runs:/r1", machine)
    assert not stored(machine)


def test_a_file_that_is_shorter_than_announced_may_be_whole_later(fake_server: StartFake, tmp_path: Path) -> None:
    server = fake_server()
    server.files = MODEL
    server.listings[""] = [entry("MLmodel", len(MODEL["MLmodel"])), entry("weights.bin", 4_000_000)]
    with pytest.raises(UnreachableError, match="is shorter than the server announced"):
        fetch("runs:/r1", machine_for(tmp_path, MLFLOW_TRACKING_URI=server.url))


def test_a_download_that_breaks_off_is_taken_up_again(fake_server: StartFake, tmp_path: Path) -> None:
    server = fake_server()
    server.files = MODEL

    def break_off(path: str) -> None:
        if path == "weights.bin" and server.served.count(path) < 3:
            raise ConnectionResetError

    server.on_file = break_off
    found = fetch("runs:/r1", machine_for(tmp_path, MLFLOW_TRACKING_URI=server.url))
    assert contents(found.directory) == MODEL
    assert server.served.count("weights.bin") == 3


def test_the_login_is_not_sent_to_a_host_that_the_server_names(fake_server: StartFake, tmp_path: Path) -> None:
    server, other = fake_server(), fake_server()
    server.artifact_uri = other.url.replace("http:", "mlflow-artifacts:") + "/model"
    other.files = MODEL
    (tmp_path / ".mlflow").mkdir()
    (tmp_path / ".mlflow/credentials").write_text(
        "[mlflow]\nmlflow_tracking_username = u\nmlflow_tracking_password = p\n"
    )
    machine = machine_for(tmp_path, MLFLOW_TRACKING_URI=server.url, **login())
    fetch("runs:/r1", machine)
    assert other.logins == {""}
    assert server.logins != {""}
    other.status = 401
    with pytest.raises(UnreachableError, match="refuses access without the login for") as caught:
        fetch("runs:/r1", machine)
    assert f"give the place itself: `{server.artifact_uri}`" in spoken(caught)
    other.status = 200
    fetch(server.artifact_uri, machine)
    assert len(other.logins) == 2


def test_what_a_server_repeats_of_the_login_is_not_shown(fake_server: StartFake, tmp_path: Path) -> None:
    server = fake_server()
    server.status = 400
    with pytest.raises(ModelError, match="MLflow could not fetch the model") as caught:
        fetch("runs:/r1", machine_for(tmp_path, MLFLOW_TRACKING_URI=server.url, MLFLOW_TRACKING_TOKEN="canary-token"))
    assert "Bearer ***" in spoken(caught)
    assert "canary" not in spoken(caught)


def test_a_server_that_fails_for_now_is_unreachable(fake_server: StartFake, tmp_path: Path) -> None:
    server = fake_server()
    server.status = 503
    with pytest.raises(UnreachableError, match="no answer from the tracking server"):
        fetch("runs:/r1", machine_for(tmp_path, MLFLOW_TRACKING_URI=server.url))


def test_files_of_this_machine_are_a_model_or_nothing(fake_server: StartFake, tmp_path: Path) -> None:
    server, folder = fake_server(), tmp_path / "store"
    machine = machine_for(tmp_path, MLFLOW_TRACKING_URI=server.url)
    server.artifact_uri = str(folder)
    with pytest.raises(ModelError, match="which the server names as its own disk") as caught:
        fetch("runs:/r1", machine)
    assert "--serve-artifacts" in spoken(caught)
    folder.mkdir()
    (folder / "MLmodel").write_bytes(MODEL["MLmodel"])
    assert set(contents(fetch("runs:/r1", machine).directory)) == {"MLmodel"}
    (tmp_path / "secret").write_text("canary")
    (folder / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(ModelError, match="not inside it"):
        fetch("runs:/r1", machine)


def test_an_interrupted_fetch_ends_its_program(fake_server: StartFake, tmp_path: Path, gate: threading.Event) -> None:
    server, begun = fake_server(), threading.Event()
    server.files = MODEL
    server.on_file = waiting(begun, gate)
    with fetching(server, tmp_path) as parent:
        assert begun.wait(20)
        (child,) = children(parent.pid)
        parent.send_signal(signal.SIGINT)
        parent.wait(20)
        wait_for(lambda: is_gone(child))
    assert not list((tmp_path / "cache/models/staging").rglob("weights.bin"))


def test_a_program_that_is_killed_is_not_a_crash_of_ours(fake_server: StartFake, tmp_path: Path) -> None:
    server = fake_server()
    server.files = MODEL

    def kill(path: str) -> None:
        if path == "weights.bin":
            (child,) = set(children(os.getpid())) - others
            os.kill(child, signal.SIGKILL)

    others = set(children(os.getpid()))
    server.on_file = kill
    with pytest.raises(UnreachableError, match="the download was killed"):
        fetch("runs:/r1", machine_for(tmp_path, MLFLOW_TRACKING_URI=server.url))


def test_others_may_read_a_model_and_nobody_is_invited_to_change_it(fake_server: StartFake, tmp_path: Path) -> None:
    server = fake_server()
    server.files = MODEL
    before = os.umask(0o077)
    try:
        found = fetch("runs:/r1", machine_for(tmp_path, MLFLOW_TRACKING_URI=server.url))
    finally:
        os.umask(before)
    modes = {
        path.relative_to(found.directory).as_posix(): path.stat().st_mode & 0o777 for path in found.directory.rglob("*")
    }
    assert modes == {"MLmodel": 0o444, "code": 0o755, "code/__init__.py": 0o444, "weights.bin": 0o444}
    assert found.directory.stat().st_mode & 0o777 == 0o755


def test_records_that_cannot_be_read_count_as_missing(fake_server: StartFake, tmp_path: Path) -> None:
    server = fake_server()
    server.files = MODEL
    machine = machine_for(tmp_path, MLFLOW_TRACKING_URI=server.url)
    found = fetch("runs:/r1", machine)
    for record in (machine.models / "known").iterdir():
        record.write_text("{")
    assert fetch("runs:/r1", machine) == found
    for record in (machine.models / "last").iterdir():
        record.write_text("[]")
    with pytest.raises(UnreachableError):
        fetch("runs:/r1", offline(machine))
