"""Mirrors in a real Milvus: they answer as the store does, follow it, and are never believed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nearshot import open as open_index
from nearshot.indexer.mirroring import MirrorRun
from nearshot.schema.catalog import BackboneRow
from nearshot.schema.errors import OutdatedError, StoreError, UnreachableError, UsageError
from nearshot.schema.mirrors import mirror_row, record_mirror
from nearshot.schema.store import Store
from nearshot.schema.vectors import choose_float16
from nearshot.schema.vocabulary import Role
from nearshot.vectors import mirrors
from nearshot.vectors.milvus import Milvus, connected, shown_engine
from nearshot.vectors.mirrors import Mirrored
from nearshot.vectors.nominated import NominatedStore
from nearshot.vectors.normalise import normalise
from nearshot.vectors.searchable import open_searchable
from nearshot.vectors.segmented import SegmentedStore
from nearshot.vectors.segments import read_rows
from tests import milvus
from tests.made_up import Place, add_images
from tests.service.test_serve import Served
from tests.test_readme import BIN, ROOT, session, tidy
from tests.vectors.test_nominated import as_dict, expected

pytestmark = pytest.mark.skipif(milvus.problem() is not None, reason=f"no Milvus here: {milvus.problem()}")

DIMENSION = 8
PLACES: list[Place] = [("a", "one"), ("a", "two"), ("b", "one"), ("b", "three"), ("a", "four")]


# Milvus takes three seconds to make a mirror: `make soak` cuts one off after every step.
STEPS = ["create", "put_token", "delete", "put", "now", "count"]
ALL = "NEARSHOT_CUTS" in os.environ
CUTS = [(step, first) for first in (True, False) for step in STEPS if first or step != "create"]


@pytest.fixture(scope="module")
def server() -> Iterator[milvus.Server]:
    with milvus.serving() as serving:
        yield serving


@pytest.fixture
def engine(server: milvus.Server, store: Store) -> Milvus:
    store.mirror = server.address
    return connected(server.address)


def unit_vectors(n: int, seed: int = 0) -> NDArray[np.float32]:
    return normalise(np.random.default_rng(seed).standard_normal((n, DIMENSION)))


def mirrored(store: Store) -> list[Mirrored]:
    assert store.mirror is not None
    run = MirrorRun(store, store.mirror, roles=[Role.SUPPORT])
    for _ in run:
        pass
    return run.reports


def opened(store: Store, backbone: BackboneRow, category: str | None = None) -> NominatedStore:
    with store.reading() as catalog:
        held = open_searchable(store, catalog, backbone, Role.SUPPORT, category=category)
    assert isinstance(held, NominatedStore)
    return held


def rows(store: Store, backbone: BackboneRow, category: str | None = None) -> SegmentedStore:
    with store.reading() as catalog:
        return read_rows(catalog, backbone, Role.SUPPORT, category=category)


def assert_answers_as_the_rows(store: Store, backbone: BackboneRow, queries: NDArray[np.float32]) -> None:
    for category in (None, "a", "b"):
        truth, held = rows(store, backbone, category), opened(store, backbone, category)
        assert held.labels() == truth.labels()
        for k, labels in ((1, 2), (5, 0), (1000, 2), (3, None)):
            for query, near in zip(queries, held.search_labels(queries, k, labels), strict=True):
                assert as_dict(near) == expected(truth, query, k, labels)


def fill(store: Store, n: int = 300) -> BackboneRow:
    """Images of which each three show the same."""
    vectors = np.repeat(unit_vectors(n // 3), 3, axis=0)
    return add_images(store, "made", vectors, [PLACES[number % 5] for number in range(n)])


@pytest.mark.parametrize("store_kind", ["sqlite", "postgres"] if ALL else ["postgres"], indirect=True)
def test_it_answers_as_the_rows_do_and_follows_them(
    store: Store, engine: Milvus, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = fill(store)
    with pytest.raises(UsageError, match="no mirror of made"):
        opened(store, backbone)
    [report] = mirrored(store)
    assert (report.put, report.gone, report.vectors, report.anew) == (300, 0, 300, None)
    queries = np.concatenate([unit_vectors(4), unit_vectors(4, 9)])
    assert_answers_as_the_rows(store, backbone, queries)

    # What changes counts at once, before the mirror knows it.
    add_images(store, "made", queries[:4], [("a", "new"), ("b", "one"), ("b", "new"), ("a", "two")], first=1000)
    ids = rows(store, backbone).ids()
    with store.writing() as editor:
        editor.remove_images(ids[:7].tolist())
        editor.relabel_images({int(ids[10]): "two", int(ids[11]): "nobody's"})
    assert_answers_as_the_rows(store, backbone, queries)
    [report] = mirrored(store)
    assert (report.put, report.gone, report.vectors, report.anew) == (6, 7, 297, None)
    assert_answers_as_the_rows(store, backbone, queries)
    with store.reading() as catalog:
        row = mirror_row(catalog, engine.address, backbone.id, Role.SUPPORT)
    assert row is not None
    assert engine.count(row.name) == 297
    [report] = mirrored(store)
    assert (report.put, report.gone) == (0, 0)

    # A writer that goes past the state of a reader is noticed.
    held = opened(store, backbone)
    before = held.search(queries, 3)
    add_images(store, "made", unit_vectors(4, 5), [("a", "new")] * 4, first=2000)
    assert [near.ids.tolist() for near in held.search(queries, 3)] == [near.ids.tolist() for near in before]
    mirrored(store)
    with pytest.raises(OutdatedError):
        held.search(queries, 3)

    # And one that does so between two steps of an answer.
    held = opened(store, backbone)
    near = Milvus.near

    def late(*arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(Milvus, "near", near)
        add_images(store, "made", queries[:1], [("a", "newest")], first=3000)
        mirrored(store)
        return near(*arguments, **options)

    monkeypatch.setattr(Milvus, "near", late)
    with pytest.raises(OutdatedError):
        held.search(queries, 3)


class CutError(Exception):
    pass


def cut(*_: object) -> None:
    raise CutError


@pytest.mark.parametrize(("step", "first"), CUTS if ALL else [("put", False)])
def test_cut_off_anywhere_it_answers_rightly_and_goes_on(
    store: Store, engine: Milvus, monkeypatch: pytest.MonkeyPatch, step: str, first: bool
) -> None:
    monkeypatch.setattr(mirrors, "AT_ONCE", 10)
    backbone, queries = fill(store, 30), unit_vectors(4, 3)
    if not first:
        mirrored(store)
        add_images(store, "made", queries, [("a", "new")] * 4, first=1000)
        with store.writing() as editor:
            editor.remove_images(rows(store, backbone).ids()[:3].tolist())
    with monkeypatch.context() as patch:
        done = getattr(Milvus, step)

        def cut_after(*arguments: object) -> None:
            done(*arguments)
            raise CutError

        patch.setattr(Milvus, step, cut_after)
        with pytest.raises(CutError):
            mirrored(store)
    add_images(store, "made", unit_vectors(2, 5), [("b", "one")] * 2, first=2000)
    if not first:
        assert_answers_as_the_rows(store, backbone, queries)
    [report] = mirrored(store)
    assert report.vectors == len(rows(store, backbone))
    assert_answers_as_the_rows(store, backbone, queries)


def test_a_long_first_run_that_was_cut_off_goes_on_where_it_was(
    store: Store, engine: Milvus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirrors, "AT_ONCE", 10)
    backbone = fill(store, 60)
    assert store.mirror is not None
    looks = iter([False, False, True])
    run = MirrorRun(store, store.mirror, roles=[Role.SUPPORT], should_stop=lambda: next(looks))
    assert list(run) == [(10, 60), (20, 60), (30, 60)]
    assert run.interrupted
    ids = rows(store, backbone).ids()
    with store.writing() as editor:
        editor.relabel_images({int(ids[0]): "two"})
        editor.remove_images([int(ids[1]), int(ids[53])])
    with monkeypatch.context() as patch:  # again, before anything is written: what changed since the first counts
        patch.setattr(Milvus, "count", cut)
        with pytest.raises(CutError):
            mirrored(store)
    [report] = mirrored(store)
    assert (report.put, report.gone, report.vectors) == (30, 1, 58)
    assert_answers_as_the_rows(store, backbone, unit_vectors(4))


def test_what_is_not_what_was_written_is_found_and_made_anew(store: Store, engine: Milvus) -> None:
    backbone = fill(store, 30)
    mirrored(store)
    with store.reading() as catalog:
        row = mirror_row(catalog, engine.address, backbone.id, Role.SUPPORT)
    assert row is not None
    engine.delete(row.name, rows(store, backbone).ids()[:2])
    with pytest.raises(StoreError, match="holds 28 images of a mirror that had 30"):
        opened(store, backbone)
    [report] = mirrored(store)
    assert (report.anew, report.put) == ("it did not hold what was written", 30)
    # A backup of the database, or a copy of it that went on by itself: the engine is of another state.
    with store.reading() as catalog:
        newest = mirror_row(catalog, engine.address, backbone.id, Role.SUPPORT)
    assert newest is not None
    with store.writing() as editor:
        record_mirror(editor, newest._replace(token=4711))
    with pytest.raises(StoreError, match="not the mirror that this database has recorded"):
        opened(store, backbone)
    [report] = mirrored(store)
    assert report.anew == mirrors.ANOTHER
    assert engine.exists(newest.name), "it may be another store's"
    # Another vector than the store's is named, or another label, and not believed.
    with store.reading() as catalog:
        row = mirror_row(catalog, engine.address, backbone.id, Role.SUPPORT)
    assert row is not None
    truth = rows(store, backbone)
    engine.put(row.name, truth.ids()[:1], [("a", "one")], -truth.vectors(truth.ids()[:1]))
    engine.put(row.name, truth.ids()[1:2], [("b", "three")], truth.vectors(truth.ids()[1:2]))
    engine.count(row.name)
    for category, query in ((None, -truth.vectors(truth.ids()[:1])), ("b", truth.vectors(truth.ids()[1:2]))):
        with pytest.raises(StoreError, match="not what the store has"):
            opened(store, backbone, category).search(query, 1)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "HF_HUB_CACHE": str(tmp_path / "empty"), "TORCH_HOME": str(tmp_path / "empty")}


def test_commands_and_a_service_answer_by_it_as_the_docs_show(
    tmp_path: Path, environment: dict[str, str], server: milvus.Server
) -> None:
    subprocess.run([sys.executable, str(ROOT / "examples/make_demo.py"), "demo-data"], cwd=tmp_path, check=True)
    shown, printed = "milvus://127.0.0.1:19530", []
    for line in session("mirror").splitlines():
        if line.startswith("$ nearshot "):
            command = [str(BIN / "nearshot"), *line.removeprefix("$ nearshot ").replace(shown, server.address).split()]
            done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
            printed += [line, *done.stdout.replace(server.address, shown).splitlines()]
    assert tidy("\n".join(printed)) == session("mirror")

    [stranger, *_] = sorted((tmp_path / "demo-data/textures/6.preprocessed/Unknown").iterdir())
    choices: list[dict[str, Any]] = [
        {},
        {"category": "textures", "against": "all", "top_k": 30},
        {"score": "prototype"},
    ]
    with open_index(tmp_path / ".nearshot") as here, open_index(tmp_path / ".nearshot", mirror=server.address) as there:
        for options in choices:
            assert there.query(stranger, **options).as_json() == here.query(stranger, **options).as_json()
        brought = here.mirror(server.address, backbones="hog")
        assert [(each.role, each.put, each.vectors) for each in brought] == [(Role.SUPPORT, 0, 44), (Role.QUERY, 0, 37)]

    service = Served(tmp_path / ".nearshot", "--mirror", server.address)
    before = service.ask(stranger, category="textures")
    label = [str(BIN / "nearshot"), "label", str(stranger), "gravel"]
    subprocess.run(label, cwd=tmp_path, env=environment, check=True, capture_output=True)
    time.sleep(1)  # until what another process says counts
    after = service.ask(stranger, category="textures")
    assert service.end()[0] == 0
    assert before["label"] != "gravel"
    assert (after["label"], round(after["score"], 6)) == ("gravel", 1.0), "which the mirror does not know yet"


def test_of_a_store_and_its_copy_one_goes_on_with_the_mirror_and_the_other_is_told(
    store: Store, engine: Milvus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, queries = fill(store, 30), unit_vectors(4)
    mirrored(store)
    with Store(shutil.copytree(store.location, tmp_path / "copy"), mirror=store.mirror) as copy:
        held = opened(copy, backbone)
        with store.writing() as editor:
            editor.remove_images(rows(store, backbone).ids()[:9].tolist())
        mirrored(store)
        for asked in (held, opened(copy, backbone)):
            with pytest.raises(StoreError, match="a copy of the store has gone on with it"):
                asked.search(queries, 3)
        now = Milvus.now

        def beside(engine_: Milvus) -> int:  # both write to it at once
            engine_.put_token(name, 4711, DIMENSION)
            return now(engine_)

        with store.writing() as editor:
            editor.remove_images(rows(store, backbone).ids()[:1].tolist())
        with store.reading() as catalog:
            row = mirror_row(catalog, engine.address, backbone.id, Role.SUPPORT)
        assert row is not None
        name = row.name
        with monkeypatch.context() as patch:
            patch.setattr(Milvus, "now", beside)
            with pytest.raises(StoreError, match="another process has written"):
                mirrored(store)


def test_vectors_of_float16_whose_lengths_pass_1_are_found(store: Store, engine: Milvus) -> None:
    with store.writing() as editor:
        choose_float16(editor)
    vectors = unit_vectors(200)
    backbone = add_images(store, "made", vectors, [PLACES[number % 5] for number in range(200)])
    mirrored(store)
    truth = rows(store, backbone)
    stored = normalise(truth.vectors(truth.ids()))
    for query, near in zip(stored, opened(store, backbone).search_labels(stored, 1, 2), strict=True):
        assert as_dict(near) == expected(truth, query, 1, 2)


def test_an_engine_that_is_not_there_is_told_and_an_address_that_is_none(store: Store) -> None:
    fill(store, 30)
    store.mirror = "milvus://127.0.0.1:9"
    with pytest.raises(UnreachableError, match="is Milvus running"):
        mirrored(store)
    for wrong in ("http://here", "milvus://", "milvus://here:port", "milvus://here/a/b", "milvus://[::1"):
        with pytest.raises(UsageError, match="that of a Milvus"):
            Milvus(wrong)
    for options, problem in (("shard=3", "no option shard;"), ("shards=0", "1 or more"), ("secure=1", "true or false")):
        with pytest.raises(UsageError, match=problem):
            Milvus(f"milvus://here?{options}")
    assert shown_engine("milvus://me:secret@[::1]/shots") == "milvus://me@[::1]:19530/shots"
    with pytest.raises(UnreachableError) as raised:
        Milvus("milvus://me:secret@127.0.0.1:9")
    assert "secret" not in str(raised.value)
