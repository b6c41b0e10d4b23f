"""Captions found by words: how they are ranked, in a small store and in one of very many captions."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from sqlalchemy import insert

from nearshot.schema import caption_search, tables
from nearshot.schema.caption_search import search_captions
from nearshot.schema.captions import put_captions
from nearshot.schema.image_filter import ImageFilter
from nearshot.schema.store import Store
from nearshot.schema.words import CaptionHit, match_of

pytestmark = pytest.mark.both_stores

TEXTS = {
    1: "a cat",
    2: "a cat and a dog and a cat on one bed",
    3: "the cat sat on the mat, a thing that cats do",
    4: "a dog",
    5: "cat cats catlike cat",
    6: "一只红色的猫和一只猫",
    7: "红色的猫",
    8: "a red bird, and no other",
    9: "a red house by the sea",
}


def write(store: Store, texts: Mapping[int, str]) -> None:
    """A store with an image a caption; the files are not read."""
    with store.writing() as editor:
        root = editor.add_root("/data")
        stamp = {"size": 1, "revision": editor.stamp}
        columns = {
            "root_id": root,
            "category": "things",
            "role": "query",
            "mtime_ns": 1,
            "ctime_ns": 1,
            "present": True,
        }
        for number in texts:
            content = {"id": number, "sha256": f"{number:064}", "width": 1, "height": 1, "format": "PNG", **stamp}
            editor.connection.execute(insert(tables.contents), content)
            image = {"id": number, "path": f"{number:04}.png", "content_id": number, **columns, **stamp}
            editor.connection.execute(insert(tables.images), image)
        put_captions(editor, texts.items(), task="caption", fingerprint=None, created="now")


def find(store: Store, words: str, limit: int = 20) -> list[CaptionHit]:
    match = match_of(words)
    assert match is not None
    with store.reading() as catalog:
        return search_captions(catalog.connection, match, ImageFilter(), limit=limit)


def okapi(occurrences: int, words: int, mean: float) -> float:
    """BM25 of Robertson and Zaragoza (2009), k1 = 1.2, b = 0.75, idf = 1 and without its constant factor."""
    return occurrences / (occurrences + 1.2 * (1 - 0.75 + 0.75 * words / mean))


@pytest.mark.parametrize("words", ["cat", "a cat", "red", "猫", '"a cat"', "cat NOT dog", "ca*", "cat OR red"])
def test_among_very_many_captions_the_same_are_found_as_in_a_small_store(
    store: Store, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    write(store, TEXTS)
    exact = find(store, words)
    monkeypatch.setattr(caption_search, "MANY", 0)
    fast = find(store, words)
    assert {(hit.image_id, hit.snippet) for hit in fast} == {(hit.image_id, hit.snippet) for hit in exact}
    assert exact


def test_among_very_many_captions_the_ranking_is_okapi_without_weights_of_words(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(store, TEXTS)
    monkeypatch.setattr(caption_search, "MANY", 0)
    occurrences, words = {1: 1, 2: 2, 3: 2, 5: 3}, {1: 2, 2: 11, 3: 11, 5: 4}
    mean = sum(words.values()) / len(words)
    expected = {number: okapi(occurrences[number], words[number], mean) for number in words}
    hits = find(store, "cats")
    assert {hit.image_id: -hit.rank for hit in hits} == pytest.approx(expected)
    assert [hit.image_id for hit in hits] == sorted(expected, key=lambda number: (-expected[number], number))


def test_a_word_in_most_captions_weighs_nothing_in_a_small_store(store: Store) -> None:
    write(store, {1: "a a a bird that sings", 2: "a bird bird that sings", **dict.fromkeys(range(3, 12), "a cat")})
    assert [hit.image_id for hit in find(store, "a bird")] == [2, 1]


def test_of_very_many_matches_the_shortest_are_ranked_and_each_has_its_snippet(store: Store) -> None:
    write(store, {n: "cat " * (n % 50 + 1) + f"number {n}" for n in range(1, 401)})
    hits = find(store, "cat", limit=30)
    assert len(hits) == 30
    assert all(hit.text.count(" ") <= 27 for hit in hits), "200 of 400 captions have up to 25 cats"
    assert all("[cat]" in hit.snippet for hit in hits)
    assert len(find(store, "cat", limit=300)) == 300
