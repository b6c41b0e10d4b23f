"""Cells that a spreadsheet would run are quoted."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from nearshot.evaluation.tables import Table
from nearshot.schema.spreadsheet import cell
from tests.conftest import Outcome, save_crop


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx", "\rx"])
def test_a_text_that_looks_like_a_formula_is_quoted(text: str) -> None:
    assert cell(text) == f"'{text}"


@pytest.mark.parametrize("value", ["cat", "", "a=1", -0.5, 3, None, True])
def test_all_else_is_as_it_was(value: object) -> None:
    assert cell(value) == value


def test_no_csv_that_is_written_holds_a_formula(nearshot: Callable[..., Outcome], small: Path) -> None:
    save_crop(small / "things/2.support-set/=HYPERLINK(1)/shot1.png", "rocket:0")
    save_crop(small / "things/6.preprocessed/=HYPERLINK(1)/-c.png", "rocket:1")
    nearshot("index", "data", "--backbone", "hog")
    for command in (
        ("export", "--format", "csv"),
        ("query", "data/things/6.preprocessed", "--csv"),
    ):
        rows = list(csv.reader(io.StringIO(nearshot(*command).stdout)))
        cells = [value for row in rows for value in row]
        assert any("HYPERLINK" in value for value in cells)
        for value in cells:
            assert not value.startswith(("=", "+", "@")), command
    assert Table("t", "T", ["x"], [["=1"], [-0.5]]).as_csv() == "x\n'=1\n-0.5000\n"
