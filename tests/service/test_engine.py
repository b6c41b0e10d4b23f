"""The engine: what is loaded, and loaded once."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from nearshot.indexer.options import IndexOptions
from nearshot.indexer.run import IndexRun
from nearshot.indexer.status import RootState, look_at_roots, read_status
from nearshot.retriever.fused import FusedBackbone
from nearshot.retriever.options import QueryOptions
from nearshot.schema import segment_cache
from nearshot.schema.catalog import BackboneRow, Catalog, CategoryCount
from nearshot.schema.segment_file import Segment
from nearshot.schema.segments import SegmentRow
from nearshot.schema.store import Store
from nearshot.service.engine import Engine
from nearshot.service.metrics import Metrics
from nearshot.service.settings import Settings
from tests.conftest import HOG, run_index, save_crop
from tests.service.asking import wait_for


def test_a_fused_backbone_shares_the_models_of_its_parts(store: Store, small: Path) -> None:
    run_index(store, small, IndexOptions(backbones=("lite0+hog",), workers=2))
    engine = Engine(store, Settings(), Metrics())
    engine.load()
    fused = engine.served["lite0+hog"].backbone
    assert isinstance(fused, FusedBackbone)
    assert list(fused.parts) == [engine.served[name].backbone for name in ("lite0", "hog")]
    assert engine.searcher(QueryOptions(backbone="hog+lite0")).row.name == "lite0+hog"
    assert sorted(engine.shared()) == ["hog", "lite0"], "an index run needs the parts only"
    engine.close()
    alone = Engine(store, Settings(backbones=("hog+lite0",)), Metrics())
    alone.load()
    assert (list(alone.served), sorted(set(alone.shared()))) == (["lite0+hog"], ["hog", "lite0"])
    alone.close()


def test_segments_are_read_while_models_load_and_once(
    store: Store, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_index(store, small)
    read: list[str] = []
    real = segment_cache.read_segment

    def noted(at: Path, row: BackboneRow, record: SegmentRow) -> Segment:
        read.append(record.role)
        return real(at, row, record)

    monkeypatch.setattr(segment_cache, "read_segment", noted)
    engine = Engine(store, Settings(), Metrics())
    engine.load()
    wait_for(lambda: read == ["support"])
    assert engine.searcher(QueryOptions()).supported == ["things"]
    assert engine.searcher(QueryOptions(category="things")).supported == ["things"]
    assert read == ["support"]
    assert engine._warmed == {}, "from now on the searchers hold them"
    engine.close()


def test_the_status_is_told_before_the_disk_was_looked_at_and_then_with_what_there_was(
    store: Store, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_index(store, small)
    engine = Engine(store, Settings(), Metrics())
    engine.load()
    going = threading.Event()

    def slow(at: Store) -> list[RootState]:
        assert going.wait(20)
        return look_at_roots(at)

    monkeypatch.setattr("nearshot.service.engine.look_at_roots", slow)
    early = engine.status()
    assert early.roots == [RootState(str(small))]
    assert early.categories == read_status(store).categories
    going.set()
    wait_for(lambda: engine.status() == read_status(store))
    going.clear()
    save_crop(small / "things/2.support-set/cat/shot9.png", "chelsea:9")
    assert engine.status().roots == [RootState(str(small), True, 0, 0, 0, 0)], "as it was"
    going.set()
    wait_for(lambda: engine.status().roots[0].new == 1)
    engine.close()


def test_the_status_follows_what_has_no_revision_of_its_own(
    store: Store, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = None
    for number, _ in enumerate(IndexRun(store, small, HOG)):
        if number == 0:
            engine = Engine(store, Settings(), Metrics())
            engine.load()
            assert engine.status().last_run is not None
    assert engine is not None
    wait_for(lambda: engine.status() == read_status(store))
    run_index(store, small)  # which changes nothing but that there was a run
    wait_for(lambda: engine.status().last_run == read_status(store).last_run)
    going = threading.Event()
    monkeypatch.setattr("nearshot.service.engine.look_at_roots", lambda _: going.wait(20) and [])
    engine.outdate()
    assert engine.status().roots == read_status(store).roots, (
        "as it was when they were looked at, until they have been again"
    )
    going.set()
    engine.close()


def test_what_there_is_much_of_is_counted_before_somebody_asks(
    store: Store, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_index(store, small)
    monkeypatch.setattr("nearshot.service.engine.LARGE", 3)
    counted: list[str] = []

    def count(catalog: Catalog) -> list[CategoryCount]:
        counted.append("categories")
        return []

    monkeypatch.setattr(Catalog, "count_categories", count)
    monkeypatch.setattr("nearshot.service.engine.read_held", lambda _: counted.append("held"))
    engine = Engine(store, Settings(), Metrics())
    engine.load()
    wait_for(lambda: sorted(counted) == ["categories", "held"])
    engine.close()


def test_a_service_starts_without_plots_statistics_and_models_libraries() -> None:
    names = ("torch", "transformers", "sklearn", "scipy", "matplotlib", "pandas", "pyarrow", "faiss")
    script = f"import sys, nearshot.service.app; print([name for name in {names} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
