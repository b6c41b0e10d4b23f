"""Text search: images found by what their captions say, by what a text encoder sees in them, or by both."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nearshot.retriever import shapes
from nearshot.retriever.choose_backbone import choose_categories, choose_row, load_indexed
from nearshot.retriever.embedding import encode_words
from nearshot.retriever.fusion import fuse
from nearshot.retriever.marked import marked_words
from nearshot.retriever.rank import Hit, rank_hits
from nearshot.retriever.scores import DECIMALS
from nearshot.retriever.searcher import ATTEMPTS
from nearshot.retriever.stopping import Stop, find_stop
from nearshot.schema.caption_search import search_captions
from nearshot.schema.captions import captions_shown, has_captions
from nearshot.schema.catalog import BackboneRow, Catalog
from nearshot.schema.digests import check_words
from nearshot.schema.errors import OutdatedError, UsageError, WeightsError
from nearshot.schema.image_filter import ImageFilter
from nearshot.schema.images import Shown
from nearshot.schema.lacking import Lacking
from nearshot.schema.numbers import FALSE, LIMIT
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Mode, Role
from nearshot.schema.words import match_of, plain_words
from nearshot.vectors.searchable import open_searchable

DEPTH = 200
"""Least number of best results of each ranking that are fused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions:
    """Options of a search. With `false`, results end where more than this share would be false (`retriever.stopping`).

    With `exact`, words are compared with all images, whatever approximate indexes there are.
    """

    mode: Mode = Mode.AUTO
    wanted: ImageFilter = field(default_factory=ImageFilter)
    limit: int = 20
    false: float | None = None
    exact: bool = False
    device: str = "auto"
    weights: Path | None = None

    def __post_init__(self) -> None:
        """Raise UsageError for a number out of its range."""
        LIMIT.check("limit", self.limit)
        FALSE.check("false", self.false)


@dataclass(frozen=True, slots=True)
class Found:
    """An image found by words.

    `rank` is its rank among the results (1 is best), `ranks` its rank by captions and by image, as far as it was among
    the best there. `snippet` is the part of the caption that matched, in brackets; `score` the cosine with the words.
    """

    rank: int
    image: Shown
    caption: str | None
    snippet: str | None
    ranks: Mapping[Mode, int]
    score: float | None

    @property
    def path(self) -> str:
        """The absolute path of the image."""
        return self.image.path

    @property
    def label(self) -> str | None:
        """The label of the image, where it has one."""
        return self.image.label

    def standing(self, mode: Mode) -> float:
        """Return the cutoff measure of a mode, higher is better: the cosine where only images are compared, else the rank."""
        return round(self.score, DECIMALS) if mode == Mode.IMAGE and self.score is not None else -float(self.rank)

    def as_json(self, mode: Mode) -> shapes.Found:
        """The object that `search --json` prints."""
        return {
            "rank": self.rank,
            "id": self.image.id,
            "path": self.image.path,
            "category": self.image.category,
            "label": self.image.label,
            "role": self.image.role,
            "caption": self.caption,
            "snippet": self.snippet,
            "mode": mode,
            "captions_rank": self.ranks.get(Mode.CAPTIONS),
            "image_rank": self.ranks.get(Mode.IMAGE),
            "image_score": None if self.score is None else round(self.score, 6),
        }


@dataclass(frozen=True, slots=True, repr=False)
class Results:
    """Results of a search, best first; the mode that was taken; and, where `auto` could not take both, why not.

    `recall` is the recall@10 of the approximate index that images were found by; None where all were compared.
    """

    mode: Mode
    found: list[Found]
    backbone: str | None = None
    missing: tuple[str, ...] = ()
    stop: Stop | None = None
    recall: float | None = None

    def __repr__(self) -> str:
        return f"<Results {len(self.found)} by {self.mode}>"

    def __len__(self) -> int:
        return len(self.found)

    def __iter__(self) -> Iterator[Found]:
        return iter(self.found)

    def __getitem__(self, index: int) -> Found:
        return self.found[index]

    def _repr_html_(self) -> str:
        from nearshot.retriever.notebook import results_html

        return results_html(self)


@dataclass(frozen=True, slots=True)
class _Words:
    """The words as a unit vector (1, dimension), and the backbone whose vectors it can be compared with."""

    row: BackboneRow
    vector: NDArray[np.float32]


class WordEncoder(Protocol):
    """Encodes words with a backbone of the store: takes its row, gives the unit vector (1, dimension)."""

    def __call__(self, row: BackboneRow, words: str) -> NDArray[np.float32]:
        """Raises WeightsError where the backbone is not available."""


def search(
    store: Store,
    query: str,
    options: SearchOptions,
    encode: WordEncoder | None = None,
    *,
    among: Collection[int] | None = None,
    lacking: Lacking | None = None,
    once: bool = False,
) -> Results:
    """The images that words are about, best first; none for a query without words.

    Without `encode`, the text encoder is loaded, and let go again; with it, `among` are the rows that it can encode for.
    `lacking` is as `choose_row` takes it. A search that is the only one (`once`) reads no more than it needs.

    Raises UsageError for a category that is not there, or for a mode that the store cannot serve, and WeightsError where the
    text encoder is not available; with `auto`, these become reasons.
    """
    missing: list[str] = []
    with store.reading() as catalog:
        categories = choose_categories(catalog, options.wanted.category)
        captioned = has_captions(catalog.connection)
    words = None
    if options.mode != Mode.CAPTIONS and plain_words(query):
        try:
            words = _encode(store, plain_words(query), categories, options, encode, among, lacking)
        except (UsageError, WeightsError) as error:
            if options.mode != Mode.AUTO:
                raise
            missing.append(f"image: {error}")
    mode = options.mode
    if mode == Mode.AUTO:
        mode = Mode.CAPTIONS if words is None else Mode.HYBRID if captioned else Mode.IMAGE
    if not captioned and options.mode != Mode.IMAGE:
        missing.append("captions: there are none yet; `nearshot caption` writes them")
    for _ in range(ATTEMPTS - 1):
        with suppress(OutdatedError):
            return _results(store, query, words, options, mode, tuple(missing), once=once)
    return _results(store, query, words, options, mode, tuple(missing), once=once)


def _results(
    store: Store,
    query: str,
    words: _Words | None,
    options: SearchOptions,
    mode: Mode,
    missing: tuple[str, ...],
    *,
    once: bool,
) -> Results:
    with store.reading() as catalog:
        results, recall = _search(store, catalog, query, words, options, mode, once=once)
        stop = None
        if options.false is not None:
            lists = marked_words(catalog, mode, words.row.id if words else None)
            stop = find_stop(lists, options.false, options.limit)
            results = [result for result in results if stop.keeps(result.standing(mode))]
    return Results(mode, results, words.row.name if words else None, missing, stop, recall)


def _encode(
    store: Store,
    words: str,
    categories: list[str],
    options: SearchOptions,
    encode: WordEncoder | None,
    among: Collection[int] | None,
    lacking: Lacking | None,
) -> _Words:
    with store.reading() as catalog:
        row, _ = choose_row(catalog, None, categories, roles=list(Role), words=True, among=among, lacking=lacking)
    if encode is not None:
        return _Words(row, encode(row, words))
    backbone = load_indexed(store, row, weights=options.weights, device=options.device)
    return _Words(row, encode_words(backbone, words))


def _search(
    store: Store,
    catalog: Catalog,
    query: str,
    words: _Words | None,
    options: SearchOptions,
    mode: Mode,
    *,
    once: bool,
) -> tuple[list[Found], float | None]:
    """What was found, and the recall@10 of the approximate indexes, where images were found by such."""
    depth = max(DEPTH, options.limit) if mode == Mode.HYBRID else options.limit
    match = match_of(query) if mode in (Mode.CAPTIONS, Mode.HYBRID) else None
    if match:
        check_words(catalog.connection)
    matches = search_captions(catalog.connection, match, options.wanted, limit=depth) if match else []
    nearest, recall = _nearest_images(store, catalog, words, options, depth, once=once) if words else ([], None)
    rankings = {Mode.CAPTIONS: [each.image_id for each in matches], Mode.IMAGE: [hit.image.id for hit in nearest]}
    ranks = {kind: {image: rank for rank, image in enumerate(ids, start=1)} for kind, ids in rankings.items()}
    fused = fuse((ids, 1.0) for ids in rankings.values())
    shown = {hit.image.id: hit.image for hit in nearest} | catalog.shown(rankings[Mode.CAPTIONS])
    best = sorted(fused, key=lambda image: (-fused[image], shown[image].path))[: options.limit]
    captions = captions_shown(catalog.connection, best)
    matching = {each.image_id: each for each in matches}
    scores = {hit.image.id: hit.score for hit in nearest}
    results = [
        Found(
            rank,
            shown[image],
            matching[image].text if image in matching else captions.get(image),
            matching[image].snippet if image in matching else None,
            {kind: by_image[image] for kind, by_image in ranks.items() if image in by_image},
            scores.get(image),
        )
        for rank, image in enumerate(best, start=1)
    ]
    return results, recall


def _nearest_images(
    store: Store, catalog: Catalog, words: _Words, options: SearchOptions, limit: int, *, once: bool
) -> tuple[list[Hit], float | None]:
    """The images that are wanted which are nearest to the words, best first, and the least recall@10 of the indexes used."""
    scores: dict[int, float] = {}
    recalls: list[float] = []
    wanted, exact = options.wanted, options.exact
    for role in [wanted.role] if wanted.role else list(Role):
        vectors = open_searchable(
            store, catalog, words.row, role, category=wanted.category, label=wanted.label, whole=exact, once=once
        )
        recall = None if exact else vectors.recall(words=True)
        recalls += [] if recall is None else [recall]
        [near] = vectors.search(words.vector, limit) if exact else vectors.search_near(words.vector, limit, words=True)
        scores |= zip(near.ids.tolist(), near.scores.tolist(), strict=True)
    shown = catalog.shown(scores)
    hits = rank_hits(Hit(shown[image_id], score) for image_id, score in scores.items())[:limit]
    return hits, min(recalls, default=None)
