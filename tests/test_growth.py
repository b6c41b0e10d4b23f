"""What work costs follows the change and not the store: counted, not timed, at sizes a factor of ten apart."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from benchmarks.growth import build, run, save
from nearshot.indexer.discover import Discovery
from nearshot.indexer.find_changes import find_changes
from nearshot.retriever.options import QueryOptions
from nearshot.retriever.retriever import Retriever
from nearshot.retriever.sources import read_queries
from nearshot.schema.known_images import known_images_at
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Role


@dataclass
class Cost:
    """SQL statements, and bytes that are asked of the operating system and handed to it."""

    statements: int = 0
    read: int = 0
    written: int = 0


@contextmanager
def counted(store: Store) -> Iterator[Cost]:
    cost = Cost()

    def note(*_: object) -> None:
        cost.statements += 1

    read, written = transferred()
    event.listen(store._database.engine, "before_cursor_execute", note)
    yield cost
    event.remove(store._database.engine, "before_cursor_execute", note)
    now = transferred()
    cost.read, cost.written = now[0] - read, now[1] - written


def transferred() -> tuple[int, int]:
    """Bytes read and written by system calls."""
    counts = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(counts["rchar"]), int(counts["wchar"])


SIZES = [(200, 1), (2000, 1), (2000, 20)]
"""Images and categories."""

pytestmark = pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="counts come from Linux's /proc")


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    directories: list[Path] = []
    for images, categories in SIZES:
        here = tmp_path_factory.mktemp(f"{images}-{categories}")
        build(here, images, categories, 20)
        directories.append(here)
    return directories


def costs(stores: list[Path], work: Callable[[Path, Store], None]) -> list[Cost]:
    taken = []
    for here in stores:
        with Store(here / "store") as store:
            with counted(store) as cost:
                work(here, store)
            taken.append(cost)
    return taken


def query(here: Path, store: Store) -> None:
    list(Retriever(store, QueryOptions(backbone="hog")).answer(read_queries([here / "query.png"])))


def test_a_query_asks_the_database_as_much_of_a_large_store_and_of_many_categories(stores: list[Path]) -> None:
    small, large, many = costs(stores, query)
    assert small.statements == large.statements == many.statements


def test_counting_what_a_backbone_has_seen_reads_no_vectors(stores: list[Path]) -> None:
    def count(here: Path, store: Store) -> None:
        with store.reading() as catalog:
            [row] = catalog.backbones()
            assert sum(each.vectors for each in catalog.count_vectors_by_category(row.id)) >= 200
            catalog.categories(Role.SUPPORT)

    vectors = 4 * 708 * SIZES[1][0]
    assert costs(stores, count)[1].read < vectors / 10


def test_one_new_shot_costs_what_it_is(stores: list[Path]) -> None:
    def one_more(here: Path, store: Store) -> None:
        save(here / "data/c0/2.support-set/label0/shot900.png", 7)
        run(store, here / "data")

    small, large, many = costs(stores, one_more)
    assert small.statements == large.statements == many.statements
    for cost in (small, large, many):
        assert cost.written < 400_000, "a vector, its rows with the pages that they are in, and a segment of one"
    with Store(stores[1] / "store") as store:
        query(stores[1], store)


def test_a_run_that_finds_nothing_writes_next_to_nothing(stores: list[Path]) -> None:
    def nothing(here: Path, store: Store) -> None:
        run(store, here / "data")

    small, large, many = costs(stores, nothing)
    assert small.statements == large.statements == many.statements
    assert max(small.written, large.written, many.written) < 100_000


def test_memory_follows_what_changed_and_not_what_there_is(stores: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nearshot.indexer.find_changes.CHUNK", 50)

    def collected(*arguments: Any) -> Any:
        gc.collect()  # so that what is held is measured, and not what waits to be collected
        return known_images_at(*arguments)

    monkeypatch.setattr("nearshot.indexer.find_changes.known_images_at", collected)
    gc.collect()
    gc.freeze()  # what was there before need not be looked through each time
    peaks = []
    for here in stores[:2]:
        with Store(here / "store") as store, store.reading() as catalog:
            root_id = catalog.root_id(str((here / "data").resolve()))
            assert root_id is not None
            for _ in range(2):  # what is kept for ever is there the second time
                tracemalloc.start()
                discovery = Discovery(here / "data")
                changes = find_changes(discovery, catalog, root_id, (), decoder="", as_of=catalog.revision())
                peak = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
            assert changes.found == len(changes.unchanged) + len(changes.new)
            peaks.append(peak)
    gc.unfreeze()
    images = SIZES[1][0] - SIZES[0][0]
    assert peaks[1] - peaks[0] < 60 * images, "bytes an image: found and known, it was a thousand"


def test_many_small_runs_write_each_vector_a_few_times(stores: list[Path]) -> None:
    """Merging is tiered: the bytes per vector grow by the logarithm of their number."""
    here = stores[0]
    vector = 4 * 708
    with Store(here / "store") as store:
        before = {path.name for path in store.segment_directory.iterdir()}
        total = 0
        for number in range(40):
            save(here / f"data/c0/2.support-set/label1/shot{1000 + number}.png", number)
            run(store, here / "data")
            now = {path.name: path.stat().st_size for path in store.segment_directory.iterdir()}
            total += sum(size for name, size in now.items() if name not in before)
            before = set(now)
    assert total < 40 * 4 * 2 * vector
