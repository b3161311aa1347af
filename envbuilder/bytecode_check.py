"""Compares bytecode with the modules it is said to be of; started as a script by the environment's own Python.

Standard library only, Python 3.7 and later. A list of pairs, module and bytecode, comes as JSON on standard input. For
each, a line says `1` where compiling the module gives that code, else `0`; what cannot be read can end this program,
so a line that never comes is an answer too.

With a directory as argument, all bytecode below it is compared: the files that are not of their module are told, one a
line, and `whole` where it came to the end.
"""

import json
import marshal
import os
import sys


def is_of(source, bytecode):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, D103 - runs on old Pythons
    optimize = 2 if bytecode.endswith(".opt-2.pyc") else 1 if bytecode.endswith(".opt-1.pyc") else 0
    with open(source, "rb") as stream:  # noqa: PTH123
        text = stream.read()
    with open(bytecode, "rb") as stream:  # noqa: PTH123
        code = marshal.loads(stream.read()[16:])  # noqa: S302 - its own process
    # Equal whatever the name of the file that was compiled.
    return code == compile(text, source, "exec", dont_inherit=True, optimize=optimize)


def below(top):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, D103
    tag = "." + str(sys.implementation.cache_tag)
    for folder, _, files in os.walk(top):
        for name in sorted(files):
            stem = name.replace(".opt-1.pyc", ".pyc").replace(".opt-2.pyc", ".pyc")
            source = os.path.join(os.path.dirname(folder), stem[: -len(tag + ".pyc")] + ".py")  # noqa: PTH118, PTH120
            if folder.endswith("__pycache__") and stem.endswith(tag + ".pyc") and os.path.isfile(source):  # noqa: PTH113
                yield source, os.path.join(folder, name)  # noqa: PTH118


def main():  # type: ignore[no-untyped-def]  # noqa: ANN201, D103
    sys.setrecursionlimit(10000)
    if len(sys.argv) > 1:
        for source, bytecode in below(sys.argv[1]):  # type: ignore[no-untyped-call]
            try:
                same = is_of(source, bytecode)  # type: ignore[no-untyped-call]
            except Exception:  # noqa: BLE001
                same = False
            if not same:
                sys.stdout.write(bytecode + "\n")
                sys.stdout.flush()
        sys.stdout.write("whole\n")
        sys.stdout.flush()
        return
    for source, bytecode in json.loads(sys.stdin.read()):
        try:
            same = is_of(source, bytecode)  # type: ignore[no-untyped-call]
        except Exception:  # noqa: BLE001 - marshal and compile raise whatever they meet
            same = False
        sys.stdout.write("1\n" if same else "0\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()  # type: ignore[no-untyped-call]
