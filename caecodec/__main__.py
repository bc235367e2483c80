"""python -m caecodec, the same as the command caecodec."""

import sys

from .cli.main import main

sys.exit(main())
