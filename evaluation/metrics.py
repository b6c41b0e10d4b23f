"""Metrics of recognition with rejection, from standings and true labels. Pure; scikit-learn where it has them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import auc, f1_score, roc_auc_score, roc_curve

from nearshot.evaluation.outcomes import REFUSED
from nearshot.evaluation.standing import Standings

Scores = NDArray[np.float64]
Labels = NDArray[np.int64]


def closed_set_accuracy(queries: Standings, truth: Labels) -> float | None:
    """The share of queries that show a label whose best label is theirs, nothing being refused; None without such queries."""
    known = truth >= 0
    return float((queries.best[known] == truth[known]).mean()) if known.any() else None


def auroc(queries: Standings, truth: Labels) -> float | None:
    """The chance that a query that shows a label outscores one that shows none; ties count half. None without both."""
    known = truth >= 0
    return float(roc_auc_score(known, queries.top)) if known.any() and not known.all() else None


def fpr_at_95_tpr(queries: Standings, truth: Labels) -> float | None:
    """The share of unknowns that score as high as the threshold which 95 % of the known reach. Known is positive.

    (OpenOOD takes unknown as positive; its figure of this name is another.) None without both.
    """
    known = truth >= 0
    if not known.any() or known.all():
        return None
    false, true, _ = roc_curve(known, queries.top, drop_intermediate=False)
    return float(false[np.argmax(true >= 0.95)])


def oscr(queries: Standings, truth: Labels) -> float | None:
    """The area under correct classification rate against false positive rate (Dhamija et al., NeurIPS 2018).

    At each distinct threshold: the share of known queries whose best label is theirs and whose score reaches it, against the
    share of unknowns whose score does. None without both.
    """
    known = truth >= 0
    if not known.any() or known.all():
        return None
    top, right = queries.top, known & (queries.best == truth)
    thresholds = np.unique(top)[::-1]
    reached_right = np.searchsorted(np.sort(-top[right]), -thresholds, side="right") / known.sum()
    reached_unknown = np.searchsorted(np.sort(-top[~known]), -thresholds, side="right") / (~known).sum()
    return float(auc(np.append(0.0, reached_unknown), np.append(0.0, reached_right)))


def right_at_false_accepts(queries: Standings, truth: Labels, rate: float) -> float | None:
    """The share of known queries whose best label is theirs and outscores all but `rate` of the unknowns. None without both.

    The threshold is read off these very queries: it tells scores apart, and promises nothing.
    """
    known = truth >= 0
    if not known.any() or known.all():
        return None
    strange = np.sort(queries.top[~known])[::-1]
    threshold = strange[min(int(rate * len(strange)), len(strange) - 1)]
    right = (queries.best == truth) & (queries.top > threshold)
    return float(right[known].mean())


def macro_f1(predicted: Labels, truth: Labels, labels: int) -> float | None:
    """The mean F1 over all labels and Unknown, at the policy; ambiguous is right for none. None without queries."""
    if not len(truth):
        return None
    classes = [*range(labels), *([REFUSED] if (truth < 0).any() else [])]
    return float(f1_score(truth, predicted, labels=classes, average="macro", zero_division=0.0))


def risk_coverage(scores: NDArray[np.float64], right: NDArray[np.bool_]) -> tuple[Scores, Scores]:
    """Coverage (t,) and risk (t,) of answering only queries that score at least as high as each distinct score, highest first.

    Coverage is the share of all queries (q,) that are answered, risk the share of the answers that are not right; an answer
    to a query that shows no label never is (El-Yaniv and Wiener, JMLR 2010).
    """
    if not len(scores):
        return np.zeros(0), np.zeros(0)
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)
    answered = np.arange(1, len(scores) + 1)[last]
    wrong = np.cumsum(~right[order])[last]
    return answered / len(scores), wrong / answered
