"""Policies over HTTP: what they decide about, and setting them by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.service.asking import ask, problem

pytestmark = pytest.mark.both_stores


def test_a_policy_is_shown_set_answers_at_once_and_is_taken_back(client: TestClient, small: Path) -> None:
    shown = client.get("/v1/policy", params={"category": "things"}).json()
    assert [query["truth"] for query in shown["queries"]] == ["Unknown", "cat"]
    cat = shown["queries"][1]
    assert client.get(f"/v1/images/{cat['image_id']}").json()["label"] == "cat"
    new = {"category": "things", "score_by": shown["score_by"], "threshold": 0.9999, "margin_floor": 0.0}
    told = client.post("/v1/policy", data=new).json()
    assert (told["threshold"], told["by_hand"], told["calibrated"]) == (0.9999, True, False)

    def answer() -> dict[str, Any]:
        [told] = ask(client, small / "things/6.preprocessed/cat/a.png", category="things")["answers"]
        return dict(told)

    assert (answer()["verdict"], answer()["threshold"]) == ("unknown", 0.9999)
    back = client.post("/v1/policy", data={"category": "things", "undo": "true"}).json()
    assert (back["threshold"], back["by_hand"]) == (shown["threshold"], False)
    assert answer()["threshold"] == shown["threshold"]


def test_one_number_alone_leaves_the_other(client: TestClient) -> None:
    shown = client.get("/v1/policy", params={"category": "things"}).json()
    told = client.post("/v1/policy", data={"category": "things", "margin_floor": 0.5}).json()
    assert (told["threshold"], told["margin_floor"]) == (shown["threshold"], 0.5)


def test_what_is_no_policy_is_refused(client: TestClient) -> None:
    for wrong in (
        {"threshold": 0.5, "margin_floor": 0.1, "undo": "true"},
        {"threshold": 0.5, "undo": "true"},
        {},
    ):
        assert "undo to take back" in problem(client.post("/v1/policy", data={"category": "things", **wrong}), 422)
    assert "nobody has set" in problem(client.post("/v1/policy", data={"category": "things", "undo": "true"}), 422)
    assert "no category 'nothing'" in problem(client.get("/v1/policy", params={"category": "nothing"}), 422)
    beyond = {"category": "things", "threshold": 3, "margin_floor": 0.1}
    problem(client.post("/v1/policy", data=beyond), 422)
