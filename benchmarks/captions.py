"""Captioning: images per second against a bare generate loop, and memory over a thousand images.

    python -m benchmarks.captions [--images 16] [--tokens 16] [--device auto] [--precision fp32] [--many 1000]

Speed is that of a Florence-2 of base's size with random weights. Those never come to an end by themselves, so that each
caption has the same number of tokens. On a CPU a thousand images would take it hours: there, memory is that of a tiny one.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import psutil
import torch

from benchmarks.material import machine, save_jpegs
from nearshot.backbones import florence2
from nearshot.backbones.decode import decode
from nearshot.backbones.florence2 import Florence2
from nearshot.backbones.loading import load_captioner
from nearshot.indexer.captions import CaptionOptions, CaptionRun
from nearshot.indexer.options import IndexOptions
from nearshot.indexer.run import IndexRun
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import CaptionTask, Precision
from tests.tiny import save_florence2

BASE_TEXT = {
    **{"d_model": 768, "encoder_layers": 6, "decoder_layers": 6, "encoder_attention_heads": 12},
    **{"decoder_attention_heads": 12, "encoder_ffn_dim": 3072, "decoder_ffn_dim": 3072},
    "max_position_embeddings": 1024,
}
BASE_VISION = {
    **{"depths": [1, 1, 9, 1], "embed_dim": [128, 256, 512, 1024], "num_heads": [4, 8, 16, 32]},
    **{"num_groups": [4, 8, 16, 32], "window_size": 12, "projection_dim": 768, "drop_path_rate": 0.0},
}
"""Florence-2-base, as its published configuration has it."""

WARM_UP = 100
MIB = 1 << 20


def main() -> None:
    """Print rates, their ratio, and memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=16, help="tokens a caption")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="fp32", choices=[precision.value for precision in Precision])
    parser.add_argument("--many", type=int, default=1000, help="images of the memory run; 0 for none")
    arguments = parser.parse_args()
    florence2.LENGTHS[CaptionTask.CAPTION] = arguments.tokens
    print(f"{machine()}; {arguments.images} JPEGs of 500 x 375, {arguments.tokens} tokens, {arguments.precision}")
    with tempfile.TemporaryDirectory() as directory:
        base, tiny = Path(directory, "base"), Path(directory, "tiny")
        save_florence2(base / "florence2", text=BASE_TEXT, vision=BASE_VISION, side=768, image_tokens=577)
        captioner = load_captioner(base, device=arguments.device, precision=Precision(arguments.precision))
        assert isinstance(captioner, Florence2)
        measure_speed(Path(directory, "few"), arguments.images, captioner)
        if arguments.many:
            if captioner._device.type == "cpu":
                save_florence2(tiny / "florence2")
                captioner = load_captioner(tiny, device="cpu", precision=Precision.FP32)
            assert isinstance(captioner, Florence2)
            measure_memory(Path(directory, "many"), arguments.many, captioner)


def measure_speed(root: Path, images: int, captioner: Florence2) -> None:
    """Time the bare loop, a captioning run, and the bare loop again."""
    with indexed(root, images) as store:
        prepared = [
            captioner.prepare(decode(path.read_bytes()).picture)
            for path in sorted((root / "data/photos/6.preprocessed").iterdir())
        ]
        size = captioner.batch_size
        batches = [
            captioner._batches.values(captioner._batches.send(prepared[at : at + size]))
            for at in range(0, len(prepared), size)
        ]
        bare_seconds(captioner, batches[:1])
        before = bare_seconds(captioner, batches)
        started = time.perf_counter()
        for _ in CaptionRun(store, lambda: captioner, CaptionOptions(workers=IndexOptions().threads)):
            pass
        taken = time.perf_counter() - started
        bare = (before + bare_seconds(captioner, batches)) / 2
    print(f"bare {images / bare:.3f}, captioned {images / taken:.3f} images/s, ratio {bare / taken:.3f}, target 0.90")


def bare_seconds(captioner: Florence2, batches: list[torch.Tensor]) -> float:
    """Generation over prepared batches that lie on the device already; tokens come to the host."""
    started = time.perf_counter()
    with torch.inference_mode():
        for batch in batches:
            prompt = captioner._prompt(florence2.PROMPTS[CaptionTask.CAPTION]).expand(len(batch), -1)
            captioner._model.generate(
                input_ids=prompt,
                attention_mask=torch.ones_like(prompt),
                pixel_values=batch,
                max_new_tokens=florence2.LENGTHS[CaptionTask.CAPTION],
                do_sample=False,
            ).cpu()
    return time.perf_counter() - started


def measure_memory(root: Path, images: int, captioner: Florence2) -> None:
    """Resident (and allocated) memory between the first hundred images and the end."""
    process = psutil.Process()
    resident: list[float] = []
    allocated: list[float] = []
    with indexed(root, images) as store:
        for done, _ in CaptionRun(store, lambda: captioner, CaptionOptions(workers=IndexOptions().threads)):
            if done >= WARM_UP:
                resident.append(process.memory_info().rss / MIB)
                allocated.append(torch.cuda.memory_allocated() / MIB if torch.cuda.is_available() else 0.0)
    for what, samples in (("resident", resident), ("allocated on the GPU", allocated)):
        window = max(1, len(samples) // 5)
        first, last = statistics.median(samples[:window]), statistics.median(samples[-window:])
        if what == "resident" or torch.cuda.is_available():
            print(f"{what}, {images} images: {first:.1f} MiB, then {last:.1f} MiB: {last - first:+.1f} MiB")


def indexed(root: Path, images: int) -> Store:
    """A store of so many photographs, all of which lack a caption."""
    save_jpegs(root / "data", images)
    store = Store(root / "store", create=True)
    for _ in IndexRun(store, root / "data", IndexOptions(backbones=("hog",))):
        pass
    return store


if __name__ == "__main__":
    main()
