"""Detections by Florence-2, in transformers' own implementation and by its own post-processing: no remote code."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from nearshot.backbones.florence2 import Florence2
from nearshot.backbones.protocol import Prepared
from nearshot.detectors.protocol import Detection, enclosing
from nearshot.schema.errors import UsageError, option

DETECT = "<OD>"
FIND = "<OPEN_VOCABULARY_DETECTION>"
GROUND = "<CAPTION_TO_PHRASE_GROUNDING>"
SEGMENT = "<REFERRING_EXPRESSION_SEGMENTATION>"
LENGTH = 1024
"""The most tokens that it may take for a picture: a box is four, and its label some."""

RULES = 1


class Florence2Detector:
    """The detector `florence2`: all objects; or words, one phrase looked for by itself, several grounded together."""

    name = "florence2"
    usual_score = None

    def __init__(self, model: Florence2) -> None:
        """Take over a loaded model."""
        self._model = model

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the model's own and the rules above."""
        return hashlib.sha256(f"{self._model.fingerprint} {RULES} {LENGTH}".encode()).hexdigest()

    @property
    def batch_size(self) -> int:
        """That of the model."""
        return self._model.batch_size

    def check_words(self, words: Sequence[str]) -> None:
        """Take any words, and none."""

    def prepare(self, picture: Image.Image) -> Prepared:
        """The picture as the model takes it."""
        return self._model.prepare(picture)

    def detect(
        self,
        pictures: Sequence[Image.Image],
        words: Sequence[str],
        *,
        masks: bool = False,
        prepared: Sequence[Any] | None = None,
    ) -> list[list[Detection]]:
        """The detections in each picture, in the order in which they were written; masks of words only (UsageError)."""
        if masks and not words:
            raise UsageError(f"florence2 outlines only what it is told to look for; give {option('find')} WORDS")
        ready = [self.prepare(picture) for picture in pictures] if prepared is None else prepared
        answers: list[list[Detection]] = [[] for _ in pictures]
        for prompt, phrase in _prompts(words, masks=masks):
            for picture, text, detections in zip(
                pictures, self._model.write(ready, prompt, LENGTH), answers, strict=True
            ):
                detections += _detections(
                    self._model.boxes(text, prompt, picture.size), phrase, picture.size, masks=masks
                )
        return answers


def _prompts(words: Sequence[str], *, masks: bool) -> list[tuple[str, str | None]]:
    """The prompts for some words, and the phrase that each is about."""
    if not words:
        return [(DETECT, None)]
    if masks or len(words) == 1:
        return [((SEGMENT if masks else FIND) + phrase, phrase) for phrase in words]
    return [(GROUND + ". ".join(words), None)]


def _detections(answer: dict[str, Any], phrase: str | None, size: tuple[int, int], *, masks: bool) -> list[Detection]:
    """What the model's post-processing made of an answer, as detections."""
    labels = answer.get("labels", ())  # of the boxes, or of the polygons, where an answer has but one of them
    detections = [
        Detection((box[0], box[1], box[2], box[3]), label.strip() or phrase)
        for box, label in zip(answer.get("bboxes", ()), answer.get("bboxes_labels", labels), strict=False)
    ]
    for polygons, label in zip(answer.get("polygons", ()), answer.get("polygons_labels", labels), strict=False):
        corners = [np.reshape(polygon, (-1, 2)) for polygon in polygons if len(polygon) >= 6]
        if corners:
            detections.append(_outlined(corners, label.strip() or phrase, size, masks=masks))
    return detections


def _outlined(
    corners: list[NDArray[np.float64]], label: str | None, size: tuple[int, int], *, masks: bool
) -> Detection:
    """What polygons (n, 2) outline, and the box around them."""
    points = np.concatenate(corners)
    (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    around = (float(left), float(top), float(right), float(bottom))
    box = enclosing(around, size)
    if not masks or box is None:
        return Detection(around, label)
    mask = Image.new("1", (box.width, box.height))
    for polygon in corners:
        ImageDraw.Draw(mask).polygon([(x - box.left, y - box.top) for x, y in polygon.tolist()], fill=1)
    return Detection(around, label, None, np.asarray(mask))
