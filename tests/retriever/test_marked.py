"""What labels and marks tell of hits, and lists that end by it: the library, the commands and the store."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nearshot.retriever.marked import marked_images
from nearshot.retriever.marking import mark_hits
from nearshot.schema.errors import UsageError
from nearshot.schema.known_images import known_images
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Against
from tests.conftest import Outcome, run_index, save_crop

pytestmark = pytest.mark.both_stores

Run = Callable[..., Outcome]


def lists(store: Store, against: Against = Against.SUPPORT, limit: int = 20) -> list[list[bool]]:
    with store.reading() as catalog:
        marked = marked_images(catalog, catalog.backbones()[0], ["things"], against, limit)
    assert all(np.all(np.diff(each.scores) <= 0) for each in marked)
    return sorted(each.right.tolist() for each in marked)


def test_what_has_the_label_of_a_query_is_right_and_of_a_stranger_nothing_is(store: Store, small: Path) -> None:
    run_index(store, small)
    assert lists(store) == [[False, False, False, False], [True, True, False, False]]
    assert lists(store, limit=2) == [[False, False], [True, True]]
    assert lists(store, Against.QUERY) == [[False], [False]], "a stranger is no cat, and a cat no stranger"
    save_crop(small / "things/6.preprocessed/Unknown/c.png", "rocket:1")
    run_index(store, small)
    assert lists(store, Against.QUERY) == [[False], [False], [False, False]], "what two strangers show, nobody knows"


def test_a_mark_counts_for_more_than_a_label_and_can_be_taken_back(store: Store, small: Path) -> None:
    save_crop(small / "things/6.preprocessed/new.png", "coffee:2")
    run_index(store, small)
    with store.reading() as catalog:
        known = {image.path: image.id for image in known_images(catalog, 1)}
    assert len(lists(store)) == 2, "of an image that nobody labelled, nothing is known"
    new, cat = known["things/6.preprocessed/new.png"], known["things/6.preprocessed/cat/a.png"]
    mark_hits(store, new, [known["things/2.support-set/coffee/shot1.png"]], True)
    mark_hits(store, cat, [known["things/2.support-set/cat/shot1.png"]], False)
    assert sorted(map(sum, lists(store))) == [0, 1, 1]
    mark_hits(store, new, [known["things/2.support-set/coffee/shot1.png"]], None)
    mark_hits(store, cat, [known["things/2.support-set/cat/shot1.png"]], True)
    assert lists(store) == [[False, False, False, False], [True, True, False, False]]
    with pytest.raises(UsageError, match="no hit of itself"):
        mark_hits(store, cat, [cat], True)
    with pytest.raises(UsageError, match="there is no image 999"):
        mark_hits(store, cat, [999], True)


def test_hits_of_a_query_end_where_too_many_would_be_false(nearshot: Run, small: Path) -> None:
    for number in range(12):
        save_crop(small / f"things/6.preprocessed/cat/{number}.png", f"chelsea:{number / 4 + 1:.0f}")
        save_crop(small / f"things/6.preprocessed/coffee/{number}.jpg", f"coffee:{number % 5}")
        save_crop(small / f"things/6.preprocessed/cat/{number}.jpg", f"chelsea:{number % 5}")
    nearshot("index", "data", "--backbone", "hog")
    query = ("query", small / "things/6.preprocessed/cat/a.png", "--top-k", 4)
    [plain] = nearshot(*query, "--json").objects
    assert (len(plain["hits"]), plain["stop"]) == (4, None)
    [short] = nearshot(*query, "--false", "0.2", "--json").objects
    assert short["stop"]["promised"] is True
    assert {hit["label"] for hit in short["hits"]} == {"cat"}, "the other two are coffee"
    printed = nearshot(*query, "--false", "0.2").stdout
    assert (
        f"hits: at most 0.2 of the hits false on average, by {short['stop']['marked_queries']} marked queries"
        in printed
    )
    few = nearshot(*query, "--false", "0.01").stdout
    assert "too few marks to keep the share of false hits within 0.01" in few
    assert nearshot(*query, "--false", "1").status == 2


def test_results_of_words_end_by_marks(nearshot: Run, small: Path) -> None:
    nearshot("index", "data", "--backbone", "hog", "--no-captions")
    shots = sorted((small / "things/2.support-set").rglob("*.png"))
    words = ["one", "two", "three", "four"]
    for path in shots:
        nearshot("caption", path, "--set", " ".join(words))
    few = nearshot("search", "one", "--false", "0.25")
    assert "too few marks to keep the share of false hits within 0.25: 0 marked queries, 3 needed" in few.stdout
    assert few.stdout.count(".png") == 4
    first, second, third, _ = (
        json.loads(line)["path"] for line in nearshot("search", "one", "--json").stdout.splitlines()
    )
    for word in words[:3]:
        assert nearshot("mark", first, second, "--words", word, "--right").status == 0
        assert nearshot("mark", third, "--words", word, "--not").stdout.startswith("not right: ")
    kept = nearshot("search", "four", "--false", "0.25", "--json").objects
    assert [hit["path"] for hit in kept] == [first, second]
    printed = nearshot("search", "four", "--false", "0.25").stdout
    assert "at most 0.25 of the hits false on average, by 3 marked queries" in printed
    for word in words[:3]:
        nearshot("mark", first, second, third, "--words", word, "--undo")
    assert len(nearshot("search", "four", "--false", "0.25", "--json").objects) == 4
    other = small / "things/6.preprocessed/cat/a.png"
    assert "is not among the first 1000 results" in nearshot("mark", other, "--words", "one", "--not").stderr
    assert "give --words, or --query IMAGE" in nearshot("mark", other, "--not").stderr
    assert "give --right or --not" in nearshot("mark", other, "--words", "one").stderr
    assert nearshot("mark", first, "--query", other, "--not", "--json").objects == [{"path": first, "right": False}]
