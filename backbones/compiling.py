"""Compiling: a torch backbone's model as ONNX, checked against torch before anything uses it."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from PIL import Image

from nearshot.backbones.clip_words import ClipWords
from nearshot.backbones.compiled import Compiled, CompiledCache
from nearshot.backbones.no_code import reason_of
from nearshot.backbones.onnx_backbone import FEW, open_session, run
from nearshot.backbones.openclip import OpenClip
from nearshot.backbones.pillow_pixels import PillowPixels
from nearshot.backbones.torch_backbone import TorchBackbone
from nearshot.schema.errors import NearshotError
from nearshot.schema.vocabulary import Precision

LEAST_COSINE = 0.99999
"""Between a vector by ONNX Runtime and the same by torch, of each of the images and texts that are tried."""

TRIALS = 32
_AT_ONCE = 8
_EXTERNAL = 1024
"""Bytes: larger tensors lie in a file of their own, which is mapped."""

WORDS = ("a photo of a {}", "{}", "THE {}'s  colour isn't clear", "{} 2 &amp; 34 — größer, 写真, 🙂")
"""Texts that are tried, with what stands in the braces: capitals, accents, other scripts, what web pages do to text."""


class RefusedError(NearshotError):
    """A backbone that stays with torch, and why."""


def compile_backbone(backbone: TorchBackbone, cache: CompiledCache) -> Compiled:
    """Export a backbone that is on the CPU, check the files against it, and keep them; or keep why it is refused. OSError."""
    fingerprint = backbone.description.fingerprint
    started = time.monotonic()

    def write(directory: Path) -> dict[str, Any]:
        try:
            with _quiet():
                record = _compile(backbone, directory)
        except OSError:
            raise  # of the disk, not of the backbone
        except Exception as error:  # the exporter has exceptions of every kind for what it cannot do
            for file in directory.iterdir():
                file.unlink()
            record = {"refused": str(error) if isinstance(error, RefusedError) else reason_of(error)}
        versions = {name: version(name) for name in ("nearshot", "torch", "onnx", "onnxscript", "onnxruntime")}
        return record | {"seconds": round(time.monotonic() - started, 1), "versions": versions}

    return cache.keep(fingerprint, write)


def _compile(backbone: TorchBackbone, directory: Path) -> dict[str, Any]:
    """Write what encodes like the backbone, and return the record; raises RefusedError, and whatever the exporter raises."""
    pixels, table = backbone.preparation.steps, backbone.preparation.table
    if not isinstance(pixels, PillowPixels) or table is None:
        raise RefusedError("its pictures are prepared by its library alone")
    if backbone.description.precision != Precision.FP32:
        raise RefusedError("only fp32 is compiled")
    pictures = [backbone.prepare(picture) for picture in _pictures()]
    values = np.stack([backbone.preparation.values(picture) for picture in pictures])
    _export(backbone.image_model, values[:2], directory / "image.onnx")
    wanted = _in_parts(backbone.encode, pictures)
    record: dict[str, Any] = {
        "dimension": backbone.description.dimension,
        "pixels": asdict(pixels),
        "table": table.tolist(),
        "cosine": _check(directory / "image.onnx", values, wanted, "an image"),
    }
    if isinstance(backbone, OpenClip):
        library = backbone.tokenizer()
        if type(library).__name__ != "SimpleTokenizer" or library.reduction_fn is not None:
            raise RefusedError("its words are read by its library alone")
        words, texts = ClipWords.of(library), list(_texts())
        tokens = words.tokens(texts)
        if not np.array_equal(tokens, library(texts).numpy()):
            raise RefusedError("its words are read otherwise by its library")
        words.write(directory / "words.json")
        _export(backbone.text_model, tokens[:2], directory / "text.onnx")
        wanted = _in_parts(backbone.encode_text, texts)
        record["cosine_of_words"] = _check(directory / "text.onnx", tokens, wanted, "a text")
    return record


def _export(model: torch.nn.Module, given: NDArray[Any], path: Path) -> None:
    """Write a model for batches of any size, its graph simplified, its weights in a file beside it that can be mapped."""
    plain = path.with_suffix(".plain.onnx")
    program = torch.onnx.export(
        model.eval(),
        (torch.from_numpy(given),),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("images", min=1, max=1 << 16)},),
        input_names=["given"],
        output_names=["vectors"],
        verbose=False,
    )
    assert program is not None
    program.save(str(plain), external_data=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # No further: what is done to the layout of convolutions belongs to this processor alone, and is done when packing.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path)
    entry = "session.optimized_model_external_initializers_"
    options.add_session_config_entry(f"{entry}file_name", path.with_suffix(".bin").name)
    options.add_session_config_entry(f"{entry}min_size_in_bytes", str(_EXTERNAL))
    onnxruntime.InferenceSession(str(plain), options, providers=["CPUExecutionProvider"])
    for left in path.parent.glob(f"{plain.name}*"):
        left.unlink()


def _check(model: Path, given: NDArray[Any], wanted: NDArray[np.float32], what: str) -> float:
    """The least cosine between what the model gives and what torch does, for all images with its weights packed, for some as
    they lie; RefusedError below the least.
    """
    least = 1.0
    for packed, number in ((True, len(given)), (False, FEW)):
        session = open_session(model, packed=packed)
        vectors = _in_parts(partial(run, session), given[:number]).astype(np.float64)
        lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(wanted[:number], axis=1)
        least = min(least, float(((vectors * wanted[:number]).sum(axis=1) / lengths).min()))
        if not least >= LEAST_COSINE:
            raise RefusedError(
                f"the cosine between {what} by ONNX Runtime and by torch is {least:.6f}, below {LEAST_COSINE}"
            )
    return least


def _in_parts(encode: Callable[[Any], NDArray[np.float32]], given: Sequence[Any] | NDArray[Any]) -> NDArray[np.float32]:
    return np.concatenate([encode(given[at : at + _AT_ONCE]) for at in range(0, len(given), _AT_ONCE)])


def _pictures() -> Iterator[Image.Image]:
    """Pictures of colours that change slowly, quickly, and from one pixel to the next."""
    chance = np.random.default_rng(0)
    for number in range(TRIALS):
        across = (2, 5, 17, 320)[number % 4]
        colours = chance.integers(0, 256, (across, across, 3), dtype=np.uint8)
        yield Image.fromarray(colours).resize((320, 240 + number), Image.Resampling.BICUBIC)


def _texts() -> Iterator[str]:
    things = ("cat", "motorcycle", "rocket in the sky", "plate of food", "dog", "letter A", "red car", "word " * 90)
    return (words.format(thing) for thing in things for words in WORDS)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's warnings and notes to itself."""
    loggers = [logging.getLogger(name) for name in ("torch", "torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
