"""Convert OME-NGFF back to image files: python examples/decode.py GROUP_OR_FOLDER... -o OUTPUT [options; see --help]."""

import sys

from caecodec.cli.main import main

sys.exit(main(["decode", *sys.argv[1:]]))
