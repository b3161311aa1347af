"""Becomes process 1 of a namespace sandbox and runs one command there; started as a script by `envbuilder.sandbox`.

Standard library only. argv[1] is a JSON object:
  lower     directories that are laid over each other read-only, topmost first: links in the directory `names`
  mount     an empty directory to mount them on
  binds     [source, target below the root, writable] for directories and files that are added
  command   argument list; environ: its variables; cwd: its working directory
  network   "none" (own namespace, loopback only) or "host"
  root      true: stay user 0 of the sandbox; false: become user and group 1000
Exits with the command's code, 128 + the signal that ended it, or 125 with a line `sandbox: <step>: <reason>` on
standard error when the sandbox itself could not be set up, 127 with such a line when the command is not there.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import struct
import sys
from typing import Any

_CLONE = {"mount": 0x00020000, "uts": 0x04000000, "ipc": 0x08000000, "user": 0x10000000, "pid": 0x20000000}
_CLONE_NETWORK = 0x40000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_REMOUNT = 1, 2, 4, 32
_MS_BIND, _MS_REC, _MS_PRIVATE = 4096, 16384, 1 << 18
_MNT_DETACH = 2
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 24, 38
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_FAILED, _NOT_STARTED = 125, 127
_USER = 1000

_libc = ctypes.CDLL(None, use_errno=True)


class SetupError(Exception):
    """A step of the set-up that the kernel refused."""


def _check(result: int, step: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise SetupError(f"{step}: {os.strerror(number)}")


def _mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    result = _libc.mount(
        source.encode(), target.encode(), kind.encode() or None, ctypes.c_ulong(flags), data.encode() or None
    )
    _check(result, f"mount {kind or 'bind'} on {target}")


def _enter_namespaces(*, network: str) -> None:
    outer_uid, outer_gid = os.geteuid(), os.getegid()
    flags = _CLONE["mount"] | _CLONE["uts"] | _CLONE["ipc"] | _CLONE["pid"]
    if network == "none":
        flags |= _CLONE_NETWORK
    if outer_uid == 0:
        _check(_libc.unshare(flags), "unshare")
        return
    _check(_libc.unshare(flags | _CLONE["user"]), "unshare with a user namespace")
    for file, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{_USER} {outer_uid} 1"),
        ("gid_map", f"{_USER} {outer_gid} 1"),
    ):
        with open(f"/proc/self/{file}", "w", encoding="ascii") as stream:  # noqa: PTH123 - no pathlib here: start-up time
            stream.write(text)


def _lay_root(spec: dict[str, Any]) -> str:
    root = str(spec["mount"])
    _mount("none", "/", flags=_MS_REC | _MS_PRIVATE)
    os.chdir(spec["names"])
    _mount("overlay", root, "overlay", _MS_RDONLY | _MS_NOSUID | _MS_NODEV, f"lowerdir={':'.join(spec['lower'])}")
    _mount("proc", f"{root}/proc", "proc", _MS_NOSUID | _MS_NODEV)
    _make_devices(f"{root}/dev")
    _mount("tmpfs", f"{root}/tmp", "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=1777")  # noqa: S108 - inside the sandbox
    for source, target, writable in spec["binds"]:
        path = f"{root}/{target}"
        _mount(source, path, flags=_MS_BIND)
        if not writable:
            _remount_read_only(path)
    return root


def _remount_read_only(path: str) -> None:
    """Make a bind mount read-only, keeping the flags that a user namespace may not take away."""
    kept = os.statvfs(path).f_flag & (_MS_NOSUID | _MS_NODEV | 8)
    _mount("none", path, flags=_MS_BIND | _MS_REMOUNT | _MS_RDONLY | kept)


def _make_devices(dev: str) -> None:
    _mount("tmpfs", dev, "tmpfs", _MS_NOSUID, "mode=755")
    for name in ("null", "zero", "full", "random", "urandom"):
        with open(f"{dev}/{name}", "wb"):  # noqa: PTH123
            pass
        _mount(f"/dev/{name}", f"{dev}/{name}", flags=_MS_BIND)
    for name, target in (("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        os.symlink(f"/proc/self/{target}", f"{dev}/{name}")  # noqa: PTH211
    os.mkdir(f"{dev}/shm")  # noqa: PTH102
    _mount("tmpfs", f"{dev}/shm", "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=1777")


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14x", b"lo", 0)
        _check(_ioctl(control, _SIOCGIFFLAGS, request)[0], "read the loopback device")
        flags = struct.unpack("16sH14x", _ioctl(control, _SIOCGIFFLAGS, request)[1])[1] | _IFF_UP
        _check(_ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags))[0], "raise the loopback device")


def _ioctl(control: socket.socket, number: int, request: bytes) -> tuple[int, bytes]:
    buffer = ctypes.create_string_buffer(request, len(request))
    result: int = _libc.ioctl(control.fileno(), ctypes.c_ulong(number), buffer)
    return result, buffer.raw


def _change_root(root: str) -> None:
    os.chdir(root)
    _check(_libc.pivot_root(b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", _MNT_DETACH), "umount the old root")
    os.chdir("/")


def _give_up_rights(*, stay_root: bool) -> None:
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    capability = 0
    while _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) == 0:
        capability += 1
    if os.getuid() == 0 and not stay_root:
        os.setgroups([])
        os.setresgid(_USER, _USER, _USER)
        os.setresuid(_USER, _USER, _USER)
    # After the change of user: that change clears it.
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "parent-death signal")


def _run(spec: dict[str, Any]) -> None:
    """Become process 1: build the root, give up every right, become the command. Does not return."""
    try:
        root = _lay_root(spec)
        if spec["network"] == "none":
            _raise_loopback()
        _change_root(root)
        _give_up_rights(stay_root=spec["root"])
        os.umask(0o022)
    except (SetupError, OSError) as cause:
        os.write(2, f"sandbox: {cause}\n".encode())
        os._exit(_FAILED)
    try:
        os.chdir(spec["cwd"])
        os.execve(spec["command"][0], spec["command"], spec["environ"])  # noqa: S606 - the command, no shell
    except OSError as cause:
        os.write(2, f"sandbox: {cause}\n".encode())
        os._exit(_NOT_STARTED)


def main() -> int:
    """Set up the sandbox of argv[1], run its command, pass signals on to it, and return its exit code."""
    spec = json.loads(sys.argv[1])
    try:
        _enter_namespaces(network=spec["network"])
    except (SetupError, OSError) as cause:
        os.write(2, f"sandbox: {cause}\n".encode())
        return _FAILED
    child = os.fork()
    if child == 0:
        _run(spec)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: os.kill(child, received))
    _, status = os.waitpid(child, 0)
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


if __name__ == "__main__":
    sys.exit(main())
