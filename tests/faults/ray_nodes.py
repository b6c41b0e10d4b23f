"""Index runs on Ray of which a worker, a node or the head is killed, and what must hold afterwards.

    python -m tests.faults.ray_nodes [TIMES]

Where the run can go on, it ends with all images; where it cannot, it says so. Then a run without Ray adds what is left, and
every content has one vector. What is killed dies after another batch in each run.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

import psutil

from nearshot.indexer.run import IndexRun
from nearshot.indexer.verify import verify
from nearshot.schema.errors import IndexingError
from nearshot.schema.store import Store
from tests.conftest import counts, run_index
from tests.faults.runs import forked
from tests.indexer.test_ray import Nodes, contents, draw, on, workers

IMAGES, CONTENTS = 43, 40


def kill(nodes: Nodes, what: str) -> None:
    """Kill workers, the second node or the head, with all of their processes."""
    if what == "workers":
        for process in workers():
            process.kill()
    elif what == "node":
        nodes.kill_second()
    else:
        nodes.cluster.head_node.kill_all_processes(check_alive=False)


def struck(root: Path, where: Path, what: str, after: int) -> int:
    """Index, and kill something after some batches; 0 where it got through, 2 where it said why not."""

    def work() -> int:
        nodes = Nodes()
        try:
            with Store(where, create=True) as store:
                for progress in IndexRun(store, root, on(nodes)):
                    if progress.done == 2 * after:
                        kill(nodes, what)
        except IndexingError:
            return 2
        finally:
            nodes.end(headless=what == "head")
            for process in psutil.Process().children(recursive=True):  # without a head some stay
                process.kill()
        return 0

    return forked(work)


def mended(root: Path, where: Path) -> None:
    """Hold what must hold."""
    with Store(where) as store:
        before = len(contents(store))
        report = run_index(store, root)
        assert sum(count.embedded for count in report.backbones.values()) == CONTENTS - before
        assert counts(report).get("added", 0) + counts(report).get("unchanged", 0) == IMAGES
        assert len(contents(store)) == CONTENTS
        assert list(verify(store)) == []


def main() -> None:
    """Kill each some times, and print what came of it."""
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="ray-") as directory:
        root = draw(Path(directory, "data"))
        for number in range(int(sys.argv[1]) if len(sys.argv) > 1 else 5):
            for what in ("workers", "node", "head"):
                where = Path(directory, "store")
                status = struck(root, where, what, 1 + 3 * number % 20)
                assert status in ((2, 0) if what == "head" else (0,)), f"{what}, run {number}: status {status}"
                mended(root, where)
                shutil.rmtree(where)
                outcomes[f"{what} killed: {'told' if status else 'got over'}"] += 1
                print(dict(outcomes), flush=True)
    print(f"{outcomes.total()} runs; nothing was lost, nothing is double")


if __name__ == "__main__":
    main()
