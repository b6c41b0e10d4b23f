"""The guard: what every request passes, and what every response carries."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Connection

from service.keys import Key, Scope, scopes_of
from service.metrics import Metrics
from service.problems import problem

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
OPEN = frozenset({"/", "/healthz", "/readyz", "/openapi.json"})
"""What anybody may get: the page, which holds nothing of the store, and what orchestrators ask."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Guard:
    """ASGI middleware: foreign hosts and sites are refused, keys are asked for, slow bodies end, requests are counted.

    Without keys, the service is for this machine alone, and answers to loopback names only: a page of another site whose name
    was pointed here (DNS rebinding) has a name of its own. A request that changes something must come from this very site, or
    from no browser.
    """

    def __init__(
        self, app: ASGIApp, *, metrics: Metrics, keys: Callable[[], Sequence[Key]] | None, body_seconds: float
    ) -> None:
        self._app, self._metrics, self._keys, self._body_seconds = app, metrics, keys, body_seconds

    async def __call__(self, connection: Connection, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if connection["type"] != "http":
            await self._app(connection, receive, send)
            return
        started = time.perf_counter()
        status = HTTPStatus.INTERNAL_SERVER_ERROR.value

        async def send_guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if connection["path"].startswith("/v1/"):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._refusal(connection)
        try:
            if refusal:
                await problem(*refusal)(connection, receive, send_guarded)
            else:
                await self._app(connection, _in_time(receive, self._body_seconds), send_guarded)
        finally:
            route = getattr(connection.get("route"), "path", "other")
            self._metrics.requests.labels(connection["method"], route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - started)

    def _refusal(self, connection: Connection) -> tuple[int, str] | tuple[int, str, dict[str, str]] | None:
        headers = Headers(scope=connection)
        host = headers.get("host", "")
        if self._keys is None and not is_loopback(urlsplit(f"//{host}").hostname or ""):
            return HTTPStatus.MISDIRECTED_REQUEST, f"this service is for this machine alone; '{host}' is not it"
        changes = connection["method"] not in SAFE
        origin = headers.get("origin")
        foreign = origin is not None and urlsplit(origin).netloc != host
        if changes and (foreign or headers.get("sec-fetch-site", "none") not in ("none", "same-origin")):
            return HTTPStatus.FORBIDDEN, "another site may not change anything here"
        path: str = connection["path"]
        if self._keys is None or path in OPEN or path.startswith("/static/"):
            return None
        scheme, _, secret = headers.get("authorization", "").partition(" ")
        may = scopes_of(self._keys(), secret.strip()) if scheme.lower() == "bearer" else frozenset()
        reads = not changes or path == "/v1/query"
        if not may:
            return HTTPStatus.UNAUTHORIZED, "give an API key: Authorization: Bearer KEY", {"WWW-Authenticate": "Bearer"}
        if (Scope.READ if reads else Scope.WRITE) not in may:
            return HTTPStatus.FORBIDDEN, f"this key may not {'read' if reads else 'write'}"
        return None


def is_loopback(host: str) -> bool:
    """Whether a name or address is this machine's own, for itself alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _in_time(receive: Receive, seconds: float) -> Receive:
    """The body's parts, as long as they are all there in time."""
    until = time.monotonic() + seconds
    ended = False

    async def receive_in_time() -> Message:
        nonlocal ended
        if ended:
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), max(until - time.monotonic(), 0.001))
        except TimeoutError:
            raise HTTPException(
                HTTPStatus.REQUEST_TIMEOUT, f"the request did not arrive within {seconds:g} s"
            ) from None
        ended = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    return receive_in_time
