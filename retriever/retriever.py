"""The retriever: a query image in, an answer out. It prepares, encodes and normalises with the indexer's own functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backbones.decode import decode
from backbones.limits import MAX_PIXELS
from retriever.answer import Answer, Unreadable
from retriever.choice import choose_categories, choose_row, load_indexed
from retriever.decision import Negative, Policy, decide, prior_policy
from retriever.embedding import embed_picture, encode_words
from retriever.policy import policy_in_force
from retriever.rank import Candidate, Hit, Label, rank_candidates, rank_hits
from retriever.scores import Score, cosines, label_numbers
from schema.calibrations import CalibrationRow, stored_calibrations
from schema.captions import captions_shown
from schema.catalog import Catalog
from schema.errors import ImageError, UsageError
from schema.feedback import negatives
from schema.images import Role
from schema.labelled import labelled_vectors, support_digest
from schema.store import Store
from vectors.normalise import find_faults, normalise
from vectors.protocol import Neighbours, VectorStore
from vectors.snapshots import Scope, open_vectors


class Against(StrEnum):
    """Which images a query's hits are taken from. The verdict rests on support, whichever it is."""

    SUPPORT = "support"
    QUERY = "query"
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryOptions:
    """Options of a query; None leaves the choice to nearshot (`threshold` and `margin_floor`: as calibrated, else priors).

    `text` is mixed with each image: the unit vector of (1 - text_weight) times the image's plus text_weight times the words'.
    With `captions`, the hits carry theirs.
    """

    backbone: str | None = None
    category: str | None = None
    top_k: int = 5
    score: Score = Score.MAX_SIM
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
    support images. `policies` are those of each category that has support, `origins` where they come from, `stale` the
    categories whose support set changed after they were calibrated.
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
            calibrations = stored_calibrations(catalog, self.row.id, options.score)
            if options.score == Score.KNN_VOTE and sum(bool(labels) for labels in self.labels.values()) > 1:
                raise UsageError(
                    "votes are shares within a category; name one with --category, or take --score max_sim or prototype"
                )
            supported = [category for category, labels in self.labels.items() if labels]
            self.policies = {category: self._policy(calibrations.get(category)) for category in supported}
            self.origins = {category: self._origin(calibrations.get(category)) for category in supported}
            self.stale = [
                category
                for category in self.policies
                if category in calibrations
                and calibrations[category].support_digest != support_digest(catalog, self.row, category)
            ]
            self._lengths = self._mean_lengths(catalog)
            self._negatives = {category: negatives(catalog, self.row, category) for category in supported}
        self._backbone = load_indexed(self.row, weights=options.weights, device=options.device)
        self._words = encode_words(self._backbone, options.text) if options.text is not None else None

    def _policy(self, calibration: CalibrationRow | None) -> Policy:
        """What the user set; for the rest what was calibrated, else the backbone's prior."""
        options = self._options
        found = policy_in_force(self.row, options.score, calibration)
        if options.threshold is not None:
            found = replace(found, threshold=options.threshold, calibrated=False)
        if options.margin_floor is not None:
            found = replace(found, margin_floor=options.margin_floor, calibrated=False)
        return found

    def _origin(self, calibration: CalibrationRow | None) -> str:
        given = [self._options.threshold is not None, self._options.margin_floor is not None]
        if all(given):
            return "as given"
        if calibration is None:
            return "uncalibrated priors: check them on your own images"
        about = calibration.about()
        found = f"calibrated: {about['target']} {about['rate']:g} by {about['n']} {about['method']}"
        return f"as given, the rest {found}" if any(given) else found

    def _depth(self, scope: Scope) -> int:
        """How many of the nearest to ask for.

        As many as the largest label has images, and one more: so a second label, if there is one, is among them. Scores
        that rest on more than the best image of a label need all of them.
        """
        if scope.role == Role.SUPPORT and self._options.score != Score.MAX_SIM:
            return max(self._options.top_k, sum(self.labels[scope.category].values()))
        largest = max(self.labels[scope.category].values(), default=0) if scope.role == Role.SUPPORT else 0
        return max(self._options.top_k, largest + 1)

    def _mean_lengths(self, catalog: Catalog) -> dict[Label, float]:
        """The lengths of the labels' means, where the score asks for them."""
        found: dict[Label, float] = {}
        if self._options.score == Score.PROTOTYPE:
            for category in self.labels:
                support = labelled_vectors(catalog, self.row, category, Role.SUPPORT)
                names, _, lengths = label_numbers(support.labels, support.vectors)
                found |= {(category, name): float(length) for name, length in zip(names, lengths, strict=True)}
        return found

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
        image = embed_picture(self._backbone, picture)
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
        candidates = rank_candidates(support, self._options.score, self._lengths)
        policy = (
            self.policies[candidates[0].category] if candidates else prior_policy(self.row.name, self._options.score)
        )
        decision = decide(candidates, policy, self._nearest_negative(candidates, vector))
        hits = tuple(rank_hits(shown)[: self._options.top_k])
        captions = self._captions(hits) if self._options.captions else None
        return Answer(name, self.row.name, self._options.category, decision, hits, captions, self._options.score)

    def _nearest_negative(self, candidates: Sequence[Candidate], vector: NDArray[np.float32]) -> Negative | None:
        """The rejected image of the nearest candidate's category that is nearest to the query."""
        if not candidates or not len(self._negatives[candidates[0].category].paths):
            return None
        rejected = self._negatives[candidates[0].category]
        near = cosines(vector, rejected.vectors)[0]
        return Negative(rejected.paths[int(near.argmax())], float(near.max()))

    def _captions(self, hits: Sequence[Hit]) -> dict[int, str]:
        with self._store.reading() as catalog:
            return captions_shown(catalog.connection, [hit.image.id for hit in hits])

    def _hits(self, found: Sequence[Neighbours]) -> list[Hit]:
        scores = {int(i): float(score) for near in found for i, score in zip(near.ids, near.scores, strict=True)}
        with self._store.reading() as catalog:
            shown = catalog.shown(scores)
        return [Hit(shown[image_id], score) for image_id, score in scores.items()]
