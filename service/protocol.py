"""The protocol: HTTP/1.1 as uvicorn speaks it, to clients that finish what they begin."""

from __future__ import annotations

import asyncio
import resource
from contextlib import suppress
from http import HTTPStatus

import h11
from starlette.responses import Response
from starlette.types import Receive, Send
from starlette.types import Scope as Connection
from uvicorn.protocols.http.h11_impl import H11Protocol

from nearshot.service.problems import problem

HEAD_SECONDS = 20.0
READING_SECONDS = 60.0
CONNECTIONS = 1000
REFUSED = 100
"""Connections beyond these that are told so; what comes on top is cut off."""

OWN_DESCRIPTORS = 200
"""Descriptors that the service keeps for its store, files and libraries."""


def connections() -> int:
    """How many connections are served at once: 1,000, or as many as the system leaves descriptors for.

    The soft limit is raised to the hard one as far as that is needed.
    """
    needed = CONNECTIONS + REFUSED + OWN_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return CONNECTIONS if soft == resource.RLIM_INFINITY else max(1, min(CONNECTIONS, soft - REFUSED - OWN_DESCRIPTORS))


class PromptProtocol(H11Protocol):
    """Ends connections whose request's head is not there after `HEAD_SECONDS`, with a problem (408), or whose body goes on for
    that long after the answer, or whose client reads nothing of what is sent for `READING_SECONDS`; serves no more than
    `CONNECTIONS` at once (503); and has a problem for what is no HTTP (400).

    uvicorn waits for them without end, so that a few clients who send a byte now and then, or read none, would take all
    connections that there are. It ends by itself connections that are idle between requests; `BodyLimits`, bodies that do not
    arrive.
    """

    _deadline: asyncio.TimerHandle | None = None
    _reading: asyncio.TimerHandle | None = None
    _unsent = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first head."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # so that whatever the client has not read pauses writing
        if len(self.connections) > connections() + REFUSED:
            transport.abort()  # there is no descriptor to spare for saying why
            return
        self._admit()
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        if self.app is _crowded:
            self._admit()
        super().data_received(data)
        self._watch()

    def pause_writing(self) -> None:
        """Wait for the client to read what was sent."""
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        """Go on: it has read."""
        super().resume_writing()
        self._forget_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        super().connection_lost(exc)
        self._forget_reading()
        self._watch(gone=True)

    def send_400_response(self, msg: str) -> None:
        """Say that this is no HTTP."""
        self._tell(problem(HTTPStatus.BAD_REQUEST, msg))

    def _admit(self) -> None:
        others = sum(
            isinstance(connection, H11Protocol) and connection.app is not _crowded
            for connection in self.connections - {self}
        )
        self.app = _crowded if others >= connections() else self.config.loaded_app

    def _expect_reading(self) -> None:
        self._unsent = self.transport.get_write_buffer_size()
        self._reading = self.loop.call_later(READING_SECONDS, self._check_reading)

    def _check_reading(self) -> None:
        if self.transport.get_write_buffer_size() < self._unsent:
            self._expect_reading()
        else:
            self.transport.abort()

    def _forget_reading(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _watch(self, *, gone: bool = False) -> None:
        # What was answered before its body had come (401, 413 ...) waits for the rest of it, too.
        refused = self.conn.their_state is h11.SEND_BODY and self.conn.our_state is h11.DONE
        waiting = (self.conn.their_state is h11.IDLE or refused) and not gone
        if waiting and self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_SECONDS, self._end)
        elif not waiting and self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _end(self) -> None:
        detail = f"the request's head did not arrive within {HEAD_SECONDS:g} s"
        self._tell(problem(HTTPStatus.REQUEST_TIMEOUT, detail))

    def _tell(self, told: Response) -> None:
        """Answer instead of the application, unless it has begun to, and end."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            headers = [*told.raw_headers, (b"connection", b"close")]
            reason = HTTPStatus(told.status_code).phrase.encode()
            head = h11.Response(status_code=told.status_code, headers=headers, reason=reason)
            for event in (head, h11.Data(data=bytes(told.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


async def _crowded(scope: Connection, receive: Receive, send: Send) -> None:
    """The application for whoever is one too many. It closes nothing: who is still sending could not read the answer."""
    detail = f"{connections()} connections are open; retry in 1 s"
    told = problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, {"Retry-After": "1"})
    await told(scope, receive, send)
