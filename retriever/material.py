"""The material of a calibration: all that the store has of one category by one backbone, or by two that are to be fused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearshot.retriever.strangers import ModelStrangers, is_for_calibration, model_strangers
from nearshot.schema.catalog import BackboneRow, Catalog
from nearshot.schema.feedback import negatives as rejected_images
from nearshot.schema.images import UNKNOWN
from nearshot.schema.labelled import LabelledVectors, labelled_vectors
from nearshot.schema.vocabulary import Role
from nearshot.vectors.fused import join

ByHash = Mapping[str, NDArray[np.float32]]
"""Unit vectors (dimension,) by SHA-256."""


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """Material that calibration rests on: shots, queries, the strangers that the model may know, images that were rejected (by
    SHA-256), and more strangers for the threshold.
    """

    support: LabelledVectors
    queries: LabelledVectors
    model: ModelStrangers
    rejected: frozenset[str]
    negatives: ByHash

    @classmethod
    def of(
        cls, catalog: Catalog, backbone: BackboneRow, category: str, *, needed: int, every: bool, negatives: ByHash
    ) -> Material:
        """Read it; the model leaves `needed` strangers for the threshold where it can (`strangers.model_strangers`)."""
        return cls(
            labelled_vectors(catalog, backbone, category, Role.SUPPORT),
            labelled_vectors(catalog, backbone, category, Role.QUERY),
            model_strangers(catalog, backbone, category, needed=needed, every=every),
            frozenset(rejected_images(catalog, backbone, category).hashes),
            negatives,
        )

    def asked(self, names: Sequence[str], *, every: bool) -> tuple[list[int], list[int]]:
        """The queries that calibration may ask with, by number: those of a label in `names`, and strangers not in the model.

        Copies of shots are left out, and of a query's own copies the first counts.
        """
        taken = {*self.rejected, *self.model.hashes}
        known: list[int] = []
        strange: list[int] = []
        seen = set(self.support.hashes)
        for index, (label, sha256) in enumerate(zip(self.queries.labels, self.queries.hashes, strict=True)):
            if sha256 in seen or not (every or is_for_calibration(sha256)):
                continue
            if label == UNKNOWN and sha256 not in taken:
                strange.append(index)
            elif label in names:
                known.append(index)
            seen.add(sha256)
        return known, strange

    def strangers(self, strange: Sequence[int]) -> NDArray[np.float32]:
        """Strangers for the threshold (u, d): the queries of these numbers, and the negatives that are nothing else here."""
        labelled = (sha for sha, label in zip(self.queries.hashes, self.queries.labels, strict=True) if label)
        taken = {*self.support.hashes, *self.rejected, *labelled}
        outside = [vector for sha256, vector in self.negatives.items() if sha256 not in taken]
        dimension = self.queries.vectors.shape[1]
        return np.concatenate(
            [self.queries.vectors[list(strange)], np.array(outside, dtype=np.float32).reshape(-1, dimension)]
        )


def join_material(first: Material, second: Material, weights: Sequence[float]) -> Material:
    """The material of two backbones fused: of what both have seen. Pure."""
    mine, other = (dict(zip(each.model.hashes, each.model.vectors, strict=True)) for each in (first, second))
    model = join_by_hash(mine, other, weights)
    none = np.zeros((0, first.queries.vectors.shape[1] + second.queries.vectors.shape[1]), dtype=np.float32)
    return Material(
        _join_labelled(first.support, second.support, weights),
        _join_labelled(first.queries, second.queries, weights),
        ModelStrangers(tuple(model), np.stack(list(model.values())) if model else none),
        first.rejected & second.rejected,
        join_by_hash(first.negatives, second.negatives, weights),
    )


def join_by_hash(first: ByHash, second: ByHash, weights: Sequence[float]) -> dict[str, NDArray[np.float32]]:
    """The vectors of two backbones fused, of the contents that both have seen, in the order of the first's."""
    both = [sha256 for sha256 in first if sha256 in second]
    if not both:
        return {}
    joined = join([np.stack([each[sha256] for sha256 in both]) for each in (first, second)], weights)
    return dict(zip(both, joined, strict=True))


def _join_labelled(first: LabelledVectors, second: LabelledVectors, weights: Sequence[float]) -> LabelledVectors:
    other = {sha256: index for index, sha256 in enumerate(second.hashes)}
    kept = [index for index, sha256 in enumerate(first.hashes) if sha256 in other]
    matching = [other[first.hashes[index]] for index in kept]
    vectors = [first.vectors[kept], second.vectors[matching]]
    joined = join(vectors, weights) if kept else np.concatenate(vectors, axis=1)
    return LabelledVectors(
        tuple(first.paths[index] for index in kept),
        tuple(first.labels[index] for index in kept),
        tuple(first.shots[index] for index in kept),
        tuple(first.hashes[index] for index in kept),
        joined,
    )
