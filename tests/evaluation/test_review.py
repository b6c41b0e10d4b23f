"""Reviewing: what waits, in groups of nearly the same picture, most useful first; what is decided waits no longer."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, ImageEnhance

import nearshot
from nearshot.evaluation import next_labels
from nearshot.evaluation.next_labels import advise
from nearshot.evaluation.review import KEYS, review
from nearshot.indexer import feedback
from nearshot.indexer.feedback import add_shot, reject, undo
from nearshot.schema.errors import DecidedError, UsageError
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Action
from tests.conftest import run_index, save_crop


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two labels of four shots; unlabelled queries: clear ones, a stranger in three lights, and a labelled one."""
    root = tmp_path / "data/things"
    for label, photo in {"cat": "chelsea", "coffee": "coffee"}.items():
        for number in range(4):
            save_crop(root / f"2.support-set/{label}/shot{number}.png", f"{photo}:{number}")
    for number in range(2):
        save_crop(root / f"6.preprocessed/clear{number}.png", f"chelsea:{5 + number}")
    save_crop(root / "6.preprocessed/strange.png", "rocket:1")
    with Image.open(root / "6.preprocessed/strange.png") as picture:
        for number in range(2):
            ImageEnhance.Brightness(picture).enhance(0.98 - number / 50).save(
                root / f"6.preprocessed/strange{number}.png"
            )
    save_crop(root / "6.preprocessed/Unknown/known.png", "astronaut:1")
    return tmp_path / "data"


def named(paths: list[str]) -> list[str]:
    return sorted(Path(path).stem for path in paths)


def test_what_is_unknown_waits_in_groups_and_what_is_clear_with_every(store: Store, data: Path) -> None:
    run_index(store, data)
    waiting = review(store, "things")
    [group] = waiting.groups
    assert named(list(group.paths)) == ["strange", "strange0", "strange1"]
    assert len(set(group.ids)) == 3 == waiting.images
    assert group.verdict == "unknown"
    assert [guess.score for guess in group.guesses] == sorted((guess.score for guess in group.guesses), reverse=True)
    assert waiting.keys == {"things": {"1": "cat", "2": "coffee"}}
    every = review(store, every=True)
    shown = [named(list(group.paths)) for group in every.groups]
    assert every.images == 3 + sum(name.startswith("clear") for names in shown for name in names)
    assert [group.value for group in every.groups] == sorted((group.value for group in every.groups), reverse=True)
    first = {candidate.path: candidate.value for candidate in advise(store, "things").worth}
    assert {group.paths[0]: group.value for group in every.groups} == pytest.approx(first), "as `next` weighs them"


def test_what_is_decided_waits_no_longer_and_is_not_decided_twice(store: Store, data: Path) -> None:
    run_index(store, data)
    [group] = review(store, "things").groups
    first, second, third = map(Path, group.paths)
    add_shot(store, first, "rocket", "things")
    reject(store, second, "things")
    for decided in (first, second):
        for again in (lambda: add_shot(store, decided, "cat"), lambda: reject(store, decided)):  # noqa: B023
            with pytest.raises(DecidedError, match="already; take that back"):
                again()
    left = [path for group in review(store, "things", every=True).groups for path in group.paths]
    assert str(third) in left
    assert not {str(first), str(second)} & set(left)
    undo(store, first, Action.LABEL)
    assert str(first) in [path for group in review(store, "things", every=True).groups for path in group.paths]


def test_a_label_whose_shot_was_deleted_by_hand_is_not_asked_again_until_it_is_taken_back(
    store: Store, data: Path
) -> None:
    run_index(store, data)
    [group] = review(store, "things").groups
    labelled = Path(group.paths[0])
    add_shot(store, labelled, "rocket", "things").unlink()
    run_index(store, data)

    def waits() -> bool:
        return str(labelled) in [path for group in review(store, every=True).groups for path in group.paths]

    assert not waits()
    assert str(labelled) not in [candidate.path for candidate in advise(store).worth]
    undo(store, labelled, Action.LABEL)
    assert waits()


def test_what_somebody_is_making_a_shot_just_now_cannot_be_rejected(
    store: Store, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_index(store, data)
    [group] = review(store, "things").groups
    refused = []

    def meanwhile(*_: object) -> bool:
        with pytest.raises(DecidedError, match="made a shot already") as told:
            reject(store, Path(group.paths[0]))
        refused.append(told.value)
        return True

    monkeypatch.setattr(feedback, "_carry_out", meanwhile)
    monkeypatch.setattr(feedback, "finish_intents", lambda _: None)  # which whoever rejects had passed before
    add_shot(store, Path(group.paths[0]), "rocket", "things")
    assert len(refused) == 1


def test_what_is_clear_does_not_hide_what_is_not(store: Store, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the queries that are weighed none is spent on what matches."""
    run_index(store, data)
    whole = review(store).images
    monkeypatch.setattr(next_labels, "MOST", 1)
    few = review(store)
    assert (len(few.groups), few.images) == (1, whole)


def test_of_too_many_an_even_choice_is_weighed_and_all_of_them_wait(
    store: Store, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_index(store, data)
    images = review(store, every=True).images
    monkeypatch.setattr(next_labels, "MOST", 2)
    few = review(store, every=True)
    assert sum(len(group.ids) for group in few.groups) == 2
    assert few.images == images
    assert len(review(store, every=True, limit=1).groups) == 1


def test_wrong_names_and_empty_stores_are_told(store: Store, data: Path) -> None:
    with pytest.raises(UsageError, match="run `nearshot index"):
        review(store)
    run_index(store, data)
    with pytest.raises(UsageError, match="nope"):
        review(store, "nope")
    assert not set(KEYS) & set("nsuoq"), "keys that say something else"


def test_python_has_it_too(store: Store, data: Path) -> None:
    run_index(store, data)
    with nearshot.open(store.location) as index:
        assert index.review("things", limit=1).groups == review(store, "things", limit=1).groups
