"""Cropping by Florence-2 on a GPU: pictures a second against bare generation, and memory over a thousand raw pictures.

    python -m benchmarks.crop_gpu [--pictures 1000] [--tokens 32] [--precision fp32] [--device cuda]

The model has base's size and random weights, which never come to an end by themselves: each answer has the same number of
tokens. The bare loop generates from prepared batches that lie on the device. What is left on the device after the run, when
`nearshot index` would load its backbones, is told last.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.captions import BASE_TEXT, BASE_VISION, MIB
from benchmarks.material import machine
from nearshot.backbones.decode import decode
from nearshot.backbones.florence2 import Florence2
from nearshot.backbones.loading import load_captioner
from nearshot.detectors import florence2
from nearshot.indexer.crop_options import CropOptions
from nearshot.indexer.crops import CropRun
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Precision
from tests.detectors.scenes import compose
from tests.tiny import save_florence2

DISTINCT = 100


def save_pictures(root: Path, count: int) -> None:
    """Raw pictures of one category; after so many they are the same again."""
    raw = root / "things/1.raw"
    raw.mkdir(parents=True)
    for number in range(count):
        path = raw / f"{number:05}.jpg"
        if number < DISTINCT:
            compose(number).picture.save(path, quality=90)
        else:
            path.hardlink_to(raw / f"{number % DISTINCT:05}.jpg")


def bare_rate(model: Florence2, root: Path, tokens: int, batches: int = 3) -> float:
    """Pictures a second of generation alone."""
    size = model.batch_size
    paths = sorted((root / "things/1.raw").iterdir())[:size]
    prepared = [model.prepare(decode(path.read_bytes(), whole=True).picture) for path in paths]
    model.write(prepared, florence2.DETECT, tokens)
    started = time.perf_counter()
    for _ in range(batches):
        model.write(prepared, florence2.DETECT, tokens)
    return batches * len(prepared) / (time.perf_counter() - started)


def main() -> None:
    """Print rates, their ratio, and memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", default="fp32", choices=[precision.value for precision in Precision])
    arguments = parser.parse_args()
    florence2.LENGTH = arguments.tokens
    precision = Precision(arguments.precision)
    with tempfile.TemporaryDirectory() as directory:
        root, weights = Path(directory, "data"), Path(directory, "weights")
        save_florence2(weights / "florence2", text=BASE_TEXT, vision=BASE_VISION, side=768, image_tokens=577)
        save_pictures(root, arguments.pictures)
        model = load_captioner(weights, device=arguments.device, precision=precision)
        bare = bare_rate(model, root, arguments.tokens)
        del model
        gc.collect()
        torch.cuda.empty_cache()
        options = CropOptions(detector="florence2", weights=weights, device=arguments.device, precision=precision)
        allocated: list[float] = []
        with Store(Path(directory, "store"), create=True) as store:
            run = CropRun(store, root, options)
            steps = iter(run)
            next(steps)
            started = 0.0
            for progress in steps:
                allocated.append(torch.cuda.memory_allocated() / MIB)
                if not started:  # the model is loaded, and its first batch done
                    started, first = time.perf_counter(), progress.done
            taken = time.perf_counter() - started
        rate = (arguments.pictures - first) / taken
        written = run.report.written
        del steps, run
        gc.collect()
        left = torch.cuda.memory_allocated() / MIB
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    print(f"{machine()}; {card}; {arguments.precision}, {arguments.tokens} tokens")
    print(f"bare {bare:.1f}, cropped {rate:.1f} pictures/s, ratio {rate / bare:.3f}, target 0.85; {written} crops")
    print(
        f"allocated over {arguments.pictures} pictures: {allocated[len(allocated) // 10]:.1f} MiB after a tenth, "
        f"{allocated[-1]:.1f} at the end, {left:.1f} afterwards"
    )


if __name__ == "__main__":
    main()
