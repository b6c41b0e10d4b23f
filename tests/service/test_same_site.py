"""Requests of other sites, and for other machines, are refused."""

from __future__ import annotations

import socket

import pytest
from fastapi.testclient import TestClient

from nearshot.service.app import create_app
from nearshot.service.engine import Engine
from tests.service.conftest import HERE, running

NEARLY = (
    "evil@127.0.0.1",
    "127.0.0.1/x",
    "127.0.0.1:8077@evil",
    "127.0.0.1:",
    "127.0.0.1:8077:1",
    "127.0.0.1#",
    " 127.0.0.1,x",
)


def test_without_keys_only_this_machine_is_answered(client: TestClient) -> None:
    for host in ("127.0.0.1", "127.0.0.1:8077", "localhost:1", "[::1]:8077"):
        assert client.get("/v1/categories", headers={"Host": host}).status_code == 200
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "0.0.0.0", "", "[", "//", *NEARLY):
        refused = client.get("/v1/categories", headers={"Host": host})
        assert (refused.status_code, refused.headers["content-type"]) == (421, "application/problem+json")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "http://evil.example@127.0.0.1:8077"},
        {"Origin": "ftp://127.0.0.1:8077"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_another_site_may_change_nothing(client: TestClient, headers: dict[str, str]) -> None:
    for url in ("/v1/index", "/v1/label", "/v1/reject", "/v1/images", "/v1/query"):
        assert client.post(url, headers=headers).status_code == 403
    assert client.post("/v1/index", headers={"Origin": HERE, "Sec-Fetch-Site": "same-origin"}).status_code == 202


def test_another_site_may_ask_nothing_either_that_costs_work(client: TestClient) -> None:
    assert client.get("/v1/report", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert client.get("/", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200


def test_a_header_that_comes_twice_is_refused(client: TestClient) -> None:
    for name, value in (("Host", "127.0.0.1"), ("Origin", HERE), ("Sec-Fetch-Site", "none")):
        twice = client.get("/v1/categories", headers=[(name, value), (name, value)])
        assert twice.status_code == 400
        assert name in twice.json()["detail"]


def test_a_body_of_two_lengths_is_refused_and_the_connection_ended(engine: Engine) -> None:
    """A proxy that goes by the other one would take the rest for the next request."""
    with running(create_app(engine)) as port, socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        head = b"POST /v1/query HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head + b"0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        told = b""
        while more := connection.recv(65536):
            told += more
    assert told.count(b"HTTP/1.1") == 1
    assert told.startswith(b"HTTP/1.1 400 ")
