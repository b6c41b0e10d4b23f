"""Strangers: the images of a category that are known to show none of its labels, and which of them may be used for what.

Those in `6.preprocessed/Unknown/` are shared out by their SHA-256: half for `evaluate` to judge by, a quarter to set thresholds
by, a quarter for the model, which makes Unknown a label of its own. What one of them has seen, the others never see. Images
that a person rejected all go into the model.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retriever.scores import Score
from schema.calibrations import CalibrationRow
from schema.catalog import BackboneRow, Catalog
from schema.feedback import negatives
from schema.images import UNKNOWN, Role
from schema.labelled import labelled_vectors

LEAST_STRANGERS = 3
"""Fewer are no label: one or two say where they are, not where strangers are (measured in docs/calibration.md)."""


@dataclass(frozen=True, slots=True, eq=False)
class ModelStrangers:
    """The u strangers that a model may know: SHA-256, in order, and unit vectors (u, d)."""

    hashes: tuple[str, ...]
    vectors: NDArray[np.float32]


def is_for_calibration(sha256: str) -> bool:
    """Whether a labelled query belongs to the half that calibration may see; `evaluate` judges by the other."""
    return int(sha256[-1], 16) % 2 == 0


def is_for_model(sha256: str) -> bool:
    """Whether a stranger that calibration may see belongs to the model; the others set the threshold."""
    return int(sha256[-2], 16) % 2 == 0


def strangers_in_force(
    catalog: Catalog, backbone: BackboneRow, category: str, score: Score, calibration: CalibrationRow | None
) -> NDArray[np.float32]:
    """The strangers (u, d) that the score's model knows: those that it knew when it was calibrated, else all for the model."""
    if score != Score.LDA:
        return np.zeros((0, backbone.dimension), dtype=np.float32)
    only = None if calibration is None else frozenset(calibration.about().get("strangers", ()))
    return model_strangers(catalog, backbone, category, only=only).vectors


def model_strangers(
    catalog: Catalog, backbone: BackboneRow, category: str, *, only: Collection[str] | None = None, every: bool = False
) -> ModelStrangers:
    """The strangers for the model of a category; none where they are too few to stand for anything.

    With `only`, those of these SHA-256: what a calibration has been made with. With `every`, calibration may see all queries.
    """
    queries = labelled_vectors(catalog, backbone, category, Role.QUERY, label=UNKNOWN)
    rejected = negatives(catalog, backbone, category)
    found = dict(zip(rejected.hashes, rejected.vectors, strict=True))
    for sha256, vector in zip(queries.hashes, queries.vectors, strict=True):
        if only is not None or (is_for_model(sha256) and (every or is_for_calibration(sha256))):
            found[sha256] = vector
    hashes = sorted(sha256 for sha256 in found if only is None or sha256 in only)
    if len(hashes) < LEAST_STRANGERS:
        return ModelStrangers((), np.zeros((0, backbone.dimension), dtype=np.float32))
    return ModelStrangers(tuple(hashes), np.stack([found[sha256] for sha256 in hashes]))
