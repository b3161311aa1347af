"""What a pickle would import and call, read from its opcodes. Nothing is loaded. Pure."""

from __future__ import annotations

import pickletools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from typing import IO

MOST_OPCODES: Final = 2_000_000
_STRINGS: Final = frozenset(
    {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "BINSTRING", "SHORT_BINSTRING", "STRING"}
)
_PUTS: Final = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_GETS: Final = frozenset({"GET", "BINGET", "LONG_BINGET"})
_DANGEROUS: Final = frozenset(
    {
        "builtins",
        "__builtin__",
        "os",
        "posix",
        "nt",
        "subprocess",
        "sys",
        "socket",
        "shutil",
        "importlib",
        "runpy",
        "pty",
        "code",
        "codeop",
        "ctypes",
        "webbrowser",
        "urllib",
        "requests",
        "http",
        "pip",
        "multiprocessing",
        "asyncio",
        "commands",
        "timeit",
        "pdb",
        "bdb",
        "cProfile",
        "profile",
        "trace",
        "operator",
        "functools",
    }
)
_HARMLESS: Final = frozenset(
    {
        *(f"builtins.{name}" for name in (
            "object", "set", "frozenset", "list", "dict", "tuple", "int", "float", "complex", "bool", "str", "bytes",
            "bytearray", "slice", "range", "type", "print", "len", "abs", "min", "max", "sum", "round", "Exception",
        )),
        *(f"__builtin__.{name}" for name in ("object", "set", "frozenset", "list", "dict", "bytearray", "slice")),
        "__builtin__.xrange",
        "functools.partial",
        *(f"operator.{name}" for name in ("itemgetter", "add", "mul", "getitem")),
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PickleImports:
    """What a pickle asks for."""

    names: tuple[str, ...]
    """`module.name`, sorted; `?` stands for what is put together while it is loaded."""

    is_whole: bool
    """False where it is damaged, or too long to be read to its end."""

    @property
    def dangerous(self) -> tuple[str, ...]:
        """Those that no model needs, and that can do anything."""
        return tuple(one for one in self.names if one not in _HARMLESS and one.partition(".")[0] in _DANGEROUS)

    @property
    def unknown(self) -> bool:
        """Whether something is imported whose name cannot be read."""
        return any("?" in one for one in self.names)


def read(stream: IO[bytes]) -> PickleImports:
    """Read the opcodes of all pickles in the stream, as far as they follow each other."""
    names: set[str] = set()
    is_whole = True
    first = True
    while True:
        try:
            _read_one(stream, names)
        except _EndError:
            break
        except Exception:  # noqa: BLE001 - pickletools raises whatever a damaged pickle makes it
            # What follows a whole pickle is often data: numpy's and joblib's arrays.
            is_whole = not first
            break
        first = False
    return PickleImports(names=tuple(sorted(names)), is_whole=is_whole)


class _EndError(Exception):
    """Nothing is left."""


def _read_one(stream: IO[bytes], names: set[str]) -> None:
    start = stream.tell()
    if not stream.read(1):
        raise _EndError
    stream.seek(start)
    texts = _Texts()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if count > MOST_OPCODES:
            message = "too long"
            raise ValueError(message)
        if opcode.name in {"GLOBAL", "INST"}:
            names.add(".".join(str(argument).split(" ", 1)))
        elif opcode.name == "STACK_GLOBAL":
            names.add(".".join(texts.top))
        elif opcode.name in {"EXT1", "EXT2", "EXT4"}:
            names.add(f"?.extension-{argument}")
        texts.follow(opcode.name, argument)


class _Texts:
    """The last two things on the stack, as far as they are texts, and the texts in the memo."""

    def __init__(self) -> None:
        self.top = ("?", "?")
        self.memo: dict[object, str] = {}

    def follow(self, name: str, argument: object) -> None:
        if name in _PUTS:
            self.memo[argument] = self.top[1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self.top[1]
        elif name in _STRINGS:
            self.top = (self.top[1], str(argument))
        elif name in _GETS:
            self.top = (self.top[1], self.memo.get(argument, "?"))
        elif name not in {"PROTO", "FRAME"}:
            self.top = (self.top[1], "?")
