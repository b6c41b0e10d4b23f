"""What there is, and how the service is."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from nearshot.evaluation.next_labels import advise
from nearshot.service.app import create_app
from nearshot.service.engine import Engine
from tests.conftest import Outcome
from tests.service.asking import QUERIES, ask, problem, wait_for
from tests.service.conftest import HERE

pytestmark = pytest.mark.both_stores


def test_what_can_be_asked_for_is_listed(client: TestClient) -> None:
    offered = client.get("/v1/categories").json()
    assert offered["categories"] == [
        {
            "category": "things",
            "labels": [{"label": "cat", "images": 2}, {"label": "coffee", "images": 2}],
            "queries": 2,
        }
    ]
    assert [(backbone["name"], backbone["words"]) for backbone in offered["backbones"]] == [("hog", False)]
    assert client.get("/v1/status").json()["categories"][0]["images"] == 4


def test_health_readiness_and_metrics_are_told(client: TestClient, engine: Engine, small: Path) -> None:
    ask(client, small / QUERIES / "cat/a.png")
    assert client.get("/healthz").text == "ok"
    assert client.get("/readyz").text == "ready"
    assert {client.head(url).status_code for url in ("/", "/healthz", "/readyz")} == {200}, "as monitors ask"
    counted = client.get("/metrics").text
    assert 'nearshot_requests_total{method="POST",route="/v1/query",status="200"} 1.0' in counted
    assert 'nearshot_verdicts_total{backbone="hog",verdict="match"} 1.0' in counted
    for stage in ("decode", "prepare", "encode", "search", "decide"):
        assert f'nearshot_stage_seconds_count{{stage="{stage}"}} 1.0' in counted
    engine.ready = False
    assert problem(client.get("/readyz"), 503) == "not ready"


def test_the_interface_is_described(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    assert {"/v1/query", "/v1/search", "/v1/images/{image_id}", "/v1/label", "/v1/index"} <= set(described["paths"])
    assert described["components"]["schemas"]["Answers"]["properties"]["answers"]["examples"]


def test_an_error_that_nobody_foresaw_is_a_problem_too_and_the_next_is_served(
    client: TestClient, engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("a secret of the store")

    with monkeypatch.context() as patch:
        patch.setattr(engine, "search", fail)
        failed = client.get("/v1/search", params={"q": "cat"})
    assert problem(failed, 500) == "it failed; the service's log has the reason"
    assert "default-src 'none'" in failed.headers["content-security-policy"]
    assert "a secret of the store" in caplog.text
    assert client.get("/v1/search", params={"q": "cat"}).status_code == 200


@pytest.mark.parametrize(
    ("url", "slow"),
    [
        ("/v1/search?q=cat", "nearshot.service.engine.search"),
        ("/v1/status", "nearshot.service.engine.read_held"),
    ],
)
def test_what_changes_nothing_is_not_waited_for_without_end(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, url: str, slow: str
) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(slow, lambda *_, **__: go_on.wait(20))
    engine.settings = replace(engine.settings, seconds=0.2)
    engine.outdate()
    with TestClient(create_app(engine), base_url=HERE) as client:
        assert problem(client.get(url), 503) == "timed out; retry later"
        go_on.set()


def test_a_report_that_takes_too_long_is_there_when_one_comes_again(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()

    def render(*_: object) -> str:
        assert go_on.wait(20)
        return "<html>late</html>"

    monkeypatch.setattr("nearshot.evaluation.report.render_report", render)
    engine.settings = replace(engine.settings, seconds=0.2)
    with TestClient(create_app(engine), base_url=HERE) as client:
        late = client.get("/v1/report")
        assert problem(late, 503) == "timed out; retry later"
        assert late.headers["retry-after"] == "5"
        go_on.set()
        wait_for(lambda: client.get("/v1/report").text == "<html>late</html>")


def test_what_to_label_next_is_what_the_command_says(client: TestClient, engine: Engine) -> None:
    told = client.get("/v1/next", params={"category": "things"}).json()
    advice = advise(engine.store, "things")
    assert told["next"] == [candidate.as_json() for candidate in advice.worth]
    assert {need["label"] for need in told["labels"]} == {"cat", "coffee"}
    assert client.get("/v1/next", params={"category": "nothing"}).status_code == 422


@pytest.mark.parametrize("form", ["jsonl", "csv", "labelstudio", "fiftyone"])
def test_what_is_known_is_exported_as_the_command_writes_it(
    client: TestClient,
    engine: Engine,
    tmp_path: Path,
    form: str,
    nearshot: Callable[..., Outcome],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "own").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "own"))
    response = client.get("/v1/export", params={"format": form, "role": "query"})
    file = tmp_path / "written"
    options = ("--format", form, "--role", "query", "--output", file, "--store", engine.store.location)
    assert nearshot("export", *options).status == 0
    assert response.content == file.read_bytes()
    assert "attachment" in response.headers["content-disposition"]
    assert list((tmp_path / "own").iterdir()) == []
    problem(client.get("/v1/export", params={"format": "parquet"}), 422)
