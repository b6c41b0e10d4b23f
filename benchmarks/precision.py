"""Reduced precision on a CPU: images per second and cosines against fp32, per backbone, in turn.

    python -m benchmarks.precision [--rounds 3] [--backbone clip ...] [--weights DIR]

`bf16` is what `--precision bf16` does: torch, weights and activations in bf16. `int8` is what ONNX Runtime makes of the
exported model by dynamic quantisation of its matrix products; it is measured, not offered. Weights are random; trained ones may
lose more.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.material import machine, save_jpegs, save_weights
from nearshot.backbones.compiled import compiled_cache
from nearshot.backbones.decode import decode
from nearshot.backbones.loading import load_backbone
from nearshot.backbones.onnx_backbone import open_session, run
from nearshot.backbones.protocol import Backbone, Prepared
from nearshot.backbones.resolve import resolve
from nearshot.backbones.spec import parse_spec
from nearshot.schema.vocabulary import Precision

NAMES = ("lite0", "clip", "resnet50", "dinov2")
IMAGES = 16
Encode = Callable[[Sequence[Prepared]], NDArray[np.float32]]


def main() -> None:
    """Print a line per backbone and precision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backbone", nargs="+", default=list(NAMES))
    parser.add_argument(
        "--weights", type=Path, help="keep the random weights, and what is compiled, here for the next time"
    )
    arguments = parser.parse_args()
    print(f"{machine()}; batches of {IMAGES}")
    with tempfile.TemporaryDirectory() as directory:
        weights, root = arguments.weights or Path(directory, "weights"), Path(directory, "data")
        if not weights.exists():
            save_weights(weights)
        os.environ |= {"NEARSHOT_RUNTIME": "auto", "NEARSHOT_CACHE": f"{weights}/cache"}
        save_jpegs(root, IMAGES)
        paths = sorted((root / "photos/6.preprocessed").iterdir())
        for name in arguments.backbone:
            choice = resolve(parse_spec(name), weights=weights)
            onnx = choice.load("cpu", compiling=lambda name: print(f"compiling {name}"))
            by_precision = {
                precision: load_backbone(choice.spec, choice.location, device="cpu", precision=precision)
                for precision in (Precision.FP32, Precision.BF16)
            }
            batch = [onnx.prepare(decode(path.read_bytes()).picture) for path in paths]
            encoders: dict[str, Encode] = {
                "torch fp32": by_precision[Precision.FP32].encode,
                "onnx fp32": onnx.encode,
                "torch bf16": by_precision[Precision.BF16].encode,
                "onnx int8": quantised(onnx, Path(directory, f"{name}.onnx")),
            }
            compare(name, encoders, batch, arguments.rounds)


def compare(name: str, encoders: dict[str, Encode], batch: list[Prepared], rounds: int) -> None:
    """Time them in turn, after a pass that does not count."""
    wanted = next(iter(encoders.values()))(batch)
    seconds: dict[str, list[float]] = {kind: [] for kind in encoders}
    least = {kind: float(cosines(encode(batch), wanted).min()) for kind, encode in encoders.items()}
    for _ in range(rounds):
        for kind, encode in encoders.items():
            started = time.perf_counter()
            encode(batch)
            seconds[kind].append(time.perf_counter() - started)
    first = seconds[next(iter(encoders))]
    for kind, taken in seconds.items():
        ratio = statistics.median(by_first / by_this for by_first, by_this in zip(first, taken, strict=True))
        rate = len(batch) / statistics.median(taken)
        print(f"{name:9} {kind:11} {rate:6.1f} images/s, {ratio:.2f} times; least cosine {least[kind]:.6f}", flush=True)


def quantised(backbone: Backbone, path: Path) -> Encode:
    """The compiled backbone with its matrix products in int8."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    cache = compiled_cache()
    compiled = cache.of(backbone.description.fingerprint) if cache else None
    assert compiled is not None
    [model] = compiled.checked("image.onnx")
    quantize_dynamic(model, path, op_types_to_quantize=["MatMul", "Gemm"], weight_type=QuantType.QInt8)
    session = open_session(path, packed=True)
    return lambda batch: run(session, np.stack([compiled.preparation.values(prepared) for prepared in batch]))


def cosines(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosines of the rows of two arrays (n, dimension)."""
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return np.asarray((left.astype(np.float64) * right).sum(axis=1) / lengths)


if __name__ == "__main__":
    main()
