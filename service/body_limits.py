"""Body limits: bodies arrive in time, and no more of them than there is room for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Connection


class BodyLimits:
    """ASGI middleware: bounds the body of a request, what all together hold of theirs, in bytes, and the seconds a body takes.

    What is too large is refused (413), what is beyond the capacity is told to retry later (503), what is late has its own end
    (408). It belongs to one event loop.
    """

    def __init__(self, app: ASGIApp, *, seconds: float, largest: int, capacity: int) -> None:
        self._app = app
        self._seconds, self._largest, self._capacity = seconds, largest, max(capacity, largest)
        self._held = 0

    async def __call__(self, connection: Connection, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if connection["type"] != "http":
            await self._app(connection, receive, send)
            return
        announced = Headers(scope=connection).get("content-length", "")
        with self.body(receive, announced=int(announced) if announced.isdecimal() else 0) as bounded:
            await self._app(connection, bounded, send)

    @contextmanager
    def body(self, receive: Receive, *, announced: int = 0) -> Iterator[Receive]:
        """A request's messages, its body counted for as long as the request lasts; nothing of one announced as too large."""
        until = time.monotonic() + self._seconds
        ended, held = False, 0

        async def receive_bounded() -> Message:
            nonlocal ended, held
            if ended:
                return await receive()
            self._bound(announced)
            try:
                message = await asyncio.wait_for(receive(), max(until - time.monotonic(), 0.001))
            except TimeoutError:
                raise HTTPException(
                    HTTPStatus.REQUEST_TIMEOUT, f"the request did not arrive within {self._seconds:g} s"
                ) from None
            ended = message["type"] != "http.request" or not message.get("more_body", False)
            size = len(message.get("body", b""))
            self._held, held = self._held + size, held + size
            self._bound(held)
            if self._held > self._capacity and held < self._held:
                raise HTTPException(
                    HTTPStatus.SERVICE_UNAVAILABLE,
                    f"uploads of {_mib(self._capacity)} are being answered; retry in 1 s",
                    {"Retry-After": "1"},
                )
            return message

        try:
            yield receive_bounded
        finally:
            self._held -= held

    def _bound(self, size: int) -> None:
        if size > self._largest:
            detail = f"a request may have {_mib(self._largest)} at most"
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)


def _mib(size: int) -> str:
    return f"{size / (1 << 20):g} MiB"
