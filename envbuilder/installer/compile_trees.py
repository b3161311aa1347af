"""Writes the bytecode of installed trees; started as a script by the Python that will run it, inside a sandbox.

Standard library only, Python 3.7 and later. Arguments: the prefix the trees are mounted under, then tree names.
The bytecode is unchecked-hash (PEP 552): valid whatever the times of the files are, and equal in every build.
Test folders are left out: nothing imports them when a model predicts. A file that does not compile stays without
bytecode, as with pip.
"""

import os
import py_compile
import re
import sys

SKIPPED = re.compile(r"/tests?/")


def sources(prefix, names):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, D103 - runs on old Pythons
    found = []
    for name in names:
        top = os.path.join(prefix, name)  # noqa: PTH118 - PurePath costs more than the call here
        for folder, _, files in os.walk(top):
            for file in files:
                path = os.path.join(folder, file)  # noqa: PTH118
                inside = path[len(top) :]
                if file.endswith(".py") and not SKIPPED.search(inside):
                    found.append((path, inside))
    return sorted(found)


def main():  # type: ignore[no-untyped-def]  # noqa: ANN201, D103
    work = sources(sys.argv[1], sys.argv[2:])  # type: ignore[no-untyped-call]
    workers = os.cpu_count() or 1
    children = []
    for number in range(workers):
        child = os.fork()
        if child == 0:
            for path, inside in work[number::workers]:
                try:
                    py_compile.compile(
                        path,
                        dfile=inside,
                        doraise=True,
                        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
                    )
                except (py_compile.PyCompileError, RecursionError):
                    continue
            os._exit(0)
        children.append(child)
    failed = [child for child in children if os.waitpid(child, 0)[1] != 0]
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()  # type: ignore[no-untyped-call]
