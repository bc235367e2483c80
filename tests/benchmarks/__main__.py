"""python tests/benchmarks [IMAGES] [--json FILE]: see command.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that this folder is the package `benchmarks`

from benchmarks.command import main  # the package that the line above lets Python find

if __name__ == "__main__":
    main()
