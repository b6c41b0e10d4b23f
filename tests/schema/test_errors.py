"""Errors: one message, in the words of whoever shows it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import nearshot
from nearshot.commands.common import flag
from nearshot.schema.errors import NearshotError, UsageError, option
from tests.conftest import Outcome

Run = Callable[..., Outcome]


def test_an_option_is_called_what_it_is_called_where_it_is_shown() -> None:
    error = UsageError(f"{option('max_pixels')} is too small, and {option('margin_floor')} too large")
    assert str(error) == "max_pixels is too small, and margin_floor too large"
    assert error.told(flag) == "--max-pixels is too small, and --margin too large"
    assert UsageError(f"again: {error.told(option)}").told(flag).startswith("again: --max-pixels is")
    assert str(NearshotError()) == ""


def test_the_same_error_from_the_command_and_the_library(nearshot: Run, small: Path) -> None:
    assert nearshot("index", "data", "--backbone", "hog", "--device", "cpu").status == 0
    (small / "more/2.support-set/cat").mkdir(parents=True)
    (small / "more/2.support-set/cat/shot1.png").write_bytes(
        (small / "things/2.support-set/cat/shot1.png").read_bytes()
    )
    nearshot("index", "data", "--backbone", "hog")
    query = small / "things/6.preprocessed/cat/a.png"
    refused = nearshot("query", query, "--score", "lda")
    assert "name one with --category, or take --score max_sim or prototype" in refused.stderr
    with library.open(".nearshot") as index, pytest.raises(UsageError, match="with category, or take score max_sim"):
        index.query(query, score="lda")


library = nearshot
