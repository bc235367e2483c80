"""Convert photographs to OME-NGFF: python examples/encode.py PHOTO_OR_FOLDER... -o OUTPUT [options; see --help]."""

import sys

from caecodec.cli.main import main

sys.exit(main(["encode", *sys.argv[1:]]))
