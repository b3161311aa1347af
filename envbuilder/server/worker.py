"""Started by path under the model's interpreter: makes the modules beside it importable, then serves the model.

Neither this folder nor the front's site-packages get on `sys.path`, so nothing of the server can shadow the model's.
"""

import importlib
import os
import sys
import types


def make_package() -> str:
    """Make a package of this folder that exists only in this process; returns its name."""
    package = types.ModuleType("envbuilder_worker")
    package.__path__ = [os.path.dirname(os.path.abspath(__file__))]  # noqa: PTH100, PTH120 - pathlib is one import more
    sys.modules[package.__name__] = package
    return package.__name__


def main() -> int:
    """Run the worker's loop."""
    loop = importlib.import_module(make_package() + ".loop")
    return int(loop.main(sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(main())
