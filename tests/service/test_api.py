"""The API answers what the command line answers, follows the store, and says what is wrong."""

from __future__ import annotations

import http.client
import io
import json
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from backbones.protocol import Backbone, Prepared
from indexer.verify import verify
from retriever.options import Against, QueryOptions
from retriever.retriever import Retriever
from retriever.scores import Score
from retriever.sources import read_queries
from schema.store import Store
from service.app import create_app
from service.batcher import Vector
from service.engine import Engine, Served
from tests.conftest import run_index, save_crop
from tests.service.conftest import running

QUERIES = "things/6.preprocessed"


def ask(client: TestClient, *files: Path, **parameters: Any) -> dict[str, Any]:
    uploads = [("images", (file.name, file.read_bytes())) for file in files]
    response = client.post("/v1/query", params=parameters, files=uploads)
    assert response.status_code == 200, response.text
    answers: dict[str, Any] = response.json()
    return answers


class Gate:
    """A backbone whose forward passes wait until they may go."""

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone
        self.description, self.batch_size = backbone.description, backbone.batch_size
        self.prepare = backbone.prepare
        self.entered, self.may_go = threading.Event(), threading.Event()
        self.batches: list[int] = []

    def encode(self, batch: Sequence[Prepared]) -> Vector:
        self.entered.set()
        self.may_go.wait(20)
        self.batches.append(len(batch))
        return self._backbone.encode(batch)


MULTIPART = {"Content-Type": "multipart/form-data; boundary=x"}


def upload(image: Path) -> bytes:
    part = b'--x\r\nContent-Disposition: form-data; name="images"; filename="i"\r\n\r\n%b\r\n--x--\r\n'
    return part % image.read_bytes()


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def problem(response: Any, status: int) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    facts = response.json()
    assert facts["status"] == status
    return str(facts["detail"])


@pytest.mark.parametrize(
    ("parameters", "options"),
    [
        ({}, QueryOptions()),
        ({"category": "things", "score": "prototype"}, QueryOptions(category="things", score=Score.PROTOTYPE)),
        ({"score": "knn_vote", "top_k": 1}, QueryOptions(score=Score.KNN_VOTE, top_k=1)),
        ({"threshold": 0.99, "margin": 0.1}, QueryOptions(threshold=0.99, margin_floor=0.1)),
        ({"against": "all", "caption": True}, QueryOptions(against=Against.ALL, captions=True)),
    ],
)
def test_a_query_is_answered_as_the_command_line_answers_it(
    client: TestClient, store: Store, small: Path, parameters: dict[str, Any], options: QueryOptions
) -> None:
    files = sorted((small / QUERIES).rglob("*.png"))
    answers = ask(client, *files, **parameters)["answers"]
    told = [one.as_json() for one in Retriever(store, options).answer(read_queries(files))]
    assert answers == [json.loads(json.dumps(one)) | {"path": file.name} for one, file in zip(told, files, strict=True)]
    assert {answer["verdict"] for answer in answers} <= {"match", "unknown", "ambiguous"}


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
    with Store(store.directory) as other:
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
        for number, one in enumerate(clients, start=1):
            one.request("POST", "/v1/query", upload(small / QUERIES / "cat/a.png"), MULTIPART)
            prepared = f'nearshot_stage_seconds_count{{stage="prepare"}} {number}.0'
            wait_for(lambda prepared=prepared: prepared in engine.metrics.text().decode())  # type: ignore[misc]
            assert gate.entered.wait(20), "the first is being encoded, the others wait"
        clients[1].close()
        wait_for(lambda: engine.batcher.admitted == 2)
        gate.may_go.set()
        answers = [json.loads(one.getresponse().read())["answers"][0]["label"] for one in (clients[0], clients[2])]
        counted = engine.metrics.text().decode()
        for one in clients:
            one.close()
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
    found = client.get("/v1/search", params={"q": "cats"}).json()
    assert (found["mode"], [one["snippet"] for one in found["found"]]) == ("captions", ["a ginger [cat]"])
    assert found["missing"] == [
        "image: nothing is indexed with a backbone that understands words; run `nearshot index DATA --backbone clip`"
    ]
    detail = problem(client.get("/v1/search", params={"q": "cat", "mode": "image"}), 422)
    assert "understands words" in detail
    assert client.get("/v1/search", params={"q": '"*'}).json()["found"] == []


def test_images_are_listed_a_page_at_a_time(client: TestClient, small: Path) -> None:
    pages, after = [], 0
    while after is not None:
        page = client.get("/v1/images", params={"limit": 4, "after": after}).json()
        pages.append([Path(one["path"]).relative_to(small.resolve()).as_posix() for one in page["images"]])
        after = page["next"]
    assert [len(page) for page in pages] == [4, 2]
    assert sorted(path for page in pages for path in page) == sorted(
        path.relative_to(small).as_posix() for path in small.rglob("*.png")
    )
    shots = client.get("/v1/images", params={"role": "support", "label": "cat"}).json()["images"]
    assert {one["shot"] for one in shots} == {"shot1", "shot2"}


def test_an_image_has_a_thumbnail_and_its_original_unless_the_file_has_changed(client: TestClient, small: Path) -> None:
    [image] = client.get("/v1/images", params={"role": "query", "label": "cat"}).json()["images"]
    place = f"/v1/images/{image['id']}"
    assert client.get(place).json() == image
    original = client.get(f"{place}/original")
    assert original.content == Path(image["path"]).read_bytes()
    assert original.headers["content-type"] == "image/png"
    small_one = client.get(f"{place}/thumbnail")
    with Image.open(io.BytesIO(small_one.content)) as thumbnail:
        assert (thumbnail.format, max(thumbnail.size) <= 256) == ("JPEG", True)
    known = {"If-None-Match": small_one.headers["etag"]}
    assert client.get(f"{place}/thumbnail", headers=known).status_code == 304
    Path(image["path"]).write_bytes(b"other bytes")
    assert "has changed" in problem(client.get(f"{place}/original"), 410)
    assert "there is no image 99" in problem(client.get("/v1/images/99/thumbnail"), 404)


def test_what_can_be_asked_for_is_listed(client: TestClient) -> None:
    facts = client.get("/v1/categories").json()
    assert facts["categories"] == [
        {
            "category": "things",
            "labels": [{"label": "cat", "images": 2}, {"label": "coffee", "images": 2}],
            "queries": 2,
        }
    ]
    assert [(one["name"], one["words"]) for one in facts["backbones"]] == [("hog", False)]
    assert client.get("/v1/status").json()["categories"][0]["images"] == 4


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


def test_a_rejected_image_refuses_what_is_nearer_to_it(client: TestClient, small: Path) -> None:
    query = small / QUERIES / "cat/a.png"
    [image] = client.get("/v1/images", params={"role": "query", "label": "cat"}).json()["images"]
    assert ask(client, query)["answers"][0]["verdict"] == "match"
    assert client.post("/v1/reject", data={"image_id": image["id"]}).json()["category"] == "things"
    answer = ask(client, query)["answers"][0]
    assert (answer["verdict"], answer["reason"]) == ("unknown", "nearer to a rejected image than to any shot")
    assert "was rejected already" in problem(client.post("/v1/reject", data={"image_id": image["id"]}), 422)
    assert client.post("/v1/reject", data={"image_id": image["id"], "undo": "true"}).json()["undone"]


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
    assert "images" in problem(client.post("/v1/query"), 422)
    many = [("images", ("x.png", b"x"))] * 34
    assert client.post("/v1/query", files=many).status_code in (400, 413)
    assert problem(client.get("/v1/nothing"), 404) == "Not Found"


def test_health_readiness_and_metrics_are_told(client: TestClient, engine: Engine, small: Path) -> None:
    ask(client, small / QUERIES / "cat/a.png")
    assert client.get("/healthz").text == "ok"
    assert client.get("/readyz").text == "ready"
    assert {client.head(place).status_code for place in ("/", "/healthz", "/readyz")} == {200}, "as monitors ask"
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
    assert described["components"]["schemas"]["Answer"]["examples"]


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
            pool.map(lambda one: client.post("/v1/label", data={"image_id": one, "label": "rocket"}), [*added, *added])
        )
    assert sorted(one.status_code for one in said) == [200] * 8 + [422] * 8
    shots = {one.json()["shot"] for one in said if one.status_code == 200}
    assert len(shots) == 8
    assert {path.read_bytes()[-1] for path in map(Path, shots)} == set(range(8))
    for one in added:
        assert client.post("/v1/label", data={"image_id": one, "undo": "true"}).json()["undone"]
    assert not (small / "things/2.support-set/rocket").exists()
    assert list(verify(engine.store)) == []


def test_the_same_upload_from_many_at_once_is_one_image(client: TestClient, small: Path, tmp_path: Path) -> None:
    save_crop(tmp_path / "rocket.png", "rocket:0")
    upload = {"image": ("x.png", (tmp_path / "rocket.png").read_bytes())}
    with ThreadPoolExecutor(6) as pool:
        posts = [pool.submit(client.post, "/v1/images", data={"category": "things"}, files=upload) for _ in range(6)]
    assert {(post.result().status_code, post.result().json()["id"]) for post in posts} == {(201, 7)}


def test_an_upload_to_a_directory_that_is_not_there_changes_nothing(
    client: TestClient, small: Path, tmp_path: Path
) -> None:
    upload = {"image": ("x.png", (small / QUERIES / "cat/a.png").read_bytes() + b"more")}
    small.rename(tmp_path / "unmounted")
    refused = client.post("/v1/images", data={"category": "things"}, files=upload)
    assert "is not there; nothing can be added to it" in problem(refused, 422)
    assert not small.exists()
    assert client.get("/v1/categories").json()["categories"][0]["queries"] == 2
    assert client.post("/v1/images", data={"category": "sky"}, files=upload).status_code == 422


def test_an_upload_that_cannot_be_indexed_now_is_not_left_behind(
    client: TestClient, engine: Engine, small: Path, tmp_path: Path
) -> None:
    save_crop(tmp_path / "rocket.png", "rocket:0")
    upload = {"image": ("x.png", (tmp_path / "rocket.png").read_bytes())}
    with engine.store.held("something long"):
        refused = client.post("/v1/images", data={"category": "things"}, files=upload)
    assert "is in use by `something long`" in problem(refused, 409)
    assert list((small / QUERIES / "added").iterdir()) == []


@pytest.mark.parametrize("name", ["a\0b", "é" * 200, "x\n", " ", "a\u202eb", "added", "../up", "Unknown", ".hidden"])
def test_what_cannot_be_a_label_is_a_problem(client: TestClient, small: Path, name: str) -> None:
    [image] = client.get("/v1/images", params={"role": "query", "label": "cat"}).json()["images"]
    before = sorted(small.rglob("*"))
    said = client.post("/v1/label", data={"image_id": image["id"], "label": name})
    assert said.status_code == 422, said.text
    assert sorted(small.rglob("*")) == before


def test_a_shot_can_neither_be_labelled_nor_rejected(client: TestClient) -> None:
    [shot, *_] = client.get("/v1/images", params={"role": "support"}).json()["images"]
    for place, fields in (("/v1/label", {"label": "coffee"}), ("/v1/reject", {})):
        refused = client.post(place, data={"image_id": shot["id"], **fields})
        assert "only queries can be labelled or rejected" in problem(refused, 422)


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
