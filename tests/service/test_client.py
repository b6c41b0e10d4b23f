"""`nearshot query --server` prints what `nearshot query` prints, without a model of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.responses import JSONResponse

from nearshot.service.keys import Access, add_key
from tests.conftest import Outcome, save_crop
from tests.service.conftest import running
from tests.service.test_serve import Served

Run = Callable[..., Outcome]
QUERIES = "data/things/6.preprocessed"


@pytest.fixture
def served(nearshot: Run, small: Path, tmp_path: Path) -> Iterator[Served]:
    """A service over two categories, of which one was calibrated, has changed since, and has a rejected image."""
    save_crop(small / "pets/2.support-set/dog/shot1.png", "rocket:0")
    (small / "things/6.preprocessed/broken.png").write_bytes(b"no image")
    shutil.copy(small / "things/6.preprocessed/cat/a.png", small / "things/6.preprocessed/again.png")
    assert nearshot("index", "data", "--backbone", "hog").status == 0
    assert nearshot("calibrate", "--false-reject", "0.4", "--category", "things").status == 0
    assert nearshot("reject", f"{QUERIES}/Unknown/b.png", "--category", "things").status == 0
    save_crop(small / "things/2.support-set/cat/shot3.png", "chelsea:6")
    assert nearshot("index", "data", "--backbone", "hog").status == 0
    service = Served(tmp_path / ".nearshot")
    yield service
    service.end()


ASKED = (
    [QUERIES],
    [f"{QUERIES}/cat/a.png"],
    [QUERIES, "--category", "things", "--hits", "--caption"],
    [QUERIES, "--score", "prototype", "--threshold", "0.5"],
    [QUERIES, "--json", "--against", "all", "--top-k", "3"],
    [QUERIES, "none.jpg", "--csv"],
    [QUERIES, "--box", "2,3,30,20", "--box", "10,10,90,90"],
    [f"{QUERIES}/cat/a.png", "--category", "sky"],
    [f"{QUERIES}/cat/a.png", "--score", "knn_vote"],
    ["data/things/2.support-set/nothing"],
)


def test_a_service_answers_as_the_store_does(nearshot: Run, served: Served) -> None:
    for arguments in ASKED:
        here, there = nearshot("query", *arguments), nearshot("query", *arguments, "--server", served.url)
        assert (there.stdout, there.stderr, there.status) == (here.stdout, here.stderr, here.status), arguments
        assert here.stdout + here.stderr


async def elsewhere(scope: Any, receive: Any, send: Any) -> None:
    """Some other service."""
    await JSONResponse({"detail": "Not Found"}, 404)(scope, receive, send)


def test_a_service_that_does_not_answer_or_wants_a_key_is_a_clear_error(
    nearshot: Run, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = f"{QUERIES}/cat/a.png"
    refused = nearshot("query", image, "--server", "http://127.0.0.1:1")
    assert (refused.status, "http://127.0.0.1:1 does not answer" in refused.stderr) == (1, True)
    assert "is no service's URL" in nearshot("query", image, "--server", "store").stderr
    assert "does not answer as a service" in nearshot("query", image, "--server", f"{served.url}/static/app.js?").stderr
    with running(elsewhere, lifespan="off") as port:
        other = nearshot("query", image, "--server", f"http://127.0.0.1:{port}")
    assert (other.status, other.stderr) == (
        1,
        f"nearshot: http://127.0.0.1:{port} does not answer as a service of nearshot: 404 Not Found\n",
    )
    secret = add_key(tmp_path / "keys.json", "me", [Access.READ])
    keyed = Served(tmp_path / ".nearshot", "--api-keys", str(tmp_path / "keys.json"))
    asked = nearshot("query", image, "--server", keyed.url)
    assert (asked.status, "put it into NEARSHOT_API_KEY" in asked.stderr) == (2, True)
    monkeypatch.setenv("NEARSHOT_API_KEY", secret)
    monkeypatch.setenv("NEARSHOT_SERVER", keyed.url)
    assert nearshot("query", image).stdout.splitlines()[1].startswith("match")
    keyed.end()
