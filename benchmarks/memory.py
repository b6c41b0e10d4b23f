"""Memory of a long index run: resident memory after 100 images, and how much it grows over the next ones.

    python -m benchmarks.memory [--images 2100] [--backbone hog ...] [--device auto] [--weights DIR]

On a GPU, the memory that torch has allocated there as well.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import psutil
import torch

from benchmarks.material import machine, save_jpegs, save_weights
from nearshot.indexer.options import IndexOptions
from nearshot.indexer.run import IndexRun
from nearshot.schema.store import Store

WARM_UP = 100
MIB = 1 << 20


def main() -> None:
    """Print resident (and allocated) memory now and then, and the growth after the warm-up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2100)
    parser.add_argument("--backbone", action="append")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--weights", type=Path, help="keep the random weights here for the next time")
    arguments = parser.parse_args()
    names = tuple(arguments.backbone or ("hog", "clip", "resnet50", "dinov2"))
    print(f"{machine()}; {arguments.images} JPEGs of 500 x 375, {', '.join(names)}")
    with tempfile.TemporaryDirectory() as directory:
        weights, root = arguments.weights or Path(directory, "weights"), Path(directory, "data")
        if not weights.exists():
            save_weights(weights)
        save_jpegs(root, arguments.images)
        options = IndexOptions(backbones=names, weights=weights, device=arguments.device)
        with Store(Path(directory, "store"), create=True) as store:
            resident, allocated = watch(IndexRun(store, root, options))
    report("resident", resident, "20 MB")
    if torch.cuda.is_available():
        report("allocated on the GPU", allocated, "0")


def report(what: str, samples: list[int], target: str) -> None:
    """Growth between the medians of the first and the last fifth: one sample tells what was in flight, not what stays."""
    window = max(1, len(samples) // 5)
    first, last = (statistics.median(part) / MIB for part in (samples[:window], samples[-window:]))
    spread = (max(samples) - min(samples)) / MIB
    print(f"{what}: {first:.1f} MiB, then {last:.1f} MiB: {last - first:+.1f} MiB, target {target}")
    print(f"  (what is in flight varies by {spread:.1f} MiB)")


def watch(run: IndexRun) -> tuple[list[int], list[int]]:
    """Resident and allocated bytes after each batch past the warm-up, and after the segments."""
    process = psutil.Process()
    resident: list[int] = []
    allocated: list[int] = []
    for progress in run:
        if progress.done >= WARM_UP:
            resident.append(process.memory_info().rss)
            allocated.append(torch.cuda.memory_allocated() if torch.cuda.is_available() else 0)
            if len(resident) % 20 == 1:
                print(f"  {progress.done:6} images: {resident[-1] / MIB:.1f} MiB", flush=True)
    resident.append(process.memory_info().rss)
    print(f"  with the segments written: {resident[-1] / MIB:.1f} MiB")
    return resident, allocated


if __name__ == "__main__":
    main()
