from typing import Any

def encode(
    symbols: Any, bounds: Any, images: int, rows: int, columns: int, entries: int, *tables: Any
) -> tuple[tuple[bytes, ...], int, bytes]: ...
def decode(
    words: Any, ends: Any, escapes: Any, count: int, symbols: Any, bounds: Any, images: int, rows: int, columns: int,
    entries: int, *tables: Any,
) -> bool: ...  # fmt: skip
def encode_bits(streams: int, planes: Any, images: int, rows: int, columns: int, *tables: Any) -> tuple[bytes, ...]: ...
def decode_bits(words: bytes, ends: Any, planes: Any, images: int, rows: int, columns: int, *tables: Any) -> bool: ...
