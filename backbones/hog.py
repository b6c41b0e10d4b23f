"""The backbone without weights: histograms of oriented gradients and of colour. The baseline, and the offline default."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nearshot.backbones.protocol import Description, Prepared, Preparer, fingerprint
from nearshot.schema.vocabulary import Precision

SIDE = 128
CELL = 32
ORIENTATIONS = 9
COLOUR_BINS = (12, 4, 8)
COLOUR_WEIGHT = 0.6

_PARAMETERS = {
    "algorithm": 1,
    "side": SIDE,
    "cell": CELL,
    "orientations": ORIENTATIONS,
    "block": 2,
    "norm": "L2-Hys",
    "colour": COLOUR_BINS,
    "colour weight": COLOUR_WEIGHT,
}


class HogBackbone:
    """HOG (Dalal and Triggs 2005, scikit-image's implementation) beside a soft HSV histogram.

    Each half has length 1 before weighting, so the cosine of two pictures is the weighted mean of the two halves'
    cosines: shape counts 1 - COLOUR_WEIGHT, colour COLOUR_WEIGHT.
    """

    @property
    def description(self) -> Description:
        """Identity of the backbone."""
        print_ = fingerprint(weights="none", preprocessing=_PARAMETERS, precision=Precision.FP32)
        return Description("hog", _shape_size() + int(np.prod(COLOUR_BINS)), Precision.FP32, print_)

    @property
    def batch_size(self) -> int:
        """It takes one picture after the other; a few make a transaction worth while."""
        return 16

    @property
    def preparation(self) -> Preparer:
        """What prepares pictures, in any process."""
        return self.prepare

    @property
    def is_on_gpu(self) -> bool:
        """Return False: it has no use for one."""
        return False

    def prepare(self, picture: Image.Image) -> Prepared:
        """The picture squashed to SIDE x SIDE: (SIDE, SIDE, 3) uint8."""
        return np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=3.0))

    def encode(self, batch: Sequence[Prepared]) -> NDArray[np.float32]:
        """The vectors (n, dimension) of n prepared pictures."""
        return np.stack([_features(pixels) for pixels in batch])


def _shape_size() -> int:
    blocks = SIDE // CELL - 1
    return blocks * blocks * 2 * 2 * ORIENTATIONS


def _features(pixels: Prepared) -> NDArray[np.float32]:
    from skimage.feature import hog

    shape = hog(
        pixels,
        orientations=ORIENTATIONS,
        pixels_per_cell=(CELL, CELL),
        cells_per_block=(2, 2),
        block_norm="L2-Hys",
        channel_axis=-1,
    )
    colour = np.sqrt(_hsv_histogram(pixels))  # Hellinger: the cosine of roots is the Bhattacharyya coefficient
    halves = [np.sqrt(1 - COLOUR_WEIGHT) * _unit(shape), np.sqrt(COLOUR_WEIGHT) * _unit(colour)]
    return np.concatenate(halves).astype(np.float32)


def _hsv_histogram(pixels: Prepared) -> NDArray[np.float64]:
    """Share of pixels in each hue x saturation x value bin, each pixel shared linearly between neighbouring bins."""
    hsv = np.asarray(Image.fromarray(pixels).convert("HSV"), dtype=np.float64).reshape(-1, 3) / 255
    # Hue means little where there is little colour: weigh hue by saturation by letting grey fall into hue bin 0.
    hsv[:, 0] *= hsv[:, 1] > 0.1
    histogram = np.zeros(COLOUR_BINS)
    lower, share = [], []
    for axis, bins in enumerate(COLOUR_BINS):
        circular = axis == 0
        position = hsv[:, axis] * (bins if circular else bins - 1)
        floor = np.floor(position).astype(np.int64)
        lower.append(floor)
        share.append(position - floor)
    for corner in np.ndindex(2, 2, 2):
        weight = np.ones(len(hsv))
        index = []
        for axis, (bins, up) in enumerate(zip(COLOUR_BINS, corner, strict=True)):
            weight *= share[axis] if up else 1 - share[axis]
            bin_indices = lower[axis] + up
            index.append(bin_indices % bins if axis == 0 else np.minimum(bin_indices, bins - 1))
        flat = np.ravel_multi_index(tuple(index), COLOUR_BINS)
        histogram += np.bincount(flat, weights=weight, minlength=histogram.size).reshape(COLOUR_BINS)
    return (histogram / len(hsv)).ravel()


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    length = np.linalg.norm(vector)
    return vector / length if length else vector
