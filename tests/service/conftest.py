"""A service over the small data set, asked without a network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from schema.store import Store
from service.app import create_app
from service.engine import Engine
from service.metrics import Metrics
from service.settings import Settings
from tests.conftest import run_index

HERE = "http://127.0.0.1"


@pytest.fixture
def engine(store: Store, small: Path) -> Engine:
    """An engine with `hog` over the small data set."""
    run_index(store, small)
    made = Engine(store, Settings(), Metrics())
    made.load()
    return made


@pytest.fixture
def client(engine: Engine) -> Iterator[TestClient]:
    """A client on this machine."""
    with TestClient(create_app(engine), base_url=HERE) as opened:
        yield opened
