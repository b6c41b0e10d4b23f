"""Evaluating from stored vectors: the whole process, without plots.

    python -m benchmarks.evaluate [--categories 10] [--labels 20] [--shots 5] [--queries 1000]

The store is filled with made-up vectors of the sizes of clip, resnet50 and dinov2: a direction a label, and noise. Nine
queries in ten show a label.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from sqlalchemy import insert

from benchmarks.material import machine
from schema import tables
from schema.editor import Embedding
from schema.store import Store
from vectors.normalise import normalise

CLI = Path(__file__).parents[1] / "cli.py"
DIMENSIONS = {"clip": 512, "resnet50": 2048, "dinov2": 768}


def main() -> None:
    """Fill a store, and time the command three times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, count in (("categories", 10), ("labels", 20), ("shots", 5), ("queries", 1000)):
        parser.add_argument(f"--{name}", type=int, default=count)
    arguments = parser.parse_args()
    sizes = f"{arguments.categories} categories x {arguments.labels} labels x {arguments.shots} shots"
    print(f"{machine()}; {sizes} x {arguments.queries:,} queries x {len(DIMENSIONS)} backbones")
    with tempfile.TemporaryDirectory() as directory:
        with Store(Path(directory), create=True) as store:
            for number in range(arguments.categories):
                fill(store, f"category{number}", arguments.labels, arguments.shots, arguments.queries, seed=number)
        for _ in range(3):
            started = time.perf_counter()
            command = [sys.executable, str(CLI), "evaluate", "--store", directory]
            printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            print(f"nearshot evaluate: {time.perf_counter() - started:.2f} s, target 10 s", flush=True)
        print(printed.splitlines()[-1])


def fill(store: Store, category: str, labels: int, shots: int, queries: int, *, seed: int) -> None:
    """One category: rows of images that were never files, and their vectors."""
    chance = np.random.default_rng(seed)
    truth = [*np.repeat(np.arange(labels), shots), *chance.integers(0, labels, queries)]
    strange = chance.random(len(truth)) < 0.1
    with store.writing() as editor:
        root = editor.add_root("/made/up")
        ids = []
        for place, label in enumerate(truth):
            support = place < labels * shots
            name = f"label{label}" if support or not strange[place] else "Unknown"
            part = f"2.support-set/{name}/shot{place}.png" if support else f"6.preprocessed/{name}/{place}.png"
            content = {"sha256": f"{seed:032x}{place:032x}", "size": 1, "width": 1, "height": 1, "format": "PNG"}
            content_id = editor.connection.execute(
                insert(tables.contents).values(**content, revision=editor.stamp).returning(tables.contents.c.id)
            ).scalar_one()
            facts = {
                **{"root_id": root, "path": f"{category}/{part}", "category": category, "label": name},
                **{"role": "support" if support else "query", "shot": f"shot{place}" if support else None},
                **{"size": 1, "mtime_ns": 1, "ctime_ns": 1, "content_id": content_id, "present": True},
            }
            editor.connection.execute(insert(tables.images).values(**facts, revision=editor.stamp))
            ids.append(content_id)
        for backbone, dimension in DIMENSIONS.items():
            row = editor.use_backbone(
                name=backbone,
                fingerprint=backbone.ljust(64, "0"),
                dimension=dimension,
                precision="fp32",
                source="made up",
                location=None,
                signature="0" * 64,
            )
            centres = chance.normal(size=(labels, dimension))
            noise = 1.5 * chance.normal(size=(len(truth), dimension))
            shown = np.where(strange[:, None] & (np.arange(len(truth)) >= labels * shots)[:, None], 0.0, centres[truth])
            vectors = normalise((shown + noise).astype(np.float32))
            editor.put_embeddings(Embedding(i, row.id, vector) for i, vector in zip(ids, vectors, strict=True))


if __name__ == "__main__":
    main()
