"""Searchers: those that are open, each replaced by a newer one that is made beside it while the old one still answers."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

from nearshot.retriever.searcher import Searcher
from nearshot.schema.catalog import Catalog
from nearshot.schema.errors import StoreError
from nearshot.schema.store import Store

KEPT_SECONDS = 10.0
"""How long after its last query a searcher is kept up to date without being asked."""

THREADS = 4
"""Searchers that are made at the same time."""

Make = Callable[[Catalog], Searcher]


@dataclass(slots=True, eq=False)
class _Opened:
    """What is open under a key: `generation` and `current_at` tell of what state of the store it was known to be."""

    make: Make
    searcher: Searcher | None = None
    generation: int = -1
    current_at: float = 0.0
    used_at: float = field(default_factory=time.monotonic)
    coming: Future[tuple[int, Searcher]] | None = None


class Searchers:
    """The searchers of a store by key, `most` at a time. Any number of threads may ask.

    One that was asked for in the last seconds is looked after: every `age` seconds the store is asked whether it has changed,
    and where it has, a newer searcher is made while the old one answers. So an answer is behind the store by `age` and what
    making a searcher takes, and no query waits for it. One that nobody asked for is brought up to date by the query that
    comes. With an `age` of 0 every query waits for the newest.
    """

    def __init__(self, store: Store, *, age: float, most: int) -> None:
        self._store, self._age, self._most = store, age, most
        self._opened: OrderedDict[Hashable, _Opened] = OrderedDict()
        self._changing = threading.Lock()
        self._generation = 0
        self._makers = ThreadPoolExecutor(THREADS, thread_name_prefix="searchers")
        self._looking: threading.Thread | None = None
        self._closing = threading.Event()

    def get(self, key: Hashable, make: Make) -> Searcher:
        """The searcher of a key, made with `make` if there is none; raises what that raises."""
        with self._changing:
            opened = self._opened.setdefault(key, _Opened(make))
            self._opened.move_to_end(key)
            while len(self._opened) > self._most:
                self._opened.popitem(last=False)
            now = time.monotonic()
            is_kept = self._looking is not None and now - opened.used_at <= KEPT_SECONDS
            opened.used_at = now
            generation = self._generation
            if opened.searcher and opened.generation == generation and (is_kept or now - opened.current_at < self._age):
                self._look_after()
                return opened.searcher
        while True:
            with self._changing:
                coming = self._renew(opened)
            of, searcher = coming.result()
            if of >= generation:  # one that was begun before the last change that this service made is not enough
                break
        with self._changing:
            self._look_after()
        return searcher

    def outdate(self) -> None:
        """Have every query from now on wait until what it asks knows what was just changed."""
        with self._changing:
            self._generation += 1

    def close(self) -> None:
        """Look after nothing any more."""
        self._closing.set()
        if self._looking is not None:
            self._looking.join()
        self._makers.shutdown()

    def _renew(self, opened: _Opened) -> Future[tuple[int, Searcher]]:
        """Begin to bring a searcher up to date, unless that has begun. Under the lock."""
        if opened.coming is None or opened.coming.done():
            opened.coming = self._makers.submit(self._make, opened, self._generation)
        return opened.coming

    def _make(self, opened: _Opened, generation: int) -> tuple[int, Searcher]:
        now = time.monotonic()
        try:
            with self._store.reading() as catalog:
                old = opened.searcher if opened.generation >= generation else None  # not every change has a revision
                searcher = old if old is not None and old.revision == catalog.revision() else opened.make(catalog)
        except Exception:
            opened.searcher = None  # the next query is told why
            raise
        with self._changing:
            opened.searcher, opened.generation, opened.current_at = searcher, generation, now
        return generation, searcher

    def _look_after(self) -> None:
        """See that those in use are looked after. Under the lock."""
        if self._age > 0 and self._looking is None and not self._closing.is_set():
            self._looking = threading.Thread(target=self._look, name="searchers", daemon=True)
            self._looking.start()

    def _look(self) -> None:
        """Renew what was asked for lately and is not of the store's newest revision, until nothing was."""
        try:
            with suppress(StoreError):  # the next query is told
                while not self._closing.wait(self._age) and self._look_once():
                    pass
        finally:
            with self._changing:
                if self._looking is threading.current_thread():
                    self._looking = None  # so that queries look for themselves, whatever went wrong here

    def _look_once(self) -> bool:
        with self._store.reading() as catalog:
            revision = catalog.revision()
        now = time.monotonic()
        with self._changing:
            kept = [each for each in self._opened.values() if now - each.used_at <= KEPT_SECONDS]
            for opened in kept:
                if opened.searcher is None or opened.searcher.revision != revision:
                    self._renew(opened)
                else:
                    opened.current_at = now
            if not kept:
                self._looking = None
            return bool(kept)
