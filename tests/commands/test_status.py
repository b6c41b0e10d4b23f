"""`nearshot status`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Outcome, save_crop

pytestmark = pytest.mark.both_stores

Run = Callable[..., Outcome]


def test_status_shows_each_category_and_role(nearshot: Run, indexed: Path) -> None:
    [status] = nearshot("status", "--json").objects
    counted = {(c["category"], c["role"]): (c["images"], c["labels"], c["shots"]) for c in status["categories"]}
    assert counted == {("things", "support"): (4, 2, 4), ("things", "query"): (2, 2, 0)}
    assert status["categories"][0]["backbones"]["hog"] == {"vectors": 4, "lacking": 0, "failed": 0, "behind": 0}
    assert status["last_run"]["outcome"] == "finished"
    printed = nearshot("status").stdout
    assert "data: up to date" in printed
    assert "things    support       4       2      4          4 vectors" in printed


def test_status_says_what_is_stale_and_what_failed_and_why(nearshot: Run, indexed: Path) -> None:
    save_crop(indexed / "things/2.support-set/cat/shot3.png", "chelsea:6")
    (indexed / "things/2.support-set/cat/shot1.png").unlink()
    printed = nearshot("status").stdout
    assert f"1 new, 1 removed since it was indexed; run `nearshot index {indexed}`" in printed
    (indexed / "things/2.support-set/cat/shot4.png").write_bytes(b"")
    nearshot("index", "data", "--backbone", "hog")
    assert "shot4.png: the file is empty" in nearshot("status").stdout


def test_status_knows_a_store_indexed_under_another_cap_as_current(nearshot: Run, indexed: Path) -> None:
    (indexed / "things/2.support-set/cat/shot9.png").write_bytes(b"")
    nearshot("index", "data", "--backbone", "hog", "--max-pixels", 10**6)
    assert "up to date" in nearshot("status").stdout


def test_names_in_brackets_survive(nearshot: Run, indexed: Path) -> None:
    save_crop(indexed / "mugs [old]/2.support-set/:cat:/shot1.png", "coffee")
    nearshot("index", "data", "--backbone", "hog")
    assert "mugs [old]" in nearshot("status").stdout
