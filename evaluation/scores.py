"""Scores side by side: how well each tells labels apart, and strangers from them, on the same queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.metrics import auroc, closed_set_accuracy, fpr_at_95_tpr, oscr, right_at_false_accepts
from evaluation.samples import CategorySamples, select
from retriever.scores import Score, fit
from retriever.strangers import model_strangers
from schema.catalog import BackboneRow, Catalog

SCORE_METRICS = ("accuracy", "auroc", "fpr95", "oscr", "right_at_5")


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """A row of Table 9: a backbone's metrics by one score in one category, all shots used; None without a value.

    `queries` are those judged by, `strangers` those among them that show no label, `known_strangers` those that the model of
    `lda` knows, which are not among them.
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
    for one in samples:
        kept = [index for index, sha256 in enumerate(one.queries.hashes) if sha256 not in in_model[one.category]]
        queries, truth = select(one.queries, kept), one.truth[kept]
        if not len(truth) or not one.names:
            continue
        known = model_strangers(catalog, row, one.category).vectors
        for score in Score:
            strangers = known if score == Score.LDA else known[:0]
            scores = fit(score, one.labelled(strangers)).scores(queries.vectors)
            figures = {
                "accuracy": closed_set_accuracy(scores, truth),
                "auroc": auroc(scores, truth),
                "fpr95": fpr_at_95_tpr(scores, truth),
                "oscr": oscr(scores, truth),
                "right_at_5": right_at_false_accepts(scores, truth, 0.05),
            }
            rows.append(
                ScoreRow(
                    *(one.category, row.name, score, len(truth), int(np.sum(truth < 0)), len(strangers)),
                    figures=figures,
                )
            )
    return rows
