"""The protocol ends requests that do not begin, and no others."""

from __future__ import annotations

import json
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from nearshot.service import protocol
from tests.service.conftest import running

PATIENCE = 0.5
LARGE = 64 << 20
GET = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"


async def hello(scope: Any, receive: Any, send: Any) -> None:
    if scope["path"] == "/large":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % LARGE)]})
        await send({"type": "http.response.body", "body": bytes(LARGE)})
        return
    while scope["path"] != "/refuse" and (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", PATIENCE)
    monkeypatch.setattr(protocol, "READING_SECONDS", PATIENCE)
    monkeypatch.setattr(protocol, "CONNECTIONS", 3)
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


def test_who_reads_nothing_is_ended(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: here\r\n\r\n")
        time.sleep(PATIENCE * 3)
        assert len(answer(connection)) < LARGE, "what the system had taken before"


def test_who_reads_nothing_of_many_small_answers_is_ended(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.settimeout(PATIENCE * 10)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            send_for_ever(connection)


def send_for_ever(connection: socket.socket) -> None:
    while True:
        connection.sendall(GET * 1000)


def test_who_reads_slowly_is_not(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: here\r\n\r\n")
        heard = len(hear_some(connection, 1))
        while heard < LARGE:
            time.sleep(PATIENCE / 4)
            heard += len(
                hear_some(connection, min(LARGE // 16, LARGE - heard))
            )  # more than the system keeps for a connection


def hear_some(connection: socket.socket, least: int) -> bytes:
    """So many bytes and more, or all that there are."""
    told = bytearray()
    while len(told) < least:
        more = connection.recv(1 << 20)
        assert more, f"ended after {len(told)} bytes"
        told += more
    return bytes(told)


@pytest.mark.parametrize(
    ("sent", "begun"),
    [
        (b"\x00\x01\x02 nonsense\r\n\r\n", False),
        (b"POST / HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n", False),
        (b"POST /refuse HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n", True),
    ],
    ids=["as a head", "as a body", "after the answer"],
)
def test_nonsense_is_ended_with_a_reason_where_there_is_no_answer_yet(
    port: int, sent: bytes, begun: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(sent)
        if begun:
            hear(connection)
            connection.sendall(b"nonsense\r\n")
        head, _, body = answer(connection).partition(b"\r\n\r\n")
    if begun:
        assert (head, body) == (b"", b"")
    else:
        assert head.startswith(b"HTTP/1.1 400 ")
        assert json.loads(body)["detail"] == "Invalid HTTP request received."
    assert "Traceback" not in caplog.text


def test_whoever_is_one_too_many_is_told_to_come_again(port: int) -> None:
    with ExitStack() as opened:

        def come() -> socket.socket:
            return opened.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))

        served = [come() for _ in range(3)]
        for connection in served:
            connection.sendall(GET)
            hear(connection)
        late, uploading = come(), come()
        late.sendall(GET)
        head, body = refusal(late)
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1" in head.lower()
        assert json.loads(body)["detail"] == "3 connections are open; retry in 1 s"
        size = 5 << 20
        uploading.sendall(b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
        assert refusal(uploading)[0].startswith(b"HTTP/1.1 503 "), "a large upload hears it, too"
        served[0].sendall(GET)
        assert hear(served[0]).startswith(b"HTTP/1.1 200 "), "who was there before is served"
        served[0].shutdown(socket.SHUT_WR)
        assert served[0].recv(1) == b"", "the other side closes once it knows that it is over"
        late.sendall(GET)
        assert hear(late).startswith(b"HTTP/1.1 200 "), "there is room now"


def refusal(connection: socket.socket) -> tuple[bytes, bytes]:
    """The head and the body of a problem."""
    told = b""
    while b"}" not in told:
        more = connection.recv(1 << 16)
        assert more, told
        told += more
    head, _, body = told.partition(b"\r\n\r\n")
    return head, body


def test_as_many_connections_as_there_are_descriptors_for(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"soft": 256, "hard": 1024}
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limits["soft"], limits["hard"]))
    monkeypatch.setattr(resource, "setrlimit", lambda _, wanted: limits.update(soft=wanted[0]))
    assert protocol.connections() == 1024 - protocol.REFUSED - protocol.OWN_DESCRIPTORS
    assert limits["soft"] == 1024, "the soft limit is raised as far as it may be"
    limits.update(soft=1 << 20, hard=1 << 20)
    assert protocol.connections() == protocol.CONNECTIONS


def test_what_comes_on_top_of_those_that_are_refused_is_cut_off(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "REFUSED", 2)
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 10)
    with ExitStack() as stack:
        opened = []
        for _ in range(9):
            opened.append(stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5)))
            time.sleep(0.02)
        cut = 0
        for connection in opened[5:]:
            try:
                cut += connection.recv(1) == b""
            except ConnectionResetError:
                cut += 1
        assert cut == 4
        opened[0].sendall(GET)
        assert hear(opened[0]).endswith(b"hello")
