"""Whole processes, as a user waits for them: help, a query, and an index run that finds nothing to do.

    python -m benchmarks.commands [--files 100000] [--shots 1000] [--runs 5]

The store of the many files is filled without embedding them one by one: one vector stands for all of them.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.material import machine, save_jpegs
from nearshot.backbones.hog import HogBackbone
from nearshot.indexer.options import IndexOptions
from nearshot.indexer.run import IndexRun
from nearshot.schema.store import Store
from nearshot.vectors.normalise import normalise

CLI = Path(__file__).parents[1] / "cli.py"
CATEGORIES = 10


def main() -> None:
    """Print one line per command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--shots", type=int, default=1_000)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    print(f"{machine()}; median (range) of {arguments.runs} runs, whole process")
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        report("nearshot --help", ["--help"], arguments.runs, target=0.3)
        make_shots(root / "shots", arguments.shots)
        index(root / "shots", root / "shots-store")
        query = [
            "query",
            root / "shots/photos/6.preprocessed/000000.jpg",
            "--backbone",
            "hog",
            "--store",
            root / "shots-store",
        ]
        report(f"nearshot query, hog, {arguments.shots:,} shots", query, arguments.runs, target=1.5)
        make_files(root / "files", arguments.files)
        HogBackbone.encode = encode_quickly  # type: ignore[method-assign, assignment]
        index(root / "files", root / "files-store")
        again = ["index", root / "files", "--backbone", "hog", "--store", root / "files-store"]
        report(f"nearshot index, {arguments.files:,} unchanged files", again, arguments.runs, target=4.0)


def report(title: str, arguments: list[object], runs: int, *, target: float) -> None:
    """Time a command after one warm-up run."""
    seconds = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        subprocess.run([sys.executable, str(CLI), *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - started)
    counted = seconds[1:]
    print(
        f"{title:45} {statistics.median(counted):.2f} s ({min(counted):.2f} to {max(counted):.2f}), target {target} s",
        flush=True,
    )


def make_shots(root: Path, count: int) -> None:
    """One category of 100 labels, made of JPEGs."""
    save_jpegs(root, count + 1, size=(120, 90))
    for number, path in enumerate(sorted((root / "photos/6.preprocessed").iterdir())[1:]):
        shot = root / "photos/2.support-set" / f"label{number % 100}" / f"shot{number // 100}.jpg"
        shot.parent.mkdir(parents=True, exist_ok=True)
        path.rename(shot)


def make_files(root: Path, count: int) -> None:
    """Distinct tiny PNGs in ten categories: a support set of 50 shots each, the others queries."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "grey").save(buffer, "PNG")
    for number in range(count):
        category, position = number % CATEGORIES, number // CATEGORIES
        inside = (
            f"2.support-set/label{position % 10}/shot{position}.png"
            if position < 50
            else f"6.preprocessed/{position:06}.png"
        )
        path = root / f"category{category}" / inside
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(buffer.getvalue() + number.to_bytes(4, "big"))


def index(root: Path, store: Path) -> None:
    """Index with hog, in this process."""
    with Store(store, create=True) as opened:
        for _ in IndexRun(opened, root, IndexOptions(backbones=("hog",), batch_size=512, workers=os.cpu_count())):
            pass


def encode_quickly(self: HogBackbone, batch: list[object]) -> object:
    """Some unit vector for every picture: what is timed never looks at vectors."""
    vectors = np.ones((len(batch), self.description.dimension), dtype=np.float32)
    return normalise(vectors)


if __name__ == "__main__":
    main()
