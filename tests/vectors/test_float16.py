"""Vectors kept as float16 and once: the same verdicts, a quarter of the bytes, and nothing lost where segments come and go."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sqlalchemy import func, select

import nearshot as door
from nearshot.indexer.feedback import reject, undo
from nearshot.indexer.options import IndexOptions
from nearshot.indexer.report import Report
from nearshot.indexer.verify import Remedy, verify
from nearshot.retriever.answer import Answer
from nearshot.retriever.export import export
from nearshot.retriever.options import QueryOptions
from nearshot.retriever.retriever import Retriever
from nearshot.retriever.sources import read_queries
from nearshot.schema import segment_cache, segment_file, tables
from nearshot.schema.editor import Embedding
from nearshot.schema.errors import StoreError, UsageError
from nearshot.schema.feedback import negatives
from nearshot.schema.image_filter import ImageFilter
from nearshot.schema.segment_file import Segment, write_segment
from nearshot.schema.segments import Group
from nearshot.schema.store import Store
from nearshot.schema.vector_bytes import REFERENCE
from nearshot.schema.vectors import every_vector, vector_blobs
from nearshot.schema.vocabulary import Action, Ann, ExportFormat, Role, VectorKind
from nearshot.vectors import segments, sweeping
from nearshot.vectors.normalise import normalise
from nearshot.vectors.segments import open_vectors, read_rows
from tests.conftest import HOG, Outcome, Writer, run_index

ONCE = replace(HOG, vectors=VectorKind.FLOAT16)
CAT = "things/6.preprocessed/cat/a.png"
Change = Callable[[Path], None]


@pytest.fixture
def once(store: Store, small: Path) -> Store:
    """A store that keeps the vectors of the small data set once."""
    run_index(store, small, ONCE)
    return store


def lengths(store: Store) -> set[int]:
    """The numbers of bytes that rows of vectors have."""
    with store.reading() as catalog:
        return set(catalog.connection.execute(select(func.length(tables.embeddings.c.vector))).scalars())


def pending(store: Store) -> int:
    """The number of vectors that lie in no segment."""
    with store.reading() as catalog:
        return int(catalog.connection.execute(select(func.count()).select_from(tables.pending_vectors)).scalar_one())


def vectors(store: Store) -> dict[str, bytes]:
    """The vector of every usable image as float32, by its path."""
    held: dict[str, bytes] = {}
    with store.reading() as catalog:
        [row] = catalog.backbones()
        for role in Role:
            opened = open_vectors(store, catalog, row, role)
            rows = read_rows(catalog, row, role)
            assert np.array_equal(opened.ids(), rows.ids())
            assert np.array_equal(opened.vectors(opened.ids()), rows.vectors(rows.ids()))
            shown = catalog.shown(opened.ids().tolist())
            held |= {shown[i].path: opened.vectors(np.array([i]))[0].tobytes() for i in opened.ids().tolist()}
    return held


def ask(store: Store, image: Path) -> Answer:
    [answer] = Retriever(store, QueryOptions(backbone="hog")).answer(read_queries([image]))
    assert isinstance(answer, Answer)
    return answer


def problems(store: Store, *, repair: bool = False) -> list[tuple[str, Remedy, bool]]:
    return [(finding.problem, finding.remedy, finding.repaired) for finding in verify(store, repair=repair)]


def embedded(report: Report) -> int:
    return report.backbones["hog"].embedded


def test_a_segment_of_float16_is_read_by_faiss_and_searched_as_float32(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    exact = normalise(chance.standard_normal((1500, 19)))
    exact[0, :3] = [1e-5, -3e-8, 0.0]  # smaller than the least normal number of float16, and less than the least of all
    rounded: NDArray[np.float32] = exact.astype(np.float16).astype(np.float32)
    ids, contents = np.arange(1500, dtype=np.int64) * 3, np.arange(1500, dtype=np.int64)[::-1] + 7
    groups = [Group("things", None, 0, 1000), Group("things", "cup", 1000, 1500)]
    written = write_segment(
        tmp_path / "a",
        [exact[:700], exact[700:]],
        ids=ids,
        groups=groups,
        superseded=np.array([5, 900_000]),
        dimension=19,
        of=["f", "query"],
        contents=contents,
    )
    segment = Segment(tmp_path / "a", size=written.size, digest=written.digest)
    assert written.size < 2 * 19 * 1500 + 16 * 1500 + 1000
    assert segment.kind == VectorKind.FLOAT16
    assert np.array_equal(segment.rows(0, 1500), rounded)
    assert np.array_equal(segment.pick(np.array([1499, 0])), rounded[[1499, 0]])
    assert np.array_equal(segment.contents, contents)
    assert segment.rows_of(np.array([7, 1506, 6, 1507])).tolist() == [1499, 0, -1, -1]
    assert {5, 900_000} < set(segment.superseded.tolist())
    queries = normalise(chance.standard_normal((4, 19)))
    for few in (queries[:1], queries):
        assert np.allclose(segment.scores(100, 1400, few), few @ rounded[100:1400].T, atol=1e-6)
    index = faiss.read_index(str(tmp_path / "a"))
    scores, nearest = index.search(queries, 5)
    assert np.array_equal(nearest, ids[np.argsort(-(queries @ rounded.T), axis=1)[:, :5]])
    assert np.allclose(scores, -np.sort(-(queries @ rounded.T), axis=1)[:, :5], atol=1e-6)


def test_every_number_of_float16_is_widened_exactly() -> None:
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    numbers = every[np.abs(every) < 2].reshape(2, -1)
    wide = segment_file._widened(numbers, np.empty(numbers.shape, dtype=np.float32))
    assert np.array_equal(wide, numbers.astype(np.float32))
    assert np.array_equal(np.signbit(wide), np.signbit(numbers))


def test_each_vector_lies_in_one_place_and_verdicts_stay(store: Store, small: Path, tmp_path: Path) -> None:
    run_index(store, small)
    before, exact = ask(store, small / CAT), vectors(store)
    with Store(tmp_path / "once", create=True) as other:
        run_index(other, small, ONCE)
        assert (lengths(other), pending(other)) == ({REFERENCE}, 0)
        assert problems(other) == []
        after, rounded = ask(other, small / CAT), vectors(other)
        for path, vector in exact.items():
            half = np.frombuffer(vector, np.float32).astype(np.float16).astype(np.float32)
            assert rounded[path] == half.tobytes()
        assert (after.verdict, after.label) == (before.verdict, before.label)
        assert after.score == pytest.approx(before.score, abs=2**-11)
        assert sum(file.stat().st_size for file in other.segment_directory.iterdir()) < 0.6 * sum(
            file.stat().st_size for file in store.segment_directory.iterdir()
        )


def test_a_store_of_float32_becomes_one_of_float16_as_if_it_had_been_so_always(
    store: Store, small: Path, tmp_path: Path
) -> None:
    run_index(store, small)
    assert lengths(store) == {4 * 708}
    report = run_index(store, small, ONCE)
    assert (embedded(report), lengths(store), problems(store)) == (0, {REFERENCE}, [])
    with Store(tmp_path / "once", create=True) as other:
        run_index(other, small, ONCE)
        assert vectors(other) == vectors(store)


def test_the_choice_stays_and_there_is_no_way_back(once: Store, small: Path, write_data: Writer) -> None:
    write_data({"things/2.support-set/cat/shot5.png": "chelsea:5"})
    run_index(once, small)
    assert lengths(once) == {REFERENCE}
    with pytest.raises(UsageError, match=r"rounded to float16.*index into another store"):
        run_index(once, small, replace(HOG, vectors=VectorKind.FLOAT32))
    assert lengths(once) == {REFERENCE}


def remove(small: Path) -> None:
    for path in sorted((small / "things").rglob("*.png"))[::2]:
        path.rename(path.with_suffix(".aside"))


def bring_back(small: Path) -> None:
    for path in small.rglob("*.aside"):
        path.rename(path.with_suffix(".png"))


def grow(small: Path, write_data: Writer, start: int) -> None:
    write_data({f"things/2.support-set/coffee/shot{n}.png": f"coffee:{n}" for n in range(start, start + 20)})


def test_what_is_removed_and_comes_back_is_not_embedded_again_whatever_was_merged_meanwhile(
    once: Store, small: Path, write_data: Writer
) -> None:
    before = vectors(once)
    remove(small)
    run_index(once, small)
    for start in (10, 40, 70):  # the segments that had them are merged away
        grow(small, write_data, start)
        run_index(once, small)
        assert problems(once) == []
    assert pending(once) > 0, "those that no segment has are kept apart"
    bring_back(small)
    report = run_index(once, small)
    assert (embedded(report), pending(once), problems(once)) == (0, 0, [])
    after = vectors(once)
    assert {path: after[path] for path in before} == before


def test_a_file_that_changed_and_changed_back_is_not_embedded_again(
    once: Store, small: Path, write_data: Writer
) -> None:
    shot = small / "things/2.support-set/cat/shot1.png"
    first, other = shot.read_bytes(), (small / "things/2.support-set/coffee/shot1.png").read_bytes()
    before = vectors(once)
    shot.write_bytes(other)
    run_index(once, small)
    grow(small, write_data, 10)
    run_index(once, small)
    shot.write_bytes(first)
    report = run_index(once, small)
    assert (embedded(report), problems(once)) == (0, [])
    after = vectors(once)
    assert {path: after[path] for path in before} == before


def test_what_was_rejected_counts_though_its_image_is_gone(once: Store, small: Path, write_data: Writer) -> None:
    stranger = small / "things/6.preprocessed/Unknown/b.png"
    reject(once, stranger)
    stranger.unlink()
    for start in (10, 40):
        grow(small, write_data, start)
        write_data({f"things/6.preprocessed/{n}.png": f"coffee:{n + 200}" for n in range(start, start + 20)})
        run_index(once, small)
    with once.reading() as catalog:
        [row] = catalog.backbones()
        assert negatives(catalog, row, "things").vectors.shape == (1, 708)


def test_labels_and_their_undo_take_the_vector_that_is_there(once: Store, small: Path) -> None:
    with door.open(once.directory) as index:
        index.label(small / "things/6.preprocessed/Unknown/b.png", "galaxy")
        assert index.query(small / "things/6.preprocessed/Unknown/b.png", backbone="hog").label == "galaxy"
    run_index(once, small)
    assert (lengths(once), problems(once)) == ({REFERENCE}, [])
    undo(once, small / "things/6.preprocessed/Unknown/b.png", Action.LABEL)
    assert ask(once, small / "things/6.preprocessed/Unknown/b.png").label is None


def test_a_damaged_segment_costs_what_was_in_its_block_and_that_is_embedded_again(
    once: Store, small: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = vectors(once)
    [file] = once.segment_directory.glob("*support*")
    content = bytearray(file.read_bytes())
    content[segment_file.VECTORS_AT[VectorKind.FLOAT16] + 100] ^= 1
    file.write_bytes(content)
    segment_cache._segments.clear()
    segment_cache._told.clear()
    with pytest.raises(StoreError, match="a stored vector is damaged; `nearshot verify --repair`"):
        ask(once, small / CAT)
    [told] = [each.message for each in caplog.records if "passed over" in each.message]
    assert str(file) in told, "once, and not that there is anything else to read"
    assert ("is in no segment that is whole", Remedy.REPAIR, False) in problems(once)
    problems(once, repair=True)
    report = run_index(once, small)
    assert embedded(report) == 4, "the shots: a block of the file held all of them"
    assert (vectors(once), problems(once)) == (before, [])


def test_only_what_was_in_the_damaged_block_is_embedded_again_the_first_not_excepted(
    store: Store, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment_file, "BLOCK", 1 << 10)
    run_index(store, small, ONCE)
    before = vectors(store)
    [file] = store.segment_directory.glob("*support*")
    content = bytearray(file.read_bytes())
    content[segment_file.VECTORS_AT[VectorKind.FLOAT16] + 100] ^= 1
    file.write_bytes(content)
    segment_cache._segments.clear()
    problems(store, repair=True)
    assert embedded(run_index(store, small)) == 1
    assert (vectors(store), problems(store)) == (before, [])


def test_of_two_images_of_a_content_the_one_whose_block_is_whole_will_do(
    store: Store, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment_file, "BLOCK", 1 << 10)
    shot = small / "things/2.support-set/cat/shot1.png"
    shot.with_name("shot9.png").write_bytes(shot.read_bytes())
    run_index(store, small, ONCE)
    before = vectors(store)
    [file] = store.segment_directory.glob("*support*")
    segment = Segment(file, size=file.stat().st_size)
    [twice] = {content for content in segment.contents.tolist() if len(segment.rows_with(content)) == 2}
    for row in segment.rows_with(twice).tolist():
        content = bytearray(file.read_bytes())
        content[segment_file.VECTORS_AT[VectorKind.FLOAT16] + 2 * 708 * row + 708] ^= 1
        whole = file.read_bytes()
        file.write_bytes(content)
        segment_cache._segments.clear()
        with store.reading() as catalog:
            assert len(vector_blobs(catalog, catalog.backbones()[0], [twice])[twice]) == 2 * 708
        file.write_bytes(whole)
    segment_cache._segments.clear()
    assert vectors(store) == before


def test_a_former_backbone_whose_vectors_are_damaged_is_in_nobodys_way(store: Store, small: Path) -> None:
    run_index(store, small)
    with store.writing() as editor:
        [hog] = editor.backbones()
        same = {"precision": "fp32", "source": "x", "location": None, "signature": "x", "dimension": hog.dimension}
        former = editor.use_backbone(name="lite0", fingerprint="f", **same)  # type: ignore[arg-type]
        editor.put_embeddings([Embedding(1, former.id, np.zeros(hog.dimension, dtype=np.float32))])
    report = run_index(store, small, ONCE)
    assert (report.failed, embedded(report)) == (0, 0)
    with store.reading() as catalog:
        assert {len(blob) for _, blob in every_vector(catalog, hog)} == {2 * hog.dimension}


def test_exports_and_approximate_indexes_take_them_from_where_they_lie(
    once: Store, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = vectors(once)
    lines = small.parent / "out.jsonl"
    assert export(once, lines, ExportFormat.JSONL, wanted=ImageFilter(), with_vectors=True) == len(held)
    told = [
        np.array(json.loads(line)["embeddings"]["hog"]["vector"], dtype=np.float32)
        for line in lines.read_text().splitlines()
    ]
    assert sorted(vector.tobytes() for vector in told) == sorted(held.values())
    monkeypatch.setattr("nearshot.vectors.ann_indexes.LEAST", 2)
    assert len(run_index(once, small, replace(HOG, ann=Ann.IVF)).ann) == 2
    assert problems(once) == []


def no_such_luck(*_: object, **__: object) -> Segment:
    raise OSError(errno.EIO, "Input/output error")


def test_a_file_that_cannot_be_read_just_now_is_neither_given_up_nor_deleted(
    once: Store, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = vectors(once)
    segment_cache._segments.clear()
    with monkeypatch.context() as patch:
        for module in (segment_cache, sweeping):
            patch.setattr(module, "Segment", no_such_luck)
        assert {problem for problem, *_ in problems(once, repair=True)} == {"cannot be read: Input/output error"}
    assert (vectors(once), problems(once)) == (before, [])
    with once.writing() as editor:
        editor.connection.execute(tables.segments.delete())
    with monkeypatch.context() as patch:
        for module in (segment_cache, sweeping):
            patch.setattr(module, "Segment", no_such_luck)
        assert sweeping.sweep(once) == []
    assert embedded(run_index(once, small)) == 0
    assert (vectors(once), problems(once)) == (before, [])


def test_what_only_a_forgotten_file_has_whole_is_kept_when_it_is_swept(once: Store, small: Path) -> None:
    """A rewritten segment that is damaged before the former one is deleted."""
    before = vectors(once)
    [former] = once.segment_directory.glob("*support*")
    aside = small.parent / "aside"
    aside.write_bytes(former.read_bytes())
    with once.reading() as catalog:
        [row] = catalog.backbones()
    segments.rewrite_segments(once, row, Role.SUPPORT)
    sweeping.sweep(once)
    [file] = once.segment_directory.glob("*support*.faiss")
    aside.rename(former)
    content = bytearray(file.read_bytes())
    content[segment_file.VECTORS_AT[VectorKind.FLOAT16] + 100] ^= 1
    file.write_bytes(content)
    segment_cache._segments.clear()
    sweeping.sweep(once)
    assert pending(once) > 0
    problems(once, repair=True)
    assert embedded(run_index(once, small)) == 0
    assert (vectors(once), problems(once)) == (before, [])


def test_a_run_that_is_refused_changes_nothing_of_how_vectors_are_kept(store: Store, small: Path) -> None:
    run_index(store, small)
    with pytest.raises(UsageError):
        run_index(store, small, replace(ONCE, backbones=("no-such-backbone",)))
    with pytest.raises(UsageError):
        run_index(store, small / "nowhere", ONCE)
    run_index(store, small)
    assert lengths(store) == {4 * 708}


def test_a_run_that_died_before_it_was_done_is_finished_by_the_next(
    store: Store, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_index(store, small)
    with monkeypatch.context() as patch:
        patch.setattr(segments, "settle", lambda *_: None)
        run_index(store, small, ONCE)
    assert lengths(store) == {4 * 708}
    run_index(store, small)
    assert (lengths(store), problems(store)) == ({REFERENCE}, [])


def test_a_reader_whose_files_were_replaced_is_told_so(once: Store, small: Path) -> None:
    with once.reading() as catalog:
        [row] = catalog.backbones()
        for file in once.segment_directory.iterdir():
            file.unlink()
        segment_cache._segments.clear()
        with pytest.raises(StoreError, match="an index run has replaced them meanwhile"):
            read_rows(catalog, row, Role.SUPPORT)


@pytest.mark.parametrize("lost", ["records", "one record", "choice"])
def test_a_lost_record_costs_nothing(once: Store, small: Path, write_data: Writer, lost: str) -> None:
    write_data({"things/2.support-set/cat/shot5.png": "chelsea:5"})
    run_index(once, small)
    before = vectors(once)
    with once.writing() as editor:
        if lost == "choice":
            editor.connection.execute(tables.vector_storage.delete())
        else:
            table = tables.segments
            wanted = [table.c.role == "support", table.c.since > 0] if lost == "one record" else []
            editor.connection.execute(table.delete().where(*wanted))
    assert vectors(once) == before
    assert embedded(run_index(once, small)) == 0
    assert vectors(once) == before
    assert problems(once) == []


def test_a_flipped_bit_in_a_row_is_mended_from_the_segment(once: Store, small: Path) -> None:
    before = vectors(once)
    with once.writing() as editor:
        for name in ("embeddings_edited_digest",):
            editor.connection.exec_driver_sql(f"DROP TRIGGER {name}")
        editor.connection.exec_driver_sql("UPDATE embeddings SET vector = x'730000000000000000' WHERE content_id = 1")
    assert any(
        problem == "is not what was written; taken from the segment" for problem, *_ in problems(once, repair=True)
    )
    assert (vectors(once), problems(once)) == (before, [])


def test_a_damaged_choice_is_made_again(once: Store, small: Path, write_data: Writer) -> None:
    with once.writing() as editor:
        editor.connection.exec_driver_sql("DROP TRIGGER vector_storage_edited_digest")
        editor.connection.exec_driver_sql("UPDATE vector_storage SET kind = 'floatx6'")
    [finding] = verify(once, repair=True)
    assert (finding.subject, finding.repaired) == ("vector_storage: id 1", True)
    write_data({"things/2.support-set/cat/shot5.png": "chelsea:5"})
    run_index(once, small)
    assert (lengths(once), problems(once)) == ({REFERENCE}, [])


def test_space_that_vectors_had_is_given_back(store: Store, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(150):
        pixels = np.random.default_rng(number).integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(small / f"things/6.preprocessed/{number}.png")
    run_index(store, small)
    file = store.directory / "nearshot.db"
    with store.reading() as catalog:
        before = catalog.connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    run_index(store, small, ONCE)
    with store.reading() as catalog:
        assert catalog.connection.exec_driver_sql("PRAGMA page_count").scalar_one() < 0.7 * before
    store.close()
    assert file.is_file()
    with Store(store.location) as again:
        assert problems(again) == []


def test_from_the_command_line_and_from_python(nearshot: Callable[..., Outcome], small: Path, tmp_path: Path) -> None:
    said = nearshot("index", small, "--backbone", "hog", "--vectors", "float16", "--no-captions", "--no-compile")
    assert said.status == 0
    assert "vectors: once, as float16" in nearshot("status").stdout
    refused = nearshot("index", small, "--backbone", "hog", "--vectors", "float32", "--no-captions", "--no-compile")
    assert (refused.status, "--vectors float32 cannot bring back" in refused.stderr) == (2, True)
    with door.open(tmp_path / "s", create=True) as index:
        index.add(small, backbones=["hog"], vectors="float16")
        assert index.status().as_json()["vectors"] == "float16"
    assert IndexOptions().vectors is None
