"""Runs: each scenario with a fault at each of its operations, and what must hold afterwards.

    python -m tests.faults.runs [EVERY [SCENARIO]]

Every run has a process of its own, forked from one that has imported everything. Afterwards nothing is wrong that `index` or
`verify --repair` does not mend, and the command, done again, comes to what it comes to undisturbed. EVERY 1 takes every
operation, 10 every tenth.
"""

from __future__ import annotations

import gc
import os
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from threadpoolctl import threadpool_limits

from nearshot.indexer.intents import finish_intents
from nearshot.indexer.verify import Remedy, verify
from nearshot.schema.errors import NearshotError
from tests.faults.faults import DIED, Fault, faults
from tests.faults.scenarios import (
    SCENARIOS,
    SOAKED,
    Scenario,
    copy,
    data,
    difference,
    index,
    opened,
    state,
    write_data,
)

NEVER = 1 << 30


def forked(work: Callable[[], int | None]) -> int:
    """Do some work in a process of its own; its exit status, None being 0."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = work() or 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def warm() -> None:
    """Do once what commands do, on one thread, so that the processes that are forked need not import it anew."""
    threadpool_limits(1)
    with tempfile.TemporaryDirectory(prefix="warm-") as here:
        write_data(Path(here))
        index(Path(here))
        with opened(Path(here)) as store:
            assert list(verify(store, repair=True)) == []
    gc.collect()
    gc.freeze()  # or each would go through, and so copy, all that was imported


def struck(scenario: Scenario, here: Path, at: int, fault: Fault) -> int:
    """Do a scenario's command with a fault; 0 where it got through without, 2 where it said what was wrong."""

    def work() -> int:
        with faults(at, fault) as count:
            try:
                scenario.do(here)
            except NearshotError:
                return 2
        return 0 if count() < at else 3

    return forked(work)


def mended(scenario: Scenario, here: Path) -> int:
    """Hold what must hold after a fault, then do the command again, and index."""

    def work() -> int:
        with opened(here) as store:
            finish_intents(store)
            left = [finding for finding in verify(store, repair=True) if not finding.repaired]
            assert all(finding.remedy != Remedy.NONE for finding in left), left
        (scenario.again or scenario.do)(here)
        if scenario is not SCENARIOS["forget"]:
            index(here)
        with opened(here) as store:
            absent = [str(data(here) / path) for path in scenario.absent]
            assert [finding.subject for finding in verify(store, repair=True) if not finding.repaired] == absent
            assert [finding.subject for finding in verify(store)] == absent
        return 0

    return forked(work)


def run(name: str, every: int = 1, first: int = 1) -> Counter[str]:
    """Run a scenario with each fault at every so many-th operation until it gets through; counts by outcome."""
    scenario = (SCENARIOS | SOAKED)[name]
    warm()
    outcomes: Counter[str] = Counter()
    top = Path(tempfile.mkdtemp(prefix="faults-"))
    try:
        template, calm = top / "template", top / "calm"
        template.mkdir()
        assert forked(lambda: scenario.prepare(template)) == 0
        assert forked(lambda: copy(template, calm)) == 0
        assert struck(scenario, calm, NEVER, Fault.DEATH) == 0
        assert mended(replace(scenario, do=lambda _: None, again=None) if name != "forget" else scenario, calm) == 0
        expected = state(calm)
        for fault in Fault:
            at = first
            while True:
                here = top / "here"
                copy(template, here)
                status = struck(scenario, here, at, fault)
                if status == 0:
                    shutil.rmtree(here)
                    break
                outcome = {DIED: "died", 2: "said", 3: "went on"}.get(status, f"status {status}")
                outcomes[outcome] += 1
                where = f"{name}, operation {at}: {fault}"
                assert status in (DIED, 2, 3), f"{where}: {outcome}"
                assert mended(scenario, here) == 0, f"{where}: not mended"
                assert state(here) == expected, f"{where}: another state\n{difference(expected, state(here))}"
                shutil.rmtree(here)
                at += every
    finally:
        shutil.rmtree(top)
    return outcomes


def main() -> None:
    """Run all scenarios, or one, and print the counts."""
    every = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    total: Counter[str] = Counter()
    for name in sys.argv[2:] or SCENARIOS | SOAKED:
        outcomes = run(name, every)
        total += outcomes
        print(f"{name:<20} {dict(outcomes)}", flush=True)
    print(f"{total.total()} runs: {dict(total)}; every one was mended")


if __name__ == "__main__":
    main()
