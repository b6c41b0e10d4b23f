"""Many new files: whether the last tenth of them is indexed as fast as the first.

    python -m benchmarks.many_files [--files 100000]

Small pictures that all differ, half of them shots of labels of 100, by `hog`; one index run into an empty store, its segments
written and merged on the way as they always are. Rates are of what was committed, by tenths.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.material import machine
from nearshot.indexer.options import IndexOptions
from nearshot.indexer.run import IndexRun
from nearshot.schema.store import Store

SIDE = 24


def main() -> None:
    """Print the rate of each tenth, and the ratio of the last to the first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000)
    arguments = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary) / "data"
        write(data, arguments.files)
        marks = [(0, time.perf_counter())]
        with Store(Path(temporary) / "store", create=True) as store:
            for progress in IndexRun(store, data, IndexOptions(backbones=("hog",))):
                if progress.done == 0:
                    marks = [(0, time.perf_counter())]
                elif progress.done >= len(marks) * arguments.files // 10:
                    marks.append((progress.done, time.perf_counter()))
        rates = [(done - before) / (now - then) for (before, then), (done, now) in pairwise(marks)]
        print("files/s by tenths: " + ", ".join(f"{rate:.0f}" for rate in rates))
        print(f"the last tenth to the first: {rates[-1] / rates[0]:.2f}")


def write(data: Path, files: int) -> None:
    """So many pictures, no two alike."""
    chance = np.random.default_rng(0)
    for number in range(files):
        label = f"label{number // 200}"
        inside = f"2.support-set/{label}/shot{number}.png" if number % 2 else f"6.preprocessed/{label}/{number}.png"
        path = data / "things" / inside
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(chance.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(path, compress_level=0)


if __name__ == "__main__":
    main()
