"""A promise that has lapsed is told by `query`, `status`, the service and its metrics."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from nearshot.schema.store import Store
from nearshot.service.app import create_app
from nearshot.service.engine import Engine
from nearshot.service.metrics import Metrics
from nearshot.service.settings import Settings
from tests.conftest import Outcome, save_crop
from tests.service.asking import wait_for

Run = Callable[..., Outcome]


@pytest.fixture
def calibrated(nearshot: Run, tmp_path: Path) -> Path:
    """Two labels with labelled queries, calibrated by `max_sim`; and a folder of pictures of another kind: noise."""
    root = tmp_path / "data/things"
    for label, photo in {"cat": "chelsea", "coffee": "coffee"}.items():
        for number in range(2):
            save_crop(root / f"2.support-set/{label}/shot{number}.png", f"{photo}:{number}")
        for number in range(2, 8):
            save_crop(root / f"6.preprocessed/{label}/{number}.png", f"{photo}:{number}")
    chance = np.random.default_rng(0)
    (tmp_path / "noise").mkdir()
    for number in range(45):
        pixels = chance.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"noise/{number}.png")
    assert nearshot("index", "data", "--backbone", "hog").status == 0
    calibrations = nearshot("calibrate", "--score", "max_sim", "--false-reject", "0.3", "--all", "--json").objects
    assert (calibrations[0]["known_method"], calibrations[0]["calibrated"]) == ("labelled queries", True)
    return tmp_path


def test_query_and_status_say_that_the_promise_has_lapsed(nearshot: Run, calibrated: Path) -> None:
    assert "lapsed" not in nearshot("query", "data/things/6.preprocessed").stderr
    assert "lapsed" not in nearshot("query", "noise").stderr, "it was told while these were asked about"
    told = nearshot("query", "data/things/6.preprocessed/cat/2.png", "--json")
    assert "the promise of things has lapsed: after " in told.stderr
    assert "things, hog, max_sim: the promise has lapsed: after " in nearshot("status").stdout
    assert nearshot("status", "--json").objects[0]["lapses"][0]["category"] == "things"
    other = nearshot("query", "data/things/6.preprocessed/cat/2.png", "--score", "prototype")
    assert "lapsed" not in other.stderr, "another score has made no promise"
    nearshot("calibrate", "--score", "max_sim", "--false-reject", "0.4", "--all")
    with Store(calibrated / ".nearshot") as store, store.writing() as editor:
        editor.connection.exec_driver_sql("UPDATE calibrations SET created = 'later'")
    assert "lapsed" not in nearshot("status").stdout, "a new calibration is watched anew"


def test_what_queries_score_draws_no_revision_and_keeps_no_picture(nearshot: Run, calibrated: Path) -> None:
    before = nearshot("status", "--json").objects[0]["revision"]
    nearshot("query", "noise")
    assert nearshot("status", "--json").objects[0]["revision"] == before
    size = (calibrated / ".nearshot/nearshot.db").stat().st_size
    nearshot("query", "noise")
    assert (calibrated / ".nearshot/nearshot.db").stat().st_size == size, "the same images tell nothing new"


def test_a_store_that_cannot_be_written_still_answers(
    nearshot: Run, calibrated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nearshot.schema.errors import StoreError

    def refuse(*_: object) -> None:
        raise StoreError("attempt to write a readonly database")

    monkeypatch.setattr("nearshot.retriever.watching.put_watch", refuse)
    assert nearshot("query", "noise/1.png").status == 0


def test_the_service_says_so_in_answers_and_metrics(
    nearshot: Run, calibrated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nearshot.service.engine.WATCH_SECONDS", 0.0)
    with Store(calibrated / ".nearshot") as store:
        engine = Engine(store, Settings(searcher_age=0.0), Metrics())
        engine.load()
        with TestClient(create_app(engine), base_url="http://127.0.0.1") as client:
            for path in sorted((calibrated / "noise").iterdir()):
                given = client.post("/v1/query", files={"images": path.read_bytes()}, params={"category": "things"})
                assert given.status_code == 200

            def told() -> bool:
                given = client.post("/v1/query", files={"images": path.read_bytes()}, params={"category": "things"})
                return str(given.json()["lapsed"].get("things", "")).startswith("after ")

            wait_for(told)
            metrics = client.get("/metrics").text
    assert 'nearshot_promise_lapsed{backbone="hog",category="things",score="max_sim"} 1.0' in metrics
