"""A later run: what was added, changed, moved, removed or copied on disk, and what that costs."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from nearshot.indexer.options import IndexOptions
from nearshot.schema.errors import UsageError
from nearshot.schema.store import Store
from tests.conftest import HOG, counts, run_index, save_crop
from tests.indexer.conftest import SHOT, support

pytestmark = pytest.mark.both_stores


def test_a_new_shot_is_the_only_one_embedded(store: Store, small: Path, encoded: list[int]) -> None:
    run_index(store, small)
    encoded.clear()
    save_crop(small / "things/2.support-set/cat/shot3.png", "chelsea:6")
    assert counts(run_index(store, small)) == {"added": 1, "unchanged": 6}
    assert encoded == [1]


def test_a_changed_shot_has_a_new_vector_under_its_old_id(store: Store, small: Path) -> None:
    run_index(store, small)
    before = support(store)["cat/shot1.png"]
    save_crop(small / SHOT, "rocket")
    assert counts(run_index(store, small)) == {"changed": 1, "unchanged": 5}
    after = support(store)["cat/shot1.png"]
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_a_touched_file_is_read_but_unchanged(store: Store, small: Path, encoded: list[int]) -> None:
    run_index(store, small)
    encoded.clear()
    os.utime(small / SHOT, ns=(1, 1))
    assert counts(run_index(store, small)) == {"unchanged": 6}
    assert encoded == []


def test_other_bytes_of_the_same_size_and_mtime_are_noticed(store: Store, small: Path) -> None:
    path = small / "things/2.support-set/cat/shot9.ppm"
    path.write_bytes(b"P6 4 4 255\n" + bytes(range(48)))
    run_index(store, small)
    stat = path.stat()
    path.write_bytes(b"P6 4 4 255\n" + bytes(range(48, 96)))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert counts(run_index(store, small)) == {"changed": 1, "unchanged": 6}


def test_a_renamed_shot_keeps_its_vector(store: Store, small: Path, encoded: list[int]) -> None:
    run_index(store, small)
    before = support(store)["cat/shot1.png"]
    encoded.clear()
    (small / SHOT).rename(small / "things/2.support-set/coffee/shot7.png")
    assert counts(run_index(store, small)) == {"moved": 1, "unchanged": 5}
    after = support(store)
    assert after["coffee/shot7.png"][1] == before[1]
    assert "cat/shot1.png" not in after
    assert encoded == []


def test_a_removed_shot_is_found_no_more_and_costs_nothing_when_it_returns(
    store: Store, small: Path, encoded: list[int]
) -> None:
    run_index(store, small)
    before = support(store)["cat/shot1.png"]
    kept = (small / SHOT).read_bytes()
    (small / SHOT).unlink()
    assert counts(run_index(store, small)) == {"removed": 1, "unchanged": 5}
    assert "cat/shot1.png" not in support(store)
    encoded.clear()
    (small / SHOT).write_bytes(kept)
    assert counts(run_index(store, small)) == {"added": 1, "unchanged": 5}
    assert support(store)["cat/shot1.png"] == before
    assert encoded == []


def test_a_duplicate_is_embedded_once_wherever_it_lies(store: Store, small: Path, encoded: list[int]) -> None:
    for number in range(3, 9):
        shutil.copy(small / SHOT, small / f"things/2.support-set/cat/shot{number}.png")
    report = run_index(store, small, replace(HOG, batch_size=2))
    assert counts(report) == {"added": 12}
    assert (report.backbones["hog"].embedded, report.backbones["hog"].reused) == (6, 6)
    assert sum(encoded) == 6


def test_a_renamed_data_directory_is_moved_not_embedded_again(store: Store, small: Path, encoded: list[int]) -> None:
    run_index(store, small)
    encoded.clear()
    renamed = small.rename(small.with_name("renamed"))
    assert counts(run_index(store, renamed)) == {"moved": 6}
    assert encoded == []
    assert len(support(store)) == 4


def test_a_data_directory_that_is_away_loses_nothing(store: Store, small: Path, tmp_path: Path) -> None:
    run_index(store, small)
    small.rename(small.with_name("unplugged"))
    with pytest.raises(UsageError, match="is not a directory"):
        run_index(store, small)
    other = tmp_path / "other"
    save_crop(other / "plants/2.support-set/grass/shot1.png", "grass")
    assert counts(run_index(store, other)) == {"added": 1}
    assert len(support(store)) == 4


def test_a_directory_that_cannot_be_listed_hides_nothing(
    store: Store, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_index(store, small)
    real = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("/cat"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr("nearshot.indexer.walk.os.scandir", scandir)
    report = run_index(store, small)
    assert counts(report) == {"unchanged": 6, "failed": 2}
    assert {failure.reason for failure in report.failures} == {"the directory cannot be read: Permission denied"}
    assert len(support(store)) == 4


def test_a_querys_label_follows_the_support_set(store: Store, small: Path) -> None:
    save_crop(small / "things/6.preprocessed/rocket/c.png", "rocket:1")
    run_index(store, small)

    def label() -> str | None:
        with store.reading() as catalog:
            shown = catalog.shown(range(1, 20))
        return next(image.label for image in shown.values() if image.path.endswith("c.png"))

    assert label() is None
    save_crop(small / "things/2.support-set/rocket/shot1.png", "rocket:0")
    assert counts(run_index(store, small)) == {"added": 1, "unchanged": 7}
    assert label() == "rocket"


def test_a_copy_of_an_absent_directorys_shot_is_no_move(store: Store, small: Path, tmp_path: Path) -> None:
    run_index(store, small)
    other = tmp_path / "other/pets/2.support-set/tabby/shot1.png"
    other.parent.mkdir(parents=True)
    shutil.copy(small / SHOT, other)
    small.rename(small.with_name("unplugged"))
    assert counts(run_index(store, tmp_path / "other")) == {"added": 1}
    assert len(support(store)) == 4


def test_an_unchanged_image_that_cannot_be_read_for_a_new_backbone_stays_in_the_old_one(
    store: Store, small: Path, weights: Path
) -> None:
    run_index(store, small)
    dinov2 = IndexOptions(backbones=("dinov2",), weights=weights, device="cpu", max_pixels=10)
    report = run_index(store, small, dinov2)
    assert counts(report) == {"failed": 6}
    assert len(support(store)) == 4
    assert counts(run_index(store, small)) == {"unchanged": 6}
