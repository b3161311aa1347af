"""Reports the branch coverage of the pure modules after a test run, and fails where it is not whole.

Which modules are pure is said once, in the import-linter contract of pyproject.toml.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

project = tomllib.loads((Path(__file__).resolve().parent.parent / "pyproject.toml").read_text())
(pure,) = (
    contract["source_modules"]
    for contract in project["tool"]["importlinter"]["contracts"]
    if contract["name"].startswith("values ")
)
files = ",".join(module.replace(".", "/") + ".py" for module in pure)
command = (sys.executable, "-m", "coverage", "report", f"--include={files}", "--skip-covered", "-m", "--fail-under=100")
sys.exit(subprocess.run(command, check=False).returncode)
