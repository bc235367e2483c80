"""Runs `python tests/benchmarks [IMAGES] [--json FILE]`; see command.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # makes this folder the package `benchmarks`

from benchmarks.command import main  # after the line above, so that Python finds the package

if __name__ == "__main__":
    main()
