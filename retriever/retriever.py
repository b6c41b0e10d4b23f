"""The retriever: a query image in, an answer out. It prepares, encodes and normalises with the indexer's own functions."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nearshot.backbones.in_order import batches, in_order
from nearshot.backbones.memory_budget import allow
from nearshot.backbones.protocol import Backbone
from nearshot.retriever.answer import Answer, Unreadable
from nearshot.retriever.choose_backbone import choose_categories, choose_row, load_indexed
from nearshot.retriever.embedding import encode_words, mix, unit
from nearshot.retriever.options import QueryOptions
from nearshot.retriever.parts import Parts, PreparedPart
from nearshot.retriever.searcher import ATTEMPTS, Searcher
from nearshot.retriever.watching import Watching
from nearshot.schema.errors import ImageError, OutdatedError, UsageError, WeightsError
from nearshot.schema.store import Store

ATTEMPTS_ONCE = 3
"""How often a store that changes is asked where it lies, before what one question needs is read from it after all."""

Given = bytes | Image.Image | OSError | ImageError
"""An image as its encoded bytes, or as an upright RGB picture; or why there is none."""


class Retriever:
    """Answers queries with one backbone, from the vectors that the store had when it was made: those of `searcher`."""

    def __init__(
        self,
        store: Store,
        options: QueryOptions,
        *,
        loaded: MutableMapping[int, Backbone] | None = None,
        encoding: AbstractContextManager[Any] | None = None,
        noted: bool = True,
        once: bool = False,
    ) -> None:
        """Choose the backbone, load it and open the vectors; raises UsageError, WeightsError and StoreError.

        A backbone that is among `loaded`, by the id of its row, is taken from there, and put there otherwise; others that
        use it at the same time hold `encoding`, a lock, as this does. Answers are `noted` for the promises that they bear on.
        One that is asked `once`, about an image or two, reads no more than it needs for that.
        Where no backbone is asked for, those whose weights cannot be loaded are `passed_over`, by name, with the reason.
        """
        self.options, self._store, self._once = options, store, once
        allow(options.max_pixels)
        self._watching, self._encoding = Watching(store) if noted else None, encoding or nullcontext()
        self.passed_over: dict[str, WeightsError] = {}
        self.searcher, self._backbone = self._choose({} if loaded is None else loaded)
        self._parts = Parts(options)
        self._words = encode_words(self._backbone, options.text) if options.text is not None else None

    def _choose(self, loaded: MutableMapping[int, Backbone]) -> tuple[Searcher, Backbone]:
        """The best backbone whose weights can be loaded, and what it searches; others are noted. The one asked for, or none."""
        options, store = self.options, self._store
        while True:
            with store.reading() as catalog:
                categories = choose_categories(catalog, options.category)
                left = {row.id for row in catalog.all_backbones() if row.name not in self.passed_over}
                try:
                    row, lacking = choose_row(
                        catalog, options.backbone, categories, words=options.text is not None, among=left
                    )
                except UsageError:
                    if self.passed_over:  # none is left
                        raise next(iter(self.passed_over.values())) from None
                    raise
                searcher = Searcher(store, catalog, row, lacking, options, once=self._once)
            try:
                if row.id not in loaded:
                    loaded[row.id] = load_indexed(
                        store, row, weights=options.weights, device=options.device, loaded=loaded
                    )
                return searcher, loaded[row.id]
            except WeightsError as error:
                if options.backbone is not None:
                    raise
                self.passed_over[row.name] = error

    def answer(self, queries: Iterable[tuple[str, Given]]) -> Iterator[Answer | Unreadable]:
        """Answer images given by name and encoded bytes, or as pictures, or the error met on reading them; in order.

        They are decoded and prepared on threads, and encoded in batches. Memory does not grow with their number. An image has
        an answer for each part that is asked about.
        """
        return (answer for _, answer in self.numbered(queries))

    def numbered(self, queries: Iterable[tuple[str, Given]]) -> Iterator[tuple[int, Answer | Unreadable]]:
        """Answer as `answer` does, each with the number of the image that it is about, from 0."""
        size = self._backbone.batch_size
        threads = min(os.cpu_count() or 1, 16)
        prepared = in_order(self._prepare, queries, workers=threads, ahead=size + threads)
        parts = (
            _Part(number, query[0], ready)
            for number, (query, ready_parts) in enumerate(prepared)
            for ready in ready_parts
        )
        try:
            for batch in batches(parts, size):
                yield from self._answer_batch(batch)
        finally:
            if self._watching is not None:
                self._watching.flush()

    def _answer_batch(self, batch: Sequence[_Part]) -> Iterator[tuple[int, Answer | Unreadable]]:
        pictures = [part.ready.prepared for part in batch if isinstance(part.ready, PreparedPart)]
        with self._encoding:
            vectors = iter(self._backbone.encode(pictures) if pictures else ())
        units = [part.ready if isinstance(part.ready, str) else self._unit(next(vectors)[None]) for part in batch]
        asked = [(part.name, vector) for part, vector in zip(batch, units, strict=True) if not isinstance(vector, str)]
        answers = iter(self._decided(asked) if asked else ())
        for (number, name, ready), vector in zip(batch, units, strict=True):
            if isinstance(ready, str) or isinstance(vector, str):
                yield number, Unreadable(name, str(vector))
                continue
            answer = next(answers)
            if self._watching is not None:
                self._watching.note(self.searcher, answer, ready.digest)
            yield number, answer if ready.box is None else replace(answer, box=ready.box)

    def _decided(self, asked: Sequence[tuple[str, NDArray[np.float32]]]) -> list[Answer]:
        """The answers about unit vectors (1, dimension) by name; by a newer searcher where the store changes meanwhile."""
        attempt = 0
        while True:
            try:
                if attempt:
                    self._reopen(once=self._once and attempt < ATTEMPTS_ONCE)
                searcher, options = self.searcher, self.options
                hits = searcher.search(np.concatenate([vector for _, vector in asked]), options)
                pairs = zip(asked, hits, strict=True)
                return [searcher.decide(name, vector, each, options) for (name, vector), each in pairs]
            except OutdatedError:
                attempt += 1
                if attempt == ATTEMPTS:
                    raise

    def _reopen(self, *, once: bool) -> None:
        row, lacking = self.searcher.row, self.searcher.lacking
        with self._store.reading() as catalog:
            self.searcher = Searcher(self._store, catalog, row, lacking, self.options, once=once)

    def _unit(self, vector: NDArray[np.float32]) -> NDArray[np.float32] | str:
        """The unit vector (1, dimension) to ask with, or why there is none."""
        try:
            asked = unit(self._backbone, vector)
            return asked if self._words is None else mix(asked, self._words, self.options.text_weight)
        except ImageError as error:
            return str(error)

    def _prepare(self, query: tuple[str, Given]) -> list[PreparedPart | str]:
        """The parts of a picture that are asked about, as the backbone wants them; or why there are none."""
        _, given = query
        if isinstance(given, OSError):
            return [f"cannot be read: {given.strerror or given}"]
        if isinstance(given, ImageError):
            return [str(given)]
        try:
            return [*self._parts.prepared(*self._parts.read(given), self._backbone)]
        except (ImageError, MemoryError) as error:
            return [str(error) or "not enough memory to decode it"]


class _Part(NamedTuple):
    """A part of an image that is asked about: the image's number and name, and the part, or why there is none."""

    number: int
    name: str
    ready: PreparedPart | str
