"""Parts: what of a query's picture is asked about: all of it, boxes that a user draws, or what a detector detects."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from threading import Lock
from typing import NamedTuple

from PIL import Image

from nearshot.backbones.decode import decode, upright
from nearshot.backbones.preparation import prepare_safely
from nearshot.backbones.protocol import Backbone, Prepared
from nearshot.detectors.cutting import Cutting, cut
from nearshot.detectors.loading import load_detector
from nearshot.detectors.protocol import Box, Detector, enclosing
from nearshot.detectors.selection import Selected, Selection, select
from nearshot.retriever.options import QueryOptions
from nearshot.schema.errors import ImageError


class Part(NamedTuple):
    """A part of a picture: its pixels, and its box in the upright picture, as it was given or detected; None for all of it."""

    picture: Image.Image
    box: Box | None = None


class PreparedPart(NamedTuple):
    """A part of a picture as a backbone wants it, what tells it from others, and its box; None for all of the picture."""

    prepared: Prepared
    digest: str
    box: Box | None


class Parts:
    """Cuts the parts out of pictures that some options ask for; safe from any thread, though detectors take turns."""

    def __init__(self, options: QueryOptions, detector: Detector | None = None, lock: Lock | None = None) -> None:
        """Load the detector where one is needed, or take one that is loaded, with the lock that its other users hold.

        Raises UsageError, WeightsError.
        """
        self._options, self._lock = options, lock or Lock()
        self.detector = detector
        if options.detects and detector is None:
            self.detector = load_detector(options.detector_name, options.weights, device=options.device)
        if self.detector is not None:
            self.detector.check_words(options.find)

    def of(self, picture: Image.Image) -> list[Part]:
        """The parts of an upright RGB picture, the best first where they are detected. ImageError where there is none."""
        options = self._options
        if options.box:
            return [Part(upright(picture.crop(box)), box) for box in (_inside(box, picture) for box in options.box)]
        if self.detector is None:
            return [Part(picture)]
        with self._lock:
            selected = detect_parts(self.detector, picture, options.find)
        if not selected:
            wanted = f"no {' and no '.join(options.find)}" if options.find else "nothing"
            raise ImageError(f"{wanted} was detected in it")
        chosen = selected if options.objects else selected[:1]
        return [Part(upright(cut(picture, box, None, Cutting())), box) for box, _ in chosen]

    def read(self, given: bytes | Image.Image) -> tuple[Image.Image, str]:
        """The upright RGB picture of an encoded image, or of one, and its digest; ImageError where it is none."""
        if isinstance(given, Image.Image):
            return given, hashlib.sha256(given.tobytes()).hexdigest()
        picture = decode(given, max_pixels=self._options.max_pixels, whole=not self._options.whole).picture
        return picture, hashlib.sha256(given).hexdigest()

    def prepared(
        self, picture: Image.Image, digest: str, backbone: Backbone, *, most: int | None = None
    ) -> list[PreparedPart]:
        """The parts, `most` at most, of a picture that was read, for a backbone. ImageError where there is none."""
        return [
            PreparedPart(prepare_safely(backbone, part.picture), f"{digest}{part.box or ''}", part.box)
            for part in self.of(picture)[:most]
        ]


def detect_parts(detector: Detector, picture: Image.Image, words: Sequence[str]) -> list[Selected]:
    """What is detected in a picture, as `nearshot crop` selects it, best first."""
    [detections] = detector.detect([picture], words)
    return select(detections, picture.size, Selection(), min_score=detector.usual_score or 0.0)


def _inside(box: Sequence[int], picture: Image.Image) -> Box:
    """A box given as x, y, width and height, as far as it lies in a picture."""
    left, top, width, height = box
    inside = enclosing((left, top, left + width, top + height), picture.size)
    if inside is None:
        shown = ",".join(map(str, box))
        raise ImageError(f"the box {shown} lies outside the picture of {picture.width} x {picture.height} pixels")
    return inside
