"""A copy with a fault at each of its operations, and what must hold afterwards.

    python -m tests.faults.copies [EVERY]

Afterwards the copy is a whole store, or none: then the same command makes it one. What it is of stays as it was.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from unittest import mock

from nearshot.indexer.copying import CopyRun
from nearshot.indexer.verify import verify
from nearshot.schema import store_copy
from nearshot.schema.errors import NearshotError, UsageError
from tests.faults.faults import DIED, Fault, faults
from tests.faults.runs import NEVER, forked, warm
from tests.faults.scenarios import difference, grown_once, index, labelled, opened, state


def copy(here: Path, there: Path) -> None:
    """Copy the store of one directory into another, in several steps."""
    with mock.patch.object(store_copy, "CONTENTS", 2):
        for _ in CopyRun(here / "store", there / "store"):
            pass


def struck(here: Path, there: Path, at: int, fault: Fault) -> int:
    """Copy with a fault; 0 where it got through without, 2 where it said what was wrong."""

    def work() -> int:
        with faults(at, fault) as count:
            try:
                copy(here, there)
            except NearshotError:
                return 2
        return 0 if count() < at else 3

    return forked(work)


def mended(here: Path, there: Path) -> int:
    """Copy again, unless there is a copy, and hold what must hold."""

    def work() -> int:
        with suppress(UsageError):  # there is a store already
            copy(here, there)
        return _verified(there)

    return forked(work)


def _verified(there: Path) -> int:
    with opened(there) as store:
        left = [finding for finding in verify(store, repair=True) if not finding.repaired]
        assert not left, left
        assert list(verify(store)) == []
    return 0


def run(every: int = 1) -> Counter[str]:
    """Copy two stores with each fault at every so many-th operation until it gets through; counts by outcome."""
    warm()
    return _of(labelled, every) + _of(grown_once, every)


def _of(prepare: Callable[[Path], None], every: int) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="copies-") as directory:
        here, calm, there = (Path(directory, name) for name in ("here", "calm", "there"))
        here.mkdir()
        calm.mkdir()
        for work in (prepare, index):
            assert forked(partial(work, here)) == 0
        assert struck(here, calm, NEVER, Fault.DEATH) == 0
        before, expected = state(here), state(calm)
        for fault in Fault:
            for at in count(1, every):
                there.mkdir()
                status = struck(here, there, at, fault)
                if status:
                    outcomes[{DIED: "died", 2: "said", 3: "went on"}.get(status, f"status {status}")] += 1
                    where = f"operation {at}: {fault}"
                    assert status in (DIED, 2, 3), f"{where}: status {status}"
                    assert mended(here, there) == 0, f"{where}: not mended"
                    assert state(there) == expected, f"{where}: {difference(expected, state(there))}"
                    assert state(here) == before, f"{where}: the source has changed"
                shutil.rmtree(there)
                if not status:
                    break
    return outcomes


if __name__ == "__main__":
    counted = run(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
    print(f"{counted.total()} runs: {dict(counted)}; every one was mended")
