"""Queries over HTTP are answered as on the command line, follow the store, and end with their clients."""

from __future__ import annotations

import http.client
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from nearshot.backbones.protocol import Prepared
from nearshot.retriever.options import QueryOptions
from nearshot.retriever.retriever import Retriever
from nearshot.retriever.sources import read_queries
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Against, Score
from nearshot.service.app import create_app
from nearshot.service.engine import Engine, Served
from tests.conftest import run_index, save_crop
from tests.service.asking import MULTIPART, QUERIES, Gate, ask, problem, upload, wait_for
from tests.service.conftest import running

pytestmark = pytest.mark.both_stores


@pytest.mark.parametrize(
    ("parameters", "options"),
    [
        ({}, QueryOptions()),
        ({"category": "things", "score_by": "prototype"}, QueryOptions(category="things", score=Score.PROTOTYPE)),
        ({"score": "knn_vote", "top_k": 1}, QueryOptions(score=Score.KNN_VOTE, top_k=1)),
        ({"margin": 0.1}, QueryOptions(margin_floor=0.1)),
        ({"threshold": 0.99, "margin_floor": 0.1}, QueryOptions(threshold=0.99, margin_floor=0.1)),
        ({"boxes": ["5,5,40,40", "0,0,30,60"]}, QueryOptions(box=((5, 5, 40, 40), (0, 0, 30, 60)))),
        ({"against": "all", "caption": True}, QueryOptions(against=Against.ALL, captions=True)),
    ],
)
def test_a_query_is_answered_as_the_command_line_answers_it(
    client: TestClient, store: Store, small: Path, parameters: dict[str, Any], options: QueryOptions
) -> None:
    files = sorted((small / QUERIES).rglob("*.png"))
    answers = ask(client, *files, **parameters)["answers"]
    told = [answer.as_json() for answer in Retriever(store, options).answer(read_queries(files))]
    assert answers == [json.loads(json.dumps(expected)) | {"path": Path(expected["path"]).name} for expected in told]
    assert {answer.get("verdict", "match") for answer in answers} <= {"match", "unknown", "ambiguous"}


def test_every_object_that_is_detected_has_an_answer(client: TestClient, tmp_path: Path) -> None:
    picture = Image.new("RGB", (400, 300), "white")
    for left in (40, 240):
        picture.paste("#c03020", (left, 80, left + 100, 220))
    picture.save(tmp_path / "two.png")
    answers = ask(client, tmp_path / "two.png", objects=True)["answers"]
    assert [answer["path"] for answer in answers] == ["two.png"] * 2
    lefts = sorted(answer["box"][0] for answer in answers)
    assert lefts == pytest.approx([40, 240], abs=15)
    nothing = client.post("/v1/query", params={"find": "mug"}, files=[("images", (tmp_path / "two.png").read_bytes())])
    assert (nothing.status_code, "weights" in nothing.json()["detail"]) == (409, True)


def test_former_names_of_parameters_are_said_to_be_former(client: TestClient, small: Path) -> None:
    both = {"score": "lda", "score_by": "max_sim"}
    sent = {"images": ("a.png", (small / QUERIES / "cat/a.png").read_bytes())}
    refused = client.post("/v1/query", params=both, files=sent)
    assert "score is the former name of score_by: give score_by alone" in problem(refused, 422)
    described = client.get("/openapi.json").json()["paths"]["/v1/query"]["post"]["parameters"]
    assert {parameter["name"] for parameter in described if parameter["schema"].get("deprecated")} == {
        "score",
        "margin",
    }


def test_what_is_no_image_is_told_in_its_place(client: TestClient, small: Path, tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("not an image")
    first, second = ask(client, words, small / QUERIES / "cat/a.png")["answers"]
    assert first == {"path": "words.txt", "error": "not an image in any known format"}
    assert second["label"] == "cat"
    alone = client.post("/v1/query", files={"images": ("words.txt", words.read_bytes())})
    assert problem(alone, 422) == "words.txt: not an image in any known format"


def test_shots_that_another_process_indexes_count_within_a_second(
    client: TestClient, store: Store, small: Path
) -> None:
    stranger = small / QUERIES / "Unknown/b.png"
    assert ask(client, stranger)["answers"][0]["verdict"] == "unknown"
    save_crop(small / "things/2.support-set/galaxies/shot1.png", "hubble_deep_field:1")
    with Store(store.location) as other:
        run_index(other, small)
    until = time.monotonic() + 1.0
    while (label := ask(client, stranger)["answers"][0]["label"]) is None and time.monotonic() < until:
        pass
    assert label == "galaxies"


def test_the_image_of_a_client_that_left_is_not_encoded(engine: Engine, small: Path) -> None:
    gate = Gate(engine.served["hog"].backbone)
    engine.served["hog"] = Served(engine.served["hog"].row, gate)
    with running(create_app(engine)) as port:
        clients = [http.client.HTTPConnection("127.0.0.1", port, timeout=20) for _ in range(3)]
        for number, connection in enumerate(clients, start=1):
            connection.request("POST", "/v1/query", upload(small / QUERIES / "cat/a.png"), MULTIPART)
            prepared = f'nearshot_stage_seconds_count{{stage="prepare"}} {number}.0'
            wait_for(lambda prepared=prepared: prepared in engine.metrics.text().decode())  # type: ignore[misc]
            assert gate.entered.wait(20), "the first is being encoded, the others wait"
        clients[1].close()
        wait_for(lambda: engine.batcher.admitted == 2)
        gate.may_go.set()
        answers = [
            json.loads(connection.getresponse().read())["answers"][0]["label"]
            for connection in (clients[0], clients[2])
        ]
        counted = engine.metrics.text().decode()
        for connection in clients:
            connection.close()
    assert answers == ["cat", "cat"]
    assert gate.batches == [1, 1]
    assert 'nearshot_requests_total{method="POST",route="/v1/query",status="499"} 1.0' in counted


def test_an_image_whose_client_leaves_while_it_is_decoded_is_not_encoded(engine: Engine, small: Path) -> None:
    gate = Gate(engine.served["hog"].backbone)
    gate.may_go.set()
    decoding, decoded = threading.Event(), threading.Event()
    prepare = gate.prepare

    def prepare_late(picture: Image.Image) -> Prepared:
        decoding.set()
        assert decoded.wait(20)
        return prepare(picture)

    gate.prepare = prepare_late
    engine.served["hog"] = Served(engine.served["hog"].row, gate)
    with running(create_app(engine)) as port:
        leaving = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        leaving.request("POST", "/v1/query", upload(small / QUERIES / "cat/a.png"), MULTIPART)
        assert decoding.wait(20)
        leaving.close()
        wait_for(lambda: engine.batcher.admitted == 0)
        decoded.set()
        staying = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        staying.request("POST", "/v1/query", upload(small / QUERIES / "cat/a.png"), MULTIPART)
        assert staying.getresponse().status == 200
        staying.close()
    assert gate.batches == [1]


def test_words_find_images(client: TestClient, engine: Engine, small: Path) -> None:
    (small / "things/2.support-set/cat/shot1.txt").write_text("a ginger cat")
    run_index(engine.store, small)
    results = client.get("/v1/search", params={"q": "cats"}).json()
    assert (results["mode"], [hit["snippet"] for hit in results["found"]]) == ("captions", ["a ginger [cat]"])
    assert results["missing"] == [
        "image: nothing is indexed with a backbone that understands words; run `nearshot index DATA --backbone clip`"
    ]
    detail = problem(client.get("/v1/search", params={"q": "cat", "mode": "image"}), 422)
    assert "understands words" in detail
    assert client.get("/v1/search", params={"q": '"*'}).json()["found"] == []


@pytest.mark.parametrize(
    ("parameters", "part"),
    [
        ({"threshold": 2}, "query.threshold: Input should be less than or equal to 1"),
        ({"threshold": "nan"}, "query.threshold: Input should be a finite number"),
        ({"color": "red"}, "query.color: Extra inputs are not permitted"),
        ({"category": "sky"}, "no category 'sky' is indexed; there are things"),
        ({"backbone": "clip"}, "clip is not served here; take hog"),
        ({"text": "red"}, "nothing is indexed with a backbone that understands words"),
    ],
)
def test_a_wrong_option_is_a_problem_that_says_what_to_do(
    client: TestClient, small: Path, parameters: dict[str, Any], part: str
) -> None:
    upload = {"images": (small / QUERIES / "cat/a.png").read_bytes()}
    assert part in problem(client.post("/v1/query", params=parameters, files=upload), 422)


def test_a_request_without_images_or_with_too_many_is_refused(client: TestClient) -> None:
    remedy = "no file; send it as multipart/form-data, like curl -F images=@FILE"
    assert problem(client.post("/v1/query"), 422) == f"body.images: {remedy}"
    assert problem(client.post("/v1/query", data={"images": "cat.png"}), 422) == f"body.images: {remedy}"
    assert problem(client.post("/v1/query", files=many(33)), 413) == "33 images are more than 32"
    assert problem(client.post("/v1/query", files=many(34)), 413) == "there are more images than a request may have"


def many(images: int) -> list[tuple[str, tuple[str, bytes]]]:
    return [("images", ("x.png", b"x"))] * images


def test_what_is_not_there_says_where_to_look(client: TestClient) -> None:
    assert (
        problem(client.get("/v1/nothing"), 404) == "there is nothing at /v1/nothing; /openapi.json lists what there is"
    )
