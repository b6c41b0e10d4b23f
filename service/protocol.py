"""The protocol: HTTP/1.1 as uvicorn speaks it, to clients that finish what they begin."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from service.problems import problem

HEAD_SECONDS = 20.0


class PromptProtocol(H11Protocol):
    """Ends connections whose request's head is not there after `HEAD_SECONDS`, with a problem (408), or whose body goes on for
    that long after the answer.

    uvicorn waits for it without end, so that a few clients who send a byte now and then would take all connections that there
    are. It ends by itself connections that are idle between requests; the guard, bodies that do not arrive.
    """

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first head."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        super().connection_lost(exc)
        self._watch(gone=True)

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
        if self.conn.our_state is not h11.IDLE:  # it has its answer
            self.transport.close()
            return
        told = problem(HTTPStatus.REQUEST_TIMEOUT, f"the request's head did not arrive within {HEAD_SECONDS:g} s")
        headers = [*told.raw_headers, (b"connection", b"close")]
        head = h11.Response(status_code=told.status_code, headers=headers, reason=b"Request Timeout")
        for event in (head, h11.Data(data=bytes(told.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
