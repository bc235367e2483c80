"""A Zarr store -> the same store for reading, which counts what is read and does not follow links out of a folder."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore, WrapperStore

from ..errors import ParameterError


@dataclass
class Cost:
    """What was read from stores and decoded.

    bytes : of chunks and of indices of shards, as they are stored
    pixels : decoded, of one plane or of RGB
    """

    bytes: int = 0
    pixels: int = 0


_cost: ContextVar[Cost | None] = ContextVar("cost", default=None)


@contextmanager
def adding_to(cost: Cost) -> Iterator[None]:
    """Add what this thread reads and decodes in a with block to `cost`; what zarr's event loop reads for it as well."""
    token = _cost.set(cost)
    try:
        yield
    finally:
        _cost.reset(token)


def count_pixels(pixels: int) -> None:
    """Add decoded pixels to the cost that this thread counts."""
    if (cost := _cost.get()) is not None:
        cost.pixels += pixels


class ServedStore(WrapperStore[Store]):
    """A store that counts what is read from it; all reads go through `get`.

    within : the folder that no link may lead out of; None if the store is no folder
    """

    def __init__(self, store: Store, within: Path | None = None) -> None:
        super().__init__(store)
        self.within = within if isinstance(store, LocalStore) else None

    def _with_store(self, store: Store) -> "ServedStore":
        return type(self)(store, self.within)

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """As the store, but ParameterError for a link that leads out of the folder."""
        if self.within is not None and isinstance(self._store, LocalStore):
            path = (self._store.root / key).resolve()
            if not path.is_relative_to(self.within):
                raise ParameterError(f"{key} is a link out of {self.within}, to {path}, and not served; copy what it links to")
        found = await self._store.get(key, prototype, byte_range)
        if found is not None and (cost := _cost.get()) is not None:
            cost.bytes += len(found)
        return found

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Several values, or parts of them."""
        return await asyncio.gather(*(self.get(key, prototype, byte_range) for key, byte_range in key_ranges))

    def get_ranges(
        self, key: str, byte_ranges: Sequence[ByteRequest | None], **options: Any
    ) -> AsyncIterator[Sequence[tuple[int, Buffer | None]]]:
        """Several parts of a value, as stores without a way of their own read them."""
        return Store.get_ranges(self, key, byte_ranges, **options)

    def _get_many(self, requests: Iterable[tuple[str, BufferPrototype, ByteRequest | None]]) -> Any:
        return Store._get_many(self, requests)

    @property
    def _supports_sync_io(self) -> bool:  # zarr's other way of reading, around `get`
        return False
