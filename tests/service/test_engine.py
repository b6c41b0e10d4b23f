"""The engine: what is loaded, and loaded once."""

from __future__ import annotations

from pathlib import Path

from nearshot.indexer.options import IndexOptions
from nearshot.retriever.fused import FusedBackbone
from nearshot.retriever.options import QueryOptions
from nearshot.schema.store import Store
from nearshot.service.engine import Engine
from nearshot.service.metrics import Metrics
from nearshot.service.settings import Settings
from tests.conftest import run_index


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
