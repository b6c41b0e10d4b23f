"""Samples that an evaluation judges by: a category's shots and labelled queries, without those that give the answer away."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nearshot.evaluation.near_duplicates import near_duplicates
from nearshot.retriever.scores import (
    Labelled,
    Numbers,
    cosines,
    label_numbers,
    nearer_to_negatives,
    nearest_cosines,
    nearest_numbers,
)
from nearshot.schema.catalog import CHUNK, BackboneRow, Catalog
from nearshot.schema.feedback import Negatives, negatives
from nearshot.schema.images import UNKNOWN
from nearshot.schema.labelled import LabelledVectors, labelled_vectors
from nearshot.schema.spill import gathered
from nearshot.schema.vocabulary import Role

NEAR_DUPLICATE = 0.999
"""The cosine on `hog` from which a query counts as a copy of a shot."""

SAME_BYTES = "the same bytes"


@dataclass(frozen=True, slots=True)
class Leak:
    """A query that shows a shot over again."""

    category: str
    query: str
    shot: str
    reason: str


@dataclass(frozen=True)
class CategorySamples:
    """One category for one backbone.

    n support images with labels by number (n,) in `names`, and q labelled queries with true labels (q,), -1 for Unknown.
    """

    category: str
    names: tuple[str, ...]
    support: LabelledVectors
    numbers: NDArray[np.int64]
    queries: LabelledVectors
    truth: NDArray[np.int64]
    negatives: Negatives

    def rejected(self, among: NDArray[np.float32] | None = None) -> NDArray[np.bool_]:
        """Tell which queries (q,) are nearer to a rejected image than to any shot, of all or `among` some (n, d); a rejected
        query does not refuse itself.
        """
        if not len(self.negatives.paths):
            return np.zeros(len(self.truth), dtype=np.bool_)
        near = cosines(self.queries.vectors, self.negatives.vectors)
        itself = np.array(self.queries.hashes)[:, None] == np.array(self.negatives.hashes)[None, :]
        shots = self.nearest if among is None else nearest_cosines(self.queries.vectors, among)
        return nearer_to_negatives(shots[:, None], np.where(itself, np.nan, near))

    @cached_property
    def nearest(self) -> NDArray[np.float64]:
        """The cosines (q,) of queries with the nearest support image."""
        return nearest_cosines(self.queries.vectors, self.support.vectors)

    def winners(self, labels: Numbers) -> Numbers:
        """The support image (q,) nearest to each query among those of a label (q,), by number; the first of those that tie."""
        order = np.argsort(self.numbers, kind="stable")
        bounds = np.searchsorted(self.numbers[order], np.arange(len(self.names) + 1))
        winners = np.empty(len(labels), dtype=np.int64)
        for label in np.unique(labels).tolist():
            asked = np.flatnonzero(labels == label)
            images = order[bounds[label] : bounds[label + 1]]
            winners[asked] = nearest_numbers(self.queries.vectors[asked], self.support.vectors, images)
        return winners

    def labelled(self, strangers: NDArray[np.float32], kept: Numbers | None = None) -> Labelled:
        """Return what the labels are known by: all support images, or some by number (each label keeps one at least)."""
        if kept is None:
            return Labelled(self.names, self.numbers, self.support.vectors, strangers)
        parts = (self.support.vectors[kept[start : start + CHUNK]] for start in range(0, len(kept), CHUNK))
        vectors = gathered(parts, len(kept), self.support.vectors.shape[1])
        return Labelled(self.names, self.numbers[kept], vectors, strangers)


def load_samples(catalog: Catalog, backbone: BackboneRow, category: str, wanted: Collection[str]) -> CategorySamples:
    """A category's samples; of the queries those with a label whose SHA-256 is wanted."""
    support = labelled_vectors(catalog, backbone, category, Role.SUPPORT)
    queries = labelled_vectors(catalog, backbone, category, Role.QUERY)
    names, numbers = label_numbers(support.labels)
    number_of: dict[str | None, int] = {UNKNOWN: -1}
    number_of.update((name, number) for number, name in enumerate(names))
    kept = [
        index
        for index, (label, sha256) in enumerate(zip(queries.labels, queries.hashes, strict=True))
        if label in number_of and sha256 in wanted
    ]
    truth = np.array([number_of[queries.labels[index]] for index in kept], dtype=np.int64)
    rejected = negatives(catalog, backbone, category)
    return CategorySamples(category, names, support, numbers, select(queries, kept), truth, rejected)


def select(images: LabelledVectors, kept: list[int]) -> LabelledVectors:
    """Some of the images, in the order given."""
    return LabelledVectors(
        tuple(images.paths[index] for index in kept),
        tuple(images.labels[index] for index in kept),
        tuple(images.shots[index] for index in kept),
        tuple(images.hashes[index] for index in kept),
        images.vectors[kept],
    )


def labelled_queries(catalog: Catalog, rows: Collection[BackboneRow], category: str) -> set[str]:
    """The queries with a known label that all backbones have a vector of, by SHA-256."""
    queries_per_backbone = [labelled_vectors(catalog, row, category, Role.QUERY, with_vectors=False) for row in rows]
    labelled = [
        {sha256 for sha256, label in zip(queries.hashes, queries.labels, strict=True) if label is not None}
        for queries in queries_per_backbone
    ]
    return set.intersection(*labelled) if labelled else set()


def find_leaks(
    catalog: Catalog, rows: Collection[BackboneRow], hog: BackboneRow | None, category: str
) -> Mapping[str, Leak]:
    """Labelled queries that are copies of shots, by SHA-256: the same bytes, or, where `hog` has seen both, nearly the same."""
    leaks: dict[str, Leak] = {}
    for row in rows:
        for sha256, leak in _same_bytes(catalog, row, category):
            leaks.setdefault(sha256, leak)
    for sha256, leak in _nearly_the_same(catalog, hog, category) if hog is not None else ():
        leaks.setdefault(sha256, leak)
    return leaks


def _same_bytes(catalog: Catalog, row: BackboneRow, category: str) -> Iterator[tuple[str, Leak]]:
    queries = labelled_vectors(catalog, row, category, Role.QUERY, with_vectors=False)
    asked = {sha256 for sha256, label in zip(queries.hashes, queries.labels, strict=True) if label is not None}
    support = labelled_vectors(catalog, row, category, Role.SUPPORT, with_vectors=False)
    shots: dict[str, str] = {}
    for sha256, path in zip(support.hashes, support.paths, strict=True):
        if sha256 in asked:
            shots.setdefault(sha256, path)
    for path, sha256, label in zip(queries.paths, queries.hashes, queries.labels, strict=True):
        if label is not None and sha256 in shots:
            yield sha256, Leak(category, path, shots[sha256], SAME_BYTES)


def _nearly_the_same(catalog: Catalog, hog: BackboneRow, category: str) -> Iterator[tuple[str, Leak]]:
    queries = labelled_vectors(catalog, hog, category, Role.QUERY)
    if not any(label is not None for label in queries.labels):
        return
    support = labelled_vectors(catalog, hog, category, Role.SUPPORT)
    for index, shown, scores in near_duplicates(queries.vectors, support.vectors, NEAR_DUPLICATE):
        if queries.labels[index] is not None:
            best = int(scores.argmax())
            reason = f"cosine {scores[best]:.4f} on hog"
            yield queries.hashes[index], Leak(category, queries.paths[index], support.paths[int(shown[best])], reason)
