"""Convert OME-NGFF groups to image files, as `caecodec decode` does: python examples/decode.py GROUP_OR_FOLDER... -o OUTPUT.

--help lists the options. Needs the extra ngff.
"""

import sys

from caecodec.cli.main import main

sys.exit(main(["decode", *sys.argv[1:]]))
