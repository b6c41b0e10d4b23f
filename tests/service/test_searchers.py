"""Searchers that are open: which answers while the next one is made, and who waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import cast

import pytest

from nearshot.retriever.searcher import Searcher
from nearshot.schema.catalog import Catalog
from nearshot.schema.editor import NewContent
from nearshot.schema.errors import UsageError
from nearshot.schema.store import Store
from nearshot.service.searchers import Searchers
from tests.service.asking import wait_for

NUMBERS = count()


@dataclass
class Stub:
    """What a searcher is known by here."""

    revision: int


def make(catalog: Catalog) -> Searcher:
    return cast("Searcher", Stub(catalog.revision()))


class Held:
    """A maker that goes on only when it is let."""

    def __init__(self) -> None:
        self.begun, self.let = threading.Event(), threading.Event()

    def __call__(self, catalog: Catalog) -> Searcher:
        self.begun.set()
        assert self.let.wait(20)
        return make(catalog)


@pytest.fixture
def searchers(store: Store) -> Iterator[Searchers]:
    opened = Searchers(store, age=0.02, most=3)
    yield opened
    opened.close()


def change(store: Store) -> int:
    """Change the store; its revision now."""
    with store.writing() as editor:
        editor.add_contents([NewContent(f"{next(NUMBERS):064x}", 1, 8, 8, "PNG")])
    with store.reading() as catalog:
        return catalog.revision()


def test_the_old_one_answers_while_a_newer_one_is_made(store: Store, searchers: Searchers) -> None:
    held = Held()
    held.let.set()
    old = searchers.get("key", held)
    held.let.clear()
    held.begun.clear()
    newest = change(store)
    assert held.begun.wait(20), "it is renewed without being asked for"
    for _ in range(50):
        assert searchers.get("key", held) is old, "nobody waits for it"
    held.let.set()
    wait_for(lambda: searchers.get("key", held).revision == newest)


def test_after_a_change_by_this_service_a_query_waits(store: Store, searchers: Searchers) -> None:
    held = Held()
    held.let.set()
    searchers.get("key", held)
    held.let.clear()
    held.begun.clear()
    change(store)
    assert held.begun.wait(20)  # of the change before
    newest = change(store)
    searchers.outdate()
    answers: list[Searcher] = []
    asking = threading.Thread(target=lambda: answers.append(searchers.get("key", held)))
    asking.start()
    held.let.set()
    asking.join(20)
    assert [searcher.revision for searcher in answers] == [newest]


def test_what_has_no_revision_is_seen_after_outdating(searchers: Searchers) -> None:
    old = searchers.get("key", make)
    assert searchers.get("key", make) is old
    searchers.outdate()
    assert searchers.get("key", make) is not old


def test_one_that_takes_long_holds_up_no_other(searchers: Searchers) -> None:
    held = Held()
    asking = threading.Thread(target=searchers.get, args=("slow", held))
    asking.start()
    assert held.begun.wait(20)
    assert searchers.get("other", make).revision >= 0
    held.let.set()
    asking.join(20)


def test_many_who_ask_at_once_have_one(searchers: Searchers) -> None:
    held, calls = Held(), []

    def counted(catalog: Catalog) -> Searcher:
        calls.append(1)
        return held(catalog)

    answers: list[Searcher] = []
    asking = [threading.Thread(target=lambda: answers.append(searchers.get("key", counted))) for _ in range(8)]
    for thread in asking:
        thread.start()
    held.let.set()
    for thread in asking:
        thread.join(20)
    assert (len(answers), len(set(map(id, answers))), len(calls)) == (8, 1, 1)


def test_one_that_nobody_asked_for_is_brought_up_to_date_by_the_query(
    store: Store, searchers: Searchers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nearshot.service.searchers.KEPT_SECONDS", 0.0)
    searchers.get("key", make)
    wait_for(lambda: not looking())
    newest = change(store)
    assert searchers.get("key", make).revision == newest


def test_what_cannot_be_made_is_said_and_tried_again(searchers: Searchers) -> None:
    def refuse(catalog: Catalog) -> Searcher:
        raise UsageError("nothing is indexed yet")

    def refuse_then(answers: list[Callable[[Catalog], Searcher]]) -> Callable[[Catalog], Searcher]:
        return lambda catalog: answers.pop(0)(catalog)

    maker = refuse_then([refuse, make])
    with pytest.raises(UsageError, match="nothing is indexed yet"):
        searchers.get("key", maker)
    assert searchers.get("key", maker).revision >= 0


def test_the_longest_unused_are_closed(searchers: Searchers) -> None:
    first = searchers.get(0, make)
    for key in range(1, 4):
        searchers.get(key, make)
    assert searchers.get(0, make) is not first


def looking() -> bool:
    return any(thread.name == "searchers" for thread in threading.enumerate())
