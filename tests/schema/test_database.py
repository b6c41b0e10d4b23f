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
from nearshot.indexer.verify import verify
from nearshot.schema import database, tables
from nearshot.schema.captions import CaptionHit, ImageFilter, full_text_problem, put_captions, search_captions
from nearshot.schema.database import HEAD, Database
from nearshot.schema.errors import StoreError
from nearshot.schema.store import DATABASE_FILE, Store
from nearshot.schema.words import match_expression


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


def test_head_is_the_newest_migration() -> None:
    assert scripts().get_current_head() == HEAD


def test_a_store_from_a_newer_version_is_refused_and_left_alone(store: Store) -> None:
    file = store.directory / DATABASE_FILE
    store.close()
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreError, match="newer nearshot"):
        Store(store.directory)
    with sqlite3.connect(file) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]


def test_a_store_of_the_first_revision_is_upgraded_and_keeps_everything(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / DATABASE_FILE) as connection:
        connection.executescript((Path(__file__).parent / "store-0001.sql").read_text())
        before = {
            name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in ("images", "embeddings", "runs")
        }
    with Store(tmp_path) as store:
        with store.reading() as catalog:
            shown = catalog.shown([1, 2, 3, 4, 5, 6])
            assert {image.label for image in shown.values()} == {"cat", "coffee", "Unknown"}
            assert catalog.count_vectors(1, 1, ["things"]) == 6
        assert list(verify(store)) != [], "the data directory of the frozen store is not there"
    with sqlite3.connect(tmp_path / DATABASE_FILE) as connection:
        after = {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in before}
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == (HEAD,)
    assert after == before


def test_captions_of_the_second_revision_are_found_after_the_upgrade_and_can_be_changed(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / DATABASE_FILE) as connection:
        connection.executescript((Path(__file__).parent / "store-0002.sql").read_text())
        before = connection.execute("SELECT id, content_id, task, text FROM captions").fetchall()
    with Store(tmp_path) as store:
        with store.writing() as editor:
            assert full_text_problem(editor) is None
        with store.reading() as catalog:
            rows = catalog.connection.execute(sa.text("SELECT id, content_id, task, text FROM captions"))
            assert [tuple(row) for row in rows] == before
        assert [hit.text for hit in found(store, "cats")] == ["a ginger cat, 红色的猫"]
        assert [hit.text for hit in found(store, "红色")] == ["a ginger cat, 红色的猫"]
        with store.writing() as editor:
            put_captions(editor, [(3, "a mug"), (4, "a cup")], task="caption", fingerprint=None, created="now")
        assert [hit.text for hit in found(store, "coffee OR mug OR cup")] == ["a mug", "a cup"]
        with store.writing() as editor:
            assert full_text_problem(editor) is None


def found(store: Store, words: str) -> list[CaptionHit]:
    match = match_expression(words)
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
    Store(store.directory).close()


def test_image_ids_are_never_used_again(store: Store) -> None:
    with store.writing() as editor:
        connection = editor.connection
        sequence = connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE name = 'images'").scalar_one()
    assert "AUTOINCREMENT" in sequence
