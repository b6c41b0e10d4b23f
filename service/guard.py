"""The guard: what every request passes, and what every response carries."""

from __future__ import annotations

import ipaddress
import logging
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Connection

from nearshot.schema.errors import NearshotError
from nearshot.service.body_limits import BodyLimits
from nearshot.service.keys import Key, Scope, scopes_of
from nearshot.service.metrics import Metrics
from nearshot.service.problems import CLIENT_LEFT, problem

log = logging.getLogger(__name__)

METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
OPEN = frozenset({"/", "/healthz", "/readyz", "/openapi.json"})
"""Paths that anybody may get: the page, which holds nothing of the store, and those that orchestrators ask for."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Guard:
    """ASGI middleware: foreign hosts and sites are refused, keys are asked for, bodies are bounded, requests are counted.

    Without keys, the service is for this machine alone, and answers to loopback names only: a page of another site whose name
    was pointed here (DNS rebinding) has a name of its own. A request that changes something must come from this very site, or
    from no browser.
    """

    def __init__(
        self, app: ASGIApp, *, metrics: Metrics, keys: Callable[[], Sequence[Key]] | None, intake: BodyLimits
    ) -> None:
        self._app, self._metrics, self._keys, self._intake = app, metrics, keys, intake

    async def __call__(self, connection: Connection, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if connection["type"] != "http":
            await self._app(connection, receive, send)
            return
        started = time.perf_counter()
        status, begun, left = HTTPStatus.INTERNAL_SERVER_ERROR.value, False, False

        async def send_guarded(message: Message) -> None:
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
            message = await bounded()
            left = left or (message["type"] == "http.disconnect" and not begun)
            return message

        try:
            refusal = self._refusal(connection)
            if refusal:
                await refusal(connection, receive, send_guarded)
            else:
                announced = Headers(scope=connection).get("content-length", "")
                with self._intake.body(receive, announced=int(announced) if announced.isdecimal() else 0) as bounded:
                    await self._app(connection, receive_noting, send_guarded)
        except Exception as error:  # whatever it is, the client is told, and the next one served
            if begun:
                raise
            if not isinstance(error, NearshotError):
                log.exception("a request failed")
            detail = str(error) if isinstance(error, NearshotError) else "it failed; the service's log has the reason"
            await problem(HTTPStatus.INTERNAL_SERVER_ERROR, detail)(connection, receive, send_guarded)
        finally:
            route = getattr(connection.get("route"), "path", "other")
            method = connection["method"] if connection["method"] in METHODS else "other"
            self._metrics.requests.labels(method, route, str(CLIENT_LEFT if left else status)).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - started)

    def _refusal(self, connection: Connection) -> Response | None:
        headers = Headers(scope=connection)
        host = headers.get("host", "")
        if self._keys is None and not is_loopback(_host_of(f"//{host}")[0]):
            return problem(
                HTTPStatus.MISDIRECTED_REQUEST, f"this service is for this machine alone; '{host}' is not it"
            )
        changes = connection["method"] not in SAFE
        origin = headers.get("origin")
        foreign = origin is not None and _host_of(origin)[1] != host
        from_site = headers.get("sec-fetch-site", "none")
        path: str = connection["path"]
        if changes and (foreign or from_site not in ("none", "same-origin")):
            return problem(HTTPStatus.FORBIDDEN, "cross-site requests cannot modify the store")
        if path.startswith("/v1/") and from_site == "cross-site":
            return problem(HTTPStatus.FORBIDDEN, "cross-site requests are not answered")
        if self._keys is None or path in OPEN or path.startswith("/static/"):
            return None
        scheme, _, secret = headers.get("authorization", "").partition(" ")
        may = scopes_of(self._keys(), secret.strip()) if scheme.lower() == "bearer" else frozenset()
        wanted = Scope.WRITE if changes and path != "/v1/query" else Scope.READ
        if not may:
            challenge = {"WWW-Authenticate": "Bearer"}
            return problem(HTTPStatus.UNAUTHORIZED, "give an API key: Authorization: Bearer KEY", challenge)
        if wanted not in may:
            return problem(HTTPStatus.FORBIDDEN, f"this key may not {wanted}")
        return None


def _host_of(url: str) -> tuple[str, str]:
    """The name and the whole place (with the port) that a URL names; empty where it makes no sense."""
    try:
        parts = urlsplit(url)
        return parts.hostname or "", parts.netloc
    except ValueError:
        return "", ""


def is_loopback(host: str) -> bool:
    """Tell whether a name or address is this machine's own, reachable from itself alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
