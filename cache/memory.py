"""A mapping that holds so many bytes and lets go of what was not used for longest."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Lru(Generic[K, V]):
    """`used` never exceeds `limit` (bytes); something larger than the whole limit is not kept at all."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: K) -> bool:
        return key in self._entries

    def get(self, key: K) -> V | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: K, value: V, size: int) -> None:
        self.drop(key)
        if size > self.limit:
            return
        self._entries[key] = (value, size)
        self.used += size
        while self.used > self.limit:
            _, (_, freed) = self._entries.popitem(last=False)
            self.used -= freed

    def drop(self, key: K) -> None:
        _, size = self._entries.pop(key, (None, 0))
        self.used -= size
