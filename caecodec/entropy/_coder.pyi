from typing import Any

def encode(
    symbols: Any, bounds: Any, images: int, rows: int, columns: int, entries: int, *tables: Any
) -> tuple[tuple[bytes, ...], int, bytes]: ...
def decode(
    words: Any, ends: Any, escapes: Any, count: int, symbols: Any, bounds: Any, images: int, rows: int, columns: int,
    entries: int, *tables: Any,
) -> bool: ...  # fmt: skip
def pack(index: Any, mass: Any) -> bytes: ...
def unpack(words: bytes, state: int, left: int, mass: Any, index: Any) -> tuple[int, int]: ...
