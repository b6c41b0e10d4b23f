"""Revision cache: what takes long to make, for as long as the store stays as it is."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from nearshot.schema.catalog import Catalog
from nearshot.schema.store import Store

Made = TypeVar("Made")


class RevisionCache(Generic[Made]):
    """The last few things that were made of a store, each made anew only when the store has changed. Safe from any thread.

    One is made at a time, and what is there waits for it.
    """

    def __init__(self, store: Store, *, most: int) -> None:
        self._store, self._most = store, most
        self._made: OrderedDict[Hashable, tuple[int, Made]] = OrderedDict()
        self._making = threading.Lock()

    def get(self, key: Hashable, make: Callable[[Catalog], Made]) -> Made:
        """Return what was made under this key from the store as it is now, or make it now."""
        with self._making, self._store.reading() as catalog:
            revision = catalog.revision()
            cached = self._made.get(key)
            if cached is None or cached[0] != revision:
                cached = (revision, make(catalog))
                self._made[key] = cached
                while len(self._made) > self._most:
                    self._made.popitem(last=False)
            self._made.move_to_end(key)
            return cached[1]
