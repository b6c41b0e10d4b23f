"""Renewed: what is made of a store and takes a while, made anew beside what is served meanwhile."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from nearshot.schema.catalog import Catalog
from nearshot.schema.errors import StoreError
from nearshot.schema.store import Store

Made = TypeVar("Made")
Kept = TypeVar("Kept")


@dataclass(slots=True, eq=False)
class _Entry(Generic[Made]):
    """What was made under a key: the last of it, of which revision and generation, and when it was last known to be right."""

    make: Callable[[Catalog], Made]
    product: Made | None = None
    revision: int = -1
    generation: int = -1
    current_at: float = 0.0
    used_at: float = field(default_factory=time.monotonic)
    coming: Future[tuple[int, Made]] | None = None


class Renewed(Generic[Made]):
    """What was made of a store, by key, `most` at a time. Any number of threads may ask; what is made for one key holds up no
    other, as long as there are `threads`.

    What was known to be right within `age` seconds is given out as it is. After that, the store is asked whether it has
    changed (with `by_revision`; else whatever it was made of may have), and where it has, it is made anew, once for all who
    ask. Who asks waits for it, but: where what there is was right within `behind` seconds, for `patience` seconds at most; and
    what was asked for within the last `kept` seconds is looked after without being asked for, so that nobody waits: it is
    behind the store by `age` and what making it takes.
    """

    def __init__(
        self,
        store: Store,
        *,
        most: int,
        age: float = 0.0,
        behind: float = 0.0,
        patience: float = 0.0,
        kept: float = 0.0,
        by_revision: bool = True,
        threads: int = 1,
    ) -> None:
        self._store, self._most = store, most
        self._age, self._behind, self._patience, self._kept = age, behind, patience, kept if age > 0 else 0.0
        self._by_revision = by_revision
        self._entries: OrderedDict[Hashable, _Entry[Made]] = OrderedDict()
        self._changing = threading.Lock()
        self._generation = 0
        self._room = threading.Semaphore(threads)
        self._looking: threading.Thread | None = None
        self._closing = threading.Event()

    def get(self, key: Hashable, make: Callable[[Catalog], Made]) -> Made:
        """What there is under a key, made by the `make` that came first for it; raises what that raises."""
        entry, product, coming = self._ask(key, make)
        if product is not None:
            return self._in_time(coming, product)
        generation = self._generation
        while True:
            of, newest = coming.result()
            if of >= generation:  # one that was begun before the last change that this service made is not enough
                return newest
            with self._changing:
                coming = self._renew(entry)

    def soon(self, key: Hashable, make: Callable[[Catalog], Made]) -> Made | None:
        """What there is under a key after `patience` seconds at most: the newest where it has come, else the last one, however
        far it is behind; None before the first. Raises what making it raised, also the last time, where nothing has come since.
        """
        with self._changing:
            entry = self._entries.get(key)
            last, before = (entry.product, entry.coming) if entry is not None else (None, None)
        _, product, coming = self._ask(key, make)
        if self._in_time(coming, None) is None and last is None and before is not None and before.done():
            before.result()
        return self._in_time(coming, product if product is not None else last)

    def begin(self, key: Hashable, make: Callable[[Catalog], Made]) -> None:
        """Have made what somebody may ask for soon, and do not wait for it."""
        self._ask(key, make)

    def _ask(
        self, key: Hashable, make: Callable[[Catalog], Made]
    ) -> tuple[_Entry[Made], Made | None, Future[tuple[int, Made]]]:
        """The entry of a key, what of it may be given out now, if anything, and what is coming, or has come."""
        with self._changing:
            entry = self._entries.setdefault(key, _Entry(make))
            self._entries.move_to_end(key)
            while len(self._entries) > self._most:
                self._entries.popitem(last=False)
            now = time.monotonic()
            is_kept = self._looking is not None and now - entry.used_at <= self._kept
            entry.used_at = now
            self._look_after()
            product = entry.product if entry.generation == self._generation else None
            since = now - entry.current_at
            if product is not None and (since < self._age or is_kept):
                there: Future[tuple[int, Made]] = Future()
                there.set_result((entry.generation, product))
                return entry, product, there
            return entry, product if since < self._behind else None, self._renew(entry)

    def _in_time(self, coming: Future[tuple[int, Made]], product: Kept) -> Made | Kept:
        """What is coming, where it is there in time; else what there is."""
        if not coming.done():
            wait([coming], self._patience)
        return coming.result()[1] if coming.done() else product

    def outdate(self) -> None:
        """Have every one who asks from now on wait until what is given out knows what was just changed."""
        with self._changing:
            self._generation += 1

    def close(self) -> None:
        """Look after nothing any more. What is being made is not waited for: it changes nothing."""
        self._closing.set()
        looking = self._looking
        if looking is not None:
            looking.join()

    def _renew(self, entry: _Entry[Made]) -> Future[tuple[int, Made]]:
        """Begin to bring an entry up to date, unless that has begun. Under the lock."""
        if entry.coming is None or entry.coming.done():
            entry.coming = Future()
            of = (entry.coming, entry, self._generation)
            threading.Thread(target=self._make, args=of, name="renewing", daemon=True).start()
        return entry.coming

    def _make(self, coming: Future[tuple[int, Made]], entry: _Entry[Made], generation: int) -> None:
        try:
            with self._room:
                product = self._made_now(entry, generation)
        except BaseException as error:  # whoever waits for it raises it
            entry.product = None
            coming.set_exception(error)
        else:
            coming.set_result((generation, product))

    def _made_now(self, entry: _Entry[Made], generation: int) -> Made:
        now = time.monotonic()
        with self._store.reading() as catalog:
            revision = catalog.revision()
            is_right = self._by_revision and (entry.generation, entry.revision) == (generation, revision)
            product = entry.product if is_right and entry.product is not None else entry.make(catalog)
        with self._changing:
            entry.product, entry.revision, entry.generation, entry.current_at = product, revision, generation, now
        return product

    def _look_after(self) -> None:
        """See that what is in use is looked after. Under the lock."""
        if self._kept > 0 and self._looking is None and not self._closing.is_set():
            self._looking = threading.Thread(target=self._look, name="looking", daemon=True)
            self._looking.start()

    def _look(self) -> None:
        """Renew what was asked for lately and is not of the store's newest revision, until nothing was."""
        try:
            with suppress(StoreError):  # whoever asks next is told
                while not self._closing.wait(self._age) and self._look_once():
                    pass
        finally:
            with self._changing:
                if self._looking is threading.current_thread():
                    self._looking = None  # so that who asks waits for the newest, whatever went wrong here

    def _look_once(self) -> bool:
        with self._store.reading() as catalog:
            revision = catalog.revision()
        now = time.monotonic()
        with self._changing:
            kept = [each for each in self._entries.values() if now - each.used_at <= self._kept]
            for entry in kept:
                if entry.product is None or entry.revision != revision:
                    self._renew(entry)
                else:
                    entry.current_at = now
            if not kept:
                self._looking = None
            return bool(kept)
