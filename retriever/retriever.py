"""The retriever: a query image in, an answer out. It prepares, encodes and normalises with the indexer's own functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from backbones.decode import decode
from retriever.answer import Answer, Unreadable
from retriever.choice import choose_categories, choose_row, load_indexed
from retriever.embedding import embed_picture, encode_words, mix
from retriever.options import QueryOptions
from retriever.reference import Reference
from retriever.watching import Watching
from schema.errors import ImageError
from schema.store import Store


class Retriever:
    """Answers queries with one backbone, from the vectors that the store had when it was made: those of `reference`."""

    def __init__(self, store: Store, options: QueryOptions) -> None:
        """Choose the backbone, load it and open the vectors; raises UsageError, WeightsError and StoreError."""
        self.options = options
        with store.reading() as catalog:
            categories = choose_categories(catalog, options.category)
            row, coverage = choose_row(catalog, options.backbone, categories, words=options.text is not None)
            self.reference = Reference(store, catalog, row, coverage, options)
        self._watching = Watching(store)
        self._backbone = load_indexed(store, row, weights=options.weights, device=options.device)
        self._words = encode_words(self._backbone, options.text) if options.text is not None else None

    def answer(self, queries: Iterable[tuple[str, bytes | OSError]]) -> Iterator[Answer | Unreadable]:
        """Answer images given by name and encoded bytes (or the error met on reading them), one by one, in order."""
        try:
            yield from self._answer(queries)
        finally:
            self._watching.flush()

    def _answer(self, queries: Iterable[tuple[str, bytes | OSError]]) -> Iterator[Answer | Unreadable]:
        for name, data in queries:
            if isinstance(data, OSError):
                yield Unreadable(name, f"cannot be read: {data.strerror or data}")
                continue
            try:
                vector = self._embed(data)
            except (ImageError, MemoryError) as error:
                yield Unreadable(name, str(error) or "not enough memory to decode it")
                continue
            answer = self.reference.answer(name, vector, self.options)
            self._watching.note(self.reference, answer, vector)
            yield answer

    def _embed(self, data: bytes) -> NDArray[np.float32]:
        picture = decode(data, max_pixels=self.options.max_pixels).picture
        image = embed_picture(self._backbone, picture)
        return image if self._words is None else mix(image, self._words, self.options.text_weight)
