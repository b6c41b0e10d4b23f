"""Work ends in time or is told to be late, and the parts of a request are done while its client is there."""

from __future__ import annotations

import asyncio
import threading

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from nearshot.schema.errors import StoreError
from nearshot.service.thread_pool import ThreadPool, while_connected

pytestmark = pytest.mark.anyio


def client(*, stays: float) -> Request:
    async def receive() -> Message:
        await asyncio.sleep(stays)
        return {"type": "http.disconnect"}

    return Request({"type": "http"}, receive)


class Part:
    """Something that takes its time."""

    def __init__(self, seconds: float = 30, error: Exception | None = None) -> None:
        self._seconds, self._error = seconds, error
        self.cancelled = False

    async def work(self) -> float:
        try:
            await asyncio.sleep(self._seconds)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if self._error:
            raise self._error
        return self._seconds


async def test_all_parts_are_answered_in_their_order() -> None:
    assert await while_connected(client(stays=30), [Part(0.02).work(), Part(0.01).work()]) == [0.02, 0.01]


async def test_when_the_client_leaves_the_parts_end() -> None:
    first, second = Part(), Part()
    with pytest.raises(ClientDisconnect):
        await while_connected(client(stays=0.05), [first.work(), second.work()])
    assert first.cancelled
    assert second.cancelled


async def test_when_a_part_fails_the_others_end_and_its_reason_is_told() -> None:
    other = Part()
    with pytest.raises(StoreError, match="torn"):
        await while_connected(client(stays=30), [Part(0.01, StoreError("torn")).work(), other.work()])
    assert other.cancelled


async def test_out_of_time_the_parts_end() -> None:
    part = Part()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await while_connected(client(stays=30), [part.work()])
    assert part.cancelled


async def test_what_takes_too_long_is_told_and_goes_on_and_what_waited_for_it_is_begun_no_more() -> None:
    work, go_on, begun = ThreadPool(1, "test", seconds=0.05), threading.Event(), threading.Event()
    with pytest.raises(TimeoutError):
        await work.do(go_on.wait, 20)
    assert work.busy, "nothing ends a thread"
    with pytest.raises(TimeoutError):
        await work.do(begun.set)
    go_on.set()
    assert await work.do(lambda: "next") == "next"
    assert not begun.is_set()
    work.close()
    assert not work.busy


async def test_it_can_end_without_waiting() -> None:
    work, go_on = ThreadPool(1, "test", seconds=0.05), threading.Event()
    with pytest.raises(TimeoutError):
        await work.do(go_on.wait, 20)
    work.close(wait=False)
    assert work.busy
    go_on.set()
