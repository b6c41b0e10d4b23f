"""The report: one page that needs nothing else, with the plots and the worst mistakes."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nearshot.evaluation import plots
from nearshot.evaluation.evaluate import Evaluation, EvaluationOptions, ShotsRow, evaluate
from nearshot.evaluation.judged import ImageFile, Judged, MistakeKind, worst_mistakes
from nearshot.evaluation.outcomes import AMBIGUOUS, REFUSED
from nearshot.evaluation.report import render_report
from nearshot.evaluation.shots import Figure
from nearshot.retriever.answer import Answer
from nearshot.retriever.options import QueryOptions
from nearshot.retriever.policy import Policy
from nearshot.retriever.retriever import Retriever
from nearshot.retriever.sources import read_queries
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Score
from tests.conftest import Writer, run_index

ODD = "$5 <script>alert(1)</script> 猫"

PLACES = [ImageFile(f"q{n}.png", f"{n:064}") for n in range(6)]
JUDGED = Judged(
    category="things",
    backbone="hog",
    score_by=Score.MAX_SIM,
    policy=Policy(0.5, 0.1),
    names=("cat", ODD),
    queries=PLACES,
    winners=PLACES,
    truth=np.array([0, 1, -1, -1, 0, 1]),
    predicted=np.array([0, 0, 1, REFUSED, REFUSED, AMBIGUOUS]),
    best=np.array([0, 0, 1, 0, 1, 1]),
    scores=np.array([0.9, 0.6, 0.8, 0.4, 0.1, 0.55]),
    own=np.array([0.9, 0.5, np.nan, np.nan, 0.05, 0.55]),
)
"""A query of each outcome: correct, wrong, falsely accepted, correctly unknown, falsely unknown, ambiguous."""


@pytest.fixture
def evaluation(store: Store, write_data: Writer) -> Evaluation:
    """An evaluation with mistakes of every kind: what is under `cat` shows coffee, and strangers show the cat."""
    files = {f"things/2.support-set/cat/shot{n}.png": f"chelsea:{n}" for n in range(2)}
    files |= {f"things/2.support-set/{ODD.replace('/', '')}/shot{n}.png": f"coffee:{n}" for n in range(2)}
    files |= {f"things/6.preprocessed/cat/{n}.png": f"coffee:{n}" for n in (3, 5)}
    files |= {f"things/6.preprocessed/Unknown/{n}.png": f"chelsea:{n}" for n in (3, 5)}
    files |= {"things/6.preprocessed/cat/other.png": "ihc:1", "things/6.preprocessed/cat/right.png": "chelsea:8"}
    run_index(store, write_data(files))
    return evaluate(store, EvaluationOptions(keep_leaks=True))


def texts(svg: str) -> list[str]:
    """What stands in a plot."""
    return [element.text or "" for element in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_the_worst_mistakes_are_wrong_answers_first_and_then_refusals() -> None:
    mistakes = worst_mistakes(JUDGED, 10)
    assert [(mistake.kind, mistake.query.path, mistake.truth, mistake.nearest) for mistake in mistakes] == [
        (MistakeKind.FALSELY_ACCEPTED, "q2.png", "Unknown", ODD),
        (MistakeKind.WRONG, "q1.png", ODD, "cat"),
        (MistakeKind.FALSELY_UNKNOWN, "q4.png", "cat", ODD),
    ]
    assert [mistake.own_score for mistake in mistakes] == [None, 0.5, 0.05]
    assert [mistake.severity for mistake in mistakes] == [0.3, 0.1, 0.4]
    assert worst_mistakes(JUDGED, 1) == mistakes[:1]


def test_each_mistake_is_what_query_says_with_the_shot_that_won(
    store: Store, evaluation: Evaluation, tmp_path: Path
) -> None:
    [judged] = evaluation.judged
    retriever = Retriever(store, QueryOptions(backbone="hog", category="things"))
    told = {}
    for answer in retriever.answer(read_queries([tmp_path / "data/things/6.preprocessed"])):
        assert isinstance(answer, Answer)
        nearest = answer.decision.nearest
        assert nearest is not None
        told[answer.path] = (nearest.label, round(nearest.score, 6), nearest.best.image.path)
    mistakes = worst_mistakes(judged, 10)
    assert {mistake.kind for mistake in mistakes} == set(MistakeKind)
    for mistake in mistakes:
        [(label, score, shot)] = [expected for path, expected in told.items() if path.endswith(mistake.query.path)]
        assert (mistake.nearest, round(mistake.score, 6)) == (label, score)
        assert shot.endswith(mistake.winner.path)


def test_the_page_needs_nothing_else_and_shows_both_images_of_each_mistake(
    store: Store, evaluation: Evaluation
) -> None:
    page = render_report(store, evaluation)
    [judged] = evaluation.judged
    mistakes = worst_mistakes(judged, 8)
    assert page.count('<img src="data:image/jpeg;base64,') == 2 * len(mistakes) == 10
    assert page.count("<svg") == 4, "accuracy by shots, score histograms, risk and coverage, confusion"
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", page)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert evaluation.inputs in page
    assert render_report(store, evaluation) == page


def test_an_image_that_changed_since_is_not_shown_as_if_it_had_not(
    store: Store, evaluation: Evaluation, tmp_path: Path
) -> None:
    queries = tmp_path / "data/things/6.preprocessed/Unknown"
    (queries / "3.png").write_bytes((queries / "5.png").read_bytes())
    page = render_report(store, evaluation)
    assert page.count("the file is gone or changed") == 1
    assert page.count("<img ") == 9
    (queries / "5.png").unlink()
    assert render_report(store, evaluation).count("the file is gone or changed") == 2


def test_names_of_any_script_and_dollar_signs_stand_in_the_plots_as_they_are() -> None:
    plot_texts = texts(plots.confusion(JUDGED))
    assert plot_texts.count(ODD) == 2
    assert {"cat", "Unknown", "ambiguous", "1"} <= set(plot_texts)


def test_the_histogram_names_the_threshold_and_whether_it_was_calibrated() -> None:
    calibrated = replace(JUDGED, policy=Policy(0.25, 0.0, calibrated=True))
    plot_texts = texts(plots.score_histograms([JUDGED, calibrated]))
    assert {"known (4)", "unknown (2)", "threshold 0.500 (prior)", "threshold 0.250"} <= set(plot_texts)


def test_backbones_agree_where_they_give_the_same_label_and_not_where_neither_gives_one() -> None:
    other = replace(JUDGED, backbone="clip", predicted=np.array([0, 1, 1, REFUSED, 0, AMBIGUOUS]))
    assert {"100%", "50%", "hog", "clip"} <= set(texts(plots.agreement([JUDGED, other])))


def test_plots_are_drawn_from_little_or_odd_figures() -> None:
    strangers = replace(JUDGED, truth=np.full(6, -1))
    alike = replace(JUDGED, scores=np.full(6, 0.5))
    many = replace(JUDGED, names=tuple(map(str, range(80))))
    for judged in (strangers, alike, many):
        assert plots.score_histograms([judged]).startswith("<svg")
        assert plots.risk_coverages([judged]).startswith("<svg")
        assert plots.confusion(judged).startswith("<svg")
    rows = [ShotsRow("hog", 1, {"accuracy": Figure(None, None)}), ShotsRow("hog", 2, {"accuracy": Figure(0.5, 0.1)})]
    assert "hog" in texts(plots.accuracy_by_shots(rows))
