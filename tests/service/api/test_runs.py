"""Index runs over HTTP."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from nearshot.service.engine import Engine
from tests.conftest import run_index, save_crop
from tests.service.asking import problem

pytestmark = pytest.mark.both_stores


def test_an_index_run_goes_on_in_the_background_and_tells_how_far_it_is(client: TestClient, small: Path) -> None:
    save_crop(small / "things/2.support-set/cat/shot3.png", "chelsea:6")
    started = client.post("/v1/index")
    assert started.status_code == 202
    events = client.get(f"/v1/runs/{started.json()['id']}/events").text
    last = json.loads([line for line in events.splitlines() if line.startswith("data: ")][-1].removeprefix("data: "))
    [report] = last["reports"].values()
    assert (last["state"], last["done"], last["total"], report["added"]) == ("finished", 1, 1, 1)
    assert client.get(f"/v1/runs/{last['id']}").json() == last
    assert "there is no run 7" in problem(client.get("/v1/runs/7/events"), 404)


def test_a_run_that_finds_the_store_in_use_says_so(client: TestClient, engine: Engine) -> None:
    with engine.store.held("something long"):
        run = client.post("/v1/index").json()
        while (state := client.get(f"/v1/runs/{run['id']}").json())["state"] == "running":
            pass
    assert state["state"] == "failed"
    [error] = state["errors"].values()
    assert "is in use by `something long`" in error


def test_a_data_directory_that_is_gone_does_not_keep_the_others_from_being_indexed(
    client: TestClient, engine: Engine, small: Path, tmp_path: Path
) -> None:
    save_crop(tmp_path / "other/more/2.support-set/shot1.png", "retina:0")
    run_index(engine.store, tmp_path / "other")
    small.rename(tmp_path / "unmounted")
    save_crop(tmp_path / "other/more/2.support-set/shot2.png", "retina:1")
    run = client.post("/v1/index").json()
    while (state := client.get(f"/v1/runs/{run['id']}").json())["state"] == "running":
        pass
    assert (state["state"], list(state["errors"])) == ("failed", [str(small.resolve())])
    assert [report["added"] for report in state["reports"].values()] == [1]
