"""Many clients label at once, and the service is killed again and again: nothing that was said is lost, nothing is double."""

from __future__ import annotations

import os
import queue
import random
import signal
import sqlite3
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nearshot.indexer.verify import verify
from nearshot.schema.store import Store
from tests.conftest import run_index
from tests.service import test_serve
from tests.service.test_serve import Served

IMAGES = int(os.environ.get("NEARSHOT_LABELLED", "60"))
"""Images that are labelled; `make soak` labels ten thousand."""

CLIENTS, LABELS = 8, 4
KILLS = max(2, IMAGES // 1000)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four labels of one shot each, and many small queries."""
    root, chance = tmp_path_factory.mktemp("labelling") / "data/things", np.random.default_rng(0)

    def save(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(chance.integers(0, 256, (12, 12, 3), dtype=np.uint8)).resize((64, 64)).save(path)

    for label in range(LABELS):
        save(root / f"2.support-set/label{label}/shot1.png")
    for number in range(IMAGES):
        save(root / f"6.preprocessed/{number}.png")
    return root.parent


class Killed:
    """A service that is killed, and begun again at the same port."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self.service = Served(store)
        self.url = self.service.url
        self.over = False

    def kill_now_and_then(self, done: list[int]) -> None:
        """Kill it after each so many answers."""
        for number in range(1, KILLS + 1):
            while len(done) < IMAGES * number // (KILLS + 1):
                time.sleep(0.002)
            time.sleep(random.Random(number).uniform(0, 0.05))
            self.service.process.send_signal(signal.SIGKILL)
            self.service.process.communicate()
            self.service = Served(self._store, "--port", self.url.rpartition(":")[2])
        self.over = True

    def post(self, path: str, **fields: str | int) -> int:
        """Ask until there is an answer; its status."""
        request = urllib.request.Request(self.url + path, urllib.parse.urlencode(fields).encode(), method="POST")
        for _ in range(2000):
            try:
                with urllib.request.urlopen(request, timeout=60) as response:
                    return int(response.status)
            except urllib.error.HTTPError as error:
                if error.code != 503:
                    return error.code
            except (OSError, HTTPException):
                pass
            time.sleep(0.05)
        raise AssertionError("it never came back")


@pytest.fixture
def killed(data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Killed]:
    monkeypatch.setattr(test_serve, "PATIENCE_S", 120 + IMAGES)
    with Store(data.parent / "store", create=True) as store:
        run_index(store, data)
    service = Killed(data.parent / "store")
    yield service
    service.service.end(signal.SIGKILL)


def test_many_clients_and_a_killed_service_lose_no_label_and_double_none(killed: Killed, data: Path) -> None:
    with Store(data.parent / "store") as store, store.reading() as catalog:
        rows = catalog.connection.exec_driver_sql("SELECT id, path FROM images WHERE role = 'query'").fetchall()
    waiting: queue.SimpleQueue[tuple[int, str]] = queue.SimpleQueue()
    for each in rows:
        waiting.put((each[0], each[1]))
    wanted = {path: f"label{image_id % LABELS}" for image_id, path in rows}
    done: list[int] = []
    odd: list[tuple[int, int]] = []

    def client() -> None:
        while True:
            try:
                image_id, path = waiting.get_nowait()
            except queue.Empty:
                return
            status = killed.post("/v1/label", image_id=image_id, label=wanted[path])
            if status not in (200, 409):  # 409: it was said, and the answer was lost with the service
                odd.append((image_id, status))
            done.append(image_id)

    killer = threading.Thread(target=killed.kill_now_and_then, args=(done,))
    clients = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in (*clients, killer):
        thread.start()
    for thread in (*clients, killer):
        thread.join()
    assert killed.over
    assert odd == []
    with Store(data.parent / "store") as store:
        assert list(verify(store)) == []  # which also finishes what was cut off
        with store.reading() as catalog:
            counts = catalog.support_labels("things")
    with sqlite3.connect(data.parent / "store/nearshot.db") as database:
        said = database.execute("SELECT path, label, shot_path FROM feedback WHERE undone IS NULL").fetchall()
    assert len(said) == IMAGES, "each once"
    assert {str(Path(path).relative_to(data)): label for path, label, _ in said} == wanted
    shots = {Path(shot): (data / path).read_bytes() for path, _, shot in said}
    assert len(shots) == IMAGES, "no two took the same place"
    assert all(shot.read_bytes() == content for shot, content in shots.items())
    assert sum(counts.values()) == IMAGES + LABELS
    files = [path for path in (data / "things/2.support-set").rglob("*") if path.is_file()]
    assert len(files) == IMAGES + LABELS, "nothing was left half written"
