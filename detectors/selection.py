"""Selection: which of a picture's detections become crops. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from nearshot.detectors.protocol import Box, Detection, enclosing

OVERLAP = 0.5
"""The IoU above which the lesser of two boxes of one label is left out (non-maximum suppression)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What a detection must be: its shorter side in pixels at least; and how many there are at most."""

    min_size: int = 32
    most: int | None = None


class Selected(NamedTuple):
    """A detection that was chosen, and the whole pixels that its box encloses."""

    box: Box
    detection: Detection


def select(
    detections: Sequence[Detection], size: tuple[int, int], selection: Selection, *, min_score: float = 0.0
) -> list[Selected]:
    """The detections in a picture of a size (width, height) that become crops, best first; those without a score in order.

    Boxes that are none (NaN, empty, upside down) or lie outside the picture are left out; others are cut at its edges.
    """
    least = selection.min_size
    boxed = [
        Selected(box, detection)
        for detection in detections
        if (detection.score is None or detection.score >= min_score)
        and (box := enclosing(detection.box, size))
        and min(box.width, box.height) >= least
    ]
    boxed.sort(key=lambda selected: -(selected.detection.score or 0.0))
    return _suppressed(boxed)[: selection.most]


def _suppressed(boxed: list[Selected]) -> list[Selected]:
    """Those that no better one of their label overlaps much; the boxes are in the order of their scores."""
    if not _overlap(boxed):
        return boxed
    import torch
    from torchvision.ops import batched_nms

    labels = {label: number for number, label in enumerate(dict.fromkeys(each.detection.label for each in boxed))}
    kept = batched_nms(
        torch.tensor([each.box for each in boxed], dtype=torch.float32),
        torch.arange(len(boxed), 0, -1, dtype=torch.float32),  # their order, whether or not they have scores
        torch.tensor([labels[each.detection.label] for each in boxed]),
        OVERLAP,
    )
    return [boxed[index] for index in sorted(kept.tolist())]


def _overlap(boxed: list[Selected]) -> bool:
    """Tell whether any two boxes overlap that much: what suppresses them takes seconds to import."""
    if len(boxed) < 2:
        return False
    boxes = np.array([each.box for each in boxed], dtype=np.float64)
    corners = np.maximum(boxes[:, None, :2], boxes[:, :2]), np.minimum(boxes[:, None, 2:], boxes[:, 2:])
    shared = np.prod(np.clip(corners[1] - corners[0], 0, None), axis=-1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    np.fill_diagonal(shared, 0)
    return bool((shared > OVERLAP * (areas[:, None] + areas - shared)).any())
