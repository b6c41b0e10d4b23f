"""Keys of the right access are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from starlette.types import Message, Receive, Send
from starlette.types import Scope as Connection

from nearshot.service.app import create_app
from nearshot.service.engine import Engine
from nearshot.service.key_check import KeyCheck
from nearshot.service.keys import Access, KeyFile, add_key, revoke_key

pytestmark = pytest.mark.anyio

IMAGE = "things/6.preprocessed/cat/a.png"


@pytest.fixture
def keyed(engine: Engine, tmp_path: Path) -> Iterator[tuple[TestClient, dict[str, str], Path]]:
    """A client of a service with keys, the secrets of a reader and a writer, and their file."""
    file = tmp_path / "keys.json"
    secrets = {"reader": add_key(file, "reader", [Access.READ]), "writer": add_key(file, "writer", list(Access))}
    with TestClient(create_app(engine, KeyFile(file)), base_url="http://vision.example") as client:
        yield client, secrets, file


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def test_a_key_is_asked_for_and_its_scope_holds(keyed: tuple[TestClient, dict[str, str], Path], small: Path) -> None:
    client, secrets, _ = keyed
    image = {"images": (small / IMAGE).read_bytes()}
    for headers in ({}, bearer("nearshot_wrong"), {"Authorization": "Basic eDp5"}, bearer("")):
        refused = client.get("/v1/categories", headers=headers)
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert client.get("/metrics").status_code == 401
    assert {client.get(url).status_code for url in ("/", "/healthz", "/readyz")} == {200}
    for name, may_write in (("reader", False), ("writer", True)):
        headers = bearer(secrets[name])
        assert client.get("/v1/categories", headers=headers).status_code == 200
        assert client.post("/v1/query", headers=headers, files=image).status_code == 200
        explained = client.post("/v1/explain", headers=headers, files={"image": image["images"]})
        assert explained.status_code == 422, "hog has no patches to explain by; but it may be asked"
        assert client.delete("/v1/images/1", headers=headers).status_code == (422 if may_write else 403)
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


async def test_a_stream_of_events_ends_when_its_key_is_revoked(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    secret = add_key(file, "reader", [Access.READ])
    sent: list[Message] = []

    async def events(_connection: Connection, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(5):
            if number == 2:
                revoke_key(file, "reader")
            await send({"type": "http.response.body", "body": b"%d" % number, "more_body": True})
        raise AssertionError("it goes on")

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    connection = {"type": "http", "method": "GET", "path": "/v1/runs/1/events"}
    headers = [(b"authorization", f"Bearer {secret}".encode())]
    await KeyCheck(events, keys=KeyFile(file))({**connection, "headers": headers}, receive, send)
    assert [message.get("body") for message in sent[1:]] == [b"0", b"1", b""]
    assert not sent[-1].get("more_body")
