"""The database: migrations, transactions and revisions."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import nearshot.migrations
from nearshot.indexer.crop_options import CropOptions
from nearshot.indexer.crops import CropRun
from nearshot.indexer.verify import verify
from nearshot.schema import database, tables
from nearshot.schema.caption_search import full_text_problem, search_captions
from nearshot.schema.captions import put_captions
from nearshot.schema.database import HEAD, Database
from nearshot.schema.errors import StoreError
from nearshot.schema.image_filter import ImageFilter
from nearshot.schema.known_images import known_images
from nearshot.schema.store import DATABASE_FILE, Store
from nearshot.schema.words import CaptionHit, match_of
from tests.conftest import SMALL, run_index
from tests.schema.freeze import thaw


def scripts() -> ScriptDirectory:
    config = Config()
    config.set_main_option("path_separator", "os")
    config.set_main_option("script_location", str(Path(nearshot.migrations.__file__).parent))
    return ScriptDirectory.from_config(config)


def is_ours(_object: object, name: str | None, _kind: str, _reflected: bool, _compared_to: object) -> bool:
    """Whether something is not FTS5's own, or there for it alone."""
    return not (str(name).startswith("captions_fts") or name in ("place", "ix_captions_place"))


def test_the_migrations_make_the_tables_that_the_code_queries(tmp_path: Path) -> None:
    opened = Database(f"sqlite:///{tmp_path / 'new.db'}")
    with opened.reading() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": is_ours})
        assert compare_metadata(context, tables.metadata) == []


def test_a_commit_is_on_the_disk_when_it_returns(store: Store) -> None:
    with store.reading() as catalog:
        assert catalog.connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL


def test_head_is_the_newest_migration() -> None:
    assert scripts().get_current_head() == HEAD


def test_a_store_from_a_newer_version_is_refused_and_left_alone(store: Store) -> None:
    file = store.directory / DATABASE_FILE
    store.close()
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreError, match="newer nearshot"):
        Store(store.location)
    with sqlite3.connect(file) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]


REVISIONS = sorted(script.revision for script in scripts().walk_revisions() if script.revision != HEAD)


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_store_of_every_earlier_revision_is_upgraded_and_keeps_every_row(revision: str, tmp_path: Path) -> None:
    """`tests/schema/freeze.py` says how a store is frozen."""
    file = thaw(revision, tmp_path)
    before = rows_of(file, held := columns_of(file))
    assert all(before.values()) or revision == "0001", "a row in every table"
    for each in (held, before):
        each.pop("snapshots", None)  # derived from the others
    Store(tmp_path).close()
    after = rows_of(file, held)
    assert after.pop("alembic_version") == [(HEAD,)]
    del before["alembic_version"]
    assert {name: after[name] for name in before} == before
    engine = sa.create_engine(f"sqlite:///{file}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": is_ours})
        assert compare_metadata(context, tables.metadata) == []
    engine.dispose()


def columns_of(file: Path) -> dict[str, list[str]]:
    """The columns of every table but SQLite's own, those generated left out."""
    with sqlite3.connect(file) as connection:
        query = (
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' AND name NOT LIKE '%fts%'"
        )
        return {
            table: [f'"{name}"' for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")]
            for (table,) in connection.execute(query).fetchall()
        }


def rows_of(file: Path, columns: dict[str, list[str]]) -> dict[str, list[tuple[object, ...]]]:
    """The rows of some tables, as far as they have some columns."""
    with sqlite3.connect(file) as connection:
        return {
            table: connection.execute(f"SELECT {', '.join(names)} FROM {table}").fetchall()
            for table, names in columns.items()
        }


@pytest.mark.parametrize("revision", REVISIONS)
def test_an_upgraded_store_goes_on_as_if_it_had_always_been_new(revision: str, tmp_path: Path, small: Path) -> None:
    thaw(revision, tmp_path, small)
    (small / "things/1.raw").mkdir()
    with Store(tmp_path) as store:
        run_index(store, small)
        for _ in CropRun(store, small, CropOptions()):  # the picture that was frozen is gone
            pass
        assert all(finding.repaired for finding in verify(store, repair=True)), "the segments were not frozen"
        assert list(verify(store)) == []
        with store.reading() as catalog:
            assert sum(image.present for image in known_images(catalog, 1)) == len(SMALL)


def test_captions_of_the_second_revision_are_found_after_the_upgrade_and_can_be_changed(tmp_path: Path) -> None:
    with sqlite3.connect(thaw("0002", tmp_path)) as connection:
        before = connection.execute("SELECT id, content_id, task, text FROM captions").fetchall()
    with Store(tmp_path) as store:
        with store.writing() as editor:
            assert full_text_problem(editor) is None
        with store.reading() as catalog:
            rows = catalog.connection.execute(sa.text("SELECT id, content_id, task, text FROM captions"))
            assert [tuple(row) for row in rows] == before
        assert [hit.text for hit in captions(store, "cats")] == ["a ginger cat, 红色的猫"]
        assert [hit.text for hit in captions(store, "红色")] == ["a ginger cat, 红色的猫"]
        with store.writing() as editor:
            put_captions(editor, [(3, "a mug"), (4, "a cup")], task="caption", fingerprint=None, created="now")
        assert [hit.text for hit in captions(store, "coffee OR mug OR cup")] == ["a mug", "a cup"]
        with store.writing() as editor:
            assert full_text_problem(editor) is None


def captions(store: Store, words: str) -> list[CaptionHit]:
    match = match_of(words)
    assert match is not None
    with store.reading() as catalog:
        return search_captions(catalog.connection, match, ImageFilter(), limit=20)


def test_a_failing_migration_rolls_back_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'torn.db'}"
    real = sa.schema.CreateTable

    def fail_at_runs(element: sa.Table, **options: object) -> sa.schema.CreateTable:
        if element.name == "runs":
            raise RuntimeError("power cut")
        return real(element, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("alembic.ddl.impl.schema.CreateTable", fail_at_runs)
    with pytest.raises(RuntimeError, match="power cut"):
        Database(url)
    engine = sa.create_engine(url)
    assert sa.inspect(engine).get_table_names() == []
    engine.dispose()
    monkeypatch.undo()
    Database(url).close()


def test_a_database_that_is_not_one_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / DATABASE_FILE).write_text("a shopping list, long enough to be taken for a header" * 20)
    with pytest.raises(StoreError, match="is it a nearshot store"):
        Store(tmp_path)


def test_a_transaction_that_changes_something_draws_one_revision(store: Store) -> None:
    with store.writing() as editor:
        editor.add_root("/data")
    with store.reading() as catalog:
        assert catalog.revision() == 0
    for expected in (1, 2):
        with store.writing() as editor:
            assert (editor.stamp, editor.stamp) == (expected, expected)


def test_a_transaction_that_fails_leaves_nothing(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.writing() as editor:  # noqa: PT012
        editor.add_root("/data")
        raise ZeroDivisionError(editor.stamp)
    with store.reading() as catalog:
        assert (catalog.roots(), catalog.revision()) == ({}, 0)


def test_a_reader_sees_one_state_while_another_process_writes(store: Store) -> None:
    with store.reading() as catalog:
        before = catalog.revision()
        with store.writing() as editor:
            assert editor.stamp == before + 1
        assert catalog.revision() == before
    with store.reading() as catalog:
        assert catalog.revision() == before + 1


def test_opening_an_up_to_date_store_does_not_ask_alembic(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_connection: sa.Connection) -> None:
        raise AssertionError("the schema is up to date")

    monkeypatch.setattr(database, "_upgrade", refuse)
    Store(store.location).close()


def test_image_ids_are_never_used_again(store: Store) -> None:
    with store.writing() as editor:
        connection = editor.connection
        sequence = connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE name = 'images'").scalar_one()
    assert "AUTOINCREMENT" in sequence
