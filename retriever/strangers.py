"""Strangers: the images of a category that are known to show none of its labels, and which of them may be used for what.

Those in `6.preprocessed/Unknown/` are shared out by their SHA-256: half for `evaluate` to judge by, a quarter to set thresholds
by, a quarter for the model, which makes Unknown a label of its own; where a bound needs more for the threshold, the model has
fewer. What one of them has seen, the others never see. Images that a person rejected all go into the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearshot.schema.calibrations import CalibrationRow
from nearshot.schema.catalog import BackboneRow, Catalog
from nearshot.schema.feedback import negatives
from nearshot.schema.images import UNKNOWN
from nearshot.schema.labelled import labelled_vectors
from nearshot.schema.vocabulary import Role, Score

LEAST_STRANGERS = 3
"""Fewer are no label: one or two say where they are, not where strangers are (measured in docs/calibration.md)."""


@dataclass(frozen=True, slots=True, eq=False)
class ModelStrangers:
    """The u strangers that a model may know: SHA-256, in order, and unit vectors (u, d)."""

    hashes: tuple[str, ...]
    vectors: NDArray[np.float32]


def is_for_calibration(sha256: str) -> bool:
    """Tell whether a labelled query belongs to the half that calibration may see; `evaluate` judges by the other."""
    return int(sha256[-1], 16) % 2 == 0


def strangers_in_force(
    catalog: Catalog, backbone: BackboneRow, category: str, score: Score, calibration: CalibrationRow | None
) -> ModelStrangers:
    """The strangers that the score's model knows: those that it knew when it was calibrated, else all for the model."""
    if score != Score.LDA:
        return ModelStrangers((), np.zeros((0, backbone.dimension), dtype=np.float32))
    known = _known_strangers(catalog, backbone, category)
    if calibration is not None:
        return _stacked(
            [sha256 for sha256 in calibration.about().get("strangers", ()) if sha256 in known], known, backbone
        )
    return model_strangers(catalog, backbone, category)


def strangers_are_gone(catalog: Catalog, backbone: BackboneRow, category: str, calibration: CalibrationRow) -> bool:
    """Tell whether the store lacks a stranger that the calibration's model knew: the threshold was set for another model."""
    needed = calibration.about().get("strangers", ())
    return bool(needed) and not set(needed) <= _known_strangers(catalog, backbone, category).keys()


def model_strangers(
    catalog: Catalog, backbone: BackboneRow, category: str, *, needed: int = 0, every: bool = False
) -> ModelStrangers:
    """The strangers for a new model of a category; none where they are too few to stand for anything.

    All that were rejected; and of the others that calibration may see (all of them with `every`) half, or as many as leave
    `needed` for the threshold, in the order of their SHA-256.
    """
    known = _known_strangers(catalog, backbone, category)
    rejected = set(negatives(catalog, backbone, category).hashes)
    shared = sorted(sha256 for sha256 in known if sha256 not in rejected and (every or is_for_calibration(sha256)))
    spared = len(shared) - needed
    count = min(len(shared) // 2, spared) if spared >= LEAST_STRANGERS else len(shared) // 2
    return _stacked(sorted({*rejected, *shared[:count]}), known, backbone)


def _known_strangers(catalog: Catalog, backbone: BackboneRow, category: str) -> dict[str, NDArray[np.float32]]:
    """The unit vectors (d,) of all strangers, by SHA-256."""
    queries = labelled_vectors(catalog, backbone, category, Role.QUERY, label=UNKNOWN)
    rejected = negatives(catalog, backbone, category)
    strange = dict(zip(queries.hashes, queries.vectors, strict=True))
    return strange | dict(zip(rejected.hashes, rejected.vectors, strict=True))


def _stacked(hashes: Sequence[str], known: Mapping[str, NDArray[np.float32]], backbone: BackboneRow) -> ModelStrangers:
    if len(hashes) < LEAST_STRANGERS:
        return ModelStrangers((), np.zeros((0, backbone.dimension), dtype=np.float32))
    return ModelStrangers(tuple(hashes), np.stack([known[sha256] for sha256 in hashes]))
