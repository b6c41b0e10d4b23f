"""`nearshot export`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import Outcome

pytestmark = pytest.mark.both_stores

Run = Callable[..., Outcome]


def test_lines_go_to_standard_output_and_files_by_their_names(nearshot: Run, indexed: Path, tmp_path: Path) -> None:
    printed = nearshot("export")
    assert [line["label"] for line in printed.objects] == ["cat", "cat", "coffee", "coffee", "Unknown", "cat"]
    assert printed.stderr == "6 images written to standard output\n"
    assert nearshot("export", "--output", "all.csv", "--role", "query").stderr == "2 images written to all.csv\n"
    assert (tmp_path / "all.csv").read_text().startswith("path,category,role,label,shot,sha256,")
    assert nearshot("export", "--output", "all.parquet", "--vectors").status == 0
    assert (tmp_path / "all.parquet").read_bytes()[:4] == b"PAR1"
    assert nearshot("export", "--output", "all.txt", "--format", "jsonl", "--vectors").status == 0
    first = json.loads((tmp_path / "all.txt").read_text().splitlines()[0])
    assert len(first["embeddings"]["hog"]["vector"]) == 708


def test_a_pipe_is_written_to_and_never_replaced(nearshot: Run, indexed: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    with ThreadPoolExecutor(1) as pool:
        lines = pool.submit((tmp_path / "pipe.jsonl").read_text)
        assert nearshot("export", "--output", "pipe.jsonl").status == 0
        assert len(lines.result(timeout=30).splitlines()) == 6
    assert (tmp_path / "pipe.jsonl").is_fifo()
    assert nearshot("export", "--output", "/dev/null", "--format", "parquet").status == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--output", "all.xlsx"],
            "all.xlsx names no format; give --format jsonl, csv, parquet, imagefolder, labelstudio or fiftyone",
        ),
        (["--format", "parquet"], "parquet does not go to a stream; give --output"),
        (["--format", "imagefolder"], "imagefolder does not go to a stream; give --output"),
        (["--backbone", "clip"], "nothing is indexed with clip; take hog"),
        (["--category", "nope"], "no image is indexed with category 'nope'; the categories are things"),
        (["--category", "things", "--label", "dog"], "no image is indexed with category 'things' and label 'dog'"),
        (["--output", "nowhere/all.csv"], "there is no directory nowhere; make it"),
        (["--store", "nothing"], "no store at nothing"),
    ],
)
def test_a_wrong_request_says_what_is_right(nearshot: Run, indexed: Path, arguments: list[str], message: str) -> None:
    outcome = nearshot("export", *arguments)
    assert outcome.status != 0
    assert message in outcome.stderr
