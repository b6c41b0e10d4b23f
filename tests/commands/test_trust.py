"""`nearshot calibrate` and `nearshot evaluate`."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Outcome, save_crop

Run = Callable[..., Outcome]
CAT = "data/things/6.preprocessed/cat/a.png"


@pytest.fixture
def indexed(nearshot: Run, small: Path) -> Path:
    for number in range(4):
        save_crop(small / f"things/6.preprocessed/coffee/{number}.png", f"coffee:{number + 1}")
        save_crop(small / f"things/6.preprocessed/Unknown/{number}.png", f"rocket:{number + 1}")
    assert nearshot("index", "data", "--backbone", "hog").status == 0
    return small


def test_query_applies_what_was_calibrated_and_warns_when_the_shots_have_changed(nearshot: Run, indexed: Path) -> None:
    [before] = nearshot("query", CAT, "--json").objects
    assert (before["calibrated"], before["threshold"], before["score_by"]) == (False, 0.9, "max_sim")
    [made] = nearshot("calibrate", "--score", "max_sim", "--false-reject", "0.4", "--json").objects
    assert (made["backbone"], made["category"], made["calibrated"]) == ("hog", "things", True)
    after = nearshot("query", CAT, "--json")
    assert after.stderr == ""
    [line] = after.objects
    assert (line["calibrated"], line["threshold"], line["margin_floor"]) == (
        True,
        made["threshold"],
        made["margin_floor"],
    )
    note = nearshot("query", CAT).stdout.splitlines()[-1]
    assert note == (
        f"hog, max_sim (best when calibrated: 1.000), threshold {made['threshold']:g}, margin 0 "
        f"(calibrated: false-reject 0.4 on average, by {made['n']} {made['method']})"
    )
    assert nearshot("query", CAT, "--score", "prototype", "--json").objects[0]["calibrated"] is False
    given = nearshot("query", CAT, "--threshold", "0.5").stdout.splitlines()[-1]
    assert "threshold 0.5, margin 0 (as given, the rest calibrated: " in given
    (indexed / "things/2.support-set/cat/shot1.png").touch()
    nearshot("index", "data", "--backbone", "hog")
    assert nearshot("query", CAT).stderr == "", "the same shots, only touched"
    save_crop(indexed / "things/2.support-set/cat/shot9.png", "chelsea:7")
    nearshot("index", "data", "--backbone", "hog")
    assert "the support set of things has changed since it was calibrated" in nearshot("query", CAT).stderr


def test_too_few_samples_are_said_with_the_number_that_is_needed(nearshot: Run, indexed: Path) -> None:
    printed = nearshot("calibrate").stdout
    assert (
        "things, hog\n  max_sim, prototype, knn_vote, lda: not calibrated: false-accept 0.05 needs 19 samples: there are "
        in printed
    )
    assert nearshot("query", CAT, "--json").objects[0]["calibrated"] is False


def test_negatives_are_counted_as_strangers(nearshot: Run, indexed: Path) -> None:
    for number in range(12):
        save_crop(indexed.parent / f"strangers/{number}.png", f"hubble_deep_field:{number}")
    options = ("--score", "max_sim", "--false-accept", "0.1")
    [made] = nearshot("calibrate", *options, "--negatives", "strangers", "--json").objects
    assert made["method"] == "known strangers"
    assert made["n"] >= 11, "one of them is a labelled query, too"
    assert made["accepted"]["rate"] <= 0.1
    again = nearshot("calibrate", *options, "--negatives", "data/things/6.preprocessed", "--json").objects[0]
    assert again["calibrated"] is False, (
        "labelled queries are no further negatives: half of them judge, half count already"
    )
    for number in range(12):
        save_crop(indexed.parent / f"strangers/{number}-again.png", f"hubble_deep_field:{number}")
    assert nearshot("calibrate", *options, "--negatives", "strangers", "--json").objects[0]["n"] == made["n"]
    (indexed.parent / "strangers/broken.png").write_bytes(b"")
    broken = nearshot("calibrate", *options, "--negatives", "strangers")
    assert (broken.status, "broken.png: the file is empty" in broken.stderr) == (2, True)


def test_evaluate_prints_its_tables_and_writes_them(nearshot: Run, indexed: Path) -> None:
    printed = nearshot("evaluate", "--output", "out").stdout
    assert "Table 7: labelled queries by outcome" in printed
    assert "Table 8: by number of shots, mean ± standard deviation of 5 draws" in printed
    out = indexed.parent / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        *("evaluation.json", "report.html"),
        *("table10.csv", "table10.md", "table11.csv", "table11.md"),
        *("table7.csv", "table7.md", "table8.csv", "table8.md", "table9.csv", "table9.md"),
    ]
    with (out / "table7.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["category"] for row in rows] == ["things", "all"]
    facts = json.loads((out / "evaluation.json").read_text())
    [again] = nearshot("evaluate", "--json").objects
    assert again == facts
    assert f"tables {facts['tables'][:16]}" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["query", CAT, "--score", "lad"], "'lad' is not one of 'auto', 'max_sim', 'prototype', 'knn_vote', 'lda'"),
        (["calibrate", "--false-accept", "1"], "1.0 is not in the range"),
        (["calibrate", "--false-accept", "nan"], "nan is not in the range"),
        (["query", CAT, "--threshold", "nan"], "nan is not in the range"),
        (["replay", "--margin", "nan"], "nan is not in the range"),
        (["search", "cat", "--limit", "99999999999999999999"], "is not in the range"),
        (["calibrate", "--category", "dogs"], "no category 'dogs' has shots; there are things"),
        (["calibrate", "--backbone", "clip"], "nothing is indexed with clip; take hog"),
        (["evaluate", "--category", "dogs"], "no category 'dogs' has shots; there are things"),
        (["evaluate", "--store", "nowhere"], "no store at nowhere"),
    ],
)
def test_a_wrong_request_is_exit_2_and_says_what_is_right(
    nearshot: Run, indexed: Path, arguments: list[str], message: str
) -> None:
    outcome = nearshot(*arguments)
    assert (outcome.status, message in outcome.stderr) == (2, True)


def test_lint_says_what_is_wrong_and_exits_1_for_errors(nearshot: Run, small: Path) -> None:
    nearshot("index", "data", "--backbone", "hog")
    assert nearshot("lint", "data").stdout.endswith("errors: 0, warnings: 0 (nearness by hog)\n")
    shot = small / "things/2.support-set/cat/shot1.png"
    (small / "things/2.support-set/coffee/shot3.png").write_bytes(shot.read_bytes())
    nearshot("index", "data", "--backbone", "hog")
    found = nearshot("lint", "data")
    assert found.status == 1
    assert found.stdout.startswith(
        "error: the same image under different labels\n  things/2.support-set/cat/shot1.png, "
    )
    [facts] = nearshot("lint", "data", "--json").objects
    assert facts["errors"] == 1
    assert facts["findings"][0]["rule"] == "two-labels"
    assert nearshot("lint", "nowhere").status == 2


def test_replay_shows_what_flips_and_changes_nothing(nearshot: Run, indexed: Path) -> None:
    same = nearshot("replay").stdout
    assert same.startswith("0 of 10 queries flip by hog\n")
    strict = nearshot("replay", "--threshold", "1").stdout
    assert "things/6.preprocessed/cat/a.png: match cat 0.9" in strict
    assert " -> unknown (cat) 0.9" in strict
    assert "(truth: cat)" in strict
    flips = nearshot("replay", "--threshold", "1", "--json").objects
    assert {(one["before"]["verdict"], one["after"]["verdict"]) for one in flips} == {("match", "unknown")}
    assert flips[0]["after"]["label"] is None
    assert nearshot("replay").stdout == same


def test_scores_within_a_category_are_not_compared_across_categories(nearshot: Run, indexed: Path) -> None:
    save_crop(indexed / "pets/2.support-set/cat/shot1.png", "chelsea:0")
    nearshot("index", "data", "--backbone", "hog")
    for score in ("knn_vote", "lda"):
        refused = nearshot("query", CAT, "--score", score)
        assert (refused.status, "name one with --category" in refused.stderr) == (2, True)
        assert nearshot("query", CAT, "--score", score, "--category", "things").status == 0
