from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from envbuilder import process, sandbox, sandbox_init
from envbuilder.errors import BuildFailedError, EngineMissingError
from envbuilder.sandbox import Bind, Sandbox
from tests import root_file_system as root_file_systems
from tests.root_file_system import own_interpreter

if TYPE_CHECKING:
    from collections.abc import Iterator

root_file_system = root_file_systems.root_file_system
pytestmark = pytest.mark.process
PYTHON = own_interpreter().executable
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
TELL = """
import json, os, socket
def tried(action):
    try: action()
    except OSError as error: return type(error).__name__
    return "done"
def lines(file):
    with open(file) as stream: return dict(line.split(":\\t", 1) for line in stream if ":\\t" in line)
def loopback():
    with socket.create_server(("127.0.0.1", 0)) as server: socket.create_connection(server.getsockname(), 5).close()
def outside():
    socket.create_connection(("192.0.2.1", 80), 5)
status = lines("/proc/self/status")
print(json.dumps({
    "root": tried(lambda: open("/new", "w")),
    "library": tried(lambda: os.mkdir("/usr/lib/new")),
    "tmp": (os.listdir("/tmp"), tried(lambda: open("/tmp/new", "w").close())),
    "shm": (os.listdir("/dev/shm"), tried(lambda: open("/dev/shm/new", "w").close())),
    "null": tried(lambda: open("/dev/null", "w").write("x")),
    "top": sorted(os.listdir("/")),
    "user": (os.getuid(), os.geteuid(), os.getgid()),
    "groups": os.getgroups(),
    "capabilities": [status[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")],
    "no new rights": status["NoNewPrivs"].strip(),
    "pid": os.getpid(),
    "processes": [name for name in os.listdir("/proc") if name.isdigit()],
    "interfaces": [name for _, name in socket.if_nameindex()],
    "loopback": tried(loopback), "outside": tried(outside),
    "environ": {name: value for name, value in os.environ.items() if name != "LC_CTYPE"}, "cwd": os.getcwd(),
    "umask": os.umask(0),
}))
"""


@pytest.fixture(scope="session", autouse=True)
def allowed() -> None:
    reason = sandbox.is_allowed()
    if reason is not None:
        pytest.skip(f"this machine allows no sandbox: {reason}")


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that every user may enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="shared-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(params=["own user", "nobody"])
def prefix(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """What starts a program as this user, and as one without any rights."""
    if request.param == "own user":
        return ()
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root, with setpriv, can become nobody")
    return NOBODY


def outer_python(prefix: tuple[str, ...]) -> str:
    """Return a Python that the user may start; this one's may lie in a folder of root."""
    for candidate in (sys.executable, "/usr/bin/python3"):
        probe = (*prefix, candidate, "-I", "-S", "-c", "import ctypes, socket")
        if Path(candidate).exists() and subprocess.run(probe, capture_output=True, check=False).returncode == 0:
            return candidate
    pytest.skip("that user may start no Python of this machine")


def run(box: Sandbox, prefix: tuple[str, ...], shared: Path) -> process.Finished:
    """Run the sandbox as the user that `prefix` becomes."""
    script = shared / "sandbox_init.py"
    shutil.copyfile(sandbox_init.__file__, script)
    script.chmod(0o644)
    with sandbox.command_of(box) as (_, *flags, _, spec):
        command = (*prefix, outer_python(prefix), *flags, str(script), spec)
        return process.run(command, environ={"PATH": os.environ["PATH"]}, timeout=60)


def python(code: str, lower: Path, **options: Any) -> Sandbox:  # noqa: ANN401 - the fields of Sandbox
    return Sandbox(lower=(lower,), command=(PYTHON, "-c", code), **options)


def test_a_program_sees_only_what_it_should(root_file_system: Path, prefix: tuple[str, ...], shared: Path) -> None:
    box = python(TELL, root_file_system, environ=(("GIVEN", "yes"),), cwd="/usr/lib")
    finished = run(box, prefix, shared)
    assert finished.ok, finished.tail
    told = json.loads(finished.stdout)
    assert (told["root"], told["library"]) == ("OSError", "OSError")
    assert told["tmp"] == told["shm"] == [[], "done"]
    assert told["null"] == "done"
    assert told["top"] == ["bin", "dev", "etc", "lib", "lib64", "proc", "tmp", "usr"]
    assert told["user"] == [1000, 1000, 1000]
    assert 0 not in told["groups"]
    assert {int(mask, 16) for mask in told["capabilities"]} == {0}
    assert told["no new rights"] == "1"
    assert (told["pid"], told["processes"]) == (1, ["1"])
    assert told["interfaces"] == ["lo"]
    assert (told["loopback"], told["outside"]) == ("done", "OSError")
    assert told["environ"] == {"GIVEN": "yes"}
    assert (told["cwd"], told["umask"]) == ("/usr/lib", 0o022)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can stay root")
def test_root_stays_root_without_rights(root_file_system: Path) -> None:
    told = json.loads(sandbox.run(python(TELL, root_file_system, root=True, network="host")).stdout)
    assert told["user"] == [0, 0, 0]
    assert {int(mask, 16) for mask in told["capabilities"][1:4]} == {0}
    assert told["root"] == "OSError"


def test_the_hosts_network_can_be_kept(root_file_system: Path) -> None:
    with_it = python("import os; print(os.readlink('/proc/self/ns/net'))", root_file_system, network="host")
    without = python("import os; print(os.readlink('/proc/self/ns/net'))", root_file_system)
    own = str(Path("/proc/self/ns/net").readlink())
    assert sandbox.run(with_it).stdout.decode().strip() == own
    assert sandbox.run(without).stdout.decode().strip() != own


def test_binds_are_seen_and_written_only_where_allowed(
    root_file_system: Path, prefix: tuple[str, ...], shared: Path
) -> None:
    for name in ("read", "write"):
        (shared / name).mkdir()
        (shared / name).chmod(0o777)
    (shared / "read" / "file").write_text("directory")
    (shared / "single").write_text("file")
    code = """
from pathlib import Path
print(Path("/in/read/file").read_text(), Path("/etc/single").read_text())
for path in ("/in/read/new", "/etc/single", "/in/read/file", "/in/write/new"):
    try: Path(path).write_text("x"); print("written")
    except OSError as error: print(error.errno)
"""
    binds = (
        Bind(source=shared / "read", target="/in/read"),
        Bind(source=shared / "write", target="/in/write", writable=True),
        Bind(source=shared / "single", target="/etc/single"),
    )
    finished = run(python(code, root_file_system, binds=binds), prefix, shared)
    assert finished.stdout.decode().split() == ["directory", "file", "30", "30", "30", "written"], finished.tail
    assert (shared / "write" / "new").read_text() == "x"


def test_an_image_may_have_a_hundred_layers(root_file_system: Path, tmp_path: Path) -> None:
    layers = []
    for number in range(100):
        layers.append(tmp_path / f"a-name-as-long-as-those-of-a-cache: {number:064}")
        (layers[-1] / "top").mkdir(parents=True)
        (layers[-1] / "top" / f"{number}").write_text("")
    box = Sandbox(
        lower=(root_file_system, *layers), command=(PYTHON, "-c", "import os; print(len(os.listdir('/top')))")
    )
    assert sandbox.run(box).stdout == b"100\n"


def test_upper_directories_hide_lower_ones(root_file_system: Path, tmp_path: Path) -> None:
    upper = tmp_path / "upper: with, odd\\name"
    (upper / "etc").mkdir(parents=True)
    (upper / "etc" / "file").write_text("upper")
    for folder in (upper, upper / "etc"):
        folder.chmod(0o755)
    box = Sandbox(
        lower=(root_file_system, upper),
        command=(PYTHON, "-c", "print(open('/etc/file').read())"),
    )
    assert sandbox.run(box).stdout == b"upper\n"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import sys; sys.exit(0)", 0),
        ("import sys; sys.exit(7)", 7),
        ("import sys; sys.exit(125)", 125),
        ("import ctypes; ctypes.string_at(0)", 128 + signal.SIGSEGV),
    ],
    ids=["0", "7", "the sandbox's own", "a signal"],
)
def test_exit_codes_pass_through(code: str, expected: int, root_file_system: Path) -> None:
    assert sandbox.run(python(code, root_file_system)).code == expected


def test_input_and_lines_pass_through(root_file_system: Path) -> None:
    lines: list[str] = []
    code = "import sys; data = sys.stdin.buffer.read(); print(len(data)); print('seen', file=sys.stderr)"
    finished = sandbox.run(python(code, root_file_system), stdin=bytes(1 << 20), on_line=lines.append)
    assert (finished.stdout, lines) == (b"1048576\n", ["seen"])


def start(code: str, root: Path) -> tuple[subprocess.Popen[bytes], Any]:
    context = sandbox.command_of(python(code, root))
    child = subprocess.Popen(context.__enter__(), stdout=subprocess.PIPE, env={})
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    return child, context


def test_signals_pass_through(root_file_system: Path) -> None:
    code = "import signal, sys, time\nfor n in (1, 2, 15): signal.signal(n, lambda number, _: sys.exit(number))\n"
    code += "print('ready', flush=True); time.sleep(60)"
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        child, context = start(code, root_file_system)
        with child:
            child.send_signal(number)
            assert child.wait(20) == number
        context.__exit__(None, None, None)


def running(token: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if token.encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


def test_killing_the_launcher_kills_everything_inside(root_file_system: Path) -> None:
    token = f"token-{os.getpid()}-{time.monotonic_ns()}"
    code = f"import subprocess, sys, time; token = {token!r}\n"
    code += f"subprocess.Popen((sys.executable, '-c', 'import time; time.sleep(600)', {token!r}))\n"
    code += "print('ready', flush=True); time.sleep(600)"
    child, context = start(code, root_file_system)
    assert running(token)
    with child:
        child.kill()
        assert child.wait() == -signal.SIGKILL
    deadline = time.monotonic() + 10
    while running(token) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert running(token) == []
    context.__exit__(None, None, None)


def test_a_timeout_ends_everything_inside(root_file_system: Path) -> None:
    token = f"token-{os.getpid()}-{time.monotonic_ns()}"
    box = python(f"import time; {token!r}; time.sleep(600)", root_file_system)
    with pytest.raises(TimeoutError):
        sandbox.run(box, timeout=1)
    deadline = time.monotonic() + 10
    while running(token) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert running(token) == []


def test_nothing_stays_mounted_or_in_the_temp_folder(
    root_file_system: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    bind = Bind(source=tmp_path, target="/in", writable=True)
    before = Path("/proc/self/mountinfo").read_text()
    seen: list[bool] = []
    code = "import sys; print('x', file=sys.stderr)"
    look = lambda _: seen.append(Path("/proc/self/mountinfo").read_text() == before)  # noqa: E731
    assert sandbox.run(python(code, root_file_system, binds=(bind,)), on_line=look).ok
    assert seen == [True], "its mounts are in a namespace of its own"
    assert Path("/proc/self/mountinfo").read_text() == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "step"),
    [
        ({"binds": (Bind(source=Path("/absent"), target="/in"),)}, "mount bind on"),
        ({"lower": (Path("/absent"),)}, "mount overlay on"),
    ],
    ids=["bind", "lower"],
)
def test_a_sandbox_that_cannot_be_made_is_told(change: dict[str, Any], step: str, root_file_system: Path) -> None:
    options: dict[str, Any] = {"lower": (root_file_system,), "command": (PYTHON, "-c", "pass"), **change}
    with pytest.raises(EngineMissingError) as raised:
        sandbox.run(Sandbox(**options))
    (problem,) = raised.value.problems
    assert problem.what.startswith("this machine does not allow the namespace sandbox (")
    assert step in problem.what
    assert problem.fix is not None
    assert problem.fix.startswith("run as root, or allow user namespaces")


@pytest.mark.parametrize("change", [{"command": ("/absent",)}, {"cwd": "/absent"}], ids=["command", "cwd"])
def test_a_command_that_is_not_in_the_image_is_told(change: dict[str, Any], root_file_system: Path) -> None:
    options: dict[str, Any] = {"lower": (root_file_system,), "command": (PYTHON, "-c", "pass"), **change}
    with pytest.raises(BuildFailedError) as raised:
        sandbox.run(Sandbox(**options))
    (problem,) = raised.value.problems
    assert "cannot be started in the image" in problem.what
    assert "No such file or directory: '/absent'" in problem.what
    assert problem.fix is not None


def test_a_sandbox_works_under_a_tight_umask(root_file_system: Path, shared: Path) -> None:
    box = python(
        "import os; print(os.listdir('/in'), os.listdir('/in/deep'))",
        root_file_system,
        binds=(Bind(source=shared, target="/in/deep"),),
    )
    old = os.umask(0o077)
    try:
        finished = sandbox.run(box)
    finally:
        os.umask(old)
    assert finished.stdout == b"['deep'] []\n", finished.tail


def test_several_sandboxes_run_at_once(root_file_system: Path) -> None:
    codes: list[int] = []

    def one(number: int) -> None:
        codes.append(sandbox.run(python(f"import sys; sys.exit({number})", root_file_system)).code)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == list(range(6))
