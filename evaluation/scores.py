"""Scores side by side: how well each tells labels apart, and strangers from them, on the same queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearshot.evaluation.metrics import auroc, closed_set_accuracy, fpr_at_95_tpr, oscr, right_at_false_accepts
from nearshot.evaluation.samples import CategorySamples, select
from nearshot.evaluation.standing import Standings, score_tables
from nearshot.retriever.prediction_set import SetSamples, in_set, no_lower
from nearshot.retriever.scores import fit
from nearshot.retriever.strangers import strangers_in_force
from nearshot.schema.calibrations import CalibrationRow, all_calibrations
from nearshot.schema.catalog import BackboneRow, Catalog
from nearshot.schema.vocabulary import Score

SCORE_METRICS = ("accuracy", "auroc", "fpr95", "oscr", "right_at_5", "set_coverage", "set_size")

COVERAGE = 0.9
"""Of the prediction sets that are looked at."""


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """A row of Table 9: a backbone's metrics by one score in one category, all shots used; None without a value.

    `queries` are those judged by, `strangers` those among them that show no label, `known_strangers` those that the model of
    `lda` knows, which are not among them. `set_coverage` and `set_size` are those of prediction sets at 0.9, where the score is
    calibrated: the share of known queries whose label is in the set, and how many labels it has on average.
    """

    category: str
    backbone: str
    score: Score
    queries: int
    strangers: int
    known_strangers: int
    figures: Mapping[str, float | None]


def compare_scores(
    catalog: Catalog, row: BackboneRow, samples: Sequence[CategorySamples], in_model: Mapping[str, set[str]]
) -> list[ScoreRow]:
    """Every score on the same queries of each category: none of them, by SHA-256, is known to a model (`in_model`)."""
    rows = []
    for category_samples in samples:
        kept = [
            index
            for index, sha256 in enumerate(category_samples.queries.hashes)
            if sha256 not in in_model[category_samples.category]
        ]
        queries, truth = select(category_samples.queries, kept), category_samples.truth[kept]
        if not len(truth) or not category_samples.names:
            continue
        calibrations = {
            each.score: each for each in all_calibrations(catalog, row.id) if each.category == category_samples.category
        }
        for score in Score:
            calibration = calibrations.get(score)
            strangers = strangers_in_force(catalog, row, category_samples.category, score, calibration).vectors
            names, sets = category_samples.names, _Sets(category_samples.names, calibration)
            scorer = fit(score, category_samples.labelled(strangers))
            parts = []
            for few, scores in score_tables(scorer, queries.vectors, len(names)):
                parts.append(Standings.of(scores, truth[few]))
                sets.add(scores, truth[few])
            judged = Standings.together(parts, len(names))
            figures = {
                "accuracy": closed_set_accuracy(judged, truth),
                "auroc": auroc(judged, truth),
                "fpr95": fpr_at_95_tpr(judged, truth),
                "oscr": oscr(judged, truth),
                "right_at_5": right_at_false_accepts(judged, truth, 0.05),
                **sets.figures(),
            }
            rows.append(
                ScoreRow(
                    *(category_samples.category, row.name, score, len(truth), int(np.sum(truth < 0)), len(strangers)),
                    figures=figures,
                )
            )
    return rows


class _Sets:
    """Prediction sets of known queries, as they come: how many have their true label in it, and how many labels they have."""

    def __init__(self, names: Sequence[str], calibration: CalibrationRow | None) -> None:
        samples = calibration.about().get("sets") if calibration is not None else None
        self._names, self._samples = names, None if samples is None else SetSamples.from_json(samples)
        self._covered = self._size = self._queries = 0

    def add(self, scores: NDArray[np.float64], truth: NDArray[np.int64]) -> None:
        """Take some queries' scores (q, m) and true labels (q,), -1 for Unknown."""
        known = np.flatnonzero(truth >= 0)
        if self._samples is None or not len(known):
            return
        places, held = no_lower(scores[known], self._names, self._samples, COVERAGE)
        inside = in_set(places, held, COVERAGE)
        self._covered += int(inside[np.arange(len(known)), truth[known]].sum())
        self._size += int(inside.sum())
        self._queries += len(known)

    def figures(self) -> dict[str, float | None]:
        """The share that is covered, and the labels of a set on average; None without queries or a calibration."""
        if not self._queries:
            return {"set_coverage": None, "set_size": None}
        return {"set_coverage": self._covered / self._queries, "set_size": self._size / self._queries}
