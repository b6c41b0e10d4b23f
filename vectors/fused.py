"""Fused vectors: made of what several backbones made of the same content, so that a cosine is a weighted mean of theirs.

A mean weighted by one over the backbones' spreads is, up to a constant, the sum of standardised scores: no backbone counts
for more because its cosines vary more.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from nearshot.schema.catalog import CHUNK, BackboneRow, Catalog
from nearshot.schema.editor import Embedding
from nearshot.schema.fusions import Part, PartVector, contents_to_fuse, part_vectors, parts_of_fusion, put_parts
from nearshot.schema.labelled import labelled_vectors
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Role
from nearshot.vectors.normalise import normalise

SAMPLE = 1000
"""Shots per category that a spread is measured on, at most: an even choice by SHA-256."""


def join(vectors: Sequence[NDArray[np.float32]], weights: Sequence[float]) -> NDArray[np.float32]:
    """Unit vectors (n, d1), (n, d2), ... as unit vectors (n, d1 + d2 + ...), whose cosines are means of theirs by weight."""
    scaled = [np.sqrt(weight) * part.astype(np.float64) for part, weight in zip(vectors, weights, strict=True)]
    return normalise(np.concatenate(scaled, axis=1))


def fused_fingerprint(fingerprints: Sequence[str], weights: Sequence[float]) -> str:
    """SHA-256 over all that decides a fused vector: its parts' fingerprints in order, and their weights."""
    return hashlib.sha256(json.dumps([list(fingerprints), list(weights)]).encode()).hexdigest()


def find_parts(catalog: Catalog, rows: Sequence[BackboneRow]) -> list[Part]:
    """The parts of a fusion of some backbones: those that the store has, else with weights by the shots that it holds now."""
    name = _name(rows)
    for fused in catalog.backbones():
        if fused.name == name:
            parts = parts_of_fusion(catalog, fused.id)
            if [part.row.id for part in parts] == [row.id for row in rows]:
                return parts
    spreads = [_spread(catalog, row) for row in rows]
    if min(spreads) < 1e-3:  # too few shots to tell
        spreads = [1.0] * len(rows)
    shares = [1 / spread / sum(1 / each for each in spreads) for spread in spreads]
    weights = [round(share, 3) for share in shares[:-1]]
    return [Part(row, weight) for row, weight in zip(rows, [*weights, round(1 - sum(weights), 3)], strict=True)]


def fuse(
    store: Store, rows: Sequence[BackboneRow], should_stop: Callable[[], bool] = lambda: False
) -> tuple[BackboneRow, int]:
    """Fuse what some backbones (in order of preference) have made of all contents; the fused one, and how many were new.

    One transaction per 4,096 contents; what is fused already stays. For the holder of the store.
    """
    with store.reading() as catalog:
        parts = find_parts(catalog, rows)
    with store.writing() as editor:
        fingerprint = fused_fingerprint([row.fingerprint for row in rows], [part.weight for part in parts])
        fused = editor.use_backbone(
            name=_name(rows),
            fingerprint=fingerprint,
            dimension=sum(row.dimension for row in rows),
            precision="fp32",
            source=" + ".join(f"{part.weight:g} {part.row.name}" for part in parts),
            location=None,
            signature=fingerprint,
        )
        if not parts_of_fusion(editor, fused.id):
            put_parts(editor, fused.id, parts)
        lacking = contents_to_fuse(editor, fused.id, parts)
    done = 0
    while done < len(lacking) and not should_stop():
        chunk = lacking[done : done + CHUNK]
        with store.writing() as editor:
            vectors = [part_vectors(editor, part.row, chunk) for part in parts]
            editor.put_embeddings(_joined(fused, parts, vectors, chunk))
        done += len(chunk)
    return fused, done


def _joined(
    fused: BackboneRow, parts: Sequence[Part], vectors_by_part: Sequence[dict[int, PartVector]], chunk: Sequence[int]
) -> list[Embedding]:
    whole = [content for content in chunk if all(vectors[content].vector is not None for vectors in vectors_by_part)]
    failed = {content: _reason(parts, vectors_by_part, content) for content in chunk if content not in set(whole)}
    embeddings = [Embedding(content, fused.id, None, reason) for content, reason in failed.items()]
    if whole:
        units = [
            np.stack([vector for content in whole if (vector := vectors[content].vector) is not None])
            for vectors in vectors_by_part
        ]
        joined = join(units, [part.weight for part in parts])
        embeddings += [Embedding(content, fused.id, vector) for content, vector in zip(whole, joined, strict=True)]
    return embeddings


def _reason(parts: Sequence[Part], vectors_by_part: Sequence[dict[int, PartVector]], content: int) -> str:
    return next(
        f"{part.row.name}: {vectors[content].failure}"
        for part, vectors in zip(parts, vectors_by_part, strict=True)
        if vectors[content].vector is None
    )


def _name(rows: Sequence[BackboneRow]) -> str:
    return "+".join(row.name for row in rows)


def _spread(catalog: Catalog, row: BackboneRow) -> float:
    """The standard deviation of the cosines between shots of different labels of a category."""
    cosines = []
    for category in catalog.categories(Role.SUPPORT):
        shots = labelled_vectors(catalog, row, category, Role.SUPPORT)
        chosen = sorted(range(len(shots.hashes)), key=lambda index: (shots.hashes[index], shots.paths[index]))[:SAMPLE]
        vectors, labels = shots.vectors[chosen].astype(np.float64), np.array([str(shots.labels[i]) for i in chosen])
        first, second = np.triu_indices(len(chosen), 1)
        apart = labels[first] != labels[second]
        cosines.append((vectors @ vectors.T)[first[apart], second[apart]])
    every = np.concatenate(cosines) if cosines else np.zeros(0)
    return float(every.std()) if len(every) else 0.0
