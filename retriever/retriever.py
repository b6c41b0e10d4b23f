"""The retriever: a query image in, an answer out. It prepares, encodes and normalises with the indexer's own functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backbones.choice import choose
from backbones.decode import decode
from backbones.limits import MAX_PIXELS
from backbones.protocol import Backbone
from backbones.spec import NAMED, parse_spec
from retriever.answer import Answer, Unreadable
from retriever.decision import decide, prior_policy
from retriever.rank import Hit, rank_candidates, rank_hits
from schema.catalog import BackboneRow, Catalog
from schema.errors import ImageError, UsageError, WeightsError
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
class _Searched:
    """The vectors of one category and role, and how many of the best to ask for."""

    role: Role
    vectors: VectorStore
    k: int


class Retriever:
    """Answers queries from one state of a store, with one backbone."""

    def __init__(self, store: Store, options: QueryOptions) -> None:
        """Choose the backbone, load it and open the vectors; raises UsageError, WeightsError and StoreError."""
        self._store = store
        self._options = options
        with store.reading() as catalog:
            self.row = _choose_row(catalog, options)
            categories = _choose_categories(catalog, options)
            self._searched = [
                _open(store, catalog, Scope(self.row, category, role), options) for category, role in categories
            ]
            labels = [label for category, _ in categories for label in catalog.support_labels(category)]
        self.label_width = max(map(len, labels), default=0)
        self.policy = prior_policy(self.row.name, threshold=options.threshold, margin_floor=options.margin_floor)
        self.policy_is_prior = options.threshold is None or options.margin_floor is None
        self._backbone = _load(self.row, options)

    def answer(self, queries: Iterable[tuple[str, bytes | OSError]]) -> Iterator[Answer | Unreadable]:
        """Answer images given by name and encoded bytes (or the error met on reading them), one by one, in order."""
        for name, data in queries:
            if isinstance(data, OSError):
                yield Unreadable(name, f"cannot be read: {data.strerror or data}")
                continue
            try:
                vector = self._embed(data)
            except ImageError as error:
                yield Unreadable(name, str(error))
                continue
            yield self._answer(name, vector)

    def _embed(self, data: bytes) -> NDArray[np.float32]:
        picture = decode(data, max_pixels=self._options.max_pixels).picture
        encoded = self._backbone.encode([self._backbone.prepare(picture)])
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
        elif path.is_dir():
            yield from ((str(image), _read(image)) for image in images_below(path))
        else:
            yield str(path), _read(path)


def images_below(directory: Path) -> list[Path]:
    """All files below a directory that are named like images, in the order of their paths."""
    from schema.contract import has_image_suffix, is_ignored

    inside = (path for path in directory.rglob("*") if has_image_suffix(path.name) and path.is_file())
    return sorted(path for path in inside if not any(is_ignored(part) for part in path.relative_to(directory).parts))


def _read(path: Path) -> bytes | OSError:
    try:
        return path.read_bytes()
    except OSError as error:
        return error


def _choose_row(catalog: Catalog, options: QueryOptions) -> BackboneRow:
    rows = {row.name: row for row in catalog.backbones()}
    if options.backbone is None:
        if not rows:
            raise UsageError("nothing is indexed yet; run `nearshot index DATA`")
        best = next((name for name in NAMED if name in rows), None)
        return rows[best or next(iter(rows))]
    if options.backbone not in rows:
        parse_spec(options.backbone)
        raise UsageError(
            f"nothing is indexed with {options.backbone}; run `nearshot index DATA --backbone {options.backbone}`, "
            f"or take {' or '.join(rows) or 'another'}"
        )
    return rows[options.backbone]


def _choose_categories(catalog: Catalog, options: QueryOptions) -> list[tuple[str, Role]]:
    roles = [Role.SUPPORT] if options.against == Against.SUPPORT else list(Role)
    there = {role: catalog.categories(role) for role in roles}
    names = sorted({category for categories in there.values() for category in categories})
    if options.category is not None and options.category not in names:
        raise UsageError(f"no category '{options.category}' is indexed; there are {', '.join(names) or 'none'}")
    wanted = names if options.category is None else [options.category]
    return [(category, role) for role in roles for category in there[role] if category in wanted]


def _open(store: Store, catalog: Catalog, scope: Scope, options: QueryOptions) -> _Searched:
    vectors = open_vectors(store, catalog, scope)
    # As many as the largest label has images, and one more: so a second label, if there is one, is always among them.
    largest = max(catalog.support_labels(scope.category).values(), default=0) if scope.role == Role.SUPPORT else 0
    return _Searched(scope.role, vectors, max(options.top_k, largest + 1))


def _load(row: BackboneRow, options: QueryOptions) -> Backbone:
    choice = choose(parse_spec(row.name), row=row, weights=options.weights)
    backbone = choice.load(options.device)
    if backbone.description.fingerprint != row.fingerprint:
        raise WeightsError(
            f"{row.name}: the store was indexed with other weights, preprocessing or precision than those at hand; "
            f"index again with `nearshot index DATA --backbone {row.name}`"
        )
    return backbone
