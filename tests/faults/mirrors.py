"""A mirror under fire: a writer, what brings the mirror up to date, and readers, while Milvus is killed and started again.

    python -m tests.faults.mirrors 180 4 45     # seconds, readers, and seconds between kills

Each answer is held against the rows of the very state that it is of, ties and all. It says how many there were of each outcome,
and fails where one was wrong, or where nothing was answered after the last kill.
"""

from __future__ import annotations

import collections
import contextlib
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nearshot.indexer.mirroring import MirrorRun
from nearshot.schema.catalog import BackboneRow
from nearshot.schema.errors import OutdatedError, StoreError, UnreachableError
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Role
from nearshot.vectors.normalise import normalise
from nearshot.vectors.searchable import open_searchable
from nearshot.vectors.segments import read_rows
from tests import milvus
from tests.made_up import Place, add_images
from tests.vectors.test_nominated import as_dict, expected

DIMENSION, KINDS = 16, 40
PLACES: list[Place] = [(category, f"label{number}") for category in "ab" for number in range(6)]


class Trial:
    """All that goes on at once, until it is over."""

    def __init__(self, store: Store, address: str) -> None:
        self.store, self.address = store, address
        self.over = threading.Event()
        self.outcomes: collections.Counter[str] = collections.Counter()
        self.wrong: list[str] = []
        self.answered_at = 0.0
        self._shown = normalise(np.random.default_rng(0).standard_normal((KINDS, DIMENSION)))
        self.backbone: BackboneRow = self._added(np.random.default_rng(1), 400, 0)

    def _added(self, chance: np.random.Generator, n: int, first: int) -> BackboneRow:
        vectors = self._shown[chance.integers(0, KINDS, n)]
        places = [PLACES[number] for number in chance.integers(0, len(PLACES), n)]
        return add_images(self.store, "made", vectors, places, first=first)

    def write(self) -> None:
        """Add, take out and relabel images."""
        chance, first = np.random.default_rng(2), 10_000
        while not self.over.wait(chance.uniform(0, 0.4)):
            with self.store.reading() as catalog:
                ids = read_rows(catalog, self.backbone, Role.SUPPORT).ids()
            some = chance.choice(ids, 4, replace=False).tolist()
            what = chance.integers(0, 3)
            if what == 0 or len(ids) < 200:
                n = int(chance.integers(1, 12))
                self._added(chance, n, first)
                first += n
            elif what == 1:
                with self.store.writing() as editor:
                    editor.remove_images(some)
            else:
                with self.store.writing() as editor:
                    editor.relabel_images({image_id: f"label{chance.integers(0, 6)}" for image_id in some})
            self.outcomes["changes"] += 1

    def follow(self) -> None:
        """Bring the mirror up to date, again and again."""
        while not self.over.wait(0.5):
            try:
                run = MirrorRun(self.store, self.address, roles=[Role.SUPPORT])
                for _ in run:
                    pass
                self.outcomes["mirrored" if not run.reports[0].anew else "mirrored anew"] += 1
            except UnreachableError:
                self.outcomes["mirroring, silent"] += 1
            except StoreError as error:
                self.wrong.append(f"mirroring: {error}")

    def ask(self, seed: int) -> None:
        """Ask, and hold the answers against the rows."""
        chance = np.random.default_rng(100 + seed)
        while not self.over.is_set():
            query = self._query(chance)
            k, labels = int(chance.integers(1, 30)), chance.choice(np.array([0, 2, None]))
            category = chance.choice(np.array([None, "a", "b"]))
            try:
                with self.store.reading() as catalog:
                    held = open_searchable(self.store, catalog, self.backbone, Role.SUPPORT, category=category)
                    truth = read_rows(catalog, self.backbone, Role.SUPPORT, category=category)
                time.sleep(chance.uniform(0, 0.3))
                [near] = held.search_labels(query, k, labels)
            except OutdatedError:
                self.outcomes["outdated"] += 1
            except UnreachableError:
                self.outcomes["silent"] += 1
                time.sleep(0.2)
            except StoreError as error:
                self.wrong.append(f"asking: {error}")
            else:
                right = as_dict(near) == expected(truth, query[0], k, labels)
                self.outcomes["right" if right else "wrong"] += 1
                self.answered_at = time.monotonic()
                if not right:
                    self.wrong.append(f"k {k}, labels {labels}, category {category}")

    def _query(self, chance: np.random.Generator) -> NDArray[np.float32]:
        shown = self._shown[chance.integers(0, KINDS)]
        return (
            normalise((shown + 0.2 * chance.standard_normal(DIMENSION))[None]) if chance.random() < 0.5 else shown[None]
        )


def main(seconds: float, readers: int, between: float) -> None:
    """Try it."""
    if reason := milvus.problem():
        raise SystemExit(f"there is no Milvus here: {reason}")
    with (
        milvus.serving() as server,
        tempfile.TemporaryDirectory(prefix="nearshot-") as directory,
        Store(Path(directory) / "store", create=True, mirror=server.address) as store,
    ):
        trial = Trial(store, server.address)
        for _ in MirrorRun(store, server.address):
            pass
        works = [trial.write, trial.follow, *(lambda seed=seed: trial.ask(seed) for seed in range(readers))]
        threads = [threading.Thread(target=work) for work in works]
        for thread in threads:
            thread.start()
        end, kills = time.monotonic() + seconds, 0
        while time.monotonic() + between < end:
            time.sleep(between)
            server.kill()
            kills += 1
            killed_at = time.monotonic()
            server.start()
            while trial.answered_at < killed_at + 1 and time.monotonic() < killed_at + 180 and not trial.wrong:
                time.sleep(0.5)
            print(f"kill {kills}: answers again after {time.monotonic() - killed_at:.0f} s", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            time.sleep(max(0.0, end - time.monotonic()))
        last = trial.answered_at
        trial.over.set()
        for thread in threads:
            thread.join()
    print(f"{kills} kills; " + ", ".join(f"{name} {count:,}" for name, count in sorted(trial.outcomes.items())))
    for line in trial.wrong[:10]:
        print(f"WRONG: {line}")
    if trial.wrong or time.monotonic() - last > 60:
        raise SystemExit(1)


if __name__ == "__main__":
    seconds, readers, between = [*sys.argv[1:], *["180", "4", "45"][len(sys.argv) - 1 :]]
    main(float(seconds), int(readers), float(between))
