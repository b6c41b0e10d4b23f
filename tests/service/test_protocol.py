"""The protocol ends requests that do not begin, and no others."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from service import protocol
from tests.service.conftest import running

PATIENCE = 0.5
GET = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"


async def hello(scope: Any, receive: Any, send: Any) -> None:
    while scope["path"] != "/refuse" and (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", PATIENCE)
    with running(hello, lifespan="off") as opened:
        yield opened


def hear(connection: socket.socket) -> bytes:
    """One whole answer."""
    told = b""
    while not told.endswith(b"hello"):
        more = connection.recv(1 << 16)
        assert more, told
        told += more
    return told


def answer(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    told = b""
    while more := connection.recv(1 << 16):
        told += more
    return told


@pytest.mark.parametrize("before", [b"", GET], ids=["on a new connection", "after another request"])
def test_a_head_that_comes_byte_by_byte_is_ended_with_a_reason(port: int, before: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        if before:
            connection.sendall(before)
            hear(connection)
        started = time.monotonic()
        for byte in GET[:4]:
            connection.sendall(bytes([byte]))
            time.sleep(PATIENCE / 8)
        head, _, body = answer(connection).partition(b"\r\n\r\n")
    assert time.monotonic() - started >= PATIENCE
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in head.lower()
    assert json.loads(body)["detail"] == "the request's head did not arrive within 0.5 s"


def test_a_silent_connection_is_ended(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        assert answer(connection).startswith(b"HTTP/1.1 408 ")


def test_a_body_that_goes_on_after_the_answer_is_ended(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(b"POST /refuse HTTP/1.1\r\nHost: here\r\nContent-Length: 1000\r\n\r\n")
        hear(connection)
        connection.sendall(b"1")
        assert answer(connection) == b"", "and closed, within the 20 seconds that this test waits"


def test_a_body_may_take_longer_and_so_may_the_pause_before_the_next_request(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 2\r\n\r\n1")
        time.sleep(PATIENCE * 1.5)
        connection.sendall(b"2")
        assert hear(connection).startswith(b"HTTP/1.1 200 ")
        time.sleep(PATIENCE * 1.5)
        connection.sendall(GET)
        assert hear(connection).startswith(b"HTTP/1.1 200 ")
