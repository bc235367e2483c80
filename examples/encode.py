"""Convert photographs to OME-NGFF groups, as `caecodec encode` does: python examples/encode.py PHOTO_OR_FOLDER... -o OUTPUT.

--help lists the options. Needs the extra ngff.
"""

import sys

from caecodec.cli.main import main

sys.exit(main(["encode", *sys.argv[1:]]))
