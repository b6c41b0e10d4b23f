"""`nearshot forget`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Outcome

pytestmark = pytest.mark.both_stores

Run = Callable[..., Outcome]


def test_a_data_directory_can_be_forgotten_and_comes_back_at_no_cost(nearshot: Run, indexed: Path) -> None:
    gone = indexed.rename(indexed.with_name("gone"))
    assert "mount it again, nearshot move, or nearshot forget" in nearshot("verify").stdout
    assert nearshot("forget", "data").stdout == f"forgot 6 images of {indexed}\n"
    assert nearshot("verify").status == 0
    assert nearshot("query", gone / "things/6.preprocessed/cat/a.png", "--json").objects[0]["verdict"] == "no_support"
    gone.rename(indexed)
    [report] = nearshot("index", "data", "--backbone", "hog", "--json").objects
    assert (report["added"], report["backbones"]["hog"]["embedded"]) == (6, 0)
    assert nearshot("forget", "nowhere").status == 2
