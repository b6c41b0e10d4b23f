"""Choosing what answers: the backbone that covers what is asked, and the categories that are searched."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nearshot.retriever.choose_backbone import (
    choose_categories,
    choose_row,
    choose_rows,
    choose_supported,
    encodes_text,
)
from nearshot.schema.calibrations import CalibrationRow, put_calibration
from nearshot.schema.editor import Embedding
from nearshot.schema.errors import UsageError
from nearshot.schema.store import Store
from nearshot.schema.vectors import every_vector
from tests.conftest import run_index, save_crop


@pytest.fixture
def two(store: Store, small: Path) -> Store:
    """A store with hog, and a `lite0` that has the same vectors."""
    run_index(store, small)
    with store.writing() as editor:
        hog = editor.backbones()[0]
        columns = {"precision": "fp32", "source": "timm:lite0", "location": None, "signature": "lite0"}
        row = editor.use_backbone(name="lite0", fingerprint="lite0", dimension=hog.dimension, **columns)  # type: ignore[arg-type]
        blobs = {content_id: np.frombuffer(blob, np.float32) for content_id, blob in every_vector(editor, hog)}
        editor.put_embeddings([Embedding(content_id, row.id, vector) for content_id, vector in blobs.items()])
    return store


def chosen(store: Store, name: str | None = None, **more: bool) -> str:
    with store.reading() as catalog:
        return choose_row(catalog, name, ["things"], **more)[0].name  # type: ignore[arg-type]


def test_the_best_by_preference_is_taken_and_the_one_named_always(two: Store) -> None:
    assert (chosen(two), chosen(two, "hog"), chosen(two, "lite0")) == ("lite0", "hog", "lite0")


def test_one_that_covers_everything_comes_before_one_that_is_preferred(two: Store, small: Path) -> None:
    save_crop(small / "things/2.support-set/cat/shot7.png", "chelsea:7")
    run_index(two, small)
    assert chosen(two) == "hog"
    with two.reading() as catalog:
        row, lacking = choose_row(catalog, "lite0", ["things"])
    assert (row.name, lacking) == ("lite0", 1)


def test_the_one_that_calibration_found_better_comes_first(two: Store) -> None:
    with two.writing() as editor:
        for row in editor.backbones():
            found_from = {"evidence": 0.9 if row.name == "hog" else 0.5, "right": {"n": 40}, "strangers_in_model": 0}
            evidence = json.dumps(found_from)
            put_calibration(editor, CalibrationRow(row.id, "things", "max_sim", 0.5, 0.0, evidence, "", "now"))
    assert chosen(two) == "hog"


def test_what_there_is_not_is_refused_with_what_there_is(two: Store, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing is indexed with clip; .* or take hog or lite0"):
        chosen(two, "clip")
    with pytest.raises(
        UsageError, match="a backbone that understands words; run `nearshot index DATA --backbone clip`"
    ):
        chosen(two, words=True)
    with pytest.raises(UsageError, match="hog cannot compare images with words"):
        chosen(two, "hog", words=True)
    with two.reading() as catalog:
        assert [row.name for row in choose_rows(catalog, [])] == ["hog", "lite0"]
        assert choose_supported(catalog, []) == choose_categories(catalog, None) == ["things"]
        with pytest.raises(UsageError, match="no category 'dogs' has shots; there are things"):
            choose_supported(catalog, ["dogs"])
        with pytest.raises(UsageError, match="no category 'dogs' is indexed; there are things"):
            choose_categories(catalog, "dogs")
    with Store(tmp_path / "empty", create=True) as empty, pytest.raises(UsageError, match="nothing is indexed yet"):
        chosen(empty)


def test_a_fused_backbone_has_no_words_even_where_a_part_has() -> None:
    assert (encodes_text("clip"), encodes_text("dinov2"), encodes_text("clip+dinov2")) == (True, False, False)
