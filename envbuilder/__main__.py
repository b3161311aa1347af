"""`python -m envbuilder` is the command line."""

from __future__ import annotations

from envbuilder.cli import main

if __name__ == "__main__":
    main()
