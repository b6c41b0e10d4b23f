"""`nearshot query` as a user and as a program meets it."""

from __future__ import annotations

import csv
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from nearshot import open as nearshot_open
from tests.conftest import Outcome, save_crop

pytestmark = pytest.mark.both_stores

Run = Callable[..., Outcome]
KEYS = {
    *("path", "backbone", "category", "verdict", "label", "score", "runner_up", "margin", "threshold", "margin_floor"),
    *("calibrated", "hits"),
}
CAT = "data/things/6.preprocessed/cat/a.png"
STRANGER = "data/things/6.preprocessed/Unknown/b.png"


def test_json_is_one_object_a_line_with_every_fact(nearshot: Run, indexed: Path) -> None:
    known, stranger = nearshot("query", CAT, STRANGER, "--json").objects
    assert known.keys() >= KEYS
    fields = {
        name: known[name] for name in ("path", "backbone", "category", "verdict", "label", "runner_up", "calibrated")
    }
    assert fields == {
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


def test_several_backbones_answer_one_after_the_other(nearshot: Run, small: Path, weights: Path) -> None:
    assert nearshot("index", "data", "--backbone", "hog", "--backbone", "dinov2", "--weights", weights).status == 0
    both = ("--backbone", "hog", "--backbone", "dinov2", "--threshold", "0.1", "--margin", "0")
    printed = nearshot("query", CAT, STRANGER, *both)
    assert printed.stdout.count("verdict ") == 2
    assert re.search(r"^hog, max_sim .*\n\nverdict(.*\n)+dinov2, prototype ", printed.stdout, flags=re.MULTILINE)
    same = sum(
        len({answer["label"] for answer in nearshot("query", path, *both, "--json").objects}) == 1
        for path in (CAT, STRANGER)
    )
    assert printed.stdout.endswith(f"the same label by all of them: {same} of 2; a label by none of them: 0\n")
    answers = nearshot("query", CAT, *both, "--json").objects
    assert [answer["backbone"] for answer in answers] == ["hog", "dinov2"]
    rows = list(csv.DictReader(nearshot("query", CAT, *both, "--csv").stdout.splitlines()))
    assert [row["backbone"] for row in rows] == ["hog", "dinov2"]
    assert nearshot("query", CAT, *both, "--explain").status == 2
    missing = nearshot("query", CAT, "--backbone", "hog", "--backbone", "clip")
    assert (missing.status, missing.stdout) == (2, ""), "none answers where one cannot"


@pytest.mark.of_segments
def test_where_the_best_backbones_weights_are_gone_the_next_one_answers_and_says_so(
    nearshot: Run, small: Path, weights: Path, tmp_path: Path
) -> None:
    shutil.copytree(weights / "dinov2", tmp_path / "mine/dinov2")
    options = ("--backbone", "hog", "--backbone", "dinov2", "--weights", "mine")
    assert nearshot("index", "data", *options).status == 0
    assert nearshot("query", CAT, "--json").objects[0]["backbone"] == "dinov2"
    (tmp_path / "mine").rename(tmp_path / "elsewhere")
    outcome = nearshot("query", CAT, "--json")
    assert (outcome.status, outcome.objects[0]["backbone"]) == (0, "hog")
    assert "nearshot: hog answers, because dinov2: the weights of " in outcome.stderr
    asked = nearshot("query", CAT, "--backbone", "dinov2")
    assert (asked.status, asked.stdout) == (2, "")
    with nearshot_open(tmp_path / ".nearshot") as index, pytest.warns(UserWarning, match="hog answers, because dinov2"):
        assert index.query(tmp_path / CAT).backbone == "hog"


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
    assert "uncalibrated prior, measured on other images" in note
    assert "(cat)" in nearshot("query", CAT, "--threshold", "1").stdout
    assert "as given" in nearshot("query", CAT, "--threshold", "0.5", "--margin", "0").stdout


def test_captions_of_the_hits_are_shown_on_request(nearshot: Run, indexed: Path) -> None:
    nearshot("caption", "data/things/2.support-set/cat/shot1.png", "--set", "a ginger cat")
    [line] = nearshot("query", CAT, "--caption", "--json").objects
    assert {Path(hit["path"]).name: hit["caption"] for hit in line["hits"] if hit["label"] == "cat"} == {
        "shot1.png": "a ginger cat",
        "shot2.png": None,
    }
    assert "caption" not in nearshot("query", CAT, "--json").objects[0]["hits"][0]
    printed = nearshot("query", "data/things/6.preprocessed", "--caption").stdout
    assert "shot1.png\n           a ginger cat\n" in printed
    assert "(no caption)" in printed


def test_words_are_mixed_into_the_image(nearshot: Run, small: Path, weights: Path) -> None:
    nearshot("index", "data", "--backbone", "clip", "--backbone", "hog", "--weights", weights, "--device", "cpu")

    def scores(*options: object) -> dict[str, float]:
        [line] = nearshot("query", CAT, "--top-k", 9, "--json", *options).objects
        assert line["backbone"] == "clip"
        return {hit["path"]: hit["score"] for hit in line["hits"]}

    image = scores("--backbone", "clip")
    assert scores("--text", "a red cat", "--text-weight", 0) == pytest.approx(image, abs=1e-5)
    words = scores("--text", "a red cat", "--text-weight", 1)
    hits = nearshot("search", "a", "red", "cat", "--mode", "image", "--role", "support", "--json").objects
    assert words == pytest.approx({hit["path"]: hit["image_score"] for hit in hits}, abs=1e-5)
    mixed = scores("--text", "a red cat", "--text-weight", 0.3)
    parts = {path: 0.7 * image[path] + 0.3 * words[path] for path in image}
    lengths = [parts[path] / mixed[path] for path in parts]
    assert lengths == pytest.approx([lengths[0]] * len(lengths), rel=1e-3), "one length for all: the mixture's own"
    assert "mixed with the words 'a red cat' (weight 0.5)" in nearshot("query", CAT, "--text", "a red cat").stdout
    refused = nearshot("query", CAT, "--text", "red", "--backbone", "hog")
    assert (refused.status, "hog cannot compare images with words" in refused.stderr) == (2, True)
    assert nearshot("query", CAT, "--text", " ").status == 2


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


def test_a_label_is_reported_with_its_category_where_several_are_searched(nearshot: Run, indexed: Path) -> None:
    save_crop(indexed / "pets/2.support-set/cat/shot1.png", "chelsea:0")
    nearshot("index", "data", "--backbone", "hog")
    printed = nearshot("query", "data/things/2.support-set/cat/shot1.png").stdout
    assert "ambiguous  (pets/cat)" in printed
    assert "things/cat 1.000" in printed
    assert "(things/cat)" not in nearshot("query", CAT, "--category", "things").stdout


def test_odd_names_and_unreadable_files_are_lines_too(nearshot: Run, indexed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(indexed.parent / CAT, folder / "no-suffix")
    shutil.copy(os.fsencode(indexed.parent / CAT), os.fsencode(folder) + b"/caf\xe9.png")
    (folder / "dangling.png").symlink_to("nowhere.png")
    outcome = nearshot("query", "folder")
    assert outcome.status == 1
    assert "folder/caf\\xe9.png" in outcome.stdout
    assert "folder/no-suffix" in outcome.stdout
    assert "dangling.png: cannot be read: No such file or directory" in outcome.stdout
    assert len(nearshot("query", "folder", "--json").objects) == 3
    assert nearshot("query", "folder", "--csv").status == 1


def test_scores_within_a_category_are_not_compared_across_categories(nearshot: Run, labelled: Path) -> None:
    save_crop(labelled / "pets/2.support-set/cat/shot1.png", "chelsea:0")
    nearshot("index", "data", "--backbone", "hog")
    for score in ("knn_vote", "lda"):
        refused = nearshot("query", CAT, "--score", score)
        assert (refused.status, "name one with --category" in refused.stderr) == (2, True)
        assert nearshot("query", CAT, "--score", score, "--category", "things").status == 0
