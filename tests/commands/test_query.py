"""`nearshot query` as a user and as a program meets it."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Outcome

Run = Callable[..., Outcome]
KEYS = {
    *("path", "backbone", "category", "verdict", "label", "score", "runner_up", "margin", "threshold", "margin_floor"),
    *("calibrated", "hits"),
}
CAT = "data/things/6.preprocessed/cat/a.png"
STRANGER = "data/things/6.preprocessed/Unknown/b.png"


@pytest.fixture
def indexed(nearshot: Run, small: Path) -> Path:
    assert nearshot("index", "data", "--backbone", "hog").status == 0
    return small


def test_json_is_one_object_a_line_with_every_fact(nearshot: Run, indexed: Path) -> None:
    known, stranger = nearshot("query", CAT, STRANGER, "--json").objects
    assert known.keys() >= KEYS
    facts = {
        name: known[name] for name in ("path", "backbone", "category", "verdict", "label", "runner_up", "calibrated")
    }
    assert facts == {
        "path": CAT,
        "backbone": "hog",
        "category": "things",
        "verdict": "match",
        "label": "cat",
        "runner_up": "coffee",
        "calibrated": False,
    }
    assert known["margin"] == pytest.approx(known["score"] - known["runner_up_score"], abs=2e-6)
    hit = known["hits"][0]
    assert (hit["label"], hit["category"], hit["shot"]) == ("cat", "things", "shot1")
    assert hit["score"] == known["score"]
    assert Path(hit["path"]).is_file()
    assert (stranger["verdict"], stranger["label"]) == ("unknown", None)


def test_an_image_that_cannot_be_read_is_a_line_with_error_and_exit_1(
    nearshot: Run, indexed: Path, tmp_path: Path
) -> None:
    (tmp_path / "words.jpg").write_text("words")
    outcome = nearshot("query", "words.jpg", CAT, "none.jpg", "--json")
    assert outcome.status == 1
    assert [("error" in line, line["path"]) for line in outcome.objects] == [
        (True, "words.jpg"),
        (False, CAT),
        (True, "none.jpg"),
    ]


def test_a_directory_is_all_images_below_it_and_a_dash_is_standard_input(nearshot: Run, indexed: Path) -> None:
    lines = nearshot("query", "data/things/6.preprocessed", "--json").objects
    assert [line["path"] for line in lines] == [STRANGER, CAT]
    piped = nearshot("query", "-", "--json", stdin=(indexed.parent / CAT).read_bytes()).objects[0]
    assert piped | {"path": CAT} == lines[1]


def test_threshold_and_margin_decide(nearshot: Run, indexed: Path) -> None:
    verdicts = [
        nearshot("query", CAT, "--json", *options).objects[0]["verdict"]
        for options in ([], ["--threshold", "0.9999"], ["--margin", "0.9"], ["--threshold", "-1", "--margin", "0"])
    ]
    assert verdicts == ["match", "unknown", "ambiguous", "match"]


def test_text_says_verdict_score_shots_and_that_the_thresholds_are_priors(nearshot: Run, indexed: Path) -> None:
    printed = nearshot("query", CAT).stdout
    header, answer, *hits, note = printed.splitlines()
    assert header.split() == ["verdict", "label", "score", "runner-up", "margin", "image"]
    assert answer.startswith("match")
    assert answer.endswith(CAT)
    assert "things/cat/shot1  data/things/2.support-set/cat/shot1.png" in hits[0]
    assert "uncalibrated priors" in note
    assert "(cat)" in nearshot("query", CAT, "--threshold", "1").stdout
    assert "as given" in nearshot("query", CAT, "--threshold", "0.5", "--margin", "0").stdout


def test_csv_has_a_header_and_a_row_an_image(nearshot: Run, indexed: Path) -> None:
    outcome = nearshot("query", CAT, "none.jpg", "--csv")
    first, second = csv.DictReader(outcome.stdout.splitlines())
    assert (first["verdict"], first["label"], first["error"]) == ("match", "cat", "")
    assert (second["verdict"], second["error"]) == ("", "cannot be read: No such file or directory")
    assert outcome.status == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([CAT, "--store", "nowhere"], "no store at nowhere; make one with `nearshot index DATA`"),
        ([CAT, "--backbone", "clip"], "nothing is indexed with clip"),
        ([CAT, "--category", "dogs"], "no category 'dogs' is indexed; there are things"),
        ([CAT, "--json", "--csv"], "exclude each other"),
        ([CAT, "--threshold", "7"], "7.0 is not in the range"),
        (["data/things/2.support-set/empty"], "no images in data/things/2.support-set/empty"),
    ],
)
def test_a_wrong_request_is_exit_2_and_says_what_is_right(
    nearshot: Run, indexed: Path, arguments: list[str], message: str
) -> None:
    (indexed / "things/2.support-set/empty").mkdir()
    outcome = nearshot("query", *arguments)
    assert outcome.status == 2
    assert message in outcome.stderr
