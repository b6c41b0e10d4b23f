"""The retriever: a query image in, an answer out. It prepares, encodes and normalises with the indexer's own functions."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backbones.choice import choose
from backbones.decode import decode
from backbones.limits import MAX_BYTES, MAX_PIXELS
from backbones.preparation import prepare_safely
from backbones.protocol import Backbone
from backbones.spec import NAMED, parse_spec
from retriever.answer import Answer, Unreadable
from retriever.decision import decide, prior_policy
from retriever.rank import Hit, rank_candidates, rank_hits
from schema.catalog import BackboneRow, Catalog
from schema.contract import is_ignored, is_image_name
from schema.errors import ImageError, UsageError, WeightsError
from schema.images import Role
from schema.store import Store
from vectors.normalise import find_faults, normalise
from vectors.protocol import Neighbours, VectorStore
from vectors.snapshots import Scope, open_vectors

STANDARD_INPUT = "-"

LAST_RESORT = "hog"
"""The backbone that is taken only where there is no other: it sees shapes and colours, not things."""


class Against(StrEnum):
    """Which images a query's hits are taken from. The verdict rests on support, whichever it is."""

    SUPPORT = "support"
    QUERY = "query"
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryOptions:
    """Options of a query; None leaves the choice to nearshot (`threshold` and `margin_floor`: the backbone's prior)."""

    backbone: str | None = None
    category: str | None = None
    top_k: int = 5
    threshold: float | None = None
    margin_floor: float | None = None
    against: Against = Against.SUPPORT
    device: str = "auto"
    weights: Path | None = None
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many support images a backbone has dealt with, and how many it has not."""

    covered: int
    lacking: int


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
            categories = _choose_categories(catalog, options)
            self.row, self.coverage = _choose_row(catalog, options, categories)
            self.labels = {category: catalog.support_labels(category) for category in categories}
            roles = [Role.SUPPORT] if options.against == Against.SUPPORT else list(Role)
            scopes = [Scope(self.row, category, role) for role in roles for category in categories]
            self._searched = [
                _Searched(scope.role, open_vectors(store, catalog, scope), self._depth(scope)) for scope in scopes
            ]
        self.policy = prior_policy(self.row.name, threshold=options.threshold, margin_floor=options.margin_floor)
        self.policy_is_prior = options.threshold is None or options.margin_floor is None
        self._backbone = _load(self.row, options)

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
        return normalise(encoded)

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
        return Answer(name, self.row.name, self._options.category, decision, hits)

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


def _choose_row(catalog: Catalog, options: QueryOptions, categories: Collection[str]) -> tuple[BackboneRow, Coverage]:
    """The backbone to search with, and how much of the support of some categories it covers.

    Of those asked for, or of all by preference, the first that covers all of it; an older row of a name counts where the
    newest is not complete. Where none is, the one that covers most.
    """
    rows = sorted(catalog.all_backbones(), key=lambda row: -row.revision)
    names = list(dict.fromkeys(row.name for row in rows))
    if not names:
        raise UsageError("nothing is indexed yet; run `nearshot index DATA`")
    if options.backbone is not None:
        name = parse_spec(options.backbone).name
        if name not in names:
            raise UsageError(
                f"nothing is indexed with {name}; run `nearshot index DATA --backbone {name}`, "
                f"or take {' or '.join(sorted(names))}"
            )
        names = [name]
    preferred = (
        [name for name in NAMED if name != LAST_RESORT] + [name for name in names if name not in NAMED] + [LAST_RESORT]
    )
    choices = [row for name in preferred if name in names for row in rows if row.name == name]
    coverages = {row: _coverage(catalog, row, categories) for row in choices}
    whole = next((row for row in choices if coverages[row].lacking == 0), None)
    chosen = whole or max(choices, key=lambda row: coverages[row].covered)
    return chosen, coverages[chosen]


def _coverage(catalog: Catalog, row: BackboneRow, categories: Collection[str]) -> Coverage:
    counts = [
        count
        for count in catalog.count_vectors_by_category(row.id)
        if count.role == Role.SUPPORT and count.category in categories
    ]
    return Coverage(sum(count.vectors + count.failed for count in counts), sum(count.lacking for count in counts))


def _choose_categories(catalog: Catalog, options: QueryOptions) -> list[str]:
    names = sorted({category for role in Role for category in catalog.categories(role)})
    if options.category is None:
        return names
    if options.category not in names:
        raise UsageError(f"no category '{options.category}' is indexed; there are {', '.join(names) or 'none'}")
    return [options.category]


def _load(row: BackboneRow, options: QueryOptions) -> Backbone:
    choice = choose(parse_spec(row.name), row=row, weights=options.weights)
    backbone = choice.load(options.device)
    if backbone.description.fingerprint != row.fingerprint:
        raise WeightsError(
            f"{row.name}: the store was indexed with other weights, preprocessing or precision than those at hand; "
            f"index again with `nearshot index DATA --backbone {row.name}`"
        )
    return backbone
