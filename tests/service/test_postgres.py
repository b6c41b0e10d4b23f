"""Services on one store in PostgreSQL: what one is told counts in the others, and they outlive their database."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response

from nearshot.schema.store import Store
from nearshot.service.app import create_app
from nearshot.service.engine import Engine
from nearshot.service.metrics import Metrics
from nearshot.service.settings import Settings
from tests.conftest import run_index
from tests.postgres import Server, serving
from tests.service.conftest import HERE

CAT = "things/6.preprocessed/cat/a.png"


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of the test's own, to be killed."""
    with serving(Path(f"/tmp/nearshot-service-{os.getpid()}"), durable=True) as running:
        yield running


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # connections that died are dropped
def test_what_is_said_to_one_counts_in_the_other_and_both_outlive_the_server(server: Server, small: Path) -> None:
    address = server.new_database()
    with Store(address, create=True) as store:
        run_index(store, small)
    with ExitStack() as stack:
        clients = []
        for _ in range(2):
            engine = Engine(stack.enter_context(Store(address)), Settings(), Metrics())
            engine.load()
            clients.append(stack.enter_context(TestClient(create_app(engine), base_url=HERE)))
        here, there = clients

        def ask(client: TestClient) -> Response:
            asked = {"backbone": "hog", "category": "things"}
            return client.post("/v1/query", params=asked, files=[("images", (small / CAT).read_bytes())])

        def labels(client: TestClient) -> list[str]:
            listed = client.get("/v1/images", params={"category": "things", "role": "support"}).json()["images"]
            return sorted(image["label"] for image in listed)

        [unknown] = [
            image["id"]
            for image in here.get("/v1/images", params={"category": "things", "role": "query"}).json()["images"]
            if "Unknown" in image["path"]
        ]
        assert labels(there) == ["cat", "cat", "coffee", "coffee"]
        assert here.post("/v1/label", data={"image_id": unknown, "label": "stars"}).status_code == 200
        deadline = time.monotonic() + 10
        while "stars" not in labels(there) and time.monotonic() < deadline:
            time.sleep(0.02)
        for client in clients:
            assert ask(client).status_code == 200
            assert "stars" in labels(client)
        server.kill()
        for client in clients:
            told = client.get("/v1/images", params={"category": "things"})
            assert told.status_code == 503
            assert "is the database running" in told.json()["detail"]
        server.start()
        for client in clients:
            assert "stars" in labels(client)
            assert ask(client).status_code == 200
