"""The intake: bodies arrive in time, and no more of them than there is room for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive


class Intake:
    """Bounds what all requests together hold of their bodies, in bytes, and how many seconds each body may take.

    What is beyond is told to come again (503), what is late has its own end (408). It belongs to one event loop.
    """

    def __init__(self, *, seconds: float, capacity: int) -> None:
        self._seconds, self._capacity = seconds, capacity
        self._held = 0

    @contextmanager
    def body(self, receive: Receive) -> Iterator[Receive]:
        """A request's messages, its body counted for as long as the request lasts."""
        until = time.monotonic() + self._seconds
        ended, held = False, 0

        async def receive_bounded() -> Message:
            nonlocal ended, held
            if ended:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(until - time.monotonic(), 0.001))
            except TimeoutError:
                raise HTTPException(
                    HTTPStatus.REQUEST_TIMEOUT, f"the request did not arrive within {self._seconds:g} s"
                ) from None
            ended = message["type"] != "http.request" or not message.get("more_body", False)
            size = len(message.get("body", b""))
            self._held, held = self._held + size, held + size
            if self._held > self._capacity and held < self._held:
                raise HTTPException(
                    HTTPStatus.SERVICE_UNAVAILABLE,
                    f"uploads of {self._capacity >> 20} MiB are being answered; come again in a second",
                    {"Retry-After": "1"},
                )
            return message

        try:
            yield receive_bounded
        finally:
            self._held -= held
