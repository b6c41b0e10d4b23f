"""A store in PostgreSQL: who holds it, what is lost when it dies, and that all comes out as in SQLite."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nearshot import open as open_index
from nearshot.evaluation.evaluate import EvaluationOptions, evaluate
from nearshot.evaluation.tables import as_json
from nearshot.indexer.commit import Committer
from nearshot.indexer.options import IndexOptions
from nearshot.indexer.verify import verify
from nearshot.retriever.options import QueryOptions
from nearshot.retriever.retriever import ATTEMPTS_ONCE, Retriever
from nearshot.retriever.sources import read_queries
from nearshot.schema import tables
from nearshot.schema.caption_search import full_text_problem, search_captions
from nearshot.schema.captions import put_captions
from nearshot.schema.catalog import ImageCount
from nearshot.schema.database import Database
from nearshot.schema.errors import (
    NearshotError,
    OutdatedError,
    StoreBusyError,
    StoreError,
    UnreachableError,
    UsageError,
)
from nearshot.schema.image_filter import ImageFilter
from nearshot.schema.location import shown_location
from nearshot.schema.postgres import Hold, still_hold
from nearshot.schema.store import Store, is_there
from nearshot.schema.vectors import vectors_of
from nearshot.schema.vocabulary import Ann, Score, VectorKind
from nearshot.schema.words import CaptionHit, match_of
from nearshot.vectors.normalise import normalise
from nearshot.vectors.segments import write_segments
from tests.conftest import Outcome, Writer, run_index
from tests.made_up import add_images
from tests.postgres import Server, serving
from tests.schema.test_captions import TEXTS, write


@pytest.fixture
def address(postgres_server: Server, empty_database: str) -> str:
    return postgres_server.new_database(empty_database)


@pytest.fixture
def shared(address: str) -> Iterator[Store]:
    """A new store in PostgreSQL."""
    with Store(address) as opened:
        yield opened


@pytest.mark.filterwarnings("ignore:Did not recognize type 'vector'")
def test_the_migrations_make_the_tables_that_the_code_queries(address: str) -> None:
    opened = Database(address)
    with opened.reading() as connection:
        context = MigrationContext.configure(connection)
        differences = [entry for entry in compare_metadata(context, tables.metadata) if entry[0] != "add_table_comment"]
    opened.close()
    assert sorted((kind, item.name) for kind, item in differences) == [
        ("remove_index", "ix_caption_lexemes"),
        ("remove_table", "caption_lexemes"),
        ("remove_table", "store_identity"),
    ]


def test_where_there_is_no_store_it_says_how_to_make_one(postgres_server: Server) -> None:
    empty = postgres_server.new_database()
    assert not is_there(empty)
    with pytest.raises(UsageError, match="make one with `nearshot index DATA`"):
        Store(empty)
    with pytest.raises(UsageError, match="no store at"):
        open_index(empty)


def test_whether_a_store_is_there_is_asked_without_upgrading_it(shared: Store) -> None:
    with shared.writing() as editor:
        editor.connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0015'")
    assert is_there(shared.location)
    with shared.reading() as catalog:
        assert catalog.connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == "0015"


def test_a_user_without_rights_will_do_once_the_extension_is_there(postgres_server: Server, small: Path) -> None:
    with psycopg.connect(postgres_server.address("postgres"), autocommit=True) as operator:
        operator.execute("CREATE ROLE ordinary LOGIN")
        operator.execute("CREATE DATABASE ordinary OWNER ordinary")
    address = postgres_server.address("ordinary").replace("nearshot@", "ordinary@")
    with pytest.raises(StoreError, match="have whoever may run `CREATE EXTENSION vector`"):
        Store(address, create=True)
    with psycopg.connect(postgres_server.address("ordinary"), autocommit=True) as operator:
        operator.execute("CREATE EXTENSION vector")
    with Store(address, create=True) as store, store.held("nearshot index", "/elsewhere"):
        run_index(store, small)
        retriever = Retriever(store, QueryOptions(backbone="hog", score=Score.PROTOTYPE))
        [answer] = retriever.answer(read_queries([small / "things/2.support-set/cat/shot1.png"]))
        assert answer.label == "cat"


def test_the_very_connections_that_made_a_store_write_vectors(postgres_server: Server, small: Path) -> None:
    with Store(postgres_server.new_database(), create=True) as store:
        assert run_index(store, small).backbones["hog"].embedded == 6


def test_jobs_on_different_directories_go_on_at_once_and_the_holder_is_named(shared: Store) -> None:
    with Store(shared.location) as other, shared.held("nearshot index /data/100%", "/data/100%"):
        with other.held("nearshot index /more", "/more"), other.writing() as editor:
            editor.add_root("/more")
        named = f"`nearshot index /data/100%`, process {os.getpid()} on "
        for part in ("/data/100%", None):
            with pytest.raises(StoreBusyError) as told, other.held("nearshot verify", part):
                pass
            assert named in str(told.value)
    with (
        Store(shared.location) as other,
        other.held("nearshot verify"),
        pytest.raises(StoreBusyError, match="`nearshot verify`"),
        shared.held("nearshot index /data", "/data"),
    ):
        pass


@pytest.mark.parametrize("part", ["/data/*x", "/data/x*/y", "/data/" + "é*" * 500])
def test_a_directory_of_any_name_can_be_held(shared: Store, part: str) -> None:
    with (
        shared.held(f"nearshot index {part}", part),
        Store(shared.location) as other,
        pytest.raises(StoreBusyError, match="`nearshot index /data/"),
        other.held("x", part),
    ):
        pass
    with shared.held("x", part):
        pass


def test_a_server_that_is_lost_while_a_hold_is_taken_is_told(
    shared: Store, postgres_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(hold: Hold, *_: object, **__: object) -> bool:
        with psycopg.connect(postgres_server.address("postgres")) as operator:
            operator.execute("SELECT pg_terminate_backend(%s, 5000)", [hold.process])
        return bool(hold._connection.exec_driver_sql("SELECT true").scalar_one())

    with monkeypatch.context() as patch:
        patch.setattr(Hold, "_take", lose)
        with pytest.raises(UnreachableError, match="What was committed is intact"), shared.held("x"):
            pass
    with shared.held("x"):
        pass


def test_a_connection_that_took_the_number_of_a_holder_holds_nothing(shared: Store) -> None:
    with shared.held("nearshot index /data", "/data"):
        [hold] = shared._holds
        with shared.writing() as editor:
            assert still_hold(editor.connection, [hold])
            own = editor.connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
            stand_in = copy(hold)
            stand_in.process = own
            assert not still_hold(editor.connection, [stand_in])
            stand_in = copy(hold)
            stand_in.since += timedelta(seconds=1)
            assert not still_hold(editor.connection, [stand_in])


def test_writers_wait_for_each_other_whatever_the_server_would_isolate(shared: Store) -> None:
    address = f"{shared.location}&options=-c%20default_transaction_isolation%3Dserializable"
    with Store(address) as other, ThreadPoolExecutor(1) as pool:

        def write() -> None:
            with other.writing() as editor:
                editor.add_root("/second")
                assert editor.stamp == 2

        with shared.writing() as editor:
            editor.add_root("/first")
            assert editor.stamp == 1
            second = pool.submit(write)
            time.sleep(0.2)  # it waits by now
        second.result()


def test_two_runs_that_come_upon_the_same_images_embed_them_once(
    shared: Store, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has asked what is lacking before the other commits."""
    copied = Path(shutil.copytree(small, small.with_name("copied")))
    both = threading.Barrier(2, timeout=20)
    real = Committer.commit_batch

    def together(*arguments: Any, **named: Any) -> None:
        both.wait()
        real(*arguments, **named)

    monkeypatch.setattr(Committer, "commit_batch", together)

    def index(root: Path) -> None:
        with Store(shared.location) as own:
            run_index(own, root)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(index, root) for root in (small, copied)]:
            done.result()
    with shared.reading() as catalog:
        [row] = catalog.backbones()
        assert len(vectors_of(catalog, row, range(1, 20))) == 6
        assert [count.vectors for count in catalog.count_vectors_by_category(row.id)] == [8, 4]
    assert list(verify(shared)) == []


HOLDER = """
import sys, time
from nearshot.schema.store import Store
with Store(sys.argv[1]).held("nearshot index /data", "/data"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_killed_holder_leaves_no_lock(shared: Store) -> None:
    command = [sys.executable, "-c", HOLDER, str(shared.location)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StoreBusyError, match=f"process {holder.pid}"), shared.held("x", "/data"):
            pass
        holder.kill()
    deadline = time.monotonic() + 10
    while True:
        try:
            with shared.held("x", "/data"):
                break
        except StoreBusyError:  # the server is about to notice
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_whoever_lost_its_hold_writes_no_more(shared: Store, postgres_server: Server) -> None:
    with shared.held("nearshot index /data", "/data"):
        with shared.writing() as editor:
            editor.add_root("/before")
        [hold] = shared._holds
        with psycopg.connect(postgres_server.address("postgres")) as operator:
            operator.execute("SELECT pg_terminate_backend(%s, 5000)", [hold.process])
        with pytest.raises(StoreError, match="the connection that held the store was lost"), shared.writing() as editor:
            editor.add_root("/after")
    with shared.reading() as catalog:
        assert set(catalog.roots().values()) == {"/before"}
    with shared.held("nearshot index /data", "/data"), shared.writing() as editor:
        editor.add_root("/again")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # connections that died are dropped
def test_a_server_killed_while_many_write_loses_and_doubles_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Three times, by SIGKILL to all its processes; each store object goes on by itself afterwards."""
    with serving(Path(f"/tmp/nearshot-{os.getpid()}"), durable=True) as server:
        address = server.new_database()
        Store(address, create=True).close()
        acknowledged: list[str] = []
        numbers, errors = count(), []
        ended = threading.Event()

        def write_on() -> None:
            with Store(address) as store:
                while not ended.is_set():
                    root = f"/data/{next(numbers)}"
                    try:
                        with store.writing() as editor:
                            editor.add_root(root)
                            assert editor.stamp > 0
                        acknowledged.append(root)
                    except StoreError as error:
                        errors.append(str(error))
                        time.sleep(0.02)

        def wait_for_more() -> None:
            enough, deadline = len(acknowledged) + 20, time.monotonic() + 30
            while len(acknowledged) < enough and time.monotonic() < deadline:
                time.sleep(0.005)

        with ThreadPoolExecutor(4) as pool:
            writers = [pool.submit(write_on) for _ in range(4)]
            try:
                for _ in range(3):
                    wait_for_more()
                    server.kill()
                    server.start()
                wait_for_more()
            finally:
                ended.set()
            for writer in writers:
                writer.result()
        assert len(acknowledged) >= 80
        with Store(address) as store, store.reading() as catalog:
            held = list(catalog.roots().values())
            assert set(acknowledged) <= set(held)
            assert len(held) == len(set(held))
            assert catalog.revision() == len(held), "a revision a transaction"
        assert errors
        assert all("What was committed is intact" in error for error in errors), set(errors)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("postgresql://somebody:secret@127.0.0.1:1/none?connect_timeout=2", "is the database running"),
        ("postgresql://somebody:secret@/none?host={directory}", "check the user and the password"),
        ("postgresql://nearshot:secret@/none?host={directory}", "make the database first"),
        ("postgresql://nearshot@/none?hst=x", "cannot be read"),
        ("postgresql://me:100%secret@/none", "cannot be read"),
        ("postgresql://me:secret[@/none", "cannot be read|database running"),
        ("postgresql://me:secret@127.0.0.1:1/none?connect_timeout=abc", "connect_timeout"),
    ],
)
def test_an_address_that_does_not_lead_there_says_so_without_its_password(
    postgres_server: Server, wrong: str, told: str
) -> None:
    with pytest.raises(NearshotError, match=told) as error:
        Store(wrong.format(directory=postgres_server.directory))
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "address",
    [
        *(f"postgresql://me:{odd}secret{odd}@host/shots" for odd in ("", "#", "?", "[", "%", "/", ":", "@")),
        "postgresql://me@host/shots?password=secret",
        "postgresql://me@host/shots?pass%77ord=secret",
        "postgresql://host:5432/shots?user=me&password=secret@x",
        "postgresql://me:se@secret#x@host/shots",
    ],
)
def test_a_password_is_shown_nowhere(address: str) -> None:
    assert "secret" not in shown_location(address)


def test_what_tells_databases_apart_is_shown() -> None:
    shown = shown_location("postgresql://me:secret@[::1]:5432,other/shots?sslmode=require&password=secret&host=/run")
    assert shown == "postgresql://me@[::1]:5432,other/shots?sslmode=require&host=/run"


def test_a_replica_can_be_asked_and_says_that_it_is_one(address: str, small: Path) -> None:
    with Store(address) as store:
        run_index(store, small)
    replica = f"{address}&options=-c%20default_transaction_read_only%3Don"
    with Store(replica) as store:
        [answer] = Retriever(store, QueryOptions(backbone="hog")).answer(
            read_queries([small / "things/2.support-set/cat/shot1.png"])
        )
        assert answer.label == "cat"
        with pytest.raises(StoreError, match="name the primary"), store.writing() as editor:
            editor.add_root("/elsewhere")


@pytest.mark.parametrize("score", [Score.MAX_SIM, Score.PROTOTYPE])
@pytest.mark.parametrize("copied", [False, True])
def test_a_database_that_was_made_anew_is_another(
    postgres_server: Server, empty_database: str, small: Path, copied: bool, score: Score
) -> None:
    """The same address and revision, the same images, asked by the same process; but the labels are the other way round."""
    labels, kept = [], []
    support = small / "things/2.support-set"
    for shot in ("cat", "coffee"):
        if shot == "coffee":
            for old, new in (("cat", "other"), ("coffee", "cat"), ("other", "coffee")):
                (support / old).rename(support / new)
        with psycopg.connect(postgres_server.address("postgres"), autocommit=True) as operator:
            operator.execute("DROP DATABASE IF EXISTS made_anew")
        template = empty_database if copied else "template1"
        with Store(postgres_server.new_database(template, name="made_anew"), create=True) as store:
            run_index(store, small)
            kept.append(
                Retriever(store, QueryOptions(backbone="hog", score=score))
            )  # as a service keeps what it has open
            [answer] = kept[-1].answer(read_queries([support / shot / "shot1.png"]))
            labels.append(answer.label)
    assert labels == ["cat", "coffee"]


def test_a_nul_is_refused_in_words(shared: Store) -> None:
    with pytest.raises(UsageError, match="a name or text has a NUL character"), shared.writing() as editor:
        editor.add_root("/a\0b")
    with shared.reading() as catalog:
        assert catalog.roots() == {}


@pytest.mark.parametrize("options", [{"vectors": VectorKind.FLOAT16}, {"ann": Ann.HNSW}, {"ann": Ann.IVF}])
def test_what_is_kept_in_segments_is_refused(shared: Store, small: Path, options: dict[str, VectorKind | Ann]) -> None:
    with pytest.raises(UsageError, match="in PostgreSQL there are none"):
        run_index(shared, small, IndexOptions(backbones=("hog",), **options))  # type: ignore[arg-type]
    with shared.reading() as catalog:
        assert catalog.backbones() == []


def test_the_same_data_gives_the_same_vectors_answers_and_tables(shared: Store, store: Store, small: Path) -> None:
    queries = sorted(small.glob("things/6.preprocessed/*/*.png"))
    reports, answers, vectors = [], [], []
    for each in (store, shared):
        run_index(each, small)
        reports.append(as_json(evaluate(each, EvaluationOptions())))
        retriever = Retriever(each, QueryOptions(backbone="hog", category="things"))
        answers.append(list(retriever.answer(read_queries(queries))))
        with each.reading() as catalog:
            vectors.append(vectors_of(catalog, catalog.backbones()[0], range(1, 7)))
        assert list(verify(each)) == []
    assert reports[0] == reports[1]
    assert answers[0] == answers[1]
    assert vectors[0].keys() == vectors[1].keys()
    assert len(vectors[0]) == 6
    for content, vector in vectors[0].items():
        assert vector.tobytes() == vectors[1][content].tobytes()


def test_two_runs_on_two_directories_and_a_reader_at_once(shared: Store, store: Store, write_data: Writer) -> None:
    names = ["chelsea", "coffee", "rocket", "astronaut"]
    roots: list[Path] = []
    for number in range(2):
        shots = {f"{name}/shot{i}.png": f"{name}:{3 * i + number}" for name in names for i in range(1, 6)}
        root = write_data({f"things/2.support-set/{shot}": source for shot, source in shots.items()})
        roots.append(root.rename(root.with_name(f"data-{number}")))
    ended = threading.Event()
    seen: list[tuple[int, int]] = []

    def read_on() -> None:
        with Store(shared.location) as other:
            while not ended.is_set():
                with other.reading() as catalog:
                    rows = catalog.backbones()
                    if rows:
                        count = next(iter(catalog.count_vectors_by_category(rows[0].id)), None)
                        seen.append((catalog.revision(), 0 if count is None else count.lacking))

    def index(root: Path) -> None:
        with Store(shared.location) as own:
            run_index(own, root, IndexOptions(backbones=("hog",), batch_size=4, workers=1))

    with ThreadPoolExecutor(3) as pool:
        reader = pool.submit(read_on)
        for run in [pool.submit(index, root) for root in roots]:
            run.result()
        ended.set()
        reader.result()
    assert {lacking for _, lacking in seen} == {0}, "an image and its vector are there together"
    assert [revision for revision, _ in seen] == sorted(revision for revision, _ in seen)
    for root in roots:
        run_index(store, root)
    both = [[(c.category, c.role, c.images, c.shots) for c in counted(each)] for each in (shared, store)]
    assert both[0] == both[1] == [("things", "support", 40, 20)]


def counted(store: Store) -> list[ImageCount]:
    with store.reading() as catalog:
        return catalog.count_images()


def hits(store: Store, words: str) -> list[CaptionHit]:
    match = match_of(words)
    assert match is not None
    with store.reading() as catalog:
        return search_captions(catalog.connection, match, ImageFilter(), limit=50)


WORDS = ["a", "cat", "cats", "the", "red", "bird", "sea", "Café", "cafe", "猫", "红色的", "car's", "3d", "b2b", "x_y"]
OPERATORS = ["_", "AND", "OR", "NOT", "ca*", '"a cat"', '"the red bird"', "红", "naïve"]
CAPTION = st.lists(st.sampled_from(WORDS), min_size=1, max_size=24).map(" ".join)
ASKED = st.lists(st.sampled_from([*WORDS, *OPERATORS]), min_size=1, max_size=5).map(" ".join)


@pytest.fixture(scope="module")
def pair(
    postgres_server: Server, empty_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Store, Store]]:
    """A store of each kind with the same images, whose captions are written anew by each example."""
    directory = tmp_path_factory.mktemp("pair")
    with Store(directory / "store", create=True) as here, Store(postgres_server.new_database(empty_database)) as there:
        for each in (here, there):
            write(each, TEXTS)
        yield here, there


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    captions=st.lists(CAPTION, min_size=len(TEXTS), max_size=len(TEXTS)),
    asked=st.lists(ASKED, min_size=3, max_size=3),
)
def test_words_find_and_rank_the_same_captions_as_in_sqlite(
    pair: tuple[Store, Store], captions: list[str], asked: list[str]
) -> None:
    for each in pair:
        with each.writing() as editor:
            put_captions(editor, [*zip(TEXTS, captions, strict=True)], task="caption", fingerprint=None, created="now")
            assert full_text_problem(editor) is None
    for words in asked:
        match = match_of(words)
        if match is None:
            continue
        here, there = (hits(each, words) for each in pair)
        assert {hit.image_id for hit in there} == {hit.image_id for hit in here}
        if {"OR", "NOT"} <= {term.operator for term in match.terms}:
            continue  # what FTS5 counts of a part that does not hold hangs on its walk over the index
        assert {hit.image_id: round(hit.rank, 9) for hit in there} == {hit.image_id: round(hit.rank, 9) for hit in here}


def test_the_snippet_marks_what_was_asked_for(shared: Store) -> None:
    long = f"{' '.join(f'w{number}' for number in range(16))} a cat and a dog"
    write(shared, {1: "The Café by the sea", 2: long, 3: "一只红色的猫"})
    assert [hit.snippet for hit in hits(shared, "cafes SEA")] == ["The [Café] by the [sea]"]
    tail = " ".join(f"w{number}" for number in range(5, 16))
    assert [hit.snippet for hit in hits(shared, '"a cat"')] == [f"...{tail} [a cat] and a dog"]
    assert [hit.snippet for hit in hits(shared, "红色")] == ["一只红色的猫"]


def test_a_lost_entry_of_the_full_text_index_is_found_and_mended(shared: Store) -> None:
    write(shared, TEXTS)
    with shared.writing() as editor:
        editor.connection.exec_driver_sql("DELETE FROM caption_lexemes WHERE caption_id = 4")
    assert "the full-text index differs from the captions" in [finding.problem for finding in verify(shared)]
    list(verify(shared, repair=True))
    assert [hit.image_id for hit in hits(shared, "dog")] == [4, 2]


def test_commands_and_python_take_an_address(
    postgres_server: Server, small: Path, nearshot: Callable[..., Outcome]
) -> None:
    address = postgres_server.new_database()
    done = nearshot("index", small, "--store", address, "--backbone", "hog")
    assert (done.status, "6 added" in done.stdout) == (0, True)
    query = small / "things/6.preprocessed/cat/a.png"
    asked = nearshot("query", query, "--store", address, "--category", "things")
    assert asked.status == 0
    assert asked.stdout.splitlines()[1].startswith("match      cat")
    with open_index(address) as index:
        assert index.backbones == ["hog"]
        assert repr(index) == f"nearshot.open({shown_location(address)!r})"


def test_after_much_was_written_the_planner_knows_it(shared: Store) -> None:
    vectors = normalise(np.random.default_rng(0).standard_normal((1500, 8)))
    row = add_images(shared, "made", vectors, [("things", "cup")] * len(vectors))
    write_segments(shared, [row])
    rows = (
        f"SELECT relname, reltuples FROM pg_class WHERE relname IN ('images', 'embeddings_{row.id}') ORDER BY relname"
    )
    with psycopg.connect(str(shared.location)) as connection:
        assert connection.execute(rows.encode()).fetchall() == [(f"embeddings_{row.id}", 1500.0), ("images", 1500.0)]


def test_one_question_of_a_store_that_never_rests_is_answered_from_what_is_read(
    shared: Store, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_index(shared, small)
    queries = [*read_queries([small / "things/6.preprocessed/cat/a.png"])]
    [quiet] = Retriever(shared, QueryOptions(backbone="hog"), once=True).answer(queries)
    asked: list[int] = []

    def changing(*_: object, **__: object) -> None:
        asked.append(1)
        raise OutdatedError("the store has changed meanwhile; ask again")

    monkeypatch.setattr("nearshot.vectors.nominated.NominatedStore.search_labels", changing)
    [busy] = Retriever(shared, QueryOptions(backbone="hog"), once=True).answer(queries)
    assert busy == quiet
    assert len(asked) == ATTEMPTS_ONCE
