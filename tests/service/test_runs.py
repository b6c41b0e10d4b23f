"""Runs that several services over a store share."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import update

from nearshot.schema import jobs, tables
from nearshot.schema.errors import StoreBusyError, StoreError
from nearshot.schema.store import Store
from nearshot.service import runs as service_runs
from nearshot.service.runs import Runs, RunState

pytestmark = pytest.mark.both_stores


@pytest.fixture
def both(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Runs, Runs]]:
    """Two services over one store."""
    monkeypatch.setattr(service_runs, "TELLING_SECONDS", 0.05)
    pair = Runs(store), Runs(store)
    yield pair
    for each in pair:
        each.close()


def waited(runs: Runs, run_id: int, holds: Callable[[RunState], bool]) -> RunState:
    """A run, once something holds of it."""
    end = time.monotonic() + 10
    while True:
        state = runs.get(run_id)
        assert state is not None
        if holds(state):
            return state
        assert time.monotonic() < end, state
        time.sleep(0.02)


def test_each_tells_of_the_others_run_and_begins_none_beside_it(both: tuple[Runs, Runs]) -> None:
    here, there = both
    go = threading.Event()

    def job(run: RunState, should_stop: Callable[[], bool]) -> bool:
        run.done, run.total = 3, 7
        go.wait(10)
        run.reports["data"] = {"added": 4}
        with run.part("other"):
            raise StoreError("it is away")
        return True

    run = here.start("index", job)
    seen = waited(there, run.id, lambda state: state.done == 3)
    assert (seen.kind, seen.state, seen.total, there.own(run.id)) == ("index", "running", 7, None)
    with pytest.raises(StoreBusyError, match=f"run {run.id} is on; wait for it to end"):
        there.start("lint", lambda *_: True)
    go.set()
    ended = waited(there, run.id, lambda state: state.state != "running")
    assert (ended.state, ended.errors, ended.reports) == ("failed", {"other": "it is away"}, {"data": {"added": 4}})
    assert waited(here, run.id, lambda state: state.state != "running").as_told() == ended.as_told()
    following = there.start("lint", lambda *_: True)
    assert following.id == run.id + 1
    assert waited(here, following.id, lambda state: state.state != "running").state == "finished"
    assert here.get(following.id + 1) is None


def test_a_service_that_ends_says_that_its_run_was_interrupted(both: tuple[Runs, Runs]) -> None:
    here, there = both

    def job(run: RunState, should_stop: Callable[[], bool]) -> bool:
        while not should_stop():
            time.sleep(0.01)
        return False

    run = here.start("index", job)
    here.close()
    seen = there.get(run.id)
    assert seen is not None
    assert seen.state == "interrupted"


@pytest.mark.parametrize(
    ("process", "told_at"),
    [
        ([*jobs.this_process()[:2], str(2**22 + 1), "5"], None),
        ([*jobs.this_process()[:3], "5"], None),  # another process has its number now
        (["elsewhere", "pid:[1]", "1", "5"], "2026-01-01T00:00:00+00:00"),
        ([], "2026-01-01T00:00:00+00:00"),
    ],
)
def test_a_run_whose_service_is_gone_was_interrupted_and_stands_in_nobodys_way(
    store: Store, both: tuple[Runs, Runs], process: list[str], told_at: str | None
) -> None:
    with store.writing() as editor:
        told = RunState(0, "index", total=9).as_told()
        run_id = jobs.add_job(editor, "index", told, most=10)
        values = {"told": json.dumps(told | {jobs.PROCESS: process})} | ({"told_at": told_at} if told_at else {})
        editor.connection.execute(update(tables.jobs).where(tables.jobs.c.id == run_id).values(**values))
    seen = both[0].get(run_id)
    assert seen is not None
    assert (seen.state, seen.total) == ("interrupted", 9)
    assert both[1].start("index", lambda *_: True).id > run_id


def test_what_is_in_another_namespace_of_processes_is_not_taken_for_dead(store: Store, both: tuple[Runs, Runs]) -> None:
    with store.writing() as editor:
        told = RunState(0, "index").as_told()
        run_id = jobs.add_job(editor, "index", told, most=10)
        boot, _, pid, began = jobs.this_process()
        values = {"told": json.dumps(told | {jobs.PROCESS: [boot, "pid:[1]", pid + "0", began]})}
        editor.connection.execute(update(tables.jobs).where(tables.jobs.c.id == run_id).values(**values))
    with pytest.raises(StoreBusyError, match=f"run {run_id} is on"):
        both[0].start("lint", lambda *_: True)


def test_what_was_done_to_its_end_is_finished_though_the_service_ends_meanwhile(both: tuple[Runs, Runs]) -> None:

    def job(run: RunState, should_stop: Callable[[], bool]) -> bool:
        both[0].stop()
        return True

    run = both[0].start("lint", job)
    assert waited(both[1], run.id, lambda state: state.state != "running").state == "finished"


def test_a_run_that_cannot_even_be_told_of_ends(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("nobody expected this")

    runs = Runs(store, fail)
    run = runs.start("lint", lambda *_: True)
    assert waited(Runs(store), run.id, lambda state: state.state != "running").state == "failed"
    runs.close()


def test_only_the_newest_runs_are_kept(store: Store, both: tuple[Runs, Runs], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_runs, "KEPT", 3)
    ids = []
    for _ in range(5):
        run = both[0].start("lint", lambda *_: True)
        waited(both[1], run.id, lambda state: state.state != "running")
        waited(both[0], run.id, lambda state: state.state != "running")
        ids.append(run.id)
    assert [both[1].get(run_id) is not None for run_id in ids] == [False, False, True, True, True]
