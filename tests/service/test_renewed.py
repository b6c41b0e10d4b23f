"""What is renewed: which is given out while the next one is made, and who waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

import pytest

from nearshot.schema.catalog import Catalog
from nearshot.schema.editor import NewContent
from nearshot.schema.errors import UsageError
from nearshot.schema.store import Store
from nearshot.service.renewed import Renewed
from tests.service.asking import wait_for

NUMBERS = count()


@dataclass
class Stub:
    """Something that was made of a state of the store."""

    revision: int


def make(catalog: Catalog) -> Stub:
    return Stub(catalog.revision())


class Held:
    """A maker that goes on only when it is let."""

    def __init__(self) -> None:
        self.begun, self.let = threading.Event(), threading.Event()

    def __call__(self, catalog: Catalog) -> Stub:
        self.begun.set()
        assert self.let.wait(20)
        return make(catalog)


@pytest.fixture
def searchers(store: Store) -> Iterator[Renewed[Stub]]:
    opened: Renewed[Stub] = Renewed(store, age=0.02, most=3, kept=10.0, threads=4)
    yield opened
    opened.close()


def change(store: Store) -> int:
    """Change the store; its revision now."""
    with store.writing() as editor:
        editor.add_contents([NewContent(f"{next(NUMBERS):064x}", 1, 8, 8, "PNG")])
    with store.reading() as catalog:
        return catalog.revision()


def test_the_old_one_answers_while_a_newer_one_is_made(store: Store, searchers: Renewed[Stub]) -> None:
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


def test_after_a_change_by_this_service_a_query_waits(store: Store, searchers: Renewed[Stub]) -> None:
    held = Held()
    held.let.set()
    searchers.get("key", held)
    held.let.clear()
    held.begun.clear()
    change(store)
    assert held.begun.wait(20)  # of the change before
    newest = change(store)
    searchers.outdate()
    answers: list[Stub] = []
    asking = threading.Thread(target=lambda: answers.append(searchers.get("key", held)))
    asking.start()
    held.let.set()
    asking.join(20)
    assert [searcher.revision for searcher in answers] == [newest]


def test_what_has_no_revision_is_seen_after_outdating(searchers: Renewed[Stub]) -> None:
    old = searchers.get("key", make)
    assert searchers.get("key", make) is old
    searchers.outdate()
    assert searchers.get("key", make) is not old


def test_one_that_takes_long_holds_up_no_other(searchers: Renewed[Stub]) -> None:
    held = Held()
    asking = threading.Thread(target=searchers.get, args=("slow", held))
    asking.start()
    assert held.begun.wait(20)
    assert searchers.get("other", make).revision >= 0
    held.let.set()
    asking.join(20)


def test_many_who_ask_at_once_have_one(searchers: Renewed[Stub]) -> None:
    held, calls = Held(), []

    def counted(catalog: Catalog) -> Stub:
        calls.append(1)
        return held(catalog)

    answers: list[Stub] = []
    asking = [threading.Thread(target=lambda: answers.append(searchers.get("key", counted))) for _ in range(8)]
    for thread in asking:
        thread.start()
    held.let.set()
    for thread in asking:
        thread.join(20)
    assert (len(answers), len(set(map(id, answers))), len(calls)) == (8, 1, 1)


def test_what_nobody_asked_for_is_brought_up_to_date_when_it_is_asked_for(store: Store) -> None:
    renewed: Renewed[Stub] = Renewed(store, age=0.02, most=3, kept=0.0)
    renewed.get("key", make)
    newest = change(store)
    time.sleep(0.03)
    assert renewed.get("key", make).revision == newest
    renewed.close()


def test_what_may_be_behind_is_waited_for_only_so_long(store: Store) -> None:
    renewed: Renewed[Stub] = Renewed(store, most=3, behind=60.0, patience=0.0)
    held = Held()
    held.let.set()
    old = renewed.get("key", held)
    held.let.clear()
    held.begun.clear()
    change(store)
    assert renewed.get("key", held) is old
    assert held.begun.wait(20)
    assert renewed.get("key", held) is old
    held.let.set()
    wait_for(lambda: renewed.get("key", held) is not old)
    held.let.clear()
    newest = change(store)
    renewed.outdate()
    threading.Timer(0.05, held.let.set).start()
    assert renewed.get("key", held).revision == newest, "after a change by this service nothing old is given out"
    renewed.close()


def test_one_that_took_long_at_first_is_looked_after_all_the_same(store: Store) -> None:
    renewed: Renewed[Stub] = Renewed(store, age=0.02, most=3, kept=10.0)
    held = Held()
    threading.Timer(0.5, held.let.set).start()
    old = renewed.get("key", held)
    newest = change(store)
    until = time.monotonic() + 0.5
    while renewed.get("key", held) is old and time.monotonic() < until:
        time.sleep(0.01)
    assert renewed.get("key", held).revision == newest
    renewed.close()


def test_what_is_made_of_more_than_the_store_is_made_each_time(store: Store) -> None:
    numbers = count()
    renewed: Renewed[int] = Renewed(store, most=1, behind=60.0, patience=20.0, by_revision=False)
    assert [renewed.get(None, lambda _: next(numbers)) for _ in range(3)] == [0, 1, 2]
    renewed.close()


def test_what_cannot_be_made_is_said_and_tried_again(searchers: Renewed[Stub]) -> None:
    def refuse(catalog: Catalog) -> Stub:
        raise UsageError("nothing is indexed yet")

    def refuse_then(answers: list[Callable[[Catalog], Stub]]) -> Callable[[Catalog], Stub]:
        return lambda catalog: answers.pop(0)(catalog)

    maker = refuse_then([refuse, make])
    with pytest.raises(UsageError, match="nothing is indexed yet"):
        searchers.get("key", maker)
    assert searchers.get("key", maker).revision >= 0


def test_the_longest_unused_are_closed(searchers: Renewed[Stub]) -> None:
    first = searchers.get(0, make)
    for key in range(1, 4):
        searchers.get(key, make)
    assert searchers.get(0, make) is not first


def test_what_is_wanted_soon_is_the_last_there_is_and_what_failed_is_told_once(store: Store) -> None:
    renewed: Renewed[Stub] = Renewed(store, most=1, patience=0.02, by_revision=False)
    held = Held()
    assert renewed.soon("key", held) is None
    held.let.set()
    wait_for(lambda: renewed.soon("key", held) is not None)
    held.let.clear()
    last = renewed.soon("key", held)
    renewed.outdate()
    change(store)
    assert renewed.soon("key", held) is last is not None, "though it is outdated, and nothing may be behind"
    held.let.set()
    renewed.close()
    failures = iter([UsageError("it cannot be made")])

    def fail_once(catalog: Catalog) -> Stub:
        time.sleep(0.05)  # longer than is waited for
        for error in failures:
            raise error
        return make(catalog)

    failing: Renewed[Stub] = Renewed(store, most=1, patience=0.01, by_revision=False)
    told: list[object] = []

    def ask() -> bool:
        time.sleep(0.1)
        try:
            told.append(failing.soon("key", fail_once))
        except UsageError as error:
            told.append(str(error))
        return isinstance(told[-1], Stub)

    wait_for(ask)
    assert told[:2] == [None, "it cannot be made"]
    assert told.count("it cannot be made") == 1, "once"
    failing.close()
