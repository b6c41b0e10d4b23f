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

LEVELS = 256
"""Values that a channel of an 8-bit picture has."""

Values = Callable[[Image.Image], NDArray[np.float32]]
"""A library's preprocessing: an RGB picture to float32 (3, H, W)."""

Pixels = Callable[[Image.Image], NDArray[np.uint8]]
"""Its first steps: an RGB picture to uint8 (H, W, 3)."""


@dataclass(frozen=True, slots=True, eq=False)
class Preparation:
    """What prepares pictures, in this process or, as it can be pickled, in another one.

    With a `table` (3, 256) float32 of what becomes of each level of each channel, it gives uint8 (H, W, 3); without, float32
    (3, H, W).
    """

    steps: Values | Pixels
    table: NDArray[np.float32] | None = None

    def __call__(self, picture: Image.Image) -> NDArray[Any]:
        """Prepare an RGB picture."""
        return self.steps(picture)

    def values(self, prepared: NDArray[Any]) -> NDArray[np.float32]:
        """What the library makes of the picture: float32 (3, H, W)."""
        if self.table is None:
            return prepared
        return np.stack([levels[prepared[..., channel]] for channel, levels in enumerate(self.table)])


def preparation_of(transform: Any) -> Preparation:
    """How a torchvision, open_clip or timm transform prepares a picture."""
    if isinstance(transform, ImageClassification):
        normalise = transforms.Normalize(transform.mean, transform.std)
        last = transforms.Compose([transforms.PILToTensor(), transforms.ConvertImageDtype(torch.float), normalise])
        return _looked_up(Transformed(transform), PresetPixels(transform), last)
    steps = list(transform.transforms) if isinstance(transform, transforms.Compose) else []
    if [type(step).__name__ for step in steps[-2:]] in (["ToTensor", "Normalize"], ["MaybeToTensor", "Normalize"]):
        first, last = transforms.Compose(steps[:-2]), transforms.Compose(steps[-2:])
        return _looked_up(Transformed(transform), PicturePixels(first), last)
    return Preparation(Transformed(transform))


def preparation_of_processor(processor: Any, tensors: str) -> Preparation:
    """How a transformers image processor prepares a picture; `tensors` is the kind that it can give: np or pt."""
    whole = Processed(processor, tensors)
    only_values = {"do_resize": False, "do_center_crop": False, "do_pad": False}
    only_pixels = {"do_rescale": False, "do_normalize": False}
    try:
        return _looked_up(
            whole,
            ProcessedPixels(Processed(processor, tensors, only_pixels)),
            Processed(processor, tensors, only_values),
        )
    except (TypeError, ValueError, KeyError, AttributeError):  # a processor that knows no such steps
        return Preparation(whole)


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
