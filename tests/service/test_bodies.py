"""Bodies of requests, on a real server: too large, too late, cut off."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from nearshot.service.app import create_app
from nearshot.service.engine import Engine
from nearshot.service.settings import Settings
from tests.service.conftest import running


@pytest.fixture
def port(engine: Engine) -> Iterator[int]:
    """A real server with little patience and small limits."""
    engine.settings = replace(Settings(), upload_bytes=1 << 20, seconds=1.0, max_pixels=1_000_000)
    with running(create_app(engine)) as opened:
        yield opened


def send(port: int, *parts: bytes, pause: float = 0.0) -> str:
    """Send raw bytes; the status line and the body of what comes back."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        for part in parts:
            connection.sendall(part)
            time.sleep(pause)
        received = b""
        while piece := connection.recv(65536):
            received += piece
            if b"}" in piece:
                break
    return received.decode()


HEAD = b"POST /v1/query HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=x\r\n"


def test_a_body_that_is_too_large_is_refused_before_it_is_read(port: int) -> None:
    told = '"status":413,"detail":"a request may have 1 MiB at most"}'
    assert send(port, HEAD + b"Content-Length: 99999999\r\n\r\n").endswith(told)
    begin = b'--x\r\nContent-Disposition: form-data; name="images"; filename="i"\r\n\r\n'
    chunks = [b"%x\r\n%b\r\n" % (len(data), data) for data in (begin, *[b"x" * 65536] * 40)]
    assert send(port, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *chunks).endswith(told)


def test_a_sender_that_dawdles_is_not_waited_for(port: int) -> None:
    started = time.monotonic()
    answer = send(port, HEAD + b"Content-Length: 1000\r\n\r\n--x\r\n", b"C", b"o", pause=0.1)
    assert " 408 " in answer
    assert "did not arrive within 1 s" in answer
    assert time.monotonic() - started < 5


def test_who_leaves_in_the_middle_of_an_upload_is_counted_as_gone(port: int, engine: Engine) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\n--x\r\n")
    until = time.monotonic() + 10
    while 'route="/v1/query",status="499"} 1.0' not in engine.metrics.text().decode():
        assert time.monotonic() < until, engine.metrics.text().decode()
        time.sleep(0.01)


def test_a_body_that_ends_too_soon_or_makes_no_sense_is_a_4xx(port: int) -> None:
    cut = send(port, HEAD + b"Content-Length: 20\r\nConnection: close\r\n\r\n--x\r\nnot multipart")
    assert cut.split()[1].startswith("4")
    broken = send(port, HEAD.replace(b"; boundary=x", b"") + b"Content-Length: 3\r\nConnection: close\r\n\r\nabc")
    assert broken.split()[1].startswith("4")
