"""Fusing when calibrating: two backbones that are equally good are tried as one, which is kept where it answers better."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nearshot.retriever.calibrate import CalibrationOptions, calibrate_all
from nearshot.retriever.choose_backbone import choose_row
from nearshot.retriever.find_policy import Calibration, FusionTried
from nearshot.schema.calibrations import all_calibrations
from nearshot.schema.editor import Embedding
from nearshot.schema.known_images import present_contents
from nearshot.schema.labelled import labelled_vectors
from nearshot.schema.segments import segment_rows
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Role
from nearshot.vectors.normalise import normalise
from tests.conftest import run_index

pytestmark = pytest.mark.both_stores

LABELS, SHOTS = 8, 6


def data(root: Path) -> None:
    """Eight labels of six shots that no backbone is asked about: the vectors are put in their place."""
    chance = np.random.default_rng(0)
    for label in range(LABELS):
        for shot in range(SHOTS):
            path = root / f"things/2.support-set/{label}/shot{shot}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(chance.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)


def put(store: Store, name: str, means: np.ndarray, seed: int) -> None:
    """A backbone under which images lie around the means (labels, d) of their labels."""
    with store.reading() as catalog:
        hog = next(row for row in catalog.backbones() if row.name == "hog")
        labels = labelled_vectors(catalog, hog, "things", Role.SUPPORT).labels
        hashes = labelled_vectors(catalog, hog, "things", Role.SUPPORT).hashes
        ids = {sha256: content_id for _, content_id, sha256 in present_contents(catalog, 1)}
    chance = np.random.default_rng(seed)
    vectors = normalise(
        means[[int(str(label)) for label in labels]] + chance.normal(size=(len(labels), means.shape[1]))
    )
    properties = {"precision": "fp32", "source": name, "location": None, "signature": name}
    with store.writing() as editor:
        row = editor.use_backbone(name=name, fingerprint=name, dimension=means.shape[1], **properties)  # type: ignore[arg-type]
        editor.put_embeddings(
            [Embedding(ids[sha], row.id, vector) for sha, vector in zip(hashes, vectors, strict=True)]
        )


def half_blind(which: int) -> np.ndarray:
    """Means (8, 32) of labels in four pairs that cannot be told apart; `which` decides who is paired with whom."""
    groups = [label // 2 if which == 0 else label % 4 for label in range(LABELS)]
    return 3 * np.random.default_rng(1).normal(size=(4, 32))[groups]


@pytest.mark.of_segments
def test_backbones_that_see_different_things_are_fused(store: Store, tmp_path: Path) -> None:
    data(tmp_path / "data")
    run_index(store, tmp_path / "data")
    put(store, "clip", half_blind(0), seed=2)
    put(store, "dinov2", half_blind(1), seed=3)
    options = CalibrationOptions(backbones=("clip", "dinov2"))
    outcomes = list(calibrate_all(store, options))
    [tried] = [each for each in outcomes if isinstance(each, FusionTried)]
    assert (tried.fused.backbone, tried.pays) == ("dinov2+clip", True)
    assert tried.fused.evidence > tried.best.evidence + 0.2
    kept = [each for each in outcomes if isinstance(each, Calibration) and each.backbone == "dinov2+clip"]
    assert {each.evidence for each in kept if each.score == tried.fused.score} == {tried.fused.evidence}
    with store.reading() as catalog:
        row, lacking = choose_row(catalog, None, ["things"])
        assert (row.name, lacking) == ("dinov2+clip", 0)
        assert len(all_calibrations(catalog, row.id)) == len([each for each in kept if each.policy.calibrated]) > 0
        assert segment_rows(catalog, row.id, Role.SUPPORT)
    again = list(calibrate_all(store, CalibrationOptions(backbones=("clip", "dinov2", "clip+dinov2"))))
    assert not any(isinstance(each, FusionTried) for each in again), (
        "it is there already, and is calibrated like any other"
    )
    assert sum(isinstance(each, Calibration) and each.backbone == "dinov2+clip" for each in again) == 4


def test_backbones_that_see_the_same_are_not(store: Store, tmp_path: Path) -> None:
    data(tmp_path / "data")
    run_index(store, tmp_path / "data")
    put(store, "clip", half_blind(0), seed=2)
    put(store, "dinov2", half_blind(0), seed=2)
    outcomes = list(calibrate_all(store, CalibrationOptions(backbones=("clip", "dinov2"))))
    [tried] = [each for each in outcomes if isinstance(each, FusionTried)]
    assert not tried.pays
    with store.reading() as catalog:
        assert {row.name for row in catalog.backbones()} == {"hog", "clip", "dinov2"}


def test_a_backbone_that_is_far_worse_is_not_tried(store: Store, tmp_path: Path) -> None:
    data(tmp_path / "data")
    run_index(store, tmp_path / "data")
    put(store, "clip", half_blind(0), seed=2)
    put(store, "dinov2", np.zeros((LABELS, 32)), seed=3)
    outcomes = list(calibrate_all(store, CalibrationOptions(backbones=("clip", "dinov2"))))
    assert not any(isinstance(each, FusionTried) for each in outcomes)
