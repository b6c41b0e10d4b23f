"""`nearshot caption` and `nearshot search`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Outcome, save_crop

Run = Callable[..., Outcome]
CAT = "data/things/2.support-set/cat/shot1.png"


def test_index_captions_what_it_indexed_where_it_can(nearshot: Run, small: Path, florence2: Path) -> None:
    [without] = nearshot("index", "data", "--backbone", "hog", "--no-captions", "--json").objects
    assert without["captions"] is None
    printed = nearshot("index", "data", "--backbone", "hog").stdout
    assert "without captions: no weights on this machine; `nearshot backbones pull florence2`" in printed
    [report] = nearshot(
        "index", "data", "--backbone", "hog", "--weights", florence2, "--device", "cpu", "--json"
    ).objects
    assert (report["captions"]["written"], report["unchanged"]) == (6, 6)
    assert "captions" not in nearshot("index", "data", "--backbone", "hog").stdout


def test_a_caption_by_hand_is_found_by_its_words(nearshot: Run, indexed: Path) -> None:
    assert (
        nearshot("caption", CAT, "--set", "Ein Café mit roter Katze, 一只红色的猫").stdout
        == f"captioned by hand: {CAT}\n"
    )
    for words in (["cafe"], ["rote*"], ["红色"], ['"roter Katze"'], ["katze", "cafe"]):
        [hit] = nearshot("search", *words, "--json").objects
        assert Path(hit["path"]).name == "shot1.png"
        assert (hit["rank"], hit["category"], hit["label"], hit["role"]) == (1, "things", "cat", "support")
    printed = nearshot("search", "cafe").stdout
    assert f"  1  things/cat  support  {CAT}" in printed
    assert "[Café]" in printed
    assert nearshot("search", "dog").stdout.startswith("nothing found")
    assert nearshot("search", "cafe", "--role", "query", "--json").objects == []


def test_words_are_compared_with_images_where_clip_has_seen_them(nearshot: Run, small: Path, weights: Path) -> None:
    assert nearshot("index", "data", "--backbone", "clip", "--weights", weights, "--device", "cpu").status == 0
    nearshot("caption", CAT, "--set", "a ginger cat")
    lines = nearshot("search", "cat", "--json", "--limit", 3).objects
    assert [line["rank"] for line in lines] == [1, 2, 3]
    assert {line["mode"] for line in lines} == {"hybrid"}
    [captioned] = [line for line in lines if line["captions_rank"]]
    assert (Path(captioned["path"]).name, captioned["snippet"]) == ("shot1.png", "a ginger [cat]")
    printed = nearshot("search", "cat", "--limit", 3).stdout
    ranks = f"(captions 1, image {captioned['image_rank']}, cosine {captioned['image_score']:.3f})"
    assert f"things/cat  support  {CAT}  {ranks}\n     a ginger [cat]" in printed
    assert printed.endswith("mode hybrid (images by clip)\n")
    by_image = nearshot("search", "cat", "--mode", "image", "--role", "query", "--json").objects
    assert [(line["image_rank"], line["captions_rank"], line["role"]) for line in by_image] == [
        (1, None, "query"),
        (2, None, "query"),
    ]
    assert by_image[0]["image_score"] >= by_image[1]["image_score"]


def test_auto_says_in_a_line_what_it_searched_without(nearshot: Run, indexed: Path) -> None:
    nothing = nearshot("search", "cat")
    assert nothing.stdout == "labels that are called so:\n  things/cat  2 shots\nnothing found; mode captions\n"
    without_image, without_captions = nothing.stderr.splitlines()
    assert without_image.startswith("nearshot: searched without image: ")
    assert "--backbone clip" in without_image
    assert without_captions == (
        "nearshot: searched without captions: there are none yet; `nearshot caption` writes them"
    )
    assert nearshot("search", "cat", "--mode", "image").status == 2
    assert nearshot("search", "cat", "--category", "dogs").status == 2


def test_a_caption_file_beside_an_image_is_taken_up(nearshot: Run, small: Path) -> None:
    (small.parent / CAT).with_suffix(".txt").write_text("a ginger cat")
    assert "  captions: 1 taken from text files" in nearshot("index", "data", "--backbone", "hog").stdout
    assert nearshot("index", "data", "--backbone", "hog", "--json").objects[0]["captions_taken"] == 0
    [hit] = nearshot("search", "ginger", "--json").objects
    assert hit["snippet"] == "a [ginger] cat"


@pytest.mark.parametrize("words", ['"', "AND", "a:b ^ (", "'; DROP TABLE captions", "*"])
def test_no_search_is_an_error(nearshot: Run, indexed: Path, words: str) -> None:
    assert nearshot("search", "--", words).status == 0


def test_wrong_requests_say_what_is_right(nearshot: Run, indexed: Path) -> None:
    alone = nearshot("caption", CAT)
    assert (alone.status, "IMAGE and --set TEXT go together" in alone.stderr) == (2, True)
    missing = nearshot("caption")
    assert missing.status == 2
    assert "florence2: the weights of hf:florence-community/Florence-2-base are not on this machine" in missing.stderr
    assert nearshot("caption", "none.png", "--set", "x").status == 2


def test_index_of_one_category_captions_that_one_alone(nearshot: Run, small: Path, florence2: Path) -> None:
    save_crop(small / "other/2.support-set/cat/shot1.png", "chelsea:9")
    assert nearshot("index", "data", "--backbone", "hog", "--no-captions").status == 0
    only = ("index", "data", "--backbone", "hog", "--category", "other", "--weights", florence2, "--device", "cpu")
    assert nearshot(*only, "--json").objects[0]["captions"]["written"] == 1
    assert nearshot(*only, "--json").objects[0]["captions"] is None


def test_where_the_captioner_was_is_remembered(nearshot: Run, indexed: Path, florence2: Path) -> None:
    assert nearshot("caption", "--weights", florence2, "--device", "cpu", "--limit", 1).status == 0
    assert nearshot("caption", "--device", "cpu", "--limit", 1).stdout == "captions: 1 written, 0 failed\n"
    report = nearshot("index", "data", "--backbone", "hog", "--device", "cpu", "--json").objects[0]
    assert report["captions"]["written"] == 4
    assert nearshot("caption", "--category", "nope").status == 2


def test_caption_generates_what_lacks(nearshot: Run, indexed: Path, florence2: Path) -> None:
    arguments = ("caption", "--weights", florence2, "--device", "cpu")
    assert nearshot(*arguments, "--limit", 2).stdout == "captions: 2 written, 0 failed\n"
    assert nearshot(*arguments, "--json").objects == [{"written": 4, "failed": 0, "failures": [], "interrupted": False}]
    assert nearshot(*arguments, "--task", "ocr").stdout == "captions: 6 written, 0 failed\n"
