"""Crashes: whatever is killed, cut off or full, the store stays whole and the next run goes on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from nearshot.indexer.run import IndexRun
from nearshot.indexer.verify import verify
from nearshot.retriever.answer import Answer
from nearshot.retriever.options import QueryOptions
from nearshot.retriever.retriever import Retriever
from nearshot.retriever.sources import read_queries
from nearshot.schema.database import Database
from nearshot.schema.errors import StoreBusyError, StoreError
from nearshot.schema.store import Store
from tests.conftest import HOG, SMALL, counts, run_index, save_crop

pytestmark = pytest.mark.both_stores

KILLS = int(os.environ.get("NEARSHOT_KILLS", "12"))
"""Runs that are killed; `make soak` kills twenty."""
CHILD = """
import os, random, signal, sys
from pathlib import Path
from dataclasses import replace
from nearshot.schema.editor import Editor
from nearshot.schema.store import Store
from tests.conftest import HOG, run_index

chance = random.Random(int(sys.argv[3]))
steps = chance.randrange(1, 24)

def deadly(function):
    def call(*arguments, **named):
        global steps
        steps -= 1
        if steps == 0 and chance.random() < 0.5:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*arguments, **named)
        if steps == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return call

for name in ("add_contents", "put_images", "put_embeddings", "remove_images", "begin_run", "end_run"):
    setattr(Editor, name, deadly(getattr(Editor, name)))
Path.rename = deadly(Path.rename)
with Store(Path(sys.argv[1])) as store:
    run_index(store, Path(sys.argv[2]), replace(HOG, batch_size=3, segment_interval=9))
"""


def contents(store: Store) -> list[tuple[Any, ...]]:
    """All that a store says, ids apart: images, contents and vectors."""
    query = sa.text(
        "SELECT i.path, i.category, i.role, i.label, i.shot, c.sha256, c.width, c.height, e.vector, b.fingerprint "
        "FROM images i JOIN contents c ON c.id = i.content_id JOIN embeddings e ON e.content_id = c.id "
        "JOIN backbones b ON b.id = e.backbone_id WHERE i.present ORDER BY i.path"
    )
    with store.reading() as catalog:
        return [tuple(row) for row in catalog.connection.execute(query)]


def answers(store: Store, root: Path) -> list[tuple[Any, ...]]:
    retriever = Retriever(store, QueryOptions(backbone="hog"))
    decisions = []
    for answer in retriever.answer(read_queries([root])):
        assert isinstance(answer, Answer)
        hits = sorted((-hit.score, hit.image.path) for hit in answer.hits)
        decisions.append((answer.path, answer.decision.verdict, answer.decision.label, hits))
    return decisions


def change(root: Path, chance: random.Random, step: int) -> None:
    """Add, move, remove and rewrite some shots."""
    label = chance.choice(["cat", "coffee", "rocket"])
    photo = {"cat": "chelsea", "coffee": "coffee", "rocket": "rocket"}[label]
    for number in range(6):
        save_crop(
            root / f"things/2.support-set/{label}/shot{100 * step + number}.png", f"{photo}:{chance.randrange(8)}"
        )
    shots = sorted((root / "things/2.support-set").rglob("*.png"))
    chance.choice(shots).unlink()
    moved = chance.choice([shot for shot in shots if shot.exists()])
    moved.rename(moved.with_name(f"shot{100 * step + 50}.png"))


def test_runs_killed_at_random_moments_end_in_the_store_of_an_undisturbed_run(small: Path, tmp_path: Path) -> None:
    """Each run is killed by SIGKILL before or after a random step: within transactions, between them, around segments."""
    chance = random.Random(7)
    killed = half_way = 0
    Store(tmp_path / "killed", create=True).close()
    for step in range(1, KILLS + 1):
        change(small, chance, step)
        command = [sys.executable, "-c", CHILD, str(tmp_path / "killed"), str(small), str(step)]
        died = subprocess.run(command, cwd=Path(__file__).parents[2], check=False).returncode == -signal.SIGKILL
        killed += died
        with Store(tmp_path / "killed") as store:
            half_way += died and 0 < len(contents(store)) < sum(1 for _ in small.rglob("*.png"))
    assert killed >= KILLS * 3 // 4
    assert half_way >= KILLS // 3
    with Store(tmp_path / "killed") as survivor, Store(tmp_path / "calm", create=True) as calm:
        run_index(survivor, small)
        run_index(calm, small)
        assert contents(survivor) == contents(calm)
        assert len(contents(calm)) > 30
        assert answers(survivor, small) == answers(calm, small)
        assert list(verify(survivor)) == []


def test_queries_go_on_while_a_run_holds_the_store_and_a_second_run_is_told(store: Store, small: Path) -> None:
    run = iter(IndexRun(store, small, replace(HOG, batch_size=2)))
    next(run)
    next(run)
    with Store(store.location) as other:
        assert len(answers(other, small)) == len(SMALL)
        with pytest.raises(StoreBusyError, match="is in use by `nearshot index"):
            run_index(other, small)
    for _ in run:
        pass
    assert counts(run_index(store, small)) == {"unchanged": 6}


@pytest.mark.of_segments
def test_a_full_disk_during_commit_is_a_clear_error_and_the_next_run_finishes(store: Store, small: Path) -> None:
    run_index(store, small)
    before = contents(store)
    database: Database = store._database
    with store.reading() as catalog:
        pages = catalog.connection.exec_driver_sql("PRAGMA page_count").scalar_one()

    def limit(connection: Any, _record: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages + 2}")

    database.engine.dispose()
    sa.event.listen(database.engine, "connect", limit)
    for number in range(8):
        save_crop(small / f"things/2.support-set/rocket/shot{number}.png", f"rocket:{number}")
    with pytest.raises(StoreError, match="database or disk is full; free some space and run again"):
        run_index(store, small, replace(HOG, batch_size=2))
    assert set(before) <= set(contents(store))
    assert answers(store, small / "things/2.support-set/cat")
    sa.event.remove(database.engine, "connect", limit)
    database.engine.dispose()
    report = run_index(store, small)
    assert report.added + report.unchanged == len(SMALL) + 8
    assert list(verify(store)) == []
