"""Scores that rest on means: in queries as anywhere else, and after every change of the support set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nearshot.indexer.feedback import add_shot, reject, undo
from nearshot.retriever.answer import Answer
from nearshot.retriever.embedding import embed_picture
from nearshot.retriever.options import QueryOptions
from nearshot.retriever.retriever import Retriever
from nearshot.retriever.scores import Labelled, fit
from nearshot.retriever.searcher import Searcher
from nearshot.retriever.sources import read_queries
from nearshot.schema.labelled import labelled_vectors
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Action, Role, Score
from nearshot.service.engine import Engine
from nearshot.service.metrics import Metrics
from nearshot.service.settings import Settings
from tests.conftest import Outcome, run_index, save_crop

Run = Callable[..., Outcome]
MEANS = pytest.mark.parametrize("score", [Score.PROTOTYPE, Score.LDA])


def ask(store: Store, path: Path, options: QueryOptions) -> Answer:
    [answer] = Retriever(store, options).answer(read_queries([path]))
    assert isinstance(answer, Answer)
    return answer


@MEANS
def test_an_answer_has_the_scores_that_fitting_by_hand_gives(score: Score, store: Store, small: Path) -> None:
    run_index(store, small)
    path = small / "things/6.preprocessed/cat/a.png"
    answer = ask(store, path, QueryOptions(category="things", score=score))
    with store.reading() as catalog:
        row = catalog.backbones()[0]
        support = labelled_vectors(catalog, row, "things", Role.SUPPORT)
        query = labelled_vectors(catalog, row, "things", Role.QUERY, label="cat")
    labelled = Labelled.of(support.labels, support.vectors)
    scores = dict(zip(labelled.names, fit(score, labelled).scores(query.vectors)[0].tolist(), strict=True))
    nearest, runner_up = answer.decision.nearest, answer.decision.runner_up
    assert nearest is not None
    assert runner_up is not None
    assert (nearest.label, runner_up.label) == ("cat", "coffee")
    assert nearest.score == pytest.approx(scores["cat"], abs=2e-6)
    assert runner_up.score == pytest.approx(scores["coffee"], abs=2e-6)
    assert nearest.best.image.label == "cat"
    assert nearest.best == answer.hits[0], "hits are images, with their cosines"


def test_labels_of_several_categories_compete_by_their_means(store: Store, small: Path) -> None:
    for number in range(2):
        save_crop(small / f"space/2.support-set/galaxies/shot{number}.png", f"hubble_deep_field:{number}")
    run_index(store, small)
    path = small / "things/6.preprocessed/Unknown/b.png"
    everywhere = ask(store, path, QueryOptions(score=Score.PROTOTYPE))
    alone = {
        name: ask(store, path, QueryOptions(category=name, score=Score.PROTOTYPE)).decision
        for name in ("space", "things")
    }
    assert everywhere.decision.nearest == alone["space"].nearest
    assert everywhere.decision.runner_up == alone["things"].nearest


@MEANS
def test_a_service_answers_after_any_change_as_one_that_has_just_begun(score: Score, store: Store, small: Path) -> None:
    """Shots added, removed and labelled, strangers rejected, and all of it taken back."""
    queries = small / "things/6.preprocessed"
    for number in range(4):
        save_crop(queries / f"new/{number}.png", f"{'rocket' if number % 2 else 'chelsea'}:{number + 1}")
    run_index(store, small)
    engine = Engine(store, Settings(searcher_age=0.0), Metrics())
    engine.load()
    options = QueryOptions(backbone="hog", category="things", score=score)
    backbone = engine.served["hog"].backbone
    from nearshot.backbones.decode import decode

    vector = embed_picture(backbone, decode((queries / "cat/a.png").read_bytes()).picture)

    def same() -> Answer:
        with store.reading() as catalog:
            row, lacking = engine.served["hog"].row, engine.searcher(options).lacking
            anew = Searcher(store, catalog, row, lacking, options).answer("q", vector, options)
        kept = engine.searcher(options).answer("q", vector, options)
        assert kept == anew
        return kept

    seen = [same()]
    save_crop(small / "things/2.support-set/coffee/shot3.png", "coffee:7")
    run_index(store, small)
    seen.append(same())
    shot = add_shot(store, queries / "new/0.png", "cat")
    seen.append(same())
    for number in (1, 2, 3):
        reject(store, queries / f"new/{number}.png")
        seen.append(same())
    undo(store, queries / "new/0.png", Action.LABEL)
    seen.append(same())
    (small / "things/2.support-set/cat/shot1.png").unlink()
    run_index(store, small)
    seen.append(same())
    engine.close()
    assert not shot.exists()
    scores = [answer.decision.nearest.score for answer in seen if answer.decision.nearest]
    assert len(set(np.round(scores, 6))) >= 3, "each change of the support set was seen"


def test_query_takes_the_backbone_and_the_score_that_calibration_found_best(nearshot: Run, tmp_path: Path) -> None:
    root = tmp_path / "data/things"
    for label, photo in {"cat": "chelsea", "coffee": "coffee", "rocket": "rocket"}.items():
        for number in range(7):
            save_crop(root / f"2.support-set/{label}/shot{number}.png", f"{photo}:{number}")
    save_crop(root / "6.preprocessed/a.png", "chelsea:8")
    assert nearshot("index", "data", "--backbone", "lite0", "--backbone", "hog").status == 0
    [before] = nearshot("query", "data/things/6.preprocessed/a.png", "--json").objects
    assert (before["backbone"], before["score_by"], before["calibrated"]) == ("lite0", "prototype", False)
    calibrations = [
        calibration for calibration in nearshot("calibrate", "--json").objects if "threshold" in calibration
    ]
    assert len(calibrations) == 8
    assert all(calibration["calibrated"] for calibration in calibrations)
    printed = nearshot("calibrate").stdout
    [after] = nearshot("query", "data/things/6.preprocessed/a.png", "--json").objects
    assert f"things: `query` takes {after['backbone']} by {after['score_by']}: " in printed
    assert after["calibrated"] is True
    assert (after["verdict"], after["label"]) == ("match", "cat")


def test_a_calibration_is_stale_where_a_stranger_that_its_model_knew_is_gone(nearshot: Run, small: Path) -> None:
    for number in range(6):
        save_crop(small / f"things/6.preprocessed/Unknown/more{number}.png", f"rocket:{number}")
        save_crop(small / f"things/2.support-set/cat/shot{number + 3}.png", f"chelsea:{number + 3}")
        save_crop(small / f"things/2.support-set/coffee/shot{number + 3}.png", f"coffee:{number + 3}")
    nearshot("index", "data", "--backbone", "hog")
    [calibration] = nearshot("calibrate", "--score", "lda", "--false-accept", "0.2", "--all", "--json").objects
    assert calibration["strangers_in_model"] >= 3
    query = ("query", small / "things/6.preprocessed/cat/a.png", "--score", "lda")
    assert nearshot(*query).stderr == ""
    for path in (small / "things/6.preprocessed/Unknown").iterdir():
        path.unlink()
    nearshot("index", "data", "--backbone", "hog")
    assert "has changed since it was calibrated" in nearshot(*query).stderr


def test_coverage_names_labels_where_calibration_tells_and_says_what_lacks(nearshot: Run, small: Path) -> None:
    for number in range(12):
        save_crop(small / f"things/6.preprocessed/cat/{number}.png", f"chelsea:{number}")
        save_crop(small / f"things/6.preprocessed/coffee/{number}.png", f"coffee:{number}")
    nearshot("index", "data", "--backbone", "hog")
    query = ("query", small / "things/6.preprocessed/cat/a.png", "--coverage", "0.9", "--score", "max_sim")
    refused = nearshot(*query)
    assert (refused.status, "run `nearshot calibrate --score max_sim`" in refused.stderr) == (2, True)
    nearshot("calibrate", "--score", "max_sim", "--false-reject", "0.2", "--all")
    [answer] = nearshot(*query, "--json").objects
    assert answer["possible"]["coverage"] == 0.9
    assert [candidate["label"] for candidate in answer["possible"]["labels"]] == ["cat"]
    assert "not ruled out at 0.9: cat (p " in nearshot(*query).stdout
