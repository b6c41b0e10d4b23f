"""Indexed data for the commands' tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Outcome, save_crop


@pytest.fixture
def indexed(nearshot: Callable[..., Outcome], small: Path) -> Path:
    """The small data directory, indexed with hog."""
    assert nearshot("index", "data", "--backbone", "hog").status == 0
    return small


@pytest.fixture
def labelled(nearshot: Callable[..., Outcome], small: Path) -> Path:
    """The small data directory with ten labelled queries, indexed with hog."""
    for number in range(4):
        save_crop(small / f"things/6.preprocessed/coffee/{number}.png", f"coffee:{number + 1}")
        save_crop(small / f"things/6.preprocessed/Unknown/{number}.png", f"rocket:{number + 1}")
    assert nearshot("index", "data", "--backbone", "hog").status == 0
    return small
