"""`nearshot evaluate`."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Outcome

pytestmark = pytest.mark.both_stores

Run = Callable[..., Outcome]


def test_evaluate_prints_its_tables_and_writes_them(nearshot: Run, labelled: Path) -> None:
    printed = nearshot("evaluate", "--output", "out").stdout
    assert "Table 7: labelled queries by outcome" in printed
    assert "Table 8: by number of shots, mean ± standard deviation of 5 draws" in printed
    out = labelled.parent / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        *("evaluation.json", "report.html"),
        *("table10.csv", "table10.md", "table11.csv", "table11.md"),
        *("table7.csv", "table7.md", "table8.csv", "table8.md", "table9.csv", "table9.md"),
    ]
    with (out / "table7.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["category"] for row in rows] == ["things", "all"]
    written = json.loads((out / "evaluation.json").read_text())
    [again] = nearshot("evaluate", "--json").objects
    assert again == written
    assert f"tables {written['tables'][:16]}" in printed
