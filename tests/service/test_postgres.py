"""Services on one store in PostgreSQL: what one is told counts in the others, and they outlive their database."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response

from nearshot.indexer.verify import verify
from nearshot.schema.errors import StoreError
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
    with TemporaryDirectory(prefix="nearshot-") as directory, serving(Path(directory, "s"), durable=True) as running:
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


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # connections that died are dropped
def test_a_service_goes_on_with_a_replica_that_was_promoted(server: Server, small: Path) -> None:
    database = server.new_database(name="shots").partition("/shots")[0]
    with serving(server.directory.parent / "r", durable=True, follows=server) as replica:
        server.wait_for_replica()
        address = f"{database}/shots?host={server.directory},{replica.directory}&target_session_attrs=read-write"
        with Store(address, create=True) as store:
            run_index(store, small)
            engine = Engine(store, Settings(), Metrics())
            engine.load()
            with TestClient(create_app(engine), base_url=HERE) as client:
                listed = client.get("/v1/images", params={"category": "things", "role": "query"}).json()["images"]
                (first, _), (second, path) = [(image["id"], Path(image["path"])) for image in listed][:2]
                assert client.post("/v1/label", data={"image_id": first, "label": "stars"}).status_code == 200
                with Store(f"{database}/shots?host={replica.directory}") as reading, reading.reading() as catalog:
                    assert "stars" in catalog.support_labels("things"), "a replica answers"
                with (
                    Store(f"{database}/shots?host={replica.directory}") as reading,
                    pytest.raises(StoreError, match="primary"),
                    reading.writing() as editor,
                ):
                    editor.add_root("/elsewhere")
                server.kill()
                refused = client.post("/v1/label", data={"image_id": second, "label": "moon"})
                assert refused.status_code == 503
                replica.promote()
                assert client.post("/v1/label", data={"image_id": second, "label": "moon"}).status_code in (200, 409)
                asked = {"backbone": "hog", "category": "things"}
                answer = client.post("/v1/query", params=asked, files=[("images", path.read_bytes())])
                assert answer.json()["answers"][0]["label"] == "moon"
                labels = client.get("/v1/categories").json()["categories"][0]["labels"]
                assert {"stars", "moon"} <= {each["label"] for each in labels}
            assert list(verify(store)) == []
