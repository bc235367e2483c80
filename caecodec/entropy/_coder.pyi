from typing import Any

def encode(
    symbols: Any, bounds: Any, images: int, rows: int, columns: int, entries: int, *tables: Any
) -> tuple[tuple[bytes, ...], int, bytes]: ...
def decode(
    words: Any, ends: Any, escapes: Any, count: int, symbols: Any, bounds: Any, images: int, rows: int, columns: int,
    entries: int, *tables: Any,
) -> bool: ...  # fmt: skip
def encode_bits(planes: Any, images: int, rows: int, columns: int, *tables: Any) -> bytes: ...
def decode_bits(stream: bytes, planes: Any, images: int, rows: int, columns: int, *tables: Any) -> bool: ...
