"""Notes which chunks or shards of an unfinished group are complete although they are not stored, because they are background.

A stored one proves by itself that it is complete. Every process appends to a file of its own, a line for each, so that neither
its end nor that of another leaves anything but whole lines, and a last one that is passed over.
"""

import os
import uuid
from pathlib import Path

_SUFFIX = ".txt"


class Journal:
    """The keys of the chunks or shards that are noted, and a file for others.

    Parameters
    ----------
    folder
        The folder of these files.
    """

    def __init__(self, folder: Path) -> None:
        self._own = folder / f"{uuid.uuid4().hex}{_SUFFIX}"
        lines = [line for file in folder.glob(f"*{_SUFFIX}") for line in file.read_text().splitlines(keepends=True)]
        self._keys = {line[:-1] for line in lines if line.endswith("\n")}

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    def add(self, key: str) -> None:
        """Note one more, with a single call of the operating system."""
        self._own.parent.mkdir(parents=True, exist_ok=True)
        line = f"{key}\n".encode()
        file = os.open(self._own, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            if os.write(file, line) != len(line):
                raise OSError(f"{self._own} cannot be written in full; free some space")
        finally:
            os.close(file)
