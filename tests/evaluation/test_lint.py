"""Lint: each fault is found, with its files, and a sound support set has none."""

from __future__ import annotations

import shutil
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from nearshot.backbones.picture_hash import hash_bits, likeness, picture_hash
from nearshot.evaluation.lint import SAME_BITS, SAME_PICTURE, LintFinding, Rule, Severity, lint
from nearshot.indexer.verify import Remedy, verify
from nearshot.schema import tables
from nearshot.schema.errors import StoreError, UsageError
from nearshot.schema.store import Store
from nearshot.vectors.hamming import PAIRS, near_bits
from tests.conftest import Writer, run_index, save_crop
from tests.indexer.test_damage import damage
from tests.photographs import NAMES, photograph

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


def encoded_anew(source: Path, target: Path, *, scale: float = 0.5, quality: int = 60) -> None:
    """A copy of a picture as somebody sends it: smaller, and as a JPEG."""
    with Image.open(source) as image:
        smaller = image.convert("RGB").resize((round(image.width * scale), round(image.height * scale)))
    target.parent.mkdir(parents=True, exist_ok=True)
    smaller.save(target, "JPEG", quality=quality)


def test_copies_that_were_scaled_and_encoded_anew_are_found_wherever_they_lie(store: Store, sound: Path) -> None:
    queries = sound / "things/6.preprocessed"
    encoded_anew(sound / f"{SHOTS}/cat/shot0.png", sound / f"{SHOTS}/cat/shot7.jpg")
    encoded_anew(sound / f"{SHOTS}/cat/shot1.png", sound / f"{SHOTS}/coffee/shot8.jpg")
    save_crop(queries / "new/one.png", "astronaut:3")
    encoded_anew(queries / "new/one.png", queries / "new/again.jpg")
    shutil.copy(queries / "new/one.png", queries / "new/same.png")
    encoded_anew(sound / f"{SHOTS}/coffee/shot0.png", queries / "unlabelled.jpg")
    shutil.copy(sound / f"{SHOTS}/coffee/shot1.png", queries / "unlabelled.png")
    findings = findings_by_rule(store, sound)

    def files(rule: Rule) -> set[frozenset[str]]:
        return {
            frozenset(
                path.removeprefix("things/").removeprefix("2.support-set/").removeprefix("6.preprocessed/")
                for path in each.files
            )
            for each in findings[rule]
        }

    assert files(Rule.NEAR_DUPLICATES) == {frozenset({"cat/shot0.png", "cat/shot7.jpg"})}
    assert files(Rule.TWO_LABELS_NEARLY) == {frozenset({"cat/shot1.png", "coffee/shot8.jpg"})}
    assert files(Rule.LEAK) == {
        frozenset({"unlabelled.jpg", "coffee/shot0.png"}),
        frozenset({"unlabelled.png", "coffee/shot1.png"}),
    }
    assert files(Rule.QUERIES_TWICE) == {
        frozenset({"new/one.png", "new/same.png"}),
        frozenset({"new/one.png", "new/again.jpg"}),
    }
    assert findings[Rule.TWO_LABELS_NEARLY][0].severity == Severity.WARNING, "two labels may look that much alike"


def test_each_picture_is_hashed_once(store: Store, sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    run_index(store, sound)
    lint(store, sound, told=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (7, 7)
    save_crop(sound / f"{SHOTS}/cat/shot9.png", "chelsea:20")
    run_index(store, sound)
    seen.clear()
    lint(store, sound, told=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (1, 1)
    with store.writing() as editor:
        assert editor.connection.execute(tables.picture_hashes.delete()).rowcount == 8


def test_a_damaged_hash_is_told_and_made_anew(store: Store, sound: Path) -> None:
    before = findings_by_rule(store, sound)
    damage(store, "UPDATE picture_hashes SET frequencies = zeroblob(64) WHERE content_id = 1")
    with pytest.raises(StoreError, match="damaged"):
        lint(store, sound)
    assert [finding.remedy for finding in verify(store, repair=True)] == [Remedy.LINT]
    assert findings_by_rule(store, sound) == before
    assert list(verify(store)) == []


def test_a_hash_tells_pictures_apart_and_not_how_they_are_encoded(tmp_path: Path) -> None:
    def same(first: Image.Image, other: Image.Image) -> bool:
        both = np.stack([np.frombuffer(picture_hash(each) or b"", dtype=np.int8) for each in (first, other)])
        bits = int(np.bitwise_count(np.bitwise_xor(*hash_bits(both))))
        return bits <= SAME_BITS and likeness(*both) >= SAME_PICTURE

    pictures = [Image.open(photograph(name)).convert("RGB") for name in NAMES]
    pictures += [Image.fromarray(digit.astype(np.uint8) * 15).convert("RGB").resize((96, 96)) for digit in digits()]
    assert not any(same(first, other) for first, other in combinations(pictures, 2))
    kept = []
    for picture in pictures:
        picture.save(tmp_path / "whole.png")
        encoded_anew(tmp_path / "whole.png", tmp_path / "copy.jpg")
        with Image.open(tmp_path / "copy.jpg") as copy:
            kept.append(same(picture, copy.convert("RGB")))
    assert sum(kept) >= 0.9 * len(kept)
    assert picture_hash(Image.new("RGB", (300, 200), "grey")) is None


def digits() -> NDArray[np.float64]:
    """Thirty handwritten digits, three of each."""
    images: NDArray[np.float64] = load_digits().images
    return images[:30]


def test_near_bits_are_all_found() -> None:
    chance = np.random.default_rng(0)
    codes = chance.integers(0, 1 << 63, 200, dtype=np.uint64)
    for number in range(100):
        flips = chance.choice(64, chance.integers(0, 10), replace=False)
        codes = np.append(
            codes, codes[number] ^ np.bitwise_or.reduce(np.uint64(1) << flips.astype(np.uint64), initial=np.uint64(0))
        )
    codes = np.append(codes, [codes[5]] * 3)
    distinct = [number for number in range(len(codes)) if codes[number] not in codes[:number]]
    for most in (0, 3, 6, 11):
        expected = {
            (first, other, bits)
            for first, other in combinations(distinct, 2)
            if (bits := (int(codes[first]) ^ int(codes[other])).bit_count()) <= most
        }
        copies = {
            (codes.tolist().index(codes[number]), number, 0) for number in range(len(codes)) if number not in distinct
        }
        assert set(near_bits(codes, most)) == expected | copies
        assert copies


def test_of_very_many_that_are_near_a_few_pairs_each_are_told() -> None:
    base = np.uint64(0x0F0F_3C3C_AAAA_5555)
    flips = [np.uint64(1) << np.uint64(bit) for bit in range(64)]
    codes = np.array([base ^ flips[left] ^ flips[right] for left, right in combinations(range(64), 2)])
    pairs = list(near_bits(codes, 4))
    assert len(pairs) <= PAIRS * len(codes)
    assert {number for low, high, _ in pairs for number in (low, high)} == set(range(len(codes))), "each is told"
