"""Marked lists: what the store's labels and marks tell of the hits that queries would get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearshot.retriever.scores import Numbers, cosines
from nearshot.retriever.stopping import MarkedList
from nearshot.schema.catalog import BackboneRow, Catalog
from nearshot.schema.feedback import said_labels
from nearshot.schema.images import UNKNOWN
from nearshot.schema.labelled import labelled_vectors
from nearshot.schema.marks import image_marks, word_marks
from nearshot.schema.vocabulary import Against, Role

MOST = 1000
"""Queries that are asked again at most: of more, an even choice by their SHA-256."""

LONGEST = 1000
"""Hits that are kept of a query's list: further down, nobody looks."""

BLOCK = 64
"""Queries that are asked together: a bound on the memory that cosines take."""


def marked_images(
    catalog: Catalog, row: BackboneRow, categories: Sequence[str], against: Against, limit: int = LONGEST
) -> list[MarkedList]:
    """The lists of the indexed queries of which something is known: their label, or marks of single hits.

    A hit is right where it has the query's label in the query's category, false where it has another, or where the query
    shows no label; a mark of the two counts for more. Of each list there are the first `limit` that something is known
    of, without the query's own bytes.
    """
    marks = image_marks(catalog)
    queries = {category: _Images.of(catalog, row, category, Role.QUERY) for category in categories}
    hits = list(queries.values()) if against != Against.SUPPORT else []
    if against != Against.QUERY:
        hits += [_Images.of(catalog, row, category, Role.SUPPORT) for category in categories]
    vectors = (
        np.concatenate([images.vectors for images in hits]) if hits else np.zeros((0, row.dimension), dtype=np.float32)
    )
    hashes = np.array([sha256 for images in hits for sha256 in images.hashes])
    labels = [label for images in hits for label in images.labels]
    numbers = {label: number for number, label in enumerate(dict.fromkeys(labels)) if label is not None}
    shown = np.array([-1 if label is None else numbers[label] for label in labels], dtype=np.int64)
    asked = {
        sha256: (images, index)
        for images in queries.values()
        for index, sha256 in enumerate(images.hashes)
        if images.labels[index] is not None or sha256 in marks
    }
    chosen = sorted(asked)[:MOST]
    lists = []
    for start in range(0, len(chosen), BLOCK):
        part = chosen[start : start + BLOCK]
        near_each = cosines(np.stack([asked[sha][0].vectors[asked[sha][1]] for sha in part]), vectors)
        for sha256, near in zip(part, near_each, strict=True):
            images, index = asked[sha256]
            known = _known(images.labels[index], shown, numbers)
            for hit, right in marks.get(sha256, {}).items():
                known[hashes == hit] = int(right)
            known[hashes == sha256] = -1
            there = np.flatnonzero(known >= 0)
            order = there[np.argsort(-near[there], kind="stable")][:limit]
            lists.append(MarkedList(near[order], known[order] == 1))
    return lists


@dataclass(frozen=True, slots=True, eq=False)
class _Images:
    """A category's images: SHA-256, what each shows (category and label, None where nobody knows), unit vectors (n, d)."""

    hashes: Sequence[str]
    labels: tuple[tuple[str, str] | None, ...]
    vectors: NDArray[np.float32]

    @classmethod
    def of(cls, catalog: Catalog, row: BackboneRow, category: str, role: Role) -> _Images:
        images = labelled_vectors(catalog, row, category, role)
        said = said_labels(catalog, category) if role == Role.QUERY else {}
        labels = [label or said.get(sha) for label, sha in zip(images.labels, images.hashes, strict=True)]
        return cls(images.hashes, tuple((category, label) if label else None for label in labels), images.vectors)


def _known(label: tuple[str, str] | None, shown: Numbers, numbers: Mapping[tuple[str, str], int]) -> Numbers:
    """Of hits that show labels by number (n,), -1 for what nobody knows: 1 for right, 0 for false, -1 where it is not known.

    Two images that show none of the labels may show the same all the same.
    """
    if label is None:
        return np.full_like(shown, -1)
    known = np.where(shown < 0, -1, 0)
    known[shown == numbers.get(label, -2)] = -1 if label[1] == UNKNOWN else 1
    return known


def marked_words(catalog: Catalog, mode: str, backbone_id: int | None) -> list[MarkedList]:
    """The lists of searches for words whose hits were marked, by cosine where only images were compared, else by rank."""
    lists: dict[str, list[tuple[float, bool]]] = {}
    for mark in word_marks(catalog, mode, backbone_id):
        by = mark.score if mode == "image" and mark.score is not None else -float(mark.rank)
        lists.setdefault(mark.words, []).append((by, mark.right))
    ordered = [sorted(hits, key=lambda hit: -hit[0]) for hits in lists.values()]
    return [MarkedList(np.array([by for by, _ in hits]), np.array([right for _, right in hits])) for hits in ordered]
