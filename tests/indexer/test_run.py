"""The index run: what it adds, what it leaves alone, and what a change costs."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backbones.hog import HogBackbone
from indexer.options import IndexOptions
from indexer.run import IndexRun, dry_run
from schema.errors import UsageError
from schema.images import Role
from schema.store import Store
from tests.conftest import HOG, SMALL, Writer, counts, run_index, save_crop
from tests.photographs import photograph
from vectors.normalise import normalise
from vectors.snapshots import Scope, open_vectors

SHOT = "things/2.support-set/cat/shot1.png"


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches that hog encodes."""
    sizes: list[int] = []
    real = HogBackbone.encode

    def encode(self: HogBackbone, batch: list[object]) -> object:
        sizes.append(len(batch))
        return real(self, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(HogBackbone, "encode", encode)
    return sizes


def support(store: Store, category: str = "things") -> dict[str, tuple[int, bytes]]:
    """Image id and vector of each support image, by its path under the category."""
    with store.reading() as catalog:
        hog = next(row for row in catalog.backbones() if row.name == "hog")
        vectors = open_vectors(store, catalog, Scope(hog, category, Role.SUPPORT))
        shown = catalog.shown(vectors.ids().tolist())
    return {
        "/".join(Path(image.path).parts[-2:]): (image_id, vectors.vectors(np.array([image_id]))[0].tobytes())
        for image_id, image in shown.items()
    }


def test_a_first_run_adds_everything_and_a_second_nothing(store: Store, small: Path, encoded: list[int]) -> None:
    first = run_index(store, small)
    assert counts(first) == {"added": 6}
    assert (first.backbones["hog"].embedded, first.backbones["hog"].reused) == (6, 0)
    encoded.clear()
    second = run_index(store, small)
    assert counts(second) == {"unchanged": 6}
    assert (second.backbones["hog"].embedded, second.backbones["hog"].reused) == (0, 6)
    assert encoded == []


def test_the_stored_vector_is_the_backbones_own(store: Store, small: Path) -> None:
    from backbones.decode import decode

    run_index(store, small)
    hog = HogBackbone()
    expected = normalise(hog.encode([hog.prepare(decode((small / SHOT).read_bytes()).picture)]))
    assert support(store)["cat/shot1.png"][1] == expected.tobytes()


def test_labels_shots_and_true_labels_come_from_the_paths(store: Store, small: Path) -> None:
    run_index(store, small)
    with store.reading() as catalog:
        shown = catalog.shown(range(1, 7))
    assert {(image.role.value, image.label, image.shot) for image in shown.values()} == {
        ("support", "cat", "shot1"),
        ("support", "cat", "shot2"),
        ("support", "coffee", "shot1"),
        ("support", "coffee", "shot2"),
        ("query", "cat", None),
        ("query", "Unknown", None),
    }
    assert all(Path(image.path).is_file() for image in shown.values())


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

    monkeypatch.setattr("indexer.discover.os.scandir", scandir)
    report = run_index(store, small)
    assert counts(report) == {"unchanged": 6, "failed": 2}
    assert {failure.reason for failure in report.failures} == {"the directory cannot be read: Permission denied"}
    assert len(support(store)) == 4


def test_one_category_can_be_indexed_alone(store: Store, small: Path) -> None:
    save_crop(small / "plants/2.support-set/grass/shot1.png", "grass")
    assert counts(run_index(store, small, replace(HOG, categories=("plants",)))) == {"added": 1}
    assert counts(run_index(store, small)) == {"added": 6, "unchanged": 1}
    shutil.rmtree(small / "things")
    assert counts(run_index(store, small, replace(HOG, categories=("plants",)))) == {"unchanged": 1}
    assert counts(run_index(store, small)) == {"unchanged": 1, "removed": 6}
    with pytest.raises(UsageError, match=r"no category 'animals' in .*; there are plants"):
        run_index(store, small, replace(HOG, categories=("animals",)))


def test_a_backbone_added_later_embeds_only_what_it_lacks(store: Store, small: Path, weights: Path) -> None:
    run_index(store, small)
    both = IndexOptions(backbones=("hog", "dinov2"), weights=weights, device="cpu")
    report = run_index(store, small, both)
    assert counts(report) == {"unchanged": 6}
    assert (report.backbones["hog"].embedded, report.backbones["hog"].reused) == (0, 6)
    assert (report.backbones["dinov2"].embedded, report.backbones["dinov2"].reused) == (6, 0)
    save_crop(small / "things/2.support-set/cat/shot3.png", "chelsea:6")
    report = run_index(store, small, both)
    assert [report.backbones[name].embedded for name in ("hog", "dinov2")] == [1, 1]


def test_without_a_choice_every_backbone_that_is_here_is_used_and_the_others_are_named(
    store: Store, small: Path, weights: Path, tmp_path: Path
) -> None:
    shutil.copytree(weights / "dinov2", tmp_path / "some/dinov2")
    report = run_index(store, small, IndexOptions(weights=tmp_path / "some", device="cpu"))
    assert set(report.backbones) == {"hog", "dinov2"}
    assert set(report.skipped_backbones) == {"clip", "resnet50"}
    assert "nearshot backbones pull clip" in report.skipped_backbones["clip"]
    again = run_index(store, small, IndexOptions(device="cpu"))
    assert set(again.backbones) == {"hog", "dinov2"}, "the store remembers where the weights were"


def test_a_run_that_finds_nothing_to_do_loads_no_model(
    store: Store, small: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = IndexOptions(backbones=("dinov2",), weights=weights, device="cpu")
    run_index(store, small, options)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("nothing to load for")

    monkeypatch.setattr("backbones.choice.load_backbone", refuse)
    (small / SHOT).rename(small / "things/2.support-set/cat/shot8.png")
    assert counts(run_index(store, small, options)) == {"moved": 1, "unchanged": 5}


def test_the_wish_to_stop_commits_what_is_done(store: Store, small: Path) -> None:
    wishes = iter([False, False, False, True])
    report = run_index(store, small, replace(HOG, batch_size=1), should_stop=lambda: next(wishes))
    assert report.interrupted
    assert counts(report) == {"added": 3}
    assert counts(run_index(store, small)) == {"added": 3, "unchanged": 3}


def test_a_stop_before_the_files_are_read_removes_nothing(store: Store, small: Path) -> None:
    run_index(store, small)
    (small / SHOT).rename(small / "things/2.support-set/cat/shot8.png")
    assert counts(run_index(store, small, should_stop=lambda: True)) == {"unchanged": 5}
    assert "cat/shot1.png" in support(store)
    assert counts(run_index(store, small)) == {"moved": 1, "unchanged": 5}


def test_a_vector_that_is_not_finite_never_reaches_the_index(
    store: Store, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = HogBackbone.encode

    def encode(self: HogBackbone, batch: list[object]) -> object:
        vectors = real(self, batch)  # type: ignore[arg-type]
        vectors[0, 0] = np.nan
        return vectors

    with monkeypatch.context() as patch:
        patch.setattr(HogBackbone, "encode", encode)
        report = run_index(store, small)
    assert (report.backbones["hog"].embedded, report.backbones["hog"].failed) == (5, 1)
    assert len(support(store)) == 3
    assert run_index(store, small).backbones["hog"].reused == 5


def test_the_order_and_size_of_batches_do_not_change_the_store(small: Path, tmp_path: Path) -> None:
    seen = []
    for size, workers in ((1, 1), (4, 3), (16, 2)):
        with Store(tmp_path / f"store-{size}", create=True) as made:
            run_index(made, small, replace(HOG, batch_size=size, workers=workers))
            seen.append(support(made))
    assert seen[0] == seen[1] == seen[2]


def test_snapshots_are_written_on_the_way_of_a_long_run(store: Store, small: Path) -> None:
    run = IndexRun(store, small, replace(HOG, batch_size=2, snapshot_interval=2))
    progress: Iterator[object] = iter(run)
    next(progress)
    next(progress)
    with store.reading() as catalog:
        assert sum(row.vectors for row in catalog.snapshots()) == 2
    assert [step.done for step in progress] == [4, 6]  # type: ignore[attr-defined]


def test_a_dry_run_foresees_and_writes_nothing(store: Store, small: Path, write_data: Writer) -> None:
    assert counts(dry_run(None, small, HOG)) == {"added": 6}
    run_index(store, small)
    before = {path: path.read_bytes() for path in store.directory.rglob("*.faiss")}
    with store.reading() as catalog:
        revision = catalog.revision()
    (small / SHOT).rename(small / "things/2.support-set/cat/shot8.png")
    (small / "things/2.support-set/coffee/shot2.png").unlink()
    write_data({"things/2.support-set/coffee/shot3.png": "coffee:7", "things/2.support-set/coffee/shot1.png": "rocket"})
    foreseen = dry_run(store, small, HOG)
    assert counts(foreseen) == {"added": 1, "changed": 1, "moved": 1, "removed": 1, "unchanged": 3}
    with store.reading() as catalog:
        assert catalog.revision() == revision
    assert before == {path: path.read_bytes() for path in store.directory.rglob("*.faiss")}
    assert counts(run_index(store, small)) == counts(foreseen)


def test_a_run_is_recorded_with_its_options_and_report(store: Store, small: Path) -> None:
    report = run_index(store, small)
    with store.reading() as catalog:
        run = catalog.last_run()
    assert run is not None
    assert (run.outcome, json.loads(run.report or "")) == ("finished", report.as_json())


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


def test_labels_csv_labels_queries_and_its_faults_are_reported(store: Store, small: Path) -> None:
    shutil.copy(photograph("rocket"), small / "things/6.preprocessed/loose.jpg")
    shutil.copy(photograph("retina"), small / "things/6.preprocessed/other.jpg")
    (small / "things/6.preprocessed/labels.csv").write_text(
        "path,label\nloose.jpg,coffee\nother.jpg,dog\nnone.jpg,cat\ncat/a.png,coffee\n"
    )
    report = run_index(store, small)
    with store.reading() as catalog:
        labels = {Path(image.path).name: image.label for image in catalog.shown(range(1, 20)).values()}
    assert (labels["loose.jpg"], labels["other.jpg"], labels["a.png"]) == ("coffee", None, "cat")
    assert [breach.path.rsplit(" ", 1)[1] for breach in report.breaches] == ["3", "4"]
    assert counts(report) == {"added": 8}


def test_everything_in_the_contract_is_counted_once(store: Store, small: Path) -> None:
    (small / "things/2.support-set/cat/shot5.png").write_bytes(b"")
    (small / "things/2.support-set/cat/portrait.png").write_bytes(b"")
    (small / "things/1.raw").mkdir()
    (small / "things/1.raw/x.png").write_bytes(b"")
    (small / "notes.txt").write_text("hello")
    (small / ".hidden").write_text("hello")
    for _ in range(2):
        report = run_index(store, small)
        assert report.added + report.unchanged == len(SMALL)
        assert (report.failed, report.outside_contract) == (1, 3)


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


def test_a_failure_to_read_is_not_held_against_the_file(
    store: Store, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.open

    def fail(self: Path, *arguments: object, **named: object) -> object:
        if self.name == "shot1.png":
            raise OSError(24, "Too many open files")
        return real(self, *arguments, **named)  # type: ignore[call-overload]

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", fail)
        assert counts(run_index(store, small)) == {"added": 4, "failed": 2}
    assert counts(run_index(store, small)) == {"added": 2, "unchanged": 4}


def test_a_picture_that_a_backbone_cannot_prepare_fails_alone(
    store: Store, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = HogBackbone.prepare

    def prepare(self: HogBackbone, picture: Image.Image) -> object:
        if picture.width > picture.height * 1.2:
            raise ValueError("height and width must be > 0")
        return real(self, picture)

    monkeypatch.setattr(HogBackbone, "prepare", prepare)
    report = run_index(store, small)
    assert 0 < report.failed < 6
    assert {failure.reason for failure in report.failures} == {
        "cannot be prepared for hog: height and width must be > 0"
    }


def test_a_dry_run_foresees_a_renamed_data_directory(store: Store, small: Path) -> None:
    run_index(store, small)
    renamed = small.rename(small.with_name("renamed"))
    assert counts(dry_run(store, renamed, HOG)) == {"moved": 6}
