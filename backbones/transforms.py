"""Preparations: a library's own preprocessing, with its last steps, which each pixel goes through alone, looked up instead.

A picture is prepared as 8-bit pixels, a quarter of the bytes that float32 takes on the way to where the model is; what the
library makes of each level of each channel is a table, and the device looks the values up, bit for bit the library's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision import transforms
from torchvision.transforms import functional
from torchvision.transforms._presets import ImageClassification
from torchvision.transforms.functional import pil_modes_mapping

from nearshot.backbones.pillow_pixels import pillow_pixels
from nearshot.backbones.preparation import LEVELS, Pixels, Preparation, Values


def preparation_of(transform: Any) -> Preparation:
    """How a torchvision, open_clip or timm transform prepares a picture."""
    if isinstance(transform, ImageClassification):
        normalise = transforms.Normalize(transform.mean, transform.std)
        last = transforms.Compose([transforms.PILToTensor(), transforms.ConvertImageDtype(torch.float), normalise])
        [short], [side] = transform.resize_size, transform.crop_size
        plain = _plain(PresetPixels(transform), short, transform.interpolation, (side, side))
        return _looked_up(Transformed(transform), plain, last)
    steps = list(transform.transforms) if isinstance(transform, transforms.Compose) else []
    if [type(step).__name__ for step in steps[-2:]] in (["ToTensor", "Normalize"], ["MaybeToTensor", "Normalize"]):
        first, last = transforms.Compose(steps[:-2]), transforms.Compose(steps[-2:])
        pixels: Pixels = PicturePixels(first)
        if [type(step).__name__ for step in first.transforms[:2]] == ["Resize", "CenterCrop"]:
            resize, crop = first.transforms[:2]
            pixels = _plain(pixels, resize.size, resize.interpolation, crop.size)
        return _looked_up(Transformed(transform), pixels, last)
    return Preparation(Transformed(transform))


def preparation_of_processor(processor: Any, tensors: str) -> Preparation:
    """How a transformers image processor prepares a picture; `tensors` is the kind that it can give: np or pt."""
    whole = Processed(processor, tensors)
    only_values = {"do_resize": False, "do_center_crop": False, "do_pad": False}
    only_pixels = {"do_rescale": False, "do_normalize": False}
    pixels: Pixels = ProcessedPixels(Processed(processor, tensors, only_pixels))
    short, crop = (getattr(processor, name, None) or {} for name in ("size", "crop_size"))
    try:
        if short.get("shortest_edge") and crop:
            pixels = _plain(pixels, short["shortest_edge"], processor.resample, (crop["height"], crop["width"]))
        return _looked_up(whole, pixels, Processed(processor, tensors, only_values))
    except Exception:  # any library's processor is tried, and one that knows no such steps fails as it likes
        return Preparation(whole)


def _plain(pixels: Pixels, short: Any, interpolation: Any, sides: Any) -> Pixels:
    """The same steps by Pillow alone, where they come to the same; `short` may be a list of one, as torchvision allows."""
    resample = pil_modes_mapping.get(interpolation, interpolation)
    short = short[0] if isinstance(short, (list, tuple)) and len(short) == 1 else short
    if not isinstance(short, int):
        return pixels
    return pillow_pixels(pixels, short=short, resample=resample, height=sides[0], width=sides[1]) or pixels


def _looked_up(whole: Values, pixels: Pixels, last: Callable[[Image.Image], Any]) -> Preparation:
    """The pixels with a table of what the last steps make of each level, where that is what the whole comes to."""
    levels = np.repeat(np.arange(LEVELS, dtype=np.uint8)[None, :, None], 3, axis=2)
    table = np.ascontiguousarray(np.asarray(last(Image.fromarray(levels)), dtype=np.float32)[:, 0])
    if table.shape != (3, LEVELS):
        return Preparation(whole)
    quick = Preparation(pixels, table)
    trial = Image.fromarray(np.random.default_rng(0).integers(0, LEVELS, (311, 277, 3), dtype=np.uint8))
    prepared = quick(trial)
    same = prepared.dtype == np.uint8 and np.array_equal(quick.values(prepared), whole(trial))
    return quick if same else Preparation(whole)


@dataclass(frozen=True, slots=True, eq=False)
class Transformed:
    """All steps of a transform."""

    transform: Any

    def __call__(self, picture: Image.Image) -> NDArray[np.float32]:
        """Float32 (3, H, W)."""
        values: NDArray[np.float32] = self.transform(picture).numpy()
        return values


@dataclass(frozen=True, slots=True, eq=False)
class PicturePixels:
    """The steps of a transform that give a picture."""

    transform: Any

    def __call__(self, picture: Image.Image) -> NDArray[np.uint8]:
        """Uint8 (H, W, 3)."""
        return np.asarray(self.transform(picture))


@dataclass(frozen=True, slots=True, eq=False)
class PresetPixels:
    """The first steps of torchvision's preset of a classifier, which is no list of steps."""

    preset: Any

    def __call__(self, picture: Image.Image) -> NDArray[np.uint8]:
        """Uint8 (H, W, 3)."""
        preset = self.preset
        resized = functional.resize(
            picture,
            preset.resize_size,
            interpolation=preset.interpolation,
            antialias=preset.antialias,
        )
        return np.asarray(functional.center_crop(resized, preset.crop_size))


@dataclass(frozen=True, slots=True, eq=False)
class Processed:
    """A transformers image processor, with some of its steps turned off."""

    processor: Any
    tensors: str
    turned_off: dict[str, bool] | None = None

    def __call__(self, picture: Image.Image) -> NDArray[Any]:
        """The first of its `pixel_values` (3, H, W)."""
        given = self.processor(images=picture, return_tensors=self.tensors, **(self.turned_off or {}))
        return np.asarray(given["pixel_values"][0])


@dataclass(frozen=True, slots=True, eq=False)
class ProcessedPixels:
    """The steps of a transformers image processor that give pixels."""

    processed: Processed

    def __call__(self, picture: Image.Image) -> NDArray[np.uint8]:
        """Uint8 (H, W, 3)."""
        return np.ascontiguousarray(self.processed(picture).transpose(1, 2, 0))
