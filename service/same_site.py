"""Same site: requests that a page of another site has a browser make are refused."""

from __future__ import annotations

import ipaddress
import re
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Connection

from nearshot.service.problems import problem

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""

_HOST = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::[0-9]{1,5})?")


class SameSite:
    """ASGI middleware: a request that changes something comes from this very site, or from no browser.

    `here_only`: it answers to loopback names alone. A page of another site whose name was pointed here (DNS rebinding) has a
    name of its own.
    """

    def __init__(self, app: ASGIApp, *, here_only: bool) -> None:
        self._app, self._here_only = app, here_only

    async def __call__(self, connection: Connection, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        refusal = self._refusal(connection) if connection["type"] == "http" else None
        await (refusal or self._app)(connection, receive, send)

    def _refusal(self, connection: Connection) -> Response | None:
        headers = Headers(scope=connection)
        for name in ("host", "origin", "sec-fetch-site"):
            if len(headers.getlist(name)) > 1:
                return problem(HTTPStatus.BAD_REQUEST, f"a request has one {name.title()} header at most")
        if (
            "content-length" in headers and "transfer-encoding" in headers
        ):  # a proxy may read one, and this service the other
            return problem(
                HTTPStatus.BAD_REQUEST,
                "a request has Content-Length or Transfer-Encoding, not both",
                {"Connection": "close"},
            )
        host = headers.get("host", "").lower()
        if self._here_only and not is_loopback(_name_of(host)):
            return problem(
                HTTPStatus.MISDIRECTED_REQUEST, f"this service is for this machine alone; '{host}' is not it"
            )
        changes = connection["method"] not in SAFE
        origin = headers.get("origin")
        foreign = origin is not None and origin.lower() not in (f"http://{host}", f"https://{host}")
        from_site = headers.get("sec-fetch-site", "none")
        if changes and (foreign or from_site not in ("none", "same-origin")):
            return problem(HTTPStatus.FORBIDDEN, "cross-site requests cannot modify the store")
        if connection["path"].startswith("/v1/") and from_site == "cross-site":
            return problem(HTTPStatus.FORBIDDEN, "cross-site requests are not answered")
        return None


def _name_of(host: str) -> str:
    """The name or address in a Host header; empty where it is neither, whatever else it may be."""
    parts = _HOST.fullmatch(host)
    return (parts["v6"] or parts["name"]) if parts else ""


def is_loopback(host: str) -> bool:
    """Tell whether a name or address is this machine's own, reachable from itself alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
