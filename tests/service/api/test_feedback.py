"""Labels and rejections over HTTP."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from nearshot.evaluation.next_labels import weigh
from nearshot.indexer.verify import verify
from nearshot.service.engine import Engine
from tests.conftest import run_index, save_crop
from tests.service.asking import QUERIES, ask, problem

pytestmark = pytest.mark.both_stores


def test_an_upload_becomes_a_query_and_then_a_shot_and_it_can_be_taken_back(
    client: TestClient, small: Path, tmp_path: Path
) -> None:
    save_crop(tmp_path / "rocket.png", "rocket:0")
    save_crop(tmp_path / "again.png", "rocket:1")
    assert ask(client, tmp_path / "again.png")["answers"][0]["label"] is None
    upload = {"image": ("../../evil.png", (tmp_path / "rocket.png").read_bytes())}
    added = client.post("/v1/images", data={"category": "things"}, files=upload)
    assert added.status_code == 201, added.text
    image = added.json()
    assert Path(image["path"]).parent == small.resolve() / QUERIES / "added"
    assert (image["role"], image["label"]) == ("query", None)
    same = client.post("/v1/images", data={"category": "things"}, files=upload).json()
    assert same["id"] == image["id"]
    said = client.post("/v1/label", data={"image_id": image["id"], "label": "rocket"}).json()
    assert (said["label"], Path(said["shot"]).parent.name) == ("rocket", "rocket")
    assert ask(client, tmp_path / "again.png")["answers"][0]["label"] == "rocket"
    assert client.post("/v1/label", data={"image_id": image["id"], "undo": "true"}).json()["undone"]
    assert not Path(said["shot"]).exists()
    assert ask(client, tmp_path / "again.png")["answers"][0]["label"] is None


def test_what_was_added_can_be_removed_unless_something_is_said_of_it(
    client: TestClient, engine: Engine, small: Path, tmp_path: Path
) -> None:
    save_crop(tmp_path / "rocket.png", "rocket:0")
    upload = {"image": ("x.png", (tmp_path / "rocket.png").read_bytes())}
    added = client.post("/v1/images", data={"category": "things"}, files=upload)
    again = client.post("/v1/images", data={"category": "things"}, files=upload)
    assert (added.status_code, again.status_code) == (201, 200), "it was there already"
    image = added.json()
    where = f"/v1/images/{image['id']}"
    client.post("/v1/reject", data={"image_id": image["id"]})
    assert "take that back first" in problem(client.delete(where), 422)
    client.post("/v1/reject", data={"image_id": image["id"], "undo": "true"})
    assert client.delete(where).status_code == 204
    assert not Path(image["path"]).exists()
    assert client.get(where).status_code == client.delete(where).status_code == 404
    [query] = client.get("/v1/images", params={"role": "query", "label": "cat"}).json()["images"]
    assert "only an image that was added" in problem(client.delete(f"/v1/images/{query['id']}"), 422)
    assert Path(query["path"]).exists()
    assert list(verify(engine.store)) == []
    assert run_index(engine.store, small).unchanged == 6


def test_a_rejected_image_refuses_what_is_nearer_to_it(client: TestClient, small: Path) -> None:
    query = small / QUERIES / "cat/a.png"
    [image] = client.get("/v1/images", params={"role": "query", "label": "cat"}).json()["images"]
    assert ask(client, query)["answers"][0]["verdict"] == "match"
    assert client.post("/v1/reject", data={"image_id": image["id"]}).json()["category"] == "things"
    answer = ask(client, query)["answers"][0]
    assert (answer["verdict"], answer["reason"]) == ("unknown", "nearer to a rejected image than to any shot")
    assert "was rejected already" in problem(client.post("/v1/reject", data={"image_id": image["id"]}), 409)
    assert client.post("/v1/reject", data={"image_id": image["id"], "undo": "true"}).json()["undone"]


def test_many_at_once_label_and_none_takes_the_place_of_another(
    client: TestClient, engine: Engine, small: Path, tmp_path: Path
) -> None:
    save_crop(tmp_path / "base.png", "rocket:0")
    added = []
    for number in range(8):
        data = (tmp_path / "base.png").read_bytes() + bytes([number])
        upload = {"image": ("x.png", data)}
        added.append(client.post("/v1/images", data={"category": "things"}, files=upload).json()["id"])
    with ThreadPoolExecutor(16) as pool:
        said = list(
            pool.map(
                lambda image_id: client.post("/v1/label", data={"image_id": image_id, "label": "rocket"}),
                [*added, *added],
            )
        )
    assert sorted(response.status_code for response in said) == [200] * 8 + [409] * 8
    shots = {response.json()["shot"] for response in said if response.status_code == 200}
    assert len(shots) == 8
    assert {path.read_bytes()[-1] for path in map(Path, shots)} == set(range(8))
    for image_id in added:
        assert client.post("/v1/label", data={"image_id": image_id, "undo": "true"}).json()["undone"]
    assert not (small / "things/2.support-set/rocket").exists()
    assert list(verify(engine.store)) == []


@pytest.mark.parametrize("name", ["a\0b", "é" * 200, "x\n", " ", "a\u202eb", "added", "../up", "Unknown", ".hidden"])
def test_what_cannot_be_a_label_is_a_problem(client: TestClient, small: Path, name: str) -> None:
    [image] = client.get("/v1/images", params={"role": "query", "label": "cat"}).json()["images"]
    before = sorted(small.rglob("*"))
    said = client.post("/v1/label", data={"image_id": image["id"], "label": name})
    assert said.status_code == 422, said.text
    assert sorted(small.rglob("*")) == before


def test_a_shot_can_neither_be_labelled_nor_rejected(client: TestClient) -> None:
    [shot, *_] = client.get("/v1/images", params={"role": "support"}).json()["images"]
    for url, fields in (("/v1/label", {"label": "coffee"}), ("/v1/reject", {})):
        refused = client.post(url, data={"image_id": shot["id"], **fields})
        assert "only queries can be labelled or rejected" in problem(refused, 422)


def test_marks_end_lists_and_can_be_taken_back(client: TestClient, small: Path) -> None:
    images = {Path(image["path"]).parent.name: image["id"] for image in client.get("/v1/images").json()["images"]}
    pair = {"image_id": images["cat"], "hit_id": images["coffee"]}
    query = small / QUERIES / "cat/a.png"
    stop = ask(client, query, false=0.5)["answers"][0]["stop"]
    assert (stop["promised"], stop["marked_queries"], stop["needed"]) == (True, 2, 1)
    assert client.post("/v1/mark", data=pair | {"right": "false"}).json() == {
        "hit_id": images["coffee"],
        "right": False,
    }
    assert client.post("/v1/mark", data=pair | {"undo": "true"}).json()["right"] is None
    result = {"hit_id": images["coffee"], "words": "a cup", "mode": "captions", "rank": 1, "right": "true"}
    assert client.post("/v1/mark", data=result).status_code == 200
    results = client.get("/v1/search", params={"q": "a cup", "mode": "captions", "false": 0.5}).json()
    assert (results["stop"]["marked_queries"], results["stop"]["promised"]) == (1, True)
    for fields, reason in (
        (pair, "give right"),
        (pair | {"words": "x", "right": "true"}, "give image_id"),
        ({"hit_id": images["coffee"], "words": "x", "right": "true"}, "the mode of the search"),
        (result | {"mode": "image"}, "the backbone"),
        (result | {"mode": "auto"}, "captions, image or hybrid"),
        (result | {"score": "nan"}, "score"),
    ):
        assert reason in problem(client.post("/v1/mark", data=fields), 422)
    problem(client.post("/v1/mark", data={"hit_id": 999, "image_id": 1, "right": "true"}), 404)


def test_what_waits_is_told_by_groups_and_what_is_decided_is_no_longer(client: TestClient, small: Path) -> None:
    waiting = client.get("/v1/review", params={"every": True}).json()
    assert waiting["images"] == sum(len(group["ids"]) for group in waiting["groups"])
    assert waiting["keys"]["things"] == {"1": "cat", "2": "coffee"}
    path = small / "things/6.preprocessed/new.png"
    save_crop(path, "rocket:1")
    with path.open("rb") as file:
        image = client.post("/v1/images", data={"category": "things"}, files={"image": file}).json()
    after = client.get("/v1/review", params={"every": True, "category": "things"}).json()
    assert image["id"] in [number for group in after["groups"] for number in group["ids"]]
    assert client.post("/v1/label", data={"image_id": image["id"], "label": "rocket"}).status_code == 200
    refused = client.post("/v1/reject", data={"image_id": image["id"]})
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:nearshot:decided")
    last = client.get("/v1/review", params={"every": True}).json()
    assert image["id"] not in [number for group in last["groups"] for number in group["ids"]]
    assert last["keys"]["things"]["3"] == "rocket"


def test_where_weighing_takes_long_the_last_review_is_given_without_what_has_been_decided(
    client: TestClient, small: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2):
        path = small / f"things/6.preprocessed/new{number}.png"
        save_crop(path, f"{('rocket', 'coins')[number]}:1")
        client.post("/v1/images", data={"category": "things"}, files={"image": path.read_bytes()})
    first = client.get("/v1/review", params={"every": True}).json()
    [image_id, *_] = first["groups"][0]["ids"]
    going_on = threading.Event()

    def slow(*arguments: Any, **options: Any) -> Any:
        assert going_on.wait(20)
        return weigh(*arguments, **options)

    monkeypatch.setattr("nearshot.evaluation.review.weigh", slow)
    monkeypatch.setattr(engine._reviews, "_patience", 0.05)
    assert client.post("/v1/label", data={"image_id": image_id, "label": "new"}).status_code == 200
    meanwhile = client.get("/v1/review", params={"every": True}).json()
    assert meanwhile["images"] == first["images"] - 1
    assert image_id not in [each for group in meanwhile["groups"] for each in group["ids"]]
    assert meanwhile["keys"]["things"]["3"] == "new"
    going_on.set()
    monkeypatch.setattr(engine._reviews, "_patience", 20)
    assert client.get("/v1/review", params={"every": True}).json()["images"] == meanwhile["images"]
