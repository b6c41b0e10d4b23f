"""Plots: an evaluation drawn by matplotlib, each as SVG that needs nothing else. The same figures give the same bytes."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from nearshot.evaluation.evaluate import ShotsRow
from nearshot.evaluation.judged import Judged
from nearshot.evaluation.metrics import risk_coverage
from nearshot.evaluation.outcomes import AMBIGUOUS, REFUSED
from nearshot.retriever.policy import Policy

KNOWN, STRANGE, THRESHOLD = "#0072b2", "#d55e00", "#000000"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#f0e442")
"""Okabe and Ito's colours (2008), which people with any colour vision can tell apart."""

BINS = 30
COUNTED = 12
"""Up to so many labels, a confusion matrix has its counts written in."""
NAMED = 60
"""Up to so many labels, it has their names."""


def _kind(policy: Policy) -> str:
    return " (by hand)" if policy.by_hand else "" if policy.calibrated else " (prior)"


def score_histograms(judged: Sequence[Judged]) -> str:
    """Plot the spread of best scores of known and unknown queries, for each backbone of one category, with its threshold."""
    figure = Figure(figsize=(4.6 * len(judged), 3.0), layout="constrained")
    for axes, judgement in zip(figure.subplots(1, len(judged), squeeze=False)[0], judged, strict=True):
        known = judgement.truth >= 0
        bins = np.linspace(
            min(judgement.scores.min(), judgement.policy.threshold), judgement.scores.max() + 1e-9, BINS + 1
        )
        axes.hist(judgement.scores[known], bins=bins, color=KNOWN, alpha=0.65, label=f"known ({known.sum()})")
        if not known.all():
            axes.hist(
                judgement.scores[~known], bins=bins, color=STRANGE, alpha=0.65, label=f"unknown ({(~known).sum()})"
            )
        title = f"threshold {judgement.policy.threshold:.3f}{_kind(judgement.policy)}"
        axes.axvline(judgement.policy.threshold, color=THRESHOLD, linestyle="--", linewidth=1.2, label=title)
        axes.yaxis.get_major_locator().set_params(integer=True)
        _finish(axes, judgement.backbone, "best score", "queries")
    return _svg(figure)


def risk_coverages(judged: Sequence[Judged]) -> str:
    """Plot the share of wrong answers when only the highest scores are answered, for each backbone of one category."""
    figure = Figure(figsize=(4.6, 3.4), layout="constrained")
    axes = figure.subplots()
    for judgement, colour in zip(judged, _colours(), strict=False):
        coverage, risk = risk_coverage(judgement.scores, judgement.best == judgement.truth)
        axes.step(coverage, risk, where="post", color=colour, label=judgement.backbone)
        answered = np.mean(judgement.scores >= judgement.policy.threshold)
        if answered > 0:
            at = min(int(np.searchsorted(coverage, answered)), len(coverage) - 1)
            axes.plot(coverage[at], risk[at], "o", color=colour)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, None)
    _finish(axes, "a dot: the threshold in force", "coverage (share answered)", "risk (share of answers wrong)")
    return _svg(figure)


def accuracy_by_shots(rows: Sequence[ShotsRow]) -> str:
    """Closed-set accuracy by number of shots, mean and standard deviation over the draws, for each backbone."""
    figure = Figure(figsize=(4.6, 3.4), layout="constrained")
    axes = figure.subplots()
    for backbone, colour in zip(dict.fromkeys(row.backbone for row in rows), _colours(), strict=False):
        figures = [(row.shots, row.figures["accuracy"]) for row in rows if row.backbone == backbone]
        points = [
            (shots, accuracy.mean, accuracy.deviation or 0.0)
            for shots, accuracy in figures
            if accuracy.mean is not None
        ]
        if points:
            shots, means, deviations = zip(*points, strict=True)
            axes.errorbar(shots, means, deviations, marker="o", capsize=3, color=colour, label=backbone)
    counts = sorted({row.shots for row in rows})
    axes.set_xscale("log")
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    _finish(axes, "all categories", "shots per label", "closed-set accuracy")
    return _svg(figure)


def confusion(judged: Judged) -> str:
    """Plot which labels (rows) get which answers (columns) from one backbone in one category; colour by share of the row."""
    rows = [*range(len(judged.names)), *([REFUSED] if (judged.truth < 0).any() else [])]
    columns = [*range(len(judged.names)), AMBIGUOUS, REFUSED]
    counts = confusion_matrix(judged.truth, judged.predicted, labels=columns)[[columns.index(row) for row in rows]]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(max(0.28 * len(columns), 3.4), 12.0)
    figure = Figure(figsize=(side + 1.2, side * len(rows) / len(columns) + 1.2), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    if len(judged.names) <= COUNTED:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if shares[row, column] > 0.55 else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
    if len(judged.names) <= NAMED:
        axes.set_xticks(range(len(columns)), [_text(judged.answer(number)) for number in columns], rotation=90)
        axes.set_yticks(range(len(rows)), [_text(judged.answer(number)) for number in rows])
    axes.set_title(_text(judged.backbone), fontsize=10)
    axes.set_xlabel("answer")
    axes.set_ylabel("truth")
    return _svg(figure)


def agreement(judged: Sequence[Judged]) -> str:
    """How often every two backbones give the same label to the queries that at least one of the two gives a label."""
    names = list(dict.fromkeys(judgement.backbone for judgement in judged))
    answers = {(judgement.backbone, judgement.category): judgement.predicted for judgement in judged}
    shared = [
        category
        for category in dict.fromkeys(judgement.category for judgement in judged)
        if all((name, category) in answers for name in names)
    ]
    given = [np.concatenate([answers[name, category] for category in shared]) for name in names]
    shares = np.array([[_same_label(row_answers, column_answers) for column_answers in given] for row_answers in given])
    side = 0.9 * len(names) + 1.6
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        colour = "white" if share > 0.55 else "black"
        axes.text(column, row, "-" if np.isnan(share) else f"{share:.0%}", ha="center", va="center", color=colour)
    axes.set_xticks(range(len(names)), map(_text, names), rotation=30, ha="right")
    axes.set_yticks(range(len(names)), map(_text, names))
    axes.set_title("the same label", fontsize=10)
    return _svg(figure)


def _same_label(first: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """The share of the same label among what either gives one; NaN where none does."""
    given = (first >= 0) | (other >= 0)
    return float(np.mean(first[given] == other[given])) if given.any() else float("nan")


def _finish(axes: Axes, title: str, across: str, up: str) -> None:
    axes.set_title(_text(title), fontsize=10)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)


def _colours() -> list[str]:
    return [*COLOURS] * 8


def _text(name: str) -> str:
    """A name as it is: matplotlib would take what stands between two dollar signs for mathematics."""
    return name.replace("$", r"\$")


def _svg(figure: Figure) -> str:
    """The figure as an <svg> element. Its letters stay letters: a page has fonts for every script, matplotlib has not."""
    stream = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "nearshot", "svg.fonttype": "none"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        warnings.filterwarnings("ignore", message="Creating legend with loc=")  # said by the clock, on a busy machine
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return re.sub(r"^.*?(?=<svg)", "", stream.getvalue(), flags=re.DOTALL)
