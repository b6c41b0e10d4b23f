"""From raw pictures to vectors: crop and index against the bare detector and the bare backbone in the same run.

    python -m benchmarks.crop [--pictures 500] [--rounds 3]

Raw pictures are scenes of scikit-image's objects on textures, as JPEGs. The bare detector opens each picture and looks at it;
the bare backbone opens each crop, prepares it and passes it through the model in batches of 16. Both are run before and after
what is measured, `nearshot crop` and `nearshot index` by lite0, which also hash, cut, encode and commit. Peak memory is that
of the cropping run, after 100 pictures and at its end.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from benchmarks.material import machine, spread
from nearshot.backbones.protocol import Backbone
from nearshot.backbones.resolve import resolve
from nearshot.backbones.spec import parse_spec
from nearshot.detectors.regions import salient_regions
from nearshot.indexer.crop_options import CropOptions
from nearshot.indexer.crops import CropRun
from nearshot.indexer.options import IndexOptions
from nearshot.indexer.run import IndexRun
from nearshot.schema.store import Store
from tests.detectors.scenes import compose

BATCH = 16


def save_scenes(root: Path, count: int) -> None:
    """Save raw pictures of one category."""
    raw = root / "things/1.raw"
    raw.mkdir(parents=True)
    for seed in range(count):
        compose(seed).picture.save(raw / f"{seed:05}.jpg", quality=90)


def detect_bare(root: Path) -> float:
    """Open each raw picture and look at it; seconds."""
    started = time.perf_counter()
    for path in sorted((root / "things/1.raw").iterdir()):
        with Image.open(path) as image:
            salient_regions(image.convert("RGB"))
    return time.perf_counter() - started


def encode_bare(backbone: Backbone, crops: Path) -> float:
    """Open, prepare and encode each crop; seconds."""
    started = time.perf_counter()
    batch = []
    for path in sorted(crops.rglob("*.png")):
        with Image.open(path) as image:
            batch.append(backbone.prepare(image.convert("RGB")))
        if len(batch) == BATCH:
            backbone.encode(batch)
            batch = []
    if batch:
        backbone.encode(batch)
    return time.perf_counter() - started


def crop_and_index(root: Path, store: Store) -> tuple[float, float, list[int]]:
    """Crop, then index by lite0: seconds of each, and the process's own memory in MiB after each batch of the former."""
    own = psutil.Process()
    started = time.perf_counter()
    memory = []
    for _ in CropRun(store, root, CropOptions()):
        memory.append(own.memory_info().rss >> 20)
    cropped = time.perf_counter() - started
    run = iter(IndexRun(store, root, IndexOptions(backbones=("lite0",), device="cpu")))
    next(run)  # the model is loaded now
    started = time.perf_counter()
    for _ in run:
        pass
    return cropped, time.perf_counter() - started, memory


def main() -> None:
    """Print a line a round, and what they come to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{machine()}; {arguments.pictures} raw pictures", flush=True)
    backbone = resolve(parse_spec("lite0")).load("cpu")
    backbone.encode([backbone.prepare(Image.fromarray(np.zeros((64, 64, 3), np.uint8)))])
    ratios: list[float] = []
    for _ in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as directory:
            root = Path(directory, "data")
            save_scenes(root, arguments.pictures)
            before = detect_bare(root)
            with Store(Path(directory, "store"), create=True) as store:
                cropped, indexed, memory = crop_and_index(root, store)
            crops = root / "things/6.preprocessed"
            detector = (before + detect_bare(root)) / 2
            encoder = encode_bare(backbone, crops)
            number = sum(1 for _ in crops.rglob("*.png"))
        ratios.append((detector + encoder) / (cropped + indexed))
        early = max(memory[: max(1, len(memory) // 5)])
        print(
            f"  {number} crops: bare {detector:.1f} + {encoder:.1f} s, crop {cropped:.1f} + index {indexed:.1f} s, "
            f"ratio {ratios[-1]:.3f}; memory {early} MiB after a fifth, at most {max(memory)}",
            flush=True,
        )
    print(f"ratio to the bare loops {spread(ratios)}, target 0.85")


if __name__ == "__main__":
    main()
