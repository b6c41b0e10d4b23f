"""Accounting: every request is counted and timed, every response carries the headers that protect it, every failure is told."""

from __future__ import annotations

import logging
import time
from http import HTTPStatus

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Connection

from nearshot.schema.errors import NearshotError
from nearshot.service.metrics import Metrics
from nearshot.service.problems import CLIENT_LEFT, problem

log = logging.getLogger(__name__)

METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Accounting:
    """ASGI middleware, the outermost: metrics of requests, headers of responses, and an answer where a request failed."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, connection: Connection, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if connection["type"] != "http":
            await self._app(connection, receive, send)
            return
        started = time.perf_counter()
        status, begun, left = HTTPStatus.INTERNAL_SERVER_ERROR.value, False, False

        async def send_protected(message: Message) -> None:
            nonlocal status, begun
            if message["type"] == "http.response.start":
                status, begun = message["status"], True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if connection["path"].startswith("/v1/"):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        async def receive_noting() -> Message:
            nonlocal left
            message = await receive()
            left = left or (message["type"] == "http.disconnect" and not begun)
            return message

        try:
            await self._app(connection, receive_noting, send_protected)
        except Exception as error:  # whatever it is, the client is told, and the next one served
            if begun:
                raise
            if not isinstance(error, NearshotError):
                log.exception("a request failed")
            detail = str(error) if isinstance(error, NearshotError) else "it failed; the service's log has the reason"
            await problem(HTTPStatus.INTERNAL_SERVER_ERROR, detail)(connection, receive, send_protected)
        finally:
            route = getattr(connection.get("route"), "path", "other")
            method = connection["method"] if connection["method"] in METHODS else "other"
            self._metrics.requests.labels(method, route, str(CLIENT_LEFT if left else status)).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - started)
