"""Fresh processes of Python in which caecodec is the package under test."""

import os
import subprocess
import sys
import sysconfig

from .paths import PACKAGE, TESTS

# Seconds after which a process counts as hung. One that works is done in seconds, or in minutes on a busy machine.
PATIENCE = 900


def environment(**more):
    """The variables of this process, with paths that lead to the package and to what the tests share."""
    installed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    paths = [*({str(PACKAGE.parent)} - installed), str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **more}


def start(*arguments, **options):
    """A process of Python that runs with these arguments; its streams are text."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.Popen(command, text=True, **{"env": environment(), **options})


def run(*arguments, expected=0, **options):
    """What Python prints when it is run with these arguments, once it has ended with the expected exit status."""
    command = [sys.executable, *map(str, arguments)]
    options = {"env": environment(), "capture_output": True, "text": True, "timeout": PATIENCE, **options}
    result = subprocess.run(command, check=False, **options)
    assert result.returncode == expected, result.stderr
    return result
