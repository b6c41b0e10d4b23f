"""A copy of a store is the same store, in whichever databases the two are, whatever cuts it off."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Table, delete, select, update

from nearshot.evaluation.evaluate import EvaluationOptions, evaluate
from nearshot.evaluation.tables import as_json
from nearshot.indexer.captions import set_caption
from nearshot.indexer.copying import CopyReport, CopyRun
from nearshot.indexer.feedback import add_shot, reject
from nearshot.indexer.verify import verify
from nearshot.retriever.marking import mark_result
from nearshot.schema import store_copy, tables
from nearshot.schema.calibrations import CalibrationRow, put_calibration
from nearshot.schema.errors import StoreError, UnreachableError, UsageError
from nearshot.schema.image_filter import ImageFilter
from nearshot.schema.intents import Planned, plan
from nearshot.schema.location import Location
from nearshot.schema.segments import segment_rows
from nearshot.schema.store import Store
from nearshot.schema.vectors import every_vector
from nearshot.schema.vocabulary import Mode, VectorKind
from tests.conftest import HOG, Outcome, run_index, save_crop
from tests.postgres import Server, serving

KINDS = ["sqlite", "postgres"]
DERIVED = {"segments", "ann_indexes", "ann_choices", "vector_storage", "pending_vectors", "embeddings"}


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copy in several steps, though there are few images."""
    monkeypatch.setattr(store_copy, "CONTENTS", 2)
    monkeypatch.setattr(store_copy, "ROWS", 3)


Places = Callable[[str], Location]


@pytest.fixture
def new_place(tmp_path: Path, request: pytest.FixtureRequest) -> Places:
    """Make places for stores, in which there is none."""
    numbers = iter(range(100))

    def make(kind: str) -> Location:
        if kind == "sqlite":
            return tmp_path / f"place-{next(numbers)}"
        server: Server = request.getfixturevalue("postgres_server")
        return server.new_database()

    return make


@pytest.fixture
def filled(small: Path, new_place: Places) -> Callable[..., Location]:
    """Make a store with something in every table that people write to."""

    def fill(kind: str, vectors: VectorKind = VectorKind.FLOAT32) -> Location:
        (small / "things/2.support-set/cat/shot1.txt").write_text("a ginger cat")
        (small / "things/2.support-set/cat/broken.png").write_bytes(b"nothing")
        where = new_place(kind)
        with Store(where, create=True) as store:
            run_index(store, small, replace(HOG, vectors=vectors if kind == "sqlite" else None))
            add_shot(store, small / "things/6.preprocessed/cat/a.png", label="cat")
            reject(store, small / "things/6.preprocessed/Unknown/b.png")
            set_caption(store, small / "things/2.support-set/coffee/shot1.png", "a café, 喫茶店")
            with store.writing() as editor:
                [row] = editor.backbones()
                known = CalibrationRow(row.id, "things", "max_sim", 0.1 + 0.2, 0.0, '{"n": 3}', "0" * 64, "now")
                put_calibration(editor, known)
            (small / "things/2.support-set/coffee/shot2.png").unlink()
            run_index(store, small)
        return where

    return fill


def copied(source: Location, target: Location, **more: Any) -> CopyReport:
    """Copy to the end; the report."""
    run = CopyRun(source, target, **more)
    for _ in run:
        pass
    return run.report


def rows(where: Location) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of a store, without digests and what hangs on how vectors are kept."""
    with Store(where) as store, store.reading() as catalog:
        return {
            table.name: sorted(
                (tuple(row) for row in catalog.connection.execute(select(*(c for c in table.c if c.name != "digest")))),
                key=repr,
            )
            for table in tables.metadata.sorted_tables
            if table.name not in DERIVED
        }


def vectors(where: Location) -> dict[tuple[int, int], bytes]:
    """All vectors of a store."""
    with Store(where) as store, store.reading() as catalog:
        return {
            (row.id, content): blob for row in catalog.all_backbones() for content, blob in every_vector(catalog, row)
        }


def is_a_copy(source: Location, target: Location) -> None:
    """Hold a copy against what it is of."""
    assert rows(target) == rows(source)
    assert vectors(target) == vectors(source)
    with Store(target) as store:
        assert list(verify(store)) == list(_verified(source))


def _verified(where: Location) -> Iterator[object]:
    with Store(where) as store:
        yield from verify(store)


@pytest.mark.parametrize("source_kind", KINDS)
@pytest.mark.parametrize("target_kind", KINDS)
def test_a_copy_answers_counts_and_grows_as_what_it_is_of(
    filled: Callable[..., Location], new_place: Places, small: Path, source_kind: str, target_kind: str
) -> None:
    source, target = filled(source_kind), new_place(target_kind)
    report = copied(source, target)
    assert (report.contents, report.total, report.already, report.interrupted) == (6, 6, 0, False)
    assert report.rows["images"] == 7
    assert report.rows["embeddings"] == 6
    assert report.rows["feedback"] == 2
    assert report.rows["calibrations"] == 1
    is_a_copy(source, target)
    with Store(source) as here, Store(target) as there:
        assert as_json(evaluate(here, EvaluationOptions())) == as_json(evaluate(there, EvaluationOptions()))
        with here.reading() as own, there.reading() as other:
            wanted = ImageFilter()
            for words in ("ginger", "café", "喫茶"):
                hits = [hits_of(catalog.connection, words, wanted) for catalog in (own, other)]
                assert hits[0] == hits[1] != []
            assert bool(segment_rows(other)) == (target_kind == "sqlite")
    save_crop(small / "things/2.support-set/cat/shot9.png", "chelsea:9")
    with Store(target) as there:
        report_of_index = run_index(there, small)
        assert report_of_index.added == 1
        assert [count.embedded for count in report_of_index.backbones.values()] == [1]
        with there.reading() as catalog:
            newest = select(tables.images.c.id).order_by(tables.images.c.revision.desc()).limit(1)
            assert catalog.connection.execute(newest).scalar_one() > max(row[0] for row in rows(source)["images"])


def hits_of(connection: Connection, words: str, wanted: ImageFilter) -> list[Any]:
    from nearshot.schema.caption_search import search_captions
    from nearshot.schema.words import match_of

    match = match_of(words)
    assert match is not None
    return [(hit.image_id, hit.snippet) for hit in search_captions(connection, match, wanted, limit=9)]


@pytest.mark.parametrize("target_kind", KINDS)
def test_vectors_of_float16_stay_what_they_are(
    filled: Callable[..., Location], new_place: Places, target_kind: str
) -> None:
    """In a directory they are kept as they were, in PostgreSQL as float32 of the same numbers: every answer is the same."""
    source, target = filled("sqlite", VectorKind.FLOAT16), new_place(target_kind)
    copied(source, target)
    assert rows(target) == rows(source)
    sizes = {
        len(own) / len(other) for own, other in zip(*map(dict.values, map(vectors, (target, source))), strict=True)
    }
    assert sizes == {1.0 if target_kind == "sqlite" else 2.0}
    with Store(source) as here, Store(target) as there:
        assert as_json(evaluate(here, EvaluationOptions())) == as_json(evaluate(there, EvaluationOptions()))
        assert list(verify(there)) == []
        with there.reading() as catalog:
            unseen = select(tables.pending_vectors.c.content_id)  # the removed image's, which no segment has
            assert catalog.connection.execute(unseen).scalars().all() == ([4] if target_kind == "sqlite" else [])


@pytest.mark.parametrize("target_kind", KINDS)
@pytest.mark.parametrize("steps", [0, 2])
def test_a_copy_that_was_stopped_is_no_store_and_goes_on(
    filled: Callable[..., Location], new_place: Places, small: Path, target_kind: str, steps: int
) -> None:
    source, target = filled("sqlite"), new_place(target_kind)
    wishes = iter([False] * steps + [True])
    report = copied(source, target, should_stop=lambda: next(wishes))
    assert report.interrupted
    openings: list[dict[str, Any]] = [{}, {"create": True}, {"upgrade": False}]
    for opening in openings:
        with pytest.raises(StoreError, match="a copy into it is not finished; run the same `nearshot copy` again"):
            Store(target, **opening)
    report = copied(source, target)
    assert report.already == min(6, 2 * steps + 2)
    assert report.contents == 6
    is_a_copy(source, target)


@pytest.mark.parametrize("target_kind", KINDS)
@pytest.mark.parametrize("cut", [1, 4, 8, 13])
def test_whatever_fails_between_two_rows_the_same_command_goes_on(
    filled: Callable[..., Location], new_place: Places, monkeypatch: pytest.MonkeyPatch, target_kind: str, cut: int
) -> None:
    source, target = filled("sqlite"), new_place(target_kind)
    real, number = store_copy._insert, iter(range(1, 1000))

    def fails(connection: Connection, table: Table, some: Sequence[Any], *more: Any) -> None:
        if next(number) == cut:
            real(connection, table, some[:1], *more)
            raise OSError(28, "no space left on device")
        real(connection, table, some, *more)

    with monkeypatch.context() as patched:
        patched.setattr(store_copy, "_insert", fails)
        with pytest.raises(OSError, match="no space left"):
            copied(source, target)
    with pytest.raises(StoreError, match="is not finished"):
        Store(target)
    copied(source, target)
    is_a_copy(source, target)


@pytest.mark.parametrize("target_kind", KINDS)
def test_what_changed_between_two_tries_is_in_the_copy(
    filled: Callable[..., Location], new_place: Places, small: Path, target_kind: str
) -> None:
    source, target = filled("sqlite"), new_place(target_kind)
    wishes = iter([False, False, True])
    copied(source, target, should_stop=lambda: next(wishes))
    save_crop(small / "things/2.support-set/cat/shot12.png", "chelsea:11")
    (small / "things/6.preprocessed/cat/a.png").unlink()
    with Store(source) as store:
        with store.writing() as editor:
            [row] = editor.backbones()
            editor.drop_embedding(5, row.id)
        run_index(store, small)
        with store.writing() as editor:  # a content that nobody shows any more goes, as `verify --repair` has one go
            gone = select(tables.images.c.content_id).where(tables.images.c.content_id.is_not(None))
            orphan = ~tables.contents.c.id.in_(gone)
            editor.connection.execute(
                delete(tables.embeddings).where(
                    tables.embeddings.c.content_id.in_(select(tables.contents.c.id).where(orphan))
                )
            )
            editor.connection.execute(delete(tables.contents).where(orphan))
    report = copied(source, target)
    assert 0 < report.already < report.contents
    is_a_copy(source, target)


def test_a_copy_is_of_the_state_at_its_beginning(
    filled: Callable[..., Location], new_place: Places, small: Path
) -> None:
    source, target = filled("sqlite"), new_place("sqlite")
    before = rows(source)
    run = iter(CopyRun(source, target))
    next(run)
    next(run)
    save_crop(small / "things/2.support-set/cat/shot9.png", "chelsea:9")
    with Store(source) as store:
        assert run_index(store, small).added == 1
    for _ in run:
        pass
    assert rows(target) == before != rows(source)


@pytest.mark.parametrize("table", ["contents", "images", "embeddings", "calibrations", "captions"])
def test_a_damaged_row_is_told_and_not_copied(filled: Callable[..., Location], new_place: Places, table: str) -> None:
    source, target = filled("sqlite"), new_place("sqlite")
    with Store(source) as store, store.writing() as editor:
        digest = tables.metadata.tables[table].c.digest
        change = update(tables.metadata.tables[table]).values(digest=digest + 1)
        editor.connection.execute(change)
    with pytest.raises(StoreError, match=r"damaged.*`nearshot verify --repair` mends what can be mended"):
        copied(source, target)
    with pytest.raises(StoreError, match="is not finished"):
        Store(target)


@pytest.mark.parametrize(
    ("table", "target_kind"),
    [*product(["contents", "embeddings", "images", "calibrations"], KINDS), ("pending_vectors", "sqlite")],
)
def test_what_a_database_does_not_give_back_is_told(
    filled: Callable[..., Location], new_place: Places, monkeypatch: pytest.MonkeyPatch, target_kind: str, table: str
) -> None:
    kind = VectorKind.FLOAT16 if table == "pending_vectors" else VectorKind.FLOAT32
    source, target = filled("sqlite", kind), new_place(target_kind)
    real = store_copy._insert

    def alters(connection: Connection, into: Table, some: Sequence[tuple[Any, ...]], *more: Any) -> None:
        if into.name == table and some:
            names = more[0] if more else store_copy._names(into)
            which = names.index("vector") if "vector" in names else names.index("revision")
            value = some[0][which]
            other = value[:-1] + bytes([value[-1] ^ 1]) if isinstance(value, bytes) else value + 1
            some = [(*some[0][:which], other, *some[0][which + 1 :]), *some[1:]]
        real(connection, into, some, *more)

    monkeypatch.setattr(store_copy, "_insert", alters)
    with pytest.raises(StoreError, match="does not give back the"):
        copied(source, target)
    with pytest.raises(StoreError, match="is not finished"):
        Store(target)


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_is_never_written_over(
    filled: Callable[..., Location], new_place: Places, tmp_path: Path, small: Path, kind: str
) -> None:
    source, other = filled("sqlite"), new_place(kind)
    with Store(other, create=True) as store:
        run_index(store, small)
    before = rows(other)
    with pytest.raises(UsageError, match=r"there is a store at .* already"):
        copied(source, other)
    assert rows(other) == before
    part = new_place(kind)
    copied(source, part, should_stop=lambda: True)
    with pytest.raises(UsageError, match="has a part of a copy of another store"):
        copied(other, part)
    copied(source, part)
    is_a_copy(source, part)


@pytest.mark.parametrize("target_kind", KINDS)
def test_a_source_that_was_made_anew_in_its_place_is_told_or_copied(
    filled: Callable[..., Location], new_place: Places, small: Path, weights: Path, target_kind: str
) -> None:
    source, target = Path(filled("sqlite")), new_place(target_kind)
    copied(source, target, should_stop=lambda: True)
    shutil.rmtree(source)
    (small / "things/2.support-set/cat/shot1.png").rename(small / "things/2.support-set/cat/shot5.png")
    with Store(source, create=True) as store:
        run_index(store, small)  # the same contents by other ids
    assert copied(source, target).already == 0
    is_a_copy(source, target)

    other = new_place(target_kind)
    copied(source, other, should_stop=lambda: True)
    shutil.rmtree(source)
    with Store(source, create=True) as store:
        run_index(store, small, replace(HOG, backbones=("clip",), weights=weights, device="cpu"))
    with pytest.raises(UsageError, match=r"has a part of a copy of another store; .* delete it first"):
        copied(source, other)


def test_what_is_damaged_in_a_copy_that_is_not_finished_is_written_again(
    filled: Callable[..., Location], new_place: Places
) -> None:
    source, target = filled("sqlite"), new_place("sqlite")
    wishes = iter([False, True])
    copied(source, target, should_stop=lambda: next(wishes))
    with Store(target, unfinished=True) as store, store.writing() as editor:
        row = tables.embeddings.c
        editor.connection.execute(update(tables.embeddings).where(row.content_id == 3).values(digest=row.digest + 1))
    assert copied(source, target).already == 2
    is_a_copy(source, target)


def test_what_is_derived_belongs_to_the_copy(
    filled: Callable[..., Location], new_place: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = filled("sqlite"), new_place("sqlite")

    def full(*_: Any) -> int:
        raise StoreError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr("nearshot.indexer.copying.write_segments", full)
        with pytest.raises(StoreError, match="the disk is full"):
            copied(source, target)
    with pytest.raises(StoreError, match="is not finished"):
        Store(target)
    assert copied(source, target).already == 6
    is_a_copy(source, target)


def test_float16_is_copied_while_an_index_run_merges_its_files(
    filled: Callable[..., Location], new_place: Places, small: Path
) -> None:
    source, target = filled("sqlite", VectorKind.FLOAT16), new_place("sqlite")
    before = vectors(source)
    run = iter(CopyRun(source, target))
    next(run)
    for number in range(20):
        save_crop(small / f"things/2.support-set/cat/shot{20 + number}.png", f"chelsea:{number + 5}")
    (small / "things/2.support-set/coffee/shot1.png").unlink()
    with Store(source) as store:
        files = {path.name for path in store.segment_directory.iterdir()}
        run_index(store, small)
        assert not files <= {path.name for path in store.segment_directory.iterdir()}, "some were merged"
    for _ in run:
        pass
    assert vectors(target) == before


def test_what_postgres_refuses_is_told(filled: Callable[..., Location], new_place: Places) -> None:
    source, target = filled("sqlite"), new_place("postgres")
    with Store(source) as store:
        mark_result(store, "a\0b", Mode.CAPTIONS, 3, True, rank=1)
    with pytest.raises(UsageError, match="a name or text has a NUL character, which PostgreSQL keeps nowhere"):
        copied(source, target)


def test_a_store_is_not_copied_onto_itself(
    filled: Callable[..., Location], new_place: Places, small: Path, tmp_path: Path
) -> None:
    source = filled("sqlite")
    (tmp_path / "link").symlink_to(source)
    address = str(new_place("postgres"))
    with Store(address, create=True) as other:
        run_index(other, small)
    for same, again in ((source, source), (source, tmp_path / "link"), (address, address), (address, f"{address}&")):
        with pytest.raises(UsageError, match=r"onto itself|already"):
            copied(same, again)
    with Store(source) as store, Store(address) as other:
        assert list(verify(store)) == list(verify(other))


def test_where_there_is_nothing_to_copy_nothing_is_made(new_place: Places) -> None:
    target = new_place("sqlite")
    with pytest.raises(UsageError, match="no store at"):
        copied(new_place("sqlite"), target)
    assert not Path(target).exists()


def test_crops_that_are_being_written_are_waited_for(filled: Callable[..., Location], new_place: Places) -> None:
    source, target = filled("sqlite"), new_place("sqlite")
    with Store(source) as store, store.writing() as editor:
        [root_id] = editor.roots()
        named = {"path": "/data/crop.png", "sha256": "0" * 64, "category": "things", "created": "now"}
        plan(editor, Planned.CROP, root_id=root_id, **named)
    with pytest.raises(UsageError, match="`nearshot crop` is at work"):
        copied(source, target)
    assert not Path(target).exists()


def test_a_server_that_dies_is_told_and_the_copy_goes_on_when_it_is_back(
    filled: Callable[..., Location],
) -> None:
    source = filled("sqlite")
    with (
        tempfile.TemporaryDirectory(prefix="nearshot-") as directory,
        serving(Path(directory, "own"), durable=True) as server,
    ):
        target = server.new_database()
        run = iter(CopyRun(source, target))
        next(run)
        next(run)
        server.kill()
        with pytest.raises(UnreachableError, match="is the database running"):
            for _ in run:
                pass
        server.start()
        report = copied(source, target)
        assert report.already >= 2
        is_a_copy(source, target)


def test_the_command_says_what_it_did_and_what_comes_next(
    nearshot: Callable[..., Outcome], filled: Callable[..., Location], tmp_path: Path
) -> None:
    source = filled("sqlite")
    done = nearshot("copy", source, "there")
    assert (done.status, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "copied and compared: images 7, vectors 6, captions 2, labels and rejects 2, calibrations 1",
        f"next: export NEARSHOT_STORE={tmp_path}/there",
    ]
    assert f"next: export NEARSHOT_STORE='{tmp_path}/a b'" in nearshot("copy", source, "a b").stdout
    assert nearshot("copy", source, "").status == 2
    again = nearshot("copy", source, "there")
    assert again.status == 2
    assert "there is a store at" in again.stderr
    [report] = nearshot("copy", source, "other", "--json").objects
    assert report["rows"]["images"] == 7
    assert report["interrupted"] is False


def test_ctrl_c_keeps_what_is_committed(
    nearshot: Callable[..., Outcome], filled: Callable[..., Location], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = filled("sqlite")
    real = store_copy.StoreCopy.chunks

    def chunks(self: Any) -> Any:
        for number, step in enumerate(real(self)):
            if number == 1:
                os.kill(os.getpid(), signal.SIGINT)
            yield step

    with monkeypatch.context() as patched:
        patched.setattr(store_copy.StoreCopy, "chunks", chunks)
        stopped = nearshot("copy", source, "there")
    assert stopped.status == 130
    assert stopped.stdout == "stopped after 4 of 6 contents; run the same command to go on from here\n"
    refused = nearshot("status", "--store", "there")
    assert refused.status == 1
    assert "a copy into it is not finished" in refused.stderr
    assert "  4 of 6 contents were there already" in nearshot("copy", source, "there").stdout
