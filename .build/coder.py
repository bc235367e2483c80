"""Builds caecodec/entropy/_coder.c into the wheel if there is a C compiler; without one, numpy does its work, and says so.

It uses Python's stable ABI, so that one wheel serves Python 3.11 and all later versions.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import sys_tags
from setuptools import Distribution, Extension
from setuptools.errors import BaseError, CCompilerError

MODULE = "caecodec.entropy._coder"
SOURCE = "caecodec/entropy/_coder.c"


class CoderBuildHook(BuildHookInterface):
    """Compiles the extension beside its source for an editable installation, and elsewhere for a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the extension to what is built."""
        options = [] if os.name == "nt" else ["-O3"]
        extension = Extension(MODULE, [SOURCE], py_limited_api=True, extra_compile_args=options)
        command = Distribution({"name": "caecodec", "ext_modules": [extension]}).get_command_obj("build_ext")
        self.temporary = tempfile.TemporaryDirectory()  # until the wheel is written
        folder = Path(self.root if version == "editable" else self.temporary.name)
        command.build_lib, command.build_temp = str(folder), self.temporary.name
        before = Path.cwd()
        os.chdir(self.root)
        try:
            command.ensure_finalized()
            command.run()
        except (BaseError, CCompilerError, OSError) as error:
            self.app.display_warning(f"caecodec is built without its compiled coder, so context coding is slower: {error}")
            return
        finally:
            os.chdir(before)
        platform = next(tag.platform for tag in sys_tags() if not tag.platform.startswith(("many", "musl")))
        build_data["pure_python"] = False
        build_data["tag"] = f"cp311-abi3-{platform}"
        if version != "editable":
            (built,) = command.get_outputs()
            build_data["force_include"][built] = str(Path(built).relative_to(folder))
