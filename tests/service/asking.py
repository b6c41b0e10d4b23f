"""Asking: what the tests of the API ask with, and wait for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from nearshot.backbones.protocol import Backbone, Prepared
from nearshot.service.batcher import Vector

QUERIES = "things/6.preprocessed"


MULTIPART = {"Content-Type": "multipart/form-data; boundary=x"}


def ask(client: TestClient, *files: Path, **parameters: Any) -> dict[str, Any]:
    uploads = [("images", (file.name, file.read_bytes())) for file in files]
    response = client.post("/v1/query", params=parameters, files=uploads)
    assert response.status_code == 200, response.text
    answers: dict[str, Any] = response.json()
    return answers


def upload(image: Path) -> bytes:
    part = b'--x\r\nContent-Disposition: form-data; name="images"; filename="i"\r\n\r\n%b\r\n--x--\r\n'
    return part % image.read_bytes()


def problem(response: Any, status: int) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    details = response.json()
    assert details["status"] == status
    return str(details["detail"])


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


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)
