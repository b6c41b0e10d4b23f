"""Regions: what stands out from the ground that a picture's border shows. It needs no weights.

Each pixel, of the picture reduced to 320 along its longer side, is described by five numbers: colour (CIELAB), the logarithm
of the lightness's fine contrast, and of its standard deviation, around it. The ground is the Gaussian of the border's pixels,
fitted anew four times to the nearest 97 % of them; a pixel stands out by its Mahalanobis distance from that. The threshold is
Otsu's (1979), kept between one and two times the distance of the ground's own 99.5 % (within wider bounds on a plain ground).
What stands out is closed, filled and opened (mathematical morphology), and its connected components are the regions.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nearshot.detectors.protocol import Detection, enclosing
from nearshot.schema.errors import UsageError, option

SIDE = 320
AROUND, FINE = 2.0, 1.5
"""Standard deviations, in pixels, of the Gaussians that a pixel's surroundings, and what is finer than a patch, are told by."""

BORDER = 0.06
KEPT, OWN = 0.97, 0.995
CLOSED, OPENED = 2, 3
LEAST = 4.0
"""The least threshold: what stands out by less is noise on a plain ground."""

PLAIN, LIMIT = 2.0, 20.0
"""A ground whose own distance is less is plain; the threshold may then be as high as the limit, so that edges are sharp."""

LEAST_AREA = 0.003
"""The least share of the picture that a region has."""

RULES = 1
"""The version of all that; part of the fingerprint."""


class Regions:
    """The detector `regions`."""

    name = "regions"
    batch_size = 8
    usual_score = 0.0

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the rules and the libraries that they are computed by."""
        libraries = [f"{package}-{version(package)}" for package in ("scikit-image", "scipy", "numpy")]
        return hashlib.sha256(f"regions {RULES} {libraries}".encode()).hexdigest()

    def check_words(self, words: Sequence[str]) -> None:
        """Raise UsageError for any: it knows none."""
        if words:
            raise UsageError(
                f"regions cannot look for words; give {option('detector')} florence2, or another that knows some"
            )

    def prepare(self, picture: Image.Image) -> None:
        """Prepare nothing: looking is cheap."""

    def detect(
        self,
        pictures: Sequence[Image.Image],
        words: Sequence[str],
        *,
        masks: bool = False,
        prepared: Sequence[Any] | None = None,
    ) -> list[list[Detection]]:
        """The regions of each picture, with masks; the score is 1 less the threshold over a region's mean distance."""
        self.check_words(words)
        if len(pictures) == 1:
            return [salient_regions(pictures[0])]
        with ThreadPoolExecutor(min(len(pictures), os.cpu_count() or 1), thread_name_prefix="regions") as pool:
            return list(pool.map(salient_regions, pictures))


def salient_regions(picture: Image.Image) -> list[Detection]:
    """The regions of an upright RGB picture that stand out from its border, the strongest first."""
    from scipy import ndimage
    from skimage import filters, measure
    from skimage.morphology import closing, disk, opening

    shrink = min(1.0, SIDE / max(picture.size))
    width, height = (max(1, round(side * shrink)) for side in picture.size)
    reduced = picture if shrink == 1 else picture.resize((width, height), Image.Resampling.BOX)
    if min(width, height) < 8:
        return []
    distance, own = _distances(np.asarray(reduced))
    split = float(filters.threshold_otsu(np.minimum(distance, np.quantile(distance, 0.99))))
    threshold = max(own, LEAST, min(split, 2 * own if own >= PLAIN else LIMIT))
    outstanding = closing(distance > threshold, disk(CLOSED))
    outstanding = opening(ndimage.binary_fill_holes(outstanding), disk(OPENED))
    across, down = picture.width / width, picture.height / height
    detections = []
    for region in measure.regionprops(measure.label(outstanding), intensity_image=distance):
        if region.area < LEAST_AREA * width * height:
            continue
        top, left, bottom, right = region.bbox
        box = (left * across, top * down, right * across, bottom * down)
        detections.append(
            Detection(
                box, None, 1 - threshold / float(region.intensity_mean), _enlarged(region.image, box, picture.size)
            )
        )
    return sorted(detections, key=lambda detection: (-(detection.score or 0), detection.box))


def _distances(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float64], float]:
    """Each pixel's distance from the ground (H, W), and that of the ground's own."""
    features = _features(pixels)
    height, width, count = features.shape
    frame = max(2, round(BORDER * min(height, width)))
    border = np.ones((height, width), bool)
    border[frame:-frame, frame:-frame] = False
    ground = features[border]
    kept = np.ones(len(ground), bool)
    for _ in range(4):
        middle = np.median(ground[kept], axis=0)
        inverse = np.linalg.inv(np.cov(ground[kept].T) + 0.5 * np.eye(count))
        from_middle = ground - middle
        squared = np.einsum("ij,jk,ik->i", from_middle, inverse, from_middle)
        kept = squared <= np.quantile(squared[kept], KEPT)
    from_middle = features - middle
    distance = np.sqrt(np.einsum("hwi,hwi->hw", from_middle @ inverse, from_middle))
    return distance, float(np.quantile(np.sqrt(squared[kept]), OWN))


def _features(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The five numbers of each pixel (H, W, 5)."""
    from scipy.ndimage import gaussian_filter
    from skimage.color import rgb2lab

    lab = rgb2lab(pixels)
    lightness = lab[..., 0]
    means = [gaussian_filter(lab[..., channel], AROUND) for channel in range(3)]
    contrast = gaussian_filter((lightness - gaussian_filter(lightness, FINE)) ** 2, AROUND)
    variance = np.maximum(gaussian_filter(lightness**2, AROUND) - means[0] ** 2, 0)
    spread = [6 * np.log(np.sqrt(values) + 0.5) for values in (contrast, variance)]
    return np.stack([*means, *spread], axis=-1)


def _enlarged(mask: NDArray[np.bool_], box: tuple[float, ...], size: tuple[int, int]) -> NDArray[np.bool_]:
    """A region's mask in the pixels of the picture that enclose its box."""
    whole = enclosing(box, size)
    assert whole is not None
    picture = Image.fromarray(mask).resize((whole.width, whole.height), Image.Resampling.NEAREST)
    return np.asarray(picture, dtype=bool)
