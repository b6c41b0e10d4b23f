"""What if: labelled queries as they stand, and policies that somebody sets, which answer until they are taken back."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import nearshot as door
from nearshot.evaluation.evaluate import EvaluationOptions, evaluate
from nearshot.evaluation.replay import ReplayOptions, replay
from nearshot.evaluation.what_if import WhatIf, what_if
from nearshot.indexer.feedback import add_shot, reject, undo
from nearshot.indexer.verify import verify
from nearshot.retriever.by_hand import set_policy, undo_policy
from nearshot.retriever.calibrate import CalibrationOptions, calibrate_all
from nearshot.retriever.conformal import Aim, Aims
from nearshot.retriever.options import QueryOptions
from nearshot.retriever.policy import Policy
from nearshot.retriever.retriever import Retriever
from nearshot.schema.calibrations import UNDONE_AT_MOST, CalibrationRow, all_calibrations
from nearshot.schema.errors import UsageError
from nearshot.schema.location import shown_location
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Action, Score, Verdict
from tests.conftest import Outcome, run_index, save_crop

pytestmark = pytest.mark.both_stores

SHOWN = {"cat": "chelsea", "coffee": "coffee", "rocket": "rocket"}


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three labels of four shots, nine labelled queries, and three that show none of them; one query is a shot over again."""
    root = tmp_path_factory.mktemp("labelled") / "data"
    for label, photograph in SHOWN.items():
        for number in range(4):
            save_crop(root / f"things/2.support-set/{label}/shot{number}.png", f"{photograph}:{number}")
        for number in range(3):
            save_crop(root / f"things/6.preprocessed/{label}/{number}.png", f"{photograph}:{5 + number}")
    for number in range(3):
        save_crop(root / f"things/6.preprocessed/Unknown/{number}.png", f"retina:{number}")
    save_crop(root / "things/6.preprocessed/cat/copy.png", "chelsea:0")
    save_crop(root / "things/6.preprocessed/unlabelled.png", "chelsea:8")
    return root


@pytest.fixture
def indexed(store: Store, labelled: Path) -> Store:
    """A store of them."""
    run_index(store, labelled)
    return store


def seen(store: Store, score: Score | None = None) -> WhatIf:
    """The category as it stands."""
    with store.reading() as catalog:
        return what_if(catalog, "things", score=score)


def rows(store: Store) -> list[CalibrationRow]:
    """All calibrations, but for when and at which revision they were written."""
    with store.reading() as catalog:
        [backbone] = catalog.backbones()
        return all_calibrations(catalog, backbone.id)


def verdicts(store: Store, labelled: Path, score: Score) -> dict[str, str]:
    """What `query` says of each labelled query."""
    retriever = Retriever(store, QueryOptions(category="things", score=score))
    paths = sorted((labelled / "things/6.preprocessed").rglob("*.png"))
    answers = retriever.answer((str(path), path.read_bytes()) for path in paths)
    return {each.path.removeprefix(f"{labelled}/"): str(dict(each.as_json())["verdict"]) for each in answers}


@pytest.mark.parametrize("score", list(Score))
def test_the_labelled_queries_stand_as_query_answers_them_under_any_policy(
    indexed: Store, labelled: Path, score: Score
) -> None:
    shown = seen(indexed, score)
    assert len(shown.queries) == 12, "neither the copy of a shot nor the one without a label"
    middle = sorted(query.score for query in shown.queries)[6]
    for policy in (shown.policy, Policy(middle, 0.0), Policy(-1, 0.1), Policy(middle, 0.05)):
        set_policy(indexed, shown.row, "things", score, threshold=policy.threshold, margin_floor=policy.margin_floor)
        told = verdicts(indexed, labelled, score)
        outcomes = shown.outcomes(policy)
        mine = {query.path: told[query.path] for query in shown.queries}
        right = [query for query in shown.queries if mine[query.path] == Verdict.MATCH and query.nearest == query.truth]
        assert outcomes.correct == len(right)
        assert outcomes.ambiguous == list(mine.values()).count(Verdict.AMBIGUOUS)
        assert outcomes.correctly_unknown + outcomes.falsely_unknown == list(mine.values()).count(Verdict.UNKNOWN)
    assert {query.truth for query in shown.queries} == {*SHOWN, "Unknown"}


def test_a_policy_by_hand_answers_everywhere_says_so_and_is_taken_back(indexed: Store, labelled: Path) -> None:
    list(calibrate_all(indexed, CalibrationOptions(every=True, aims=Aims({Aim.FALSE_ACCEPT: 0.4}))))
    before = rows(indexed)
    shown = seen(indexed, Score.MAX_SIM)
    assert shown.policy.calibrated
    chosen = Policy(0.123, 0.045)
    set_policy(
        indexed, shown.row, "things", Score.MAX_SIM, threshold=chosen.threshold, margin_floor=chosen.margin_floor
    )
    now = seen(indexed, Score.MAX_SIM)
    assert now.policy == replace(chosen, by_hand=True)
    assert now.origin.startswith("by hand, 20")
    retriever = Retriever(indexed, QueryOptions(category="things", score=Score.MAX_SIM))
    [note] = retriever.searcher.context(retriever.options).policies.values()
    assert (note.threshold, note.margin_floor, note.origin) == (0.123, 0.045, now.origin)
    replayed = replay(indexed, ReplayOptions(score=Score.MAX_SIM))
    assert (replayed.policies["things"].threshold, replayed.policies["things"].by_hand) == (0.123, True)
    assert Retriever(indexed, QueryOptions(category="things")).searcher.chosen.score == seen(indexed).score_by, (
        "what is known of scores stays known"
    )
    set_policy(indexed, shown.row, "things", Score.MAX_SIM, threshold=0.2, margin_floor=0.1)
    assert undo_policy(indexed, shown.row, "things", Score.MAX_SIM) == replace(chosen, by_hand=True)
    assert undo_policy(indexed, shown.row, "things", Score.MAX_SIM) == shown.policy
    assert rows(indexed) == before, "as it was, to the last word"
    with pytest.raises(UsageError, match="nobody has set a policy for things by hog and max_sim"):
        undo_policy(indexed, shown.row, "things", Score.MAX_SIM)
    assert list(verify(indexed)) == []


def test_who_names_one_number_leaves_the_other_as_somebody_else_set_it(indexed: Store) -> None:
    shown = seen(indexed)
    assert set_policy(indexed, shown.row, "things", shown.score_by, threshold=0.7) == Policy(
        0.7, shown.policy.margin_floor, by_hand=True
    )
    assert set_policy(indexed, shown.row, "things", shown.score_by, margin_floor=0.2) == Policy(0.7, 0.2, by_hand=True)
    assert seen(indexed).policy == Policy(0.7, 0.2, by_hand=True)


def test_what_was_rejected_counts_as_query_answers_it(indexed: Store, labelled: Path) -> None:
    path = "things/6.preprocessed/cat/1.png"
    reject(indexed, labelled / path)
    shown = seen(indexed, Score.MAX_SIM)
    [query] = [query for query in shown.queries if query.path == path]
    assert query.rejected
    told = verdicts(indexed, labelled, Score.MAX_SIM)
    assert told[path] == Verdict.UNKNOWN
    refused = [query for query in shown.queries if told[query.path] == Verdict.UNKNOWN]
    outcomes = shown.outcomes(shown.policy)
    assert outcomes.falsely_unknown + outcomes.correctly_unknown == len(refused)


def test_what_calibration_found_is_as_stale_as_before(indexed: Store, labelled: Path) -> None:
    list(calibrate_all(indexed, CalibrationOptions(every=True, aims=Aims({Aim.FALSE_ACCEPT: 0.4}))))
    shown = seen(indexed, Score.MAX_SIM)
    add_shot(indexed, labelled / "things/6.preprocessed/cat/2.png", "cat")
    try:
        options = QueryOptions(category="things", score=Score.MAX_SIM)
        assert Retriever(indexed, options).searcher.stale == ["things"]
        set_policy(indexed, shown.row, "things", Score.MAX_SIM, threshold=0.3)
        assert Retriever(indexed, options).searcher.stale == ["things"]
    finally:
        undo(indexed, labelled / "things/6.preprocessed/cat/2.png", Action.LABEL)


def test_without_a_calibration_there_is_the_prior_again_afterwards(indexed: Store) -> None:
    shown = seen(indexed)
    set_policy(indexed, shown.row, "things", shown.score_by, threshold=0.5, margin_floor=0.5)
    assert evaluate(indexed, EvaluationOptions()).by_hand == ["things"]
    assert undo_policy(indexed, shown.row, "things", shown.score_by) == shown.policy
    assert rows(indexed) == []
    assert evaluate(indexed, EvaluationOptions()).by_hand == []


def test_so_many_are_taken_back_and_no_more_are_kept(indexed: Store) -> None:
    shown = seen(indexed)
    for number in range(UNDONE_AT_MOST + 5):
        set_policy(indexed, shown.row, "things", shown.score_by, threshold=number / 100, margin_floor=0.0)
    [row] = rows(indexed)
    assert len(row.facts) < 20_000
    for number in reversed(range(4, UNDONE_AT_MOST + 4)):
        assert undo_policy(indexed, shown.row, "things", shown.score_by).threshold == number / 100
    assert undo_policy(indexed, shown.row, "things", shown.score_by) == shown.policy


def test_calibration_finds_another_and_nobody_is_left_in_the_dark(
    indexed: Store, nearshot: Callable[..., Outcome]
) -> None:
    where = ("--store", indexed.location)
    assert nearshot("policy", "things", "--score", "max_sim", "--threshold", "0.3", *where).status == 0
    outcome = nearshot("calibrate", "--all", "--false-accept", "0.4", *where)
    assert "things, hog by max_sim: the policy by hand is replaced" in outcome.stderr
    assert "by hand" not in nearshot("policy", "things", "--score", "max_sim", *where).stdout


def test_the_command_tells_what_it_does_and_how_to_take_it_back(
    indexed: Store, nearshot: Callable[..., Outcome]
) -> None:
    where = ("--store", indexed.location)
    tried = nearshot("policy", "things", "--threshold", "1", "--dry-run", *where)
    assert "tried: nothing is set" in tried.stdout
    [told] = nearshot("policy", "things", "--threshold", "1", "--dry-run", "--json", *where).objects
    assert (told["threshold"], told["tried"], told["by_hand"]) == (1, True, False)
    assert told["outcomes"]["before"]["correct"] > told["outcomes"]["after"]["correct"] == 0
    assert rows(indexed) == []
    done = nearshot("policy", "things", "--threshold", "1", *where)
    lines = [line.split() for line in done.stdout.splitlines()]
    [right] = [line[-2:] for line in lines if line[:2] == ["known:", "right"]]
    assert (int(right[0]) > 0, right[1]) == (True, "0")
    named = shlex.quote(shown_location(indexed.location))
    assert f"to take it back: nearshot policy things --undo --store {named}" in done.stdout
    [shown] = nearshot("policy", "things", "--json", *where).objects
    assert (shown["threshold"], shown["by_hand"], len(shown["queries"])) == (1, True, 12)
    assert "by hand" in nearshot("evaluate", *where).stdout
    assert nearshot("policy", "things", "--undo", *where).status == 0
    assert "nobody has set a policy" in nearshot("policy", "things", "--undo", *where).stderr
    assert "give it alone" in nearshot("policy", "things", "--undo", "--margin", "0.1", *where).stderr
    [line] = nearshot("policy", *where).stdout.splitlines()
    assert line.startswith("things, hog by ")
    assert [each["category"] for each in nearshot("policy", "--json", *where).objects] == ["things"]
    assert "name the CATEGORY" in nearshot("policy", "--undo", *where).stderr
    assert "no category 'nothing' has shots" in nearshot("policy", "nothing", *where).stderr
    assert nearshot("policy", "things", "--threshold", "2", *where).status == 2


def test_python_sets_policies_too(indexed: Store, labelled: Path) -> None:
    with door.open(indexed.location) as index:
        shown = index.policy("things", score="max_sim")
        assert index.set_policy("things", threshold=0.25, score="max_sim").policy.threshold == 0.25
        query = labelled / "things/6.preprocessed/cat/0.png"
        assert index.query(query, category="things", score="max_sim").as_json()["threshold"] == 0.25
        assert index.set_policy("things", undo=True, score="max_sim").policy == shown.policy
        with pytest.raises(UsageError, match="threshold is a number between -1 and 1"):
            index.set_policy("things", threshold=7)
        with pytest.raises(UsageError, match="give threshold or margin_floor, or undo"):
            index.set_policy("things")
