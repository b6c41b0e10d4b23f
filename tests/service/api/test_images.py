"""Indexed images over HTTP: listed, shown, added."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from nearshot.schema.errors import AwayError
from nearshot.schema.paths import path_of
from nearshot.schema.store import Store
from nearshot.service.app import create_app
from nearshot.service.engine import Engine
from nearshot.service.metrics import Metrics
from nearshot.service.settings import Settings
from tests.conftest import run_index, save_crop
from tests.objects import BUCKET, Environment, put
from tests.service.asking import QUERIES, problem
from tests.service.conftest import HERE

pytestmark = pytest.mark.both_stores


def test_images_are_listed_a_page_at_a_time(client: TestClient, small: Path) -> None:
    pages, after = [], 0
    while after is not None:
        page = client.get("/v1/images", params={"limit": 4, "after": after}).json()
        pages.append([Path(image["path"]).relative_to(small.resolve()).as_posix() for image in page["images"]])
        after = page["next"]
    assert [len(page) for page in pages] == [4, 2]
    assert sorted(path for page in pages for path in page) == sorted(
        path.relative_to(small).as_posix() for path in small.rglob("*.png")
    )
    shots = client.get("/v1/images", params={"role": "support", "label": "cat"}).json()["images"]
    assert {image["shot"] for image in shots} == {"shot1", "shot2"}


def test_an_image_has_a_thumbnail_and_its_original_unless_the_file_has_changed(client: TestClient, small: Path) -> None:
    [image] = client.get("/v1/images", params={"role": "query", "label": "cat"}).json()["images"]
    url = f"/v1/images/{image['id']}"
    assert client.get(url).json() == image
    original = client.get(f"{url}/original")
    assert original.content == Path(image["path"]).read_bytes()
    assert original.headers["content-type"] == "image/png"
    small_one = client.get(f"{url}/thumbnail")
    with Image.open(io.BytesIO(small_one.content)) as thumbnail:
        assert (thumbnail.format, max(thumbnail.size) <= 256) == ("JPEG", True)
    known = {"If-None-Match": small_one.headers["etag"]}
    assert client.get(f"{url}/thumbnail", headers=known).status_code == 304
    Path(image["path"]).write_bytes(b"other bytes")
    assert "has changed" in problem(client.get(f"{url}/original"), 410)
    assert "there is no image 99" in problem(client.get("/v1/images/99/thumbnail"), 404)


def test_the_same_upload_from_many_at_once_is_one_image(client: TestClient, small: Path, tmp_path: Path) -> None:
    save_crop(tmp_path / "rocket.png", "rocket:0")
    upload = {"image": ("x.png", (tmp_path / "rocket.png").read_bytes())}
    with ThreadPoolExecutor(6) as pool:
        posts = [pool.submit(client.post, "/v1/images", data={"category": "things"}, files=upload) for _ in range(6)]
    assert sorted(post.result().status_code for post in posts) == [200] * 5 + [201]
    assert {post.result().json()["id"] for post in posts} == {7}


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


def test_pictures_in_a_store_of_objects_are_shown_labelled_and_added(
    s3: Environment, store: Store, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    url = f"s3://{BUCKET}/served/{store.has_segments}"
    put(small, url)
    run_index(store, path_of(url))
    engine = Engine(store, Settings(), Metrics())
    engine.load()
    with TestClient(create_app(engine), base_url=HERE) as client:
        [image] = client.get("/v1/images", params={"role": "query", "label": "Unknown"}).json()["images"]
        assert image["path"] == f"{url}/things/6.preprocessed/Unknown/b.png"
        original = client.get(f"/v1/images/{image['id']}/original").content
        assert original == (small / "things/6.preprocessed/Unknown/b.png").read_bytes()
        assert client.get(f"/v1/images/{image['id']}/thumbnail").status_code == 200
        said = client.post("/v1/label", data={"image_id": image["id"], "label": "stars"}).json()
        assert said["shot"] == f"{url}/things/2.support-set/stars/shot1.png"
        assert client.post("/v1/label", data={"image_id": image["id"], "undo": "true"}).status_code == 200
        with monkeypatch.context() as patch:
            patch.setattr(
                "nearshot.schema.objects.read", lambda path, **_: (_ for _ in ()).throw(AwayError(str(path), "away"))
            )
            told = problem(client.get(f"/v1/images/{image['id']}/original"), 503)
            assert told == f"{image['path']} cannot be reached: away"
        run = client.post("/v1/index").json()
        while (state := client.get(f"/v1/runs/{run['id']}").json())["state"] == "running":
            pass
        assert (state["state"], [report["unchanged"] for report in state["reports"].values()]) == ("finished", [6])
