"""Who may ask: this machine alone without keys, keys of the right scope with them; no other site, no endless body."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from nearshot.schema.errors import UsageError
from nearshot.service.app import create_app
from nearshot.service.engine import Engine
from nearshot.service.keys import KeyFile, Scope, add_key, read_keys, revoke_key, scopes_of
from nearshot.service.settings import Settings
from tests.conftest import Outcome
from tests.service.conftest import HERE, running

IMAGE = "things/6.preprocessed/cat/a.png"


@pytest.fixture
def keyed(engine: Engine, tmp_path: Path) -> Iterator[tuple[TestClient, dict[str, str], Path]]:
    """A client of a service with keys, the secrets of a reader and a writer, and their file."""
    file = tmp_path / "keys.json"
    secrets = {"reader": add_key(file, "reader", [Scope.READ]), "writer": add_key(file, "writer", list(Scope))}
    with TestClient(create_app(engine, KeyFile(file)), base_url="http://vision.example") as client:
        yield client, secrets, file


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def test_without_keys_only_this_machine_is_answered(client: TestClient) -> None:
    for host in ("127.0.0.1", "127.0.0.1:8077", "localhost:1", "[::1]:8077"):
        assert client.get("/v1/categories", headers={"Host": host}).status_code == 200
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "0.0.0.0", "", "[", "//"):
        refused = client.get("/v1/categories", headers={"Host": host})
        assert (refused.status_code, refused.headers["content-type"]) == (421, "application/problem+json")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Origin": "http://127.0.0.1:9999"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_another_site_may_change_nothing(client: TestClient, headers: dict[str, str]) -> None:
    for place in ("/v1/index", "/v1/label", "/v1/reject", "/v1/images", "/v1/query"):
        assert client.post(place, headers=headers).status_code == 403
    assert client.post("/v1/index", headers={"Origin": HERE, "Sec-Fetch-Site": "same-origin"}).status_code == 202


def test_another_site_may_ask_nothing_either_that_costs_work(client: TestClient) -> None:
    assert client.get("/v1/report", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert client.get("/", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200


def test_methods_that_nobody_knows_are_counted_as_one(client: TestClient) -> None:
    for number in range(20):
        client.request(f"MADEUP{number}", "/v1/status", headers={"Host": "evil.example"})
    assert client.get("/metrics").text.count('method="other"') == 2, "the count, and when it began"


def test_every_response_forbids_what_the_page_does_not_need(client: TestClient) -> None:
    for place in ("/", "/v1/categories", "/v1/nothing", "/static/index.html"):
        headers = client.get(place).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


def test_a_key_is_asked_for_and_its_scope_holds(keyed: tuple[TestClient, dict[str, str], Path], small: Path) -> None:
    client, secrets, _ = keyed
    image = {"images": (small / IMAGE).read_bytes()}
    for headers in ({}, bearer("nearshot_wrong"), {"Authorization": "Basic eDp5"}, bearer("")):
        refused = client.get("/v1/categories", headers=headers)
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert client.get("/metrics").status_code == 401
    assert {client.get(place).status_code for place in ("/", "/healthz", "/readyz")} == {200}
    for name, may_write in (("reader", False), ("writer", True)):
        headers = bearer(secrets[name])
        assert client.get("/v1/categories", headers=headers).status_code == 200
        assert client.post("/v1/query", headers=headers, files=image).status_code == 200
        assert client.post("/v1/index", headers=headers).status_code == (202 if may_write else 403)


def test_a_revoked_key_is_refused_at_once(keyed: tuple[TestClient, dict[str, str], Path]) -> None:
    client, secrets, file = keyed
    assert client.get("/v1/categories", headers=bearer(secrets["reader"])).status_code == 200
    revoke_key(file, "reader")
    assert client.get("/v1/categories", headers=bearer(secrets["reader"])).status_code == 401
    file.unlink()
    assert client.get("/v1/categories", headers=bearer(secrets["writer"])).status_code == 401


@pytest.mark.parametrize("damage", ["[", '[{"name": "x", "sha256": 5, "scopes": ["read"], "created": ""}]', "{}"])
def test_a_damaged_file_of_keys_is_said_and_lets_nobody_in(
    keyed: tuple[TestClient, dict[str, str], Path], damage: str
) -> None:
    client, secrets, file = keyed
    file.write_text(damage)
    refused = client.get("/v1/categories", headers=bearer(secrets["reader"]))
    assert refused.status_code >= 400
    assert refused.headers["content-type"] == "application/problem+json"


def test_keys_that_are_made_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: add_key(file, f"key{number}", [Scope.READ]), range(8)))
    assert {key.name for key in read_keys(file)} == {f"key{number}" for number in range(8)}


def test_the_file_holds_no_secret_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    secret = add_key(file, "camera", [Scope.READ])
    assert secret.split("_", 1)[1] not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    assert scopes_of(read_keys(file), secret) == {Scope.READ}
    assert scopes_of(read_keys(file), secret + "x") == frozenset()
    with pytest.raises(UsageError, match="there is a key 'camera' already"):
        add_key(file, "camera", [Scope.READ])
    with pytest.raises(UsageError, match="there is no key 'door'; there are camera"):
        revoke_key(file, "door")
    file.write_text(json.dumps({"camera": 1}))
    with pytest.raises(UsageError, match="is not a file of API keys"):
        KeyFile(file)


def test_keys_are_made_listed_and_revoked(nearshot: Callable[..., Outcome], tmp_path: Path) -> None:
    made = nearshot("keys", "add", "camera", "--write", "--file", tmp_path / "k.json").stdout.strip()
    assert scopes_of(read_keys(tmp_path / "k.json"), made) == set(Scope)
    [listed] = nearshot("keys", "list", "--json", "--file", tmp_path / "k.json").objects
    assert (listed["name"], listed["scopes"]) == ("camera", ["read", "write"])
    assert nearshot("keys", "revoke", "camera", "--file", tmp_path / "k.json").stdout == "revoked camera\n"
    assert nearshot("keys", "list", "--file", tmp_path / "k.json").stdout == ""
    nearshot("keys", "--store", tmp_path, "add", "door")
    assert [key.name for key in read_keys(tmp_path / "keys.json")] == ["door"]
    missing = nearshot("keys", "list", "--file", tmp_path / "none.json")
    assert (missing.status, "make it with `nearshot keys add NAME`" in missing.stderr) == (2, True)


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
