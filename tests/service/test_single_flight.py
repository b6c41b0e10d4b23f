"""SingleFlight are made once for all who wait, and late ones are not lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from nearshot.schema.errors import FullError, UsageError
from nearshot.service.single_flight import SingleFlight

pytestmark = pytest.mark.anyio

SECONDS = 0.2


class Drawn:
    """What takes as long as it is told to, and counts how often it was begun."""

    def __init__(self) -> None:
        self.begun, self.may_end = 0, threading.Event()

    def draw(self) -> int:
        self.begun += 1
        assert self.may_end.wait(20)
        return self.begun


@pytest.fixture
def slow() -> Iterator[Drawn]:
    drawn = Drawn()
    yield drawn
    drawn.may_end.set()


def drawings(stopping: threading.Event | None = None) -> SingleFlight:
    return SingleFlight(2, seconds=SECONDS, stopping=(stopping or threading.Event()).is_set)


async def test_all_who_ask_meanwhile_have_the_same_and_whoever_asks_later_a_new_one(slow: Drawn) -> None:
    flights = drawings()
    asking = [asyncio.create_task(flights.get("report", slow.draw)) for _ in range(5)]
    other = await flights.get("map", lambda: "a map")
    slow.may_end.set()
    assert (await asyncio.gather(*asking), other) == ([1] * 5, "a map"), "five reports took one thread of two"
    assert await flights.get("report", slow.draw) == 2


async def test_one_that_is_late_is_had_by_whoever_comes_again(slow: Drawn) -> None:
    flights = drawings()
    for _ in range(2):
        with pytest.raises(TimeoutError):
            await flights.get("report", slow.draw)
    assert flights.busy
    slow.may_end.set()
    while flights.busy:
        await asyncio.sleep(0.01)
    assert await flights.get("report", slow.draw) == 1, "whatever became of the store since"


async def test_one_that_nobody_comes_for_is_forgotten(slow: Drawn) -> None:
    flights = drawings()
    with pytest.raises(TimeoutError):
        await flights.get("report", slow.draw)
    slow.may_end.set()
    await asyncio.sleep(SECONDS * 2)
    assert await flights.get("report", slow.draw) == 2


async def test_what_fails_tells_its_reason_and_is_tried_again() -> None:
    flights = drawings()

    def fail() -> None:
        raise UsageError("no such category")

    with pytest.raises(UsageError, match="no such category"):
        await flights.get("map", fail)
    assert await flights.get("map", lambda: "a map") == "a map"


async def test_when_the_service_ends_nobody_is_kept_waiting(slow: Drawn) -> None:
    stopping = threading.Event()
    flights = drawings(stopping)
    asking = asyncio.create_task(flights.get("report", slow.draw))
    await asyncio.sleep(0.01)
    stopping.set()
    with pytest.raises(FullError, match="shutting down"):
        await asking
    flights.close()
    assert flights.busy
