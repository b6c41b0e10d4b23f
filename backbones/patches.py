"""Patches: what a model sees at each place of a picture, before it becomes one vector."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from nearshot.backbones.protocol import Prepared

PREFIX = 8
"""Tokens that a transformer may have besides those of the patches: its class token and registers."""

LEAST_SIDE = 3

Forward = Callable[[torch.Tensor], torch.Tensor]


def last_patches(model: torch.nn.Module, forward: Forward, pixels: torch.Tensor) -> NDArray[np.float32] | None:
    """The last map of features (n, h, w, c) float32 that a model makes of pixels (n, 3, H, W); None where it makes none.

    A convolutional one's last layer before the pooling, from pixels twice as large, in which small things have patches of their
    own; a transformer's last tokens but those that are no patches.
    """
    features, convolutional = _last(model, forward, pixels)
    if features is not None and convolutional:
        larger = torch.nn.functional.interpolate(pixels, scale_factor=2, mode="bicubic", antialias=True)
        finer, still_convolutional = _last(model, forward, larger)
        features = finer if finer is not None and still_convolutional else features
    return None if features is None else features.float().cpu().numpy()


def _last(model: torch.nn.Module, forward: Forward, pixels: torch.Tensor) -> tuple[torch.Tensor | None, bool]:
    latest: list[tuple[torch.Tensor, bool]] = []

    def keep(_module: Any, _given: Any, output: Any) -> None:
        given = output[0] if isinstance(output, tuple) and output else getattr(output, "last_hidden_state", output)
        if isinstance(given, torch.Tensor) and (features := _grid(given, len(pixels))) is not None:
            latest[:] = [(features, given.ndim == 4)]

    hooks = [module.register_forward_hook(keep) for module in model.modules()]
    try:
        forward(pixels)
    finally:
        for hook in hooks:
            hook.remove()
    return latest[0] if latest else (None, False)


def _grid(output: torch.Tensor, number: int) -> torch.Tensor | None:
    """A layer's output as features (n, h, w, c), where it is that of places."""
    if output.ndim == 4 and output.shape[0] == number and min(output.shape[2:]) >= LEAST_SIDE:
        return output.permute(0, 2, 3, 1)
    if output.ndim == 3 and output.shape[0] == number:
        tokens = output.shape[1]
        side = math.isqrt(tokens)
        if side >= LEAST_SIDE and tokens - side * side <= PREFIX:
            return output[:, tokens - side * side :].reshape(number, side, side, output.shape[2])
    return None


def seen_part(prepare: Callable[[Image.Image], Prepared], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The part (left, top, right, bottom) of a picture of a size (width, height) that is left when it is prepared.

    Told by a picture whose red grows to the right and whose green grows downwards, prepared as any other.
    """
    width, height = size
    across = np.linspace(0, 255, width)[None, :].repeat(height, axis=0)
    down = np.linspace(0, 255, height)[:, None].repeat(width, axis=1)
    ramps = np.stack([across, down, np.zeros_like(across)], axis=-1).round().astype(np.uint8)
    prepared, black, white = (
        _channels_last(prepare(Image.fromarray(pixels)))
        for pixels in (ramps, np.zeros_like(ramps), np.full_like(ramps, 255))
    )
    shares = (prepared - black) / (white - black)
    columns, rows = shares[..., 0].mean(axis=0), shares[..., 1].mean(axis=1)
    left, right = _ends(columns)
    top, bottom = _ends(rows)
    return left * width, top * height, right * width, bottom * height


def _channels_last(prepared: Prepared) -> NDArray[np.float64]:
    values = np.asarray(prepared, dtype=np.float64)
    return values if values.shape[-1] == 3 else values.transpose(1, 2, 0)


def _ends(ramp: NDArray[np.float64]) -> tuple[float, float]:
    """Where a straight ramp begins and ends, half a step beyond its first and last values; fitted, since it is rounded."""
    slope, start = np.polyfit(np.arange(len(ramp)), ramp, 1)
    return max(0.0, float(start - slope / 2)), min(1.0, float(start + slope * (len(ramp) - 0.5)))
