"""Ends an installation in the build stage: removes uv's lock file and writes the bytecode of the given prefixes.

Standard library only; runs beside `compile_trees.py` and by the same rule, except that the paths are the final ones.
"""
# ruff: noqa: INP001

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import compile_trees

find = compile_trees.sources
compile_trees.sources = lambda prefix, names: [(path, path) for path, _ in find(prefix, names)]

if __name__ == "__main__":
    for prefix in sys.argv[1:]:
        lock = Path(prefix, ".lock")
        if lock.exists():
            lock.unlink()
    sys.argv.insert(1, "/")
    compile_trees.main()
