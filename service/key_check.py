"""Key check: requests bring an API key that may do what they ask for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Connection

from nearshot.service.keys import Access, Key, access_of
from nearshot.service.problems import problem
from nearshot.service.same_site import SAFE

OPEN = frozenset({"/", "/healthz", "/readyz", "/openapi.json"})
"""Paths that anybody may get: the page, which holds nothing of the store, and those that orchestrators ask for."""


READING = frozenset({"/v1/query", "/v1/explain"})
"""Paths that are posted to and change nothing: a key that may read may ask them."""


class _RevokedError(Exception):
    """The key was revoked while a response was sent: a stream of events would outlive it."""


class KeyCheck:
    """ASGI middleware: `Authorization: Bearer KEY`, of a key that is in force now, for all that is not open to anybody."""

    def __init__(self, app: ASGIApp, *, keys: Callable[[], Sequence[Key]]) -> None:
        self._app, self._keys = app, keys

    async def __call__(self, connection: Connection, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if connection["type"] != "http":
            await self._app(connection, receive, send)
            return
        if refusal := self._refusal(connection):
            await refusal(connection, receive, send)
            return

        async def send_while_in_force(message: Message) -> None:
            if message["type"] == "http.response.body" and message.get("more_body") and self._refusal(connection):
                await send({"type": "http.response.body", "body": b""})
                raise _RevokedError
            await send(message)

        with suppress(_RevokedError):
            await self._app(connection, receive, send_while_in_force)

    def _refusal(self, connection: Connection) -> Response | None:
        path: str = connection["path"]
        changes = connection["method"] not in SAFE
        if not changes and (path in OPEN or path.startswith("/static/")):
            return None
        scheme, _, secret = Headers(scope=connection).get("authorization", "").partition(" ")
        may = access_of(self._keys(), secret.strip()) if scheme.lower() == "bearer" else frozenset()
        wanted = Access.WRITE if changes and path not in READING else Access.READ
        if not may:
            challenge = {"WWW-Authenticate": "Bearer"}
            return problem(HTTPStatus.UNAUTHORIZED, "give an API key: Authorization: Bearer KEY", challenge)
        if wanted not in may:
            return problem(HTTPStatus.FORBIDDEN, f"this key may not {wanted}")
        return None
