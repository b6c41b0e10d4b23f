"""Lint: each fault is found, with its files, and a sound support set has none."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from nearshot.evaluation.lint import LintFinding, Rule, Severity, lint
from nearshot.schema.errors import UsageError
from nearshot.schema.store import Store
from tests.conftest import Writer, run_index, save_crop

SHOTS = "things/2.support-set"


@pytest.fixture
def sound(write_data: Writer) -> Path:
    return write_data(
        {
            **{f"{SHOTS}/cat/shot{n}.png": f"chelsea:{4 * n}" for n in range(3)},
            **{f"{SHOTS}/coffee/shot{n}.png": f"coffee:{4 * n}" for n in range(3)},
            "things/6.preprocessed/cat/a.png": "chelsea:6",
        }
    )


def findings_by_rule(store: Store, root: Path) -> dict[Rule, list[LintFinding]]:
    run_index(store, root)
    backbone, findings = lint(store, root)
    assert backbone == "hog"
    by_rule: dict[Rule, list[LintFinding]] = {}
    for finding in findings:
        by_rule.setdefault(finding.rule, []).append(finding)
    assert [finding.severity for finding in findings] == sorted(finding.severity for finding in findings), "worst first"
    return by_rule


def test_a_sound_support_set_has_no_faults(store: Store, sound: Path) -> None:
    assert findings_by_rule(store, sound) == {}


def test_one_image_under_two_labels_is_an_error(store: Store, sound: Path) -> None:
    shutil.copy(sound / f"{SHOTS}/cat/shot0.png", sound / f"{SHOTS}/coffee/shot9.png")
    [finding] = findings_by_rule(store, sound)[Rule.TWO_LABELS]
    assert finding.files == (f"{SHOTS}/cat/shot0.png", f"{SHOTS}/coffee/shot9.png")
    assert (finding.severity, finding.detail) == (Severity.ERROR, "cat, coffee")


def test_copies_within_a_label_are_found_by_bytes_and_by_sight(store: Store, sound: Path) -> None:
    shot = sound / f"{SHOTS}/cat/shot0.png"
    shutil.copy(shot, sound / f"{SHOTS}/cat/shot7.png")
    (sound / f"{SHOTS}/cat/shot8.png").write_bytes(shot.read_bytes() + b"\0")
    details = {finding.files: finding.detail for finding in findings_by_rule(store, sound)[Rule.NEAR_DUPLICATES]}
    assert details[f"{SHOTS}/cat/shot0.png", f"{SHOTS}/cat/shot7.png"] == "the same bytes"
    assert details[f"{SHOTS}/cat/shot0.png", f"{SHOTS}/cat/shot8.png"] == "cosine 1.0000 on hog"


def test_images_of_one_shot_may_be_alike(store: Store, sound: Path) -> None:
    for name in ("a", "b"):
        save_crop(sound / f"{SHOTS}/cat/shot5/{name}.png", "chelsea:9")
    assert Rule.NEAR_DUPLICATES not in findings_by_rule(store, sound)


def test_a_misplaced_shot_is_named_with_what_it_is_nearest_to(store: Store, sound: Path) -> None:
    save_crop(sound / f"{SHOTS}/coffee/shot9.png", "chelsea:1")
    findings = {finding.files[0]: finding for finding in findings_by_rule(store, sound)[Rule.NEARER_ELSEWHERE]}
    misplaced = findings[f"{SHOTS}/coffee/shot9.png"]
    assert misplaced.files[1] == f"{SHOTS}/cat/shot0.png"
    assert misplaced.detail.startswith("cat 0.9")
    assert f"{SHOTS}/coffee/shot0.png" not in findings


def test_leaks_single_shots_unequal_counts_small_images_strays_and_failures(store: Store, sound: Path) -> None:
    shutil.copy(sound / f"{SHOTS}/cat/shot0.png", sound / "things/6.preprocessed/cat/copy.png")
    save_crop(sound / f"{SHOTS}/rocket/shot1.png", "rocket:0")
    Image.new("RGB", (40, 20), "red").save(sound / f"{SHOTS}/rocket/tiny.png")
    Image.new("RGB", (40, 20), "red").save(sound / "things/6.preprocessed/tiny.png")
    (sound / f"{SHOTS}/cat/shot6.png").write_bytes(b"")
    faults = findings_by_rule(store, sound)
    assert [finding.files for finding in faults[Rule.LEAK]] == [
        ("things/6.preprocessed/cat/copy.png", f"{SHOTS}/cat/shot0.png")
    ]
    assert [finding.files for finding in faults[Rule.ONE_SHOT]] == [(f"{SHOTS}/rocket/shot1.png",)]
    assert [finding.detail for finding in faults[Rule.UNEQUAL]] == ["cat 3, coffee 3, rocket 1"]
    assert [(finding.files, finding.detail) for finding in faults[Rule.SMALL]] == [
        (("things/6.preprocessed/tiny.png",), "40 x 20")
    ]
    assert [finding.files for finding in faults[Rule.OUTSIDE]] == [(f"{SHOTS}/rocket/tiny.png",)]
    [unusable] = faults[Rule.UNUSABLE]
    assert (unusable.files, unusable.detail) == ((f"{SHOTS}/cat/shot6.png",), "the file is empty")
    assert unusable.severity == Severity.ERROR


def test_a_directory_that_is_not_indexed_is_said(store: Store, sound: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not indexed; run `nearshot index"):
        lint(store, sound)
    with pytest.raises(UsageError, match="is not a directory"):
        lint(store, tmp_path / "nowhere")
