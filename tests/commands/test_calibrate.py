"""`nearshot calibrate`, and what `query` makes of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from tests.conftest import Outcome, save_crop

Run = Callable[..., Outcome]
CAT = "data/things/6.preprocessed/cat/a.png"


def test_query_applies_what_was_calibrated_and_warns_when_the_shots_have_changed(nearshot: Run, labelled: Path) -> None:
    [before] = nearshot("query", CAT, "--json").objects
    assert (before["calibrated"], before["threshold"], before["score_by"]) == (False, 0.9, "max_sim")
    [calibration] = nearshot("calibrate", "--score", "max_sim", "--false-reject", "0.4", "--json").objects
    assert (calibration["backbone"], calibration["category"], calibration["calibrated"]) == ("hog", "things", True)
    after = nearshot("query", CAT, "--json")
    assert after.stderr == ""
    [line] = after.objects
    assert (line["calibrated"], line["threshold"], line["margin_floor"]) == (
        True,
        calibration["threshold"],
        calibration["margin_floor"],
    )
    note = nearshot("query", CAT).stdout.splitlines()[-1]
    assert note == (
        f"hog, max_sim (best when calibrated: 1.000), threshold {calibration['threshold']:g}, margin 0 "
        f"(calibrated: false-reject 0.4 on average, by {calibration['n']} {calibration['method']})"
    )
    assert nearshot("query", CAT, "--score", "prototype", "--json").objects[0]["calibrated"] is False
    given = nearshot("query", CAT, "--threshold", "0.5").stdout.splitlines()[-1]
    assert "threshold 0.5, margin 0 (as given, the rest calibrated: " in given
    (labelled / "things/2.support-set/cat/shot1.png").touch()
    nearshot("index", "data", "--backbone", "hog")
    assert nearshot("query", CAT).stderr == "", "the same shots, only touched"
    save_crop(labelled / "things/2.support-set/cat/shot9.png", "chelsea:7")
    nearshot("index", "data", "--backbone", "hog")
    assert "the support set of things has changed since it was calibrated" in nearshot("query", CAT).stderr


def test_too_few_samples_are_said_with_the_number_that_is_needed(nearshot: Run, labelled: Path) -> None:
    outcome = nearshot("calibrate")
    assert outcome.status == 1
    printed = outcome.stdout
    assert (
        "things, hog\n  max_sim, prototype, knn_vote, lda: not calibrated: false-accept 0.05 needs 19 samples: there are "
        in printed
    )
    assert nearshot("query", CAT, "--json").objects[0]["calibrated"] is False


def test_what_answers_nothing_right_is_kept_only_by_force(nearshot: Run, labelled: Path) -> None:
    for number in range(30):  # strangers that are the known images
        save_crop(labelled / f"things/6.preprocessed/Unknown/cat{number}.png", f"chelsea:{number % 40}")
        save_crop(labelled / f"things/6.preprocessed/Unknown/coffee{number}.png", f"coffee:{number % 40}")
    nearshot("index", "data", "--backbone", "hog")
    options = ("calibrate", "--score", "max_sim", "--false-accept", "0.05", "--all")
    refused = nearshot(*options)
    assert refused.status == 1
    assert re.search(
        r"none of \d+ known images \(.*\) would be answered right: \d+ wrong, .*; --force keeps", refused.stdout
    )
    assert nearshot("query", CAT, "--json").objects[0]["calibrated"] is False
    kept = nearshot(*options, "--force")
    assert kept.status == 0
    assert " 0 %" in kept.stdout
    assert nearshot("query", CAT, "--json").objects[0]["calibrated"] is True


def test_negatives_are_counted_as_strangers(nearshot: Run, labelled: Path) -> None:
    for number in range(12):
        save_crop(labelled.parent / f"strangers/{number}.png", f"hubble_deep_field:{number}")
    options = ("--score", "max_sim", "--false-accept", "0.1")
    [calibration] = nearshot("calibrate", *options, "--negatives", "strangers", "--json").objects
    assert calibration["method"] == "known strangers"
    assert calibration["n"] >= 11, "one of them is a labelled query, too"
    assert calibration["accepted"]["rate"] <= 0.1
    again = nearshot("calibrate", *options, "--negatives", "data/things/6.preprocessed", "--json").objects[0]
    assert again["calibrated"] is False, (
        "labelled queries are no further negatives: half of them judge, half count already"
    )
    for number in range(12):
        save_crop(labelled.parent / f"strangers/{number}-again.png", f"hubble_deep_field:{number}")
    assert nearshot("calibrate", *options, "--negatives", "strangers", "--json").objects[0]["n"] == calibration["n"]
    (labelled.parent / "strangers/broken.png").write_bytes(b"")
    broken = nearshot("calibrate", *options, "--negatives", "strangers")
    assert (broken.status, "broken.png: the file is empty" in broken.stderr) == (2, True)
