"""Runs over HTTP: index, calibrate, lint."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

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


def ended(client: TestClient, started: Any) -> dict[str, Any]:
    """The last state of a run that was begun."""
    assert started.status_code == 202, started.text
    while (state := client.get(f"/v1/runs/{started.json()['id']}").json())["state"] == "running":
        pass
    return dict(state)


def test_calibration_goes_on_in_the_background_and_answers_go_by_it(client: TestClient, small: Path) -> None:
    for number in range(4):
        save_crop(small / f"things/6.preprocessed/Unknown/{number}.png", f"retina:{number}")
        save_crop(small / f"things/6.preprocessed/cat/{number}.png", f"chelsea:{5 + number}")
    ended(client, client.post("/v1/index"))
    state = ended(client, client.post("/v1/calibrate", data={"category": "things", "false_accept": 0.5}))
    assert (state["kind"], state["state"], state["done"], state["total"]) == ("calibrate", "finished", 4, 4)
    told = state["reports"]["things, hog by max_sim"]
    assert (told["calibrated"], told["aims"]) == (True, {"false-accept": 0.5})
    shown = client.get("/v1/policy", params={"category": "things", "score_by": "max_sim"}).json()
    assert (shown["calibrated"], shown["threshold"]) == (True, told["threshold"])
    refused = ended(client, client.post("/v1/calibrate", data={"category": "things", "false_accept": 0.001}))
    assert {report["calibrated"] for report in refused["reports"].values()} == {False}
    assert "no category 'nothing'" in problem(client.post("/v1/calibrate", data={"category": "nothing"}), 422)
    assert "dinov2 is not served" in problem(client.post("/v1/calibrate", data={"backbone": "dinov2"}), 422)
    problem(client.post("/v1/calibrate", data={"false_accept": 1}), 422)


def test_faults_are_looked_for_in_every_data_directory(client: TestClient, small: Path) -> None:
    shutil.copy(small / "things/2.support-set/cat/shot1.png", small / "things/2.support-set/coffee/shot9.png")
    ended(client, client.post("/v1/index"))
    state = ended(client, client.post("/v1/lint"))
    assert (state["kind"], state["state"]) == ("lint", "finished")
    [report] = state["reports"].values()
    assert (list(state["reports"]), report["errors"]) == ([str(small.resolve())], 1)
    assert report["findings"][0]["rule"] == "two-labels"


def test_one_run_at_a_time(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    monkeypatch.setattr("nearshot.service.api.runs.linting", lambda *_: lambda run, should_stop: go.wait(30))
    first = client.post("/v1/lint")
    assert "is on; wait for it to end" in problem(client.post("/v1/calibrate"), 409)
    assert "is on; wait for it to end" in problem(client.post("/v1/index"), 409)
    go.set()
    assert ended(client, first)["state"] == "finished"
