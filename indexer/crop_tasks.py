"""Tasks of a cropping run: raw pictures that are due, read, and looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from PIL import Image

from nearshot.detectors.protocol import Detection
from nearshot.indexer.load import Skipped
from nearshot.schema.crops import Cropping, Destination
from nearshot.schema.images import FileState, FoundImage


@dataclass(frozen=True, slots=True, eq=False)
class RawPicture:
    """A raw picture that was read: decoded, or (where too many wait) only its bytes; or (one that is known) neither.

    `prepared` is what the detector prepared of it.
    """

    state: FileState
    sha256: str
    picture: Image.Image | None
    data: bytes
    prepared: Any = None


@dataclass(frozen=True, slots=True)
class VideoEnd:
    """A video that was read to its end; `gone` are the croppings of frames that were in it before, and are no more."""

    state: FileState
    sha256: str
    gone: tuple[int, ...]


Raw = RawPicture | VideoEnd | Skipped
"""What came of reading a raw picture."""


@dataclass(frozen=True, slots=True)
class CropTask:
    """A raw picture that is due, what it is cropped for, and what is known of it. Frames of videos come `read` already."""

    image: FoundImage
    destination: Destination
    known_id: int | None
    known: Cropping | None
    read: Raw | None = None

    @property
    def is_frame(self) -> bool:
        """True for a frame, which is a part of its video's work."""
        return isinstance(self.read, RawPicture) and self.read.picture is not None


class LookedAt(NamedTuple):
    """A raw picture that the detector has looked at; or one that need not, or cannot, be looked at: without a picture."""

    task: CropTask
    raw: Raw
    picture: Image.Image | None = None
    detections: Sequence[Detection] = ()
