"""Indexing speed: images per second, and the ratio to a bare forward loop over prepared tensors in the same run.

    python -m benchmarks.index [--images 500] [--rounds 3] [--backbone clip ...] [--precision fp32] [--runtime onnx]

Each round times, for each backbone, the bare loop, an index run into a new store, and the bare loop again, whose mean with
the first is what counts, since the machine may drift; and last an index run with all of them, against the sum of the bare
loops. Models are loaded, and compiled, before the clock starts. The bare loop is torch's, whatever the runtime of the run.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.material import machine, save_jpegs, save_weights, spread
from nearshot.backbones.decode import decode
from nearshot.backbones.device import choose_device
from nearshot.backbones.loading import load_backbone
from nearshot.backbones.protocol import Backbone
from nearshot.backbones.resolve import resolve
from nearshot.backbones.spec import parse_spec
from nearshot.backbones.torch_backbone import TorchBackbone
from nearshot.indexer.options import IndexOptions
from nearshot.indexer.run import IndexRun
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Precision

NAMES = ("lite0", "clip", "resnet50", "dinov2")


def bare_seconds(backbone: Backbone, batches: list[torch.Tensor]) -> float:
    """Forward passes over prepared batches that lie on the device already; results come to the host."""
    assert isinstance(backbone, TorchBackbone)
    started = time.perf_counter()
    with torch.inference_mode():
        for batch in batches:
            backbone._forward(batch).float().cpu()
    return time.perf_counter() - started


def index_seconds(root: Path, weights: Path, names: list[str], arguments: argparse.Namespace) -> float:
    """An index run into a new store, from the first file to the last segment."""
    options = IndexOptions(
        backbones=tuple(names),
        weights=weights,
        device=arguments.device,
        precision=Precision(arguments.precision),
        workers=arguments.workers,
    )
    with tempfile.TemporaryDirectory() as directory, Store(Path(directory), create=True) as store:
        run = iter(IndexRun(store, root, options))
        next(run)  # models are loaded now
        started = time.perf_counter()
        for _ in run:
            pass
        return time.perf_counter() - started


def prepare(backbone: Backbone, root: Path) -> list[torch.Tensor]:
    """All images as the batches that the run would make of them."""
    assert isinstance(backbone, TorchBackbone)
    paths = sorted((root / "photos/6.preprocessed").iterdir())
    prepared = [backbone.prepare(decode(path.read_bytes()).picture) for path in paths]
    size = backbone.batch_size
    return [backbone.on_device(prepared[at : at + size]) for at in range(0, len(prepared), size)]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backbone", action="append", choices=NAMES)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="fp32", choices=[precision.value for precision in Precision])
    parser.add_argument("--runtime", default="torch", choices=["torch", "onnx"], help="of the index run, on a CPU")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--weights", type=Path, help="keep the random weights here for the next time")
    arguments = parser.parse_args()
    names = arguments.backbone or list(NAMES)
    device = choose_device(arguments.device)
    print(f"{machine()}; device {device}, {arguments.precision}, {arguments.images} JPEGs of 500 x 375")
    with tempfile.TemporaryDirectory() as directory:
        weights, root = arguments.weights or Path(directory, "weights"), Path(directory, "data")
        if not weights.exists():
            save_weights(weights)
        save_jpegs(root, arguments.images)
        runtime = "torch" if arguments.runtime == "torch" else "auto"
        os.environ |= {"NEARSHOT_RUNTIME": runtime, "NEARSHOT_CACHE": f"{weights}/cache"}
        rates: dict[str, list[float]] = {}
        ratios: dict[str, list[float]] = {}
        for _ in range(arguments.rounds):
            total = 0.0
            for name in names:
                precision = Precision(arguments.precision)
                choice = resolve(parse_spec(name), weights=weights, precision=precision)
                if arguments.runtime == "onnx":
                    choice.load(arguments.device, compiling=lambda name: print(f"compiling {name}", flush=True))
                backbone = load_backbone(choice.spec, choice.location, device=arguments.device, precision=precision)
                batches = prepare(backbone, root)
                bare_seconds(backbone, batches[:2])
                before = bare_seconds(backbone, batches)
                indexed = index_seconds(root, weights, [name], arguments)
                bare = (before + bare_seconds(backbone, batches)) / 2
                total += bare
                del backbone, batches
                note(rates, ratios, name, bare, indexed, arguments.images)
            if len(names) > 1:
                note(
                    rates,
                    ratios,
                    "all in one pass",
                    total,
                    index_seconds(root, weights, names, arguments),
                    arguments.images,
                )
    print(f"{'backbone':16} {'images/s':24} ratio to the bare loop: median (range) of {arguments.rounds}")
    for name, values in ratios.items():
        print(f"{name:16} {spread(rates[name]):24} {spread(values)}")
    print(f"lowest median ratio {min(statistics.median(values) for values in ratios.values()):.3f}, target 0.90")


def note(
    rates: dict[str, list[float]], ratios: dict[str, list[float]], name: str, bare: float, indexed: float, images: int
) -> None:
    """Keep one measurement."""
    rates.setdefault(name, []).append(images / indexed)
    ratios.setdefault(name, []).append(bare / indexed)
    print(
        f"  {name}: bare {images / bare:.1f}, indexed {images / indexed:.1f} images/s, ratio {bare / indexed:.3f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
