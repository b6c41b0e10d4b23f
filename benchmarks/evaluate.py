"""Evaluating from stored vectors: the whole process, without plots.

    python -m benchmarks.evaluate [--categories 10] [--labels 20] [--shots 5] [--queries 1000]

The store is filled with made-up vectors of the sizes of clip, resnet50 and dinov2: a direction per label, and noise. Nine
queries in ten show a label.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from benchmarks.material import machine
from nearshot.schema.editor import Embedding, NewContent, SeenImage
from nearshot.schema.images import FileState, FoundImage
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Role
from nearshot.vectors.normalise import normalise

CLI = Path(__file__).parents[1] / "cli.py"
DIMENSIONS = {"clip": 512, "resnet50": 2048, "dinov2": 768}
CHUNK = 1000


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


def fill(
    store: Store,
    category: str,
    labels: int,
    shots: int,
    queries: int,
    *,
    seed: int,
    dimensions: Mapping[str, int] = MappingProxyType(DIMENSIONS),
) -> None:
    """One category: rows of images that were never files, and their vectors."""
    chance = np.random.default_rng(seed)
    truth = np.array([*np.repeat(np.arange(labels), shots), *chance.integers(0, labels, queries)])
    strange = (chance.random(len(truth)) < 0.1) & (np.arange(len(truth)) >= labels * shots)
    hashes = [f"{seed:032x}{index:032x}" for index in range(len(truth))]
    with store.writing() as editor:
        root = editor.add_root("/made/up")
        ids: dict[str, int] = {}
        for start in range(0, len(hashes), CHUNK):
            part = hashes[start : start + CHUNK]
            ids |= editor.add_contents(NewContent(sha256, 1, 1, 1, "PNG") for sha256 in part)
            seen = []
            for index in range(start, start + len(part)):
                name = "Unknown" if strange[index] else f"label{truth[index]}"
                shot = f"shot{index}" if index < labels * shots else None
                path = f"2.support-set/{name}/{shot}.png" if shot else f"6.preprocessed/{name}/{index}.png"
                role = Role.SUPPORT if shot else Role.QUERY
                image = FoundImage(f"{category}/{path}", category, role, name, shot, FileState(1, 1, 1))
                seen.append(SeenImage(image, ids[hashes[index]]))
            editor.put_images(root, seen)
        for backbone, dimension in dimensions.items():
            row = editor.use_backbone(
                name=backbone,
                fingerprint=backbone.ljust(64, "0"),
                dimension=dimension,
                precision="fp32",
                source="made up",
                location=None,
                signature="0" * 64,
            )
            centres = chance.normal(size=(labels, dimension)).astype(np.float32)
            for start in range(0, len(hashes), CHUNK):
                some = slice(start, start + CHUNK)
                shown = np.where(strange[some, None], np.float32(0), centres[truth[some]])
                noise = 1.5 * chance.standard_normal(shown.shape, dtype=np.float32)
                vectors = normalise(shown + noise)
                own = [ids[sha256] for sha256 in hashes[some]]
                editor.put_embeddings(Embedding(i, row.id, vector) for i, vector in zip(own, vectors, strict=True))


if __name__ == "__main__":
    main()
