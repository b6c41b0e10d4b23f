"""The retriever: a query image in, an answer out. It prepares, encodes and normalises with the indexer's own functions."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backbones.decode import decode
from backbones.limits import MAX_BYTES, MAX_PIXELS
from backbones.preparation import prepare_safely
from retriever.answer import Answer, Unreadable
from retriever.choice import choose_categories, choose_row, load_indexed
from retriever.decision import decide, prior_policy
from retriever.rank import Hit, rank_candidates, rank_hits
from retriever.words import encode_words
from schema.captions import captions_shown
from schema.contract import is_ignored, is_image_name
from schema.errors import ImageError
from schema.images import Role
from schema.store import Store
from vectors.normalise import find_faults, normalise
from vectors.protocol import Neighbours, VectorStore
from vectors.snapshots import Scope, open_vectors

STANDARD_INPUT = "-"


class Against(StrEnum):
    """Which images a query's hits are taken from. The verdict rests on support, whichever it is."""

    SUPPORT = "support"
    QUERY = "query"
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryOptions:
    """Options of a query; None leaves the choice to nearshot (`threshold` and `margin_floor`: the backbone's prior).

    `text` is mixed with each image: the unit vector of (1 - text_weight) times the image's plus text_weight times the words'.
    With `captions`, the hits carry theirs.
    """

    backbone: str | None = None
    category: str | None = None
    top_k: int = 5
    threshold: float | None = None
    margin_floor: float | None = None
    against: Against = Against.SUPPORT
    text: str | None = None
    text_weight: float = 0.5
    captions: bool = False
    device: str = "auto"
    weights: Path | None = None
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True, slots=True)
class _Searched:
    """The vectors of one category and role, and how many of the best to ask for."""

    role: Role
    vectors: VectorStore
    k: int


class Retriever:
    """Answers queries with one backbone, from the vectors that the store had when it was made.

    `labels` are those searched: category to label to number of images. `coverage` tells whether the backbone has seen all
    support images. `policy_is_prior` unless the user set both parts of the policy.
    """

    def __init__(self, store: Store, options: QueryOptions) -> None:
        """Choose the backbone, load it and open the vectors; raises UsageError, WeightsError and StoreError."""
        self._store = store
        self._options = options
        with store.reading() as catalog:
            categories = choose_categories(catalog, options.category)
            self.row, self.coverage = choose_row(catalog, options.backbone, categories, words=options.text is not None)
            self.labels = {category: catalog.support_labels(category) for category in categories}
            roles = [Role.SUPPORT] if options.against == Against.SUPPORT else list(Role)
            scopes = [Scope(self.row, category, role) for role in roles for category in categories]
            self._searched = [
                _Searched(scope.role, open_vectors(store, catalog, scope), self._depth(scope)) for scope in scopes
            ]
        self.policy = prior_policy(self.row.name, threshold=options.threshold, margin_floor=options.margin_floor)
        self.policy_is_prior = options.threshold is None or options.margin_floor is None
        self._backbone = load_indexed(self.row, weights=options.weights, device=options.device)
        self._words = encode_words(self._backbone, options.text) if options.text is not None else None

    def _depth(self, scope: Scope) -> int:
        """How many of the nearest to ask for.

        As many as the largest label has images, and one more: so a second label, if there is one, is among them.
        """
        largest = max(self.labels[scope.category].values(), default=0) if scope.role == Role.SUPPORT else 0
        return max(self._options.top_k, largest + 1)

    def answer(self, queries: Iterable[tuple[str, bytes | OSError]]) -> Iterator[Answer | Unreadable]:
        """Answer images given by name and encoded bytes (or the error met on reading them), one by one, in order."""
        for name, data in queries:
            if isinstance(data, OSError):
                yield Unreadable(name, f"cannot be read: {data.strerror or data}")
                continue
            try:
                vector = self._embed(data)
            except (ImageError, MemoryError) as error:
                yield Unreadable(name, str(error) or "not enough memory to decode it")
                continue
            yield self._answer(name, vector)

    def _embed(self, data: bytes) -> NDArray[np.float32]:
        picture = decode(data, max_pixels=self._options.max_pixels).picture
        encoded = self._backbone.encode([prepare_safely(self._backbone, picture)])
        for reason in find_faults(encoded).values():
            raise ImageError(f"{self.row.name} gave no usable vector: {reason}")
        image = normalise(encoded)
        if self._words is None:
            return image
        weight = self._options.text_weight
        mixed = (1 - weight) * image + weight * self._words
        if find_faults(mixed):
            raise ImageError("its vector and that of the words cancel each other out; take another --text-weight")
        return normalise(mixed)

    def _answer(self, name: str, vector: NDArray[np.float32]) -> Answer:
        found: dict[Role, list[Neighbours]] = {Role.SUPPORT: [], Role.QUERY: []}
        for searched in self._searched:
            found[searched.role].append(searched.vectors.search(vector, searched.k)[0])
        support, queries = (self._hits(found[role]) for role in (Role.SUPPORT, Role.QUERY))
        shown = {Against.SUPPORT: support, Against.QUERY: queries, Against.ALL: support + queries}[
            self._options.against
        ]
        decision = decide(rank_candidates(support), self.policy)
        hits = tuple(rank_hits(shown)[: self._options.top_k])
        captions = self._captions(hits) if self._options.captions else None
        return Answer(name, self.row.name, self._options.category, decision, hits, captions)

    def _captions(self, hits: Sequence[Hit]) -> dict[int, str]:
        with self._store.reading() as catalog:
            return captions_shown(catalog.connection, [hit.image.id for hit in hits])

    def _hits(self, found: Sequence[Neighbours]) -> list[Hit]:
        scores = {int(i): float(score) for near in found for i, score in zip(near.ids, near.scores, strict=True)}
        with self._store.reading() as catalog:
            shown = catalog.shown(scores)
        return [Hit(shown[image_id], score) for image_id, score in scores.items()]


def read_queries(paths: Iterable[Path], standard_input: bytes | None = None) -> Iterator[tuple[str, bytes | OSError]]:
    """The images that paths name, with their bytes: `-` is standard input, a directory all images below it, in order."""
    for path in paths:
        if str(path) == STANDARD_INPUT:
            yield STANDARD_INPUT, standard_input or b""
        elif os.path.isdir(path):  # noqa: PTH112 (Path.is_dir raises where permission is missing)
            yield from ((str(image), _read(image)) for image in images_below(path))
        else:
            yield str(path), _read(path)


def images_below(directory: Path) -> list[Path]:
    """All files below a directory that are named as images may be, in the order of their paths; broken links too."""
    found = []
    for parent, directories, names in os.walk(directory):
        directories[:] = [name for name in directories if not is_ignored(name)]
        found += [Path(parent, name) for name in names if is_image_name(name) and not is_ignored(name)]
    return sorted(found)


def _read(path: Path) -> bytes | OSError:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            return OSError(f"{size:,} bytes are more than the cap of {MAX_BYTES:,}")
        return path.read_bytes()
    except OSError as error:
        return error
