"""Comparison: every image found or known is sorted into exactly one thing to do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nearshot.indexer.compare import Changes, Comparison
from nearshot.schema.images import FileState, FoundImage, KnownImage
from nearshot.schema.vocabulary import Role

STATE, OTHER = FileState(10, 1, 1), FileState(10, 1, 2)
IMAGE = FoundImage("c/2.support-set/a/shot1.png", "c", Role.SUPPORT, "a", "shot1", STATE)
KNOWN = KnownImage(1, IMAGE.path, "c", "support", "a", "shot1", *STATE, 5, None, None, present=True, revision=7)
AS_OF = 7
FAILED = KNOWN._replace(content_id=None, failure="torn", decoder="old")


def sorted_into(image: FoundImage | None, known: KnownImage | None, unread: tuple[str, ...] = ()) -> Changes:
    comparison = Comparison(decoder="new", as_of=AS_OF)
    comparison.find([image] if image else [], {known.path: known} if known else {})
    if known and known.present and known.id not in comparison.seen:
        comparison.miss(known, hidden=any(known.path.startswith(f"{directory}/") for directory in unread))
    return comparison.changes


@pytest.mark.parametrize(
    ("image", "known", "expected"),
    [
        (IMAGE, None, "new"),
        (IMAGE, KNOWN._replace(present=False), "returned"),
        (IMAGE, KNOWN._replace(present=False, revision=AS_OF + 1), "new"),
        (IMAGE, FAILED._replace(present=False), "new"),
        (replace(IMAGE, state=OTHER), KNOWN._replace(present=False), "new"),
        (replace(IMAGE, failure="torn"), KNOWN._replace(present=False), "failing"),
        (IMAGE, KNOWN, "unchanged"),
        (replace(IMAGE, state=OTHER), KNOWN, "touched"),
        (IMAGE, FAILED, "touched"),
        (IMAGE, FAILED._replace(decoder="new"), "still_failed"),
        (replace(IMAGE, state=OTHER), FAILED._replace(decoder="new"), "touched"),
        (replace(IMAGE, failure="a link to nothing"), None, "failing"),
        (replace(IMAGE, failure="a link to nothing"), KNOWN, "failing"),
        (replace(IMAGE, failure="torn"), FAILED, "still_failed"),
        (None, KNOWN, "gone"),
        (None, FAILED, "gone"),
        (None, KNOWN._replace(present=False), None),
    ],
)
def test_an_image_is_sorted_into_one_thing_to_do(
    image: FoundImage | None, known: KnownImage | None, expected: str | None
) -> None:
    changes = sorted_into(image, known)
    kinds = ("new", "touched", "unchanged", "returned", "failing", "still_failed", "gone", "hidden")
    assert [kind for kind in kinds if getattr(changes, kind)] == ([expected] if expected else [])


def test_what_lies_where_nobody_could_look_is_not_gone_but_what_failed_there_is() -> None:
    directory = ("c/2.support-set/a",)
    assert sorted_into(None, KNOWN, directory).hidden == [KNOWN]
    assert sorted_into(None, KNOWN, ("c/2.support-set/ab",)).gone == [KNOWN], "a name that only begins alike"
    assert sorted_into(None, FAILED, directory).gone == [FAILED]


def test_another_label_of_the_same_file_is_no_reason_to_read_it() -> None:
    changes = sorted_into(replace(IMAGE, label="b"), KNOWN)
    assert (changes.relabelled, changes.touched) == ({1: "b"}, [])


def test_what_came_into_the_store_after_discovery_is_not_gone() -> None:
    newer = KNOWN._replace(revision=AS_OF + 1)
    assert sorted_into(None, newer).hidden == [newer]
    assert sorted_into(None, newer).gone == []
