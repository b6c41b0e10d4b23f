"""Damage in the database: bits that are not those that were written are told, and mended from what is whole."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from nearshot.indexer.captions import set_caption
from nearshot.indexer.feedback import reject
from nearshot.indexer.verify import Finding, Remedy, verify
from nearshot.retriever.answer import Answer
from nearshot.retriever.calibrate import CalibrationOptions, calibrate_all
from nearshot.retriever.conformal import Aim, Aims
from nearshot.retriever.options import QueryOptions
from nearshot.retriever.retriever import Retriever
from nearshot.retriever.search import SearchOptions, search
from nearshot.retriever.sources import read_queries
from nearshot.schema import digests
from nearshot.schema.errors import StoreError
from nearshot.schema.mirrors import MirrorRow, mirror_row, mirror_rows, record_mirror
from nearshot.schema.store import DATABASE_FILE, Store
from nearshot.schema.vectors import every_vector
from nearshot.schema.vocabulary import Mode, Role, Score
from tests.conftest import SMALL, counts, run_index
from tests.indexer.test_crops import crop, draw

PINNED = -191643465336303922
CAT = "things/6.preprocessed/cat/a.png"


def damage(store: Store, statement: str, *values: object) -> None:
    """Change the database as bits that flip do: without the triggers that keep the digests."""
    store.close()
    with sqlite3.connect(store.directory / DATABASE_FILE) as connection:
        triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        assert connection.execute(statement, values).rowcount == 1
        for _, sql in triggers:
            connection.execute(sql)
    connection.close()


def ask(store: Store, root: Path) -> Answer:
    [answer] = Retriever(store, QueryOptions(backbone="hog")).answer(read_queries([root / CAT]))
    assert isinstance(answer, Answer)
    return answer


def turned(store: Store, content_id: int) -> bytes:
    """A vector with one bit flipped that keeps its length within 1e-3."""
    with store.reading() as catalog:
        vector = dict(every_vector(catalog, next(row for row in catalog.all_backbones() if row.id == 1)))[content_id]
    other = np.frombuffer(vector, "<f4").copy()
    other[0] = -other[0]
    assert abs(np.linalg.norm(other) - 1) < 1e-3
    return other.tobytes()


def findings_of(store: Store, *, repair: bool = False) -> list[Finding]:
    return list(verify(store, repair=repair))


def test_a_flipped_bit_in_a_vector_is_taken_from_the_segment_that_has_it_whole(store: Store, small: Path) -> None:
    run_index(store, small)
    before = ask(store, small).as_json()
    damage(store, "UPDATE embeddings SET vector = ? WHERE content_id = 1", turned(store, 1))
    assert [(finding.problem, finding.remedy) for finding in findings_of(store)] == [
        ("is not what was written", Remedy.REPAIR)
    ]
    [mended] = findings_of(store, repair=True)
    assert (mended.problem, mended.repaired) == ("is not what was written; taken from the segment", True)
    assert findings_of(store) == []
    assert ask(store, small).as_json() == before
    assert counts(run_index(store, small)) == {"unchanged": 6}


def test_a_vector_that_no_copy_has_whole_is_dropped_and_named_until_it_is_back(store: Store, small: Path) -> None:
    run_index(store, small)
    damage(store, "UPDATE embeddings SET vector = ? WHERE content_id = 1", turned(store, 1))
    for path in store.segment_directory.iterdir():
        path.unlink()
    with pytest.raises(StoreError, match="a stored vector is damaged"):
        ask(store, small)
    findings_of(store, repair=True)
    for _ in range(2):
        [lost] = [finding for finding in findings_of(store) if finding.subject.startswith("vector")]
        assert (lost.problem, lost.remedy) == ("was damaged and dropped, and is not there again", Remedy.INDEX)
    assert run_index(store, small).backbones["hog"].embedded == 1
    assert findings_of(store) == []


@pytest.mark.parametrize("column", ["label", "path", "category", "content_id"])
def test_a_damaged_image_is_never_answered_with_and_comes_back_by_index(store: Store, small: Path, column: str) -> None:
    run_index(store, small)
    before = ask(store, small).as_json()
    value: object = 3 if column == "content_id" else "things/2.support-set/dog/shot1.png" if column == "path" else "dog"
    damage(store, f"UPDATE images SET {column} = ? WHERE id = 1", value)
    with pytest.raises(StoreError, match=r"images is damaged|name different images"):
        ask(store, small)
    assert any("images: id 1" in finding.subject for finding in findings_of(store))
    assert all(finding.repaired for finding in findings_of(store, repair=True) if "images: id 1" in finding.subject)
    run_index(store, small)
    assert findings_of(store, repair=True) == findings_of(store) == []
    after = ask(store, small).as_json()
    assert [after[key] for key in ("verdict", "label", "score")] == [
        before[key] for key in ("verdict", "label", "score")
    ]


def test_a_damaged_image_that_was_forgotten_is_read_anew(store: Store, small: Path) -> None:
    run_index(store, small)
    with store.writing() as editor:
        editor.forget_root(1)
    damage(store, "UPDATE images SET content_id = 3 - content_id WHERE id = ?", 1)
    with Store(store.location) as damaged:
        assert counts(run_index(damaged, small)) == {"added": len(SMALL)}
        assert list(verify(damaged)) == []


def test_a_damaged_threshold_is_never_decided_by(store: Store, small: Path) -> None:
    run_index(store, small)
    list(calibrate_all(store, CalibrationOptions(aims=Aims({Aim.FALSE_REJECT: 0.5}), scores=(Score.MAX_SIM,))))
    damage(store, "UPDATE calibrations SET threshold = 0.1 WHERE score = ?", "max_sim")
    with pytest.raises(StoreError, match="a row of calibrations is damaged"):
        ask(store, small)
    [finding] = [each for each in findings_of(store, repair=True) if "calibrations" in each.subject]
    assert (finding.remedy, finding.repaired) == (Remedy.CALIBRATE, True)
    assert findings_of(store) == []
    assert not ask(store, small).decision.policy.calibrated


def test_what_people_said_is_not_thrown_away(store: Store, small: Path) -> None:
    run_index(store, small)
    reject(store, small / "things/6.preprocessed/Unknown/b.png")
    damage(store, "UPDATE feedback SET category = ? WHERE id = 1", "pets")
    [finding] = findings_of(store, repair=True)
    assert (finding.remedy, finding.repaired) == (Remedy.NONE, False)
    with pytest.raises(StoreError, match="a row of feedback is damaged"):
        ask(store, small)


def test_a_damaged_record_of_a_segment_is_none(store: Store, small: Path) -> None:
    run_index(store, small)
    before = ask(store, small).as_json()
    damage(store, "UPDATE segments SET revision = 99 WHERE role = ?", "support")
    assert ask(store, small).as_json() == before
    findings_of(store, repair=True)
    assert run_index(store, small).added == 0
    assert findings_of(store) == []


def test_a_file_that_is_cut_short_under_an_open_store_changes_nothing(store: Store, small: Path) -> None:
    """A mapped file would end the process by SIGBUS."""
    run_index(store, small)
    retriever = Retriever(store, QueryOptions(backbone="hog"))
    for path in store.segment_directory.iterdir():
        path.write_bytes(b"")
    [answer] = retriever.answer(read_queries([small / CAT]))
    assert isinstance(answer, Answer)
    assert answer.label == "cat"


def test_a_text_that_is_no_utf8_any_more_is_mended_as_well(store: Store, small: Path) -> None:
    run_index(store, small)
    damage(store, "UPDATE images SET path = CAST(? AS TEXT) WHERE id = 1", b"things/2.support-set/c\xe1t/shot1.png")
    with pytest.raises(StoreError, match="damaged"):
        ask(store, small)
    [first, *_] = findings_of(store, repair=True)
    assert (first.problem, first.repaired) == ("the row is not what was written", True)
    run_index(store, small)
    assert findings_of(store, repair=True) == findings_of(store) == []
    assert ask(store, small).label == "cat"


def test_a_revision_that_went_back_is_never_answered_by(store: Store, small: Path) -> None:
    run_index(store, small)
    damage(store, "UPDATE revision SET value = 0 WHERE id = ?", 1)
    with pytest.raises(StoreError, match="a row of revision is damaged"):
        ask(store, small)


def test_rows_that_are_lost_are_a_finding(store: Store, small: Path) -> None:
    run_index(store, small)
    damage(store, "DELETE FROM embeddings WHERE content_id = ?", 1)
    with pytest.raises(StoreError, match="name different images"):
        ask(store, small)
    assert [finding.problem for finding in findings_of(store)] == ["name other images than the database has vectors of"]
    run_index(store, small)
    findings_of(store, repair=True)
    assert findings_of(store) == []
    assert ask(store, small).label == "cat"


def test_digests_are_the_same_in_every_version_of_python() -> None:
    """They are kept for years: texts by their UTF-8, numbers by their digits or IEEE bytes, each with its length."""
    values = ("\U00031350.jpg", b"\x00\xff", 7, -0.5, None)
    assert digests.digest_of(*values) == PINNED
    assert digests.digest_of("ab", "c") != digests.digest_of("a", "bc")
    assert digests.digest_of("\u2ffc") == digests.digest_of("\u2ffc".encode())


def test_a_damaged_caption_is_neither_shown_nor_answered_with(store: Store, small: Path) -> None:
    run_index(store, small)
    set_caption(store, small / CAT, "a ginger cat")
    damage(store, "UPDATE captions SET text = ? WHERE id = 1", "a ginger car")
    with pytest.raises(StoreError, match="a row of captions is damaged"):
        search(store, "ginger", SearchOptions(mode=Mode.CAPTIONS))
    assert any(finding.subject.startswith("captions: id 1") for finding in findings_of(store))


def test_a_damaged_vector_of_a_backbone_of_the_past_stays_where_its_file_is_gone(store: Store, small: Path) -> None:
    run_index(store, small)
    with store.writing() as editor:
        [hog] = editor.backbones()
        columns = {"precision": "fp32", "source": "hog", "location": None, "signature": "new"}
        editor.use_backbone(name="hog", fingerprint="new", dimension=hog.dimension, **columns)  # type: ignore[arg-type]
    damage(store, "UPDATE embeddings SET vector = ? WHERE content_id = 1", turned(store, 1))
    for path in (*store.segment_directory.iterdir(), *small.rglob("*.png")):
        path.unlink()
    [finding] = [each for each in findings_of(store, repair=True) if each.subject.startswith("vector")]
    assert (finding.remedy, finding.repaired) == (Remedy.NONE, False)
    with store.reading() as catalog:
        assert catalog.dropped_vectors() == []


def test_an_index_that_lost_an_entry_hides_no_caption(store: Store, small: Path) -> None:
    run_index(store, small)
    set_caption(store, small / "things/6.preprocessed/cat/a.png", "a cat that looks up")
    directory = store.directory
    assert search(store, "looks", SearchOptions(mode=Mode.CAPTIONS))
    store.close()
    file = directory / DATABASE_FILE
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        root = "SELECT rootpage FROM sqlite_master WHERE name = 'ix_images_content'"
        [(page,)] = connection.execute(root).fetchall()
        [(size,)] = connection.execute("PRAGMA page_size").fetchall()
    connection.close()
    content = bytearray(file.read_bytes())
    content[(page - 1) * size + 3 : (page - 1) * size + 5] = b"\0\0"  # the number of its entries
    file.write_bytes(content)
    with Store(directory) as damaged, pytest.raises(StoreError, match="images is damaged"):
        search(damaged, "looks", SearchOptions(mode=Mode.CAPTIONS))


@pytest.mark.parametrize(
    ("table", "column"),
    [("images", "role"), ("images", "category"), ("images", "label"), ("segments", "file"), ("backbones", "name")],
)
def test_a_text_that_became_bytes_is_damage(store: Store, small: Path, table: str, column: str) -> None:
    """The digest of a text is that of its bytes."""
    run_index(store, small)
    damage(store, f"UPDATE {table} SET {column} = CAST({column} AS BLOB) WHERE id = ?", 1)
    if table == "segments":  # then the rows answer
        assert ask(store, small).label == "cat"
    else:
        with pytest.raises(StoreError, match="is damaged"):
            ask(store, small)
    assert any(finding.problem == "the row is not what was written" for finding in findings_of(store))


@pytest.mark.parametrize(
    "statement", ["UPDATE crops SET box_left = box_left + 1", "UPDATE croppings SET path = path || 'x'"]
)
def test_where_a_crop_came_from_is_not_told_by_a_damaged_row(statement: str, store: Store, tmp_path: Path) -> None:
    picture = tmp_path / "data/things/1.raw/a.png"
    draw(picture, ("red", (40, 60, 120, 180)))
    crop(store, picture.parent.parent.parent)
    run_index(store, picture.parent.parent.parent)
    with store.reading() as catalog:
        assert catalog.shown([1])[1].origin is not None
    damage(store, statement)
    with store.reading() as catalog, pytest.raises(StoreError, match="damaged"):
        catalog.shown([1])


def test_a_damaged_record_of_a_mirror_is_forgotten_and_so_are_all_where_images_are_retired(
    store: Store, small: Path
) -> None:
    run_index(store, small)
    row = MirrorRow("milvus://here:19530", 1, Role.SUPPORT, "nearshot_hog_support_1", 1, 5, 4, 6)
    with store.writing() as editor:
        record_mirror(editor, row)
    damage(store, "UPDATE mirrors SET name = 'another'")
    with Store(store.location) as damaged:
        with damaged.reading() as catalog:
            assert mirror_row(catalog, row.engine, 1, Role.SUPPORT) is None
        [finding] = verify(damaged, repair=True)
        assert (finding.remedy, finding.repaired) == (Remedy.MIRROR, True)
        assert list(verify(damaged)) == []
        with damaged.writing() as editor:
            record_mirror(editor, row)
    damage(store, "UPDATE images SET label = 'another' WHERE id = 1")
    with Store(store.location) as damaged:
        assert all(finding.repaired for finding in verify(damaged, repair=True) if finding.remedy == Remedy.INDEX)
        with damaged.reading() as catalog:
            assert mirror_rows(catalog) == []
