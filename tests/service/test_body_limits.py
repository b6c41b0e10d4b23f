"""They hold no more than it was told to, and counts what it holds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Send
from starlette.types import Scope as Connection

from nearshot.service.body_limits import BodyLimits

pytestmark = pytest.mark.anyio


async def nobody(_connection: Connection, _receive: Receive, _send: Send) -> None:
    """An application that answers nothing."""


def sends(sizes: Iterable[int]) -> Receive:
    """A client whose body has parts of these sizes, and comes to no end."""
    parts = iter(sizes)

    async def receive() -> Message:
        size = next(parts, None)
        if size is None:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": bytes(size or 0), "more_body": True}

    return receive


async def test_a_body_beyond_what_all_may_hold_is_told_to_come_again_until_another_is_answered() -> None:
    limits = BodyLimits(nobody, seconds=10, largest=100, capacity=100)
    with limits.body(sends([60, 30])) as first, limits.body(sends([20])) as second:
        await first()
        await first()
        with pytest.raises(HTTPException) as refused:
            await second()
    assert (refused.value.status_code, refused.value.headers) == (503, {"Retry-After": "1"})
    with limits.body(sends([90])) as third:
        assert len((await third())["body"]) == 90


async def test_a_body_that_is_alone_is_told_of_no_others() -> None:
    with BodyLimits(nobody, seconds=10, largest=120, capacity=100).body(sends([60, 60])) as alone:
        await alone()
        assert len((await alone())["body"]) == 60


@pytest.mark.parametrize(("announced", "reads"), [(0, 2), (3 << 19, 2), ((3 << 19) + 1, 0)])
async def test_a_body_that_is_too_large_is_refused_as_soon_as_that_is_known(announced: int, reads: int) -> None:
    limits = BodyLimits(nobody, seconds=10, largest=3 << 19, capacity=1 << 30)
    with limits.body(sends([3 << 18] * 3), announced=announced) as large:
        for _ in range(reads):
            await large()
        with pytest.raises(HTTPException, match=r"a request may have 1\.5 MiB at most") as refused:
            await large()
    assert refused.value.status_code == 413


async def test_a_body_that_stops_coming_is_ended() -> None:
    with BodyLimits(nobody, seconds=0.2, largest=100, capacity=100).body(sends([1])) as slow:
        await slow()
        with pytest.raises(HTTPException) as refused:
            await slow()
    assert refused.value.status_code == 408


async def test_what_comes_after_the_body_may_take_its_time() -> None:
    said: list[Message] = [{"type": "http.request", "body": b"x", "more_body": False}, {"type": "http.disconnect"}]

    async def receive() -> Message:
        if len(said) == 1:
            await asyncio.sleep(0.3)
        return said.pop(0)

    with BodyLimits(nobody, seconds=0.1, largest=100, capacity=100).body(receive) as bounded:
        await bounded()
        assert (await bounded())["type"] == "http.disconnect"
