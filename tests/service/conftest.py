"""A service over the small data set, asked without a network."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi.testclient import TestClient

from nearshot.schema.store import Store
from nearshot.service.app import create_app
from nearshot.service.engine import Engine
from nearshot.service.metrics import Metrics
from nearshot.service.protocol import PromptProtocol
from nearshot.service.settings import Settings
from tests.conftest import run_index

HERE = "http://127.0.0.1"


@pytest.fixture
def engine(store: Store, small: Path) -> Engine:
    """An engine with `hog` over the small data set."""
    run_index(store, small)
    hog_engine = Engine(store, Settings(), Metrics())
    hog_engine.load()
    return hog_engine


@pytest.fixture
def client(engine: Engine) -> Iterator[TestClient]:
    """A client on this machine."""
    with TestClient(create_app(engine), base_url=HERE) as opened:
        yield opened


@contextmanager
def running(app: Any, **options: Any) -> Iterator[int]:
    """The port of a server of this process, which answers for as long as this lasts."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, http=PromptProtocol, log_level="error", **options))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


@pytest.fixture
def anyio_backend() -> str:
    """What runs tests that are coroutines."""
    return "asyncio"
