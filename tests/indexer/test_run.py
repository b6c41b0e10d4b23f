"""The index run: what it adds, what it leaves alone, and what a change costs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from io import FileIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nearshot.backbones.hog import HogBackbone
from nearshot.indexer.load import Loaded, Loader, Skipped
from nearshot.indexer.options import IndexOptions
from nearshot.indexer.run import IndexRun, dry_run
from nearshot.indexer.verify import verify
from nearshot.schema.disk import open_regular
from nearshot.schema.errors import UsageError
from nearshot.schema.known_images import known_images
from nearshot.schema.segments import segment_rows
from nearshot.schema.store import Store
from nearshot.vectors.normalise import normalise
from tests.conftest import HOG, SMALL, Writer, counts, run_index, save_crop
from tests.indexer.conftest import SHOT, support
from tests.photographs import photograph

pytestmark = pytest.mark.both_stores


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
    from nearshot.backbones.decode import decode

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
    assert set(report.backbones) == {"hog", "lite0", "dinov2"}
    assert set(report.skipped_backbones) == {"clip", "resnet50"}
    assert "nearshot backbones pull clip" in report.skipped_backbones["clip"]
    again = run_index(store, small, IndexOptions(device="cpu"))
    assert set(again.backbones) == {"hog", "lite0", "dinov2"}, "the store remembers where the weights were"


def test_a_run_that_finds_nothing_to_do_loads_no_model(
    store: Store, small: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = IndexOptions(backbones=("dinov2",), weights=weights, device="cpu")
    run_index(store, small, options)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("nothing to load for")

    monkeypatch.setattr("nearshot.backbones.resolve.load_backbone", refuse)
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
        with Store(tmp_path / f"store-{size}", create=True) as store:
            run_index(store, small, replace(HOG, batch_size=size, workers=workers))
            seen.append(support(store))
    assert seen[0] == seen[1] == seen[2]


@pytest.mark.of_segments
def test_segments_are_written_on_the_way_of_a_long_run(store: Store, small: Path) -> None:
    run = IndexRun(store, small, replace(HOG, batch_size=2, segment_interval=2))
    progress: Iterator[object] = iter(run)
    next(progress)
    next(progress)
    with store.reading() as catalog:
        assert sum(row.vectors for rows in segment_rows(catalog).values() for row in rows) == 2
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
    (small / "things/0.photos").mkdir()
    (small / "things/0.photos/x.png").write_bytes(b"")
    (small / "notes.txt").write_text("hello")
    (small / ".hidden").write_text("hello")
    for _ in range(2):
        report = run_index(store, small)
        assert report.added + report.unchanged == len(SMALL)
        assert (report.failed, report.outside_contract) == (1, 3)


def test_a_failure_to_read_is_not_held_against_the_file(
    store: Store, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> FileIO:
        if path.name == "shot1.png":
            raise OSError(24, "Too many open files")
        return open_regular(path)

    with monkeypatch.context() as patch:
        patch.setattr("nearshot.indexer.load.open_regular", fail)
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


def test_encoding_one_batch_while_another_is_committed_comes_to_the_same(
    tmp_path: Path, small: Path, write_data: Writer, encoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a GPU encodes; contents that come again in the next batch, which is not committed yet, are encoded once."""
    write_data({f"things/6.preprocessed/copy{n}.png": "chelsea:1" for n in range(7)})
    reports, vectors, totals = [], [], []
    for on_gpu in (False, True):
        monkeypatch.setattr(HogBackbone, "is_on_gpu", on_gpu, raising=False)
        encoded.clear()
        with Store(tmp_path / str(on_gpu), create=True) as store:
            reports.append(counts(run_index(store, small, replace(HOG, batch_size=2))))
            vectors.append(support(store))
            totals.append(sum(encoded))
            assert list(verify(store)) == []
    assert reports[0] == reports[1]
    assert vectors[0] == vectors[1]
    assert totals[0] == totals[1]


def test_what_was_forgotten_is_there_again_without_being_read(
    store: Store, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_index(store, small)
    before = catalogued(store)
    with store.writing() as editor:
        editor.forget_root(1)
    assert catalogued(store) == []
    (small / "things/6.preprocessed/cat/a.png").touch()
    read: list[str] = []
    load = Loader.load

    def noted(loader: Loader, path: Path) -> Loaded | Skipped:
        read.append(path.name)
        return load(loader, path)

    monkeypatch.setattr(Loader, "load", noted)
    assert counts(run_index(store, small)) == {"added": len(SMALL)}
    assert read == ["a.png"], "it was touched"
    assert catalogued(store) == before
    assert counts(run_index(store, small)) == {"unchanged": len(SMALL)}


def test_what_was_forgotten_and_lacks_a_vector_is_read_for_it(store: Store, small: Path) -> None:
    run_index(store, small)
    with store.writing() as editor:
        editor.forget_root(1)
        editor.drop_embedding(2, 1)
    report = run_index(store, small)
    assert counts(report) == {"added": len(SMALL)}
    assert report.backbones["hog"].embedded == 1
    assert list(verify(store)) == []


def test_what_was_taken_out_since_it_was_looked_for_stays_out(store: Store, small: Path) -> None:
    run_index(store, small)
    with store.reading() as catalog:
        as_of = catalog.revision()
    with store.writing() as editor:
        editor.forget_root(1)
    with store.writing() as editor:
        assert editor.return_images([1, 2], as_of=as_of) == 0
        assert editor.return_images([1, 2], as_of=editor.revision()) == 2
        assert editor.return_images([1, 2], as_of=editor.revision()) == 0, "they are there"


def catalogued(store: Store) -> list[tuple[str, str | None, int | None]]:
    with store.reading() as catalog:
        return [(image.path, image.label, image.content_id) for image in known_images(catalog, 1) if image.present]
