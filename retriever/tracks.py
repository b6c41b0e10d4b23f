"""Tracks: the looks at one thing, over the frames in which it is seen, and what they come to. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from nearshot.retriever.answer import Answer
from nearshot.retriever.sequential import Schedule
from nearshot.schema.vocabulary import Verdict

OVERLAP = 0.3
"""The IoU from which a box shows what the last box of a track showed."""

ALIKE = 24
"""The bits of 64 in which the difference hashes of two looks at one thing differ at most; those of two things differ in 32."""

NOISE = 2
"""Levels of 256 by which cells of a plain ground differ."""

GAP = 3
"""Frames looked at in which a thing may be missed before its track ends."""

Box = tuple[int, int, int, int]


def difference_hash(picture: Image.Image, side: int = 8) -> int:
    """The difference hash of a picture: side x side bits, which say whether a cell is brighter than the one left of it.

    By more than the noise of a camera: a plain ground has no bits set.
    """
    levels = np.asarray(picture.convert("L").resize((side + 1, side), Image.Resampling.BOX), dtype=np.int16)
    brighter = levels[:, 1:] > levels[:, :-1] + NOISE
    return int.from_bytes(np.packbits(brighter).tobytes(), "big")


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """An answer about a frame or a part of it: when (seconds, None where there is no time), the whole frame's size, the pixels
    and their hash; `file` is the image that it was, None of a video."""

    seconds: float | None
    answer: Answer
    size: tuple[int, int]
    picture: Image.Image
    hash: int
    file: str | None = None

    @property
    def box(self) -> Box:
        """The part that was looked at; all of the frame where it was that."""
        return self.answer.box or (0, 0, *self.size)

    @property
    def p(self) -> float | None:
        """The p-value of its being a stranger; None where nothing tells."""
        return self.answer.possible.none_of_these if self.answer.possible else None


@dataclass(slots=True, eq=False)
class Track:
    """A thing that is seen again and again, and what is said of it: a label, once, or none."""

    number: int
    schedule: Schedule | None
    start: Look
    latest: Look
    best: Look
    last: float | None
    last_file: str | None
    frames: int = 0
    missed: int = 0
    decided: Look | None = None
    decided_at: int | None = None
    verdicts: Counter[Verdict] = field(default_factory=Counter)

    def add(self, look: Look) -> bool:
        """Take a look in; True where it decides that the track is a match."""
        self.frames += 1
        self.missed = 0
        self.latest = look
        self.still_there(look.seconds, look.file)
        self.verdicts[look.answer.verdict] += 1
        if (look.answer.score or -1.0) > (self.best.answer.score or -1.0):
            self.best = look
        if self.decided is not None or look.answer.verdict != Verdict.MATCH:
            return False
        if self.schedule is not None and not self.schedule.accepts(self.frames, look.p):
            return False
        self.decided, self.decided_at = look, self.frames
        return True

    def still_there(self, seconds: float | None, file: str | None) -> None:
        """Note that it is seen unchanged."""
        self.last, self.last_file = seconds, file

    def fits(self, look: Look) -> bool:
        """Tell whether a look may be at this thing."""
        return _iou(self.latest.box, look.box) >= OVERLAP and (self.latest.hash ^ look.hash).bit_count() <= ALIKE

    def verdict(self) -> Verdict:
        """Match where it was decided; else ambiguous where most looks were, else unknown (no_support without shots)."""
        if self.decided is not None:
            return Verdict.MATCH
        usual, _ = self.verdicts.most_common(1)[0]
        return usual if usual in (Verdict.AMBIGUOUS, Verdict.NO_SUPPORT) else Verdict.UNKNOWN

    def as_json(self, *, saved: str | None = None) -> dict[str, Any]:
        """The object that `watch` prints."""
        shown = self.decided or self.best
        schedule, nearest = self.schedule, shown.answer.decision.nearest
        return {
            "track": self.number,
            "verdict": self.verdict(),
            "label": shown.answer.label if self.decided else None,
            "nearest": shown.answer.nearest,
            "category": nearest.category if nearest else shown.answer.category,
            "score": None if shown.answer.score is None else round(shown.answer.score, 6),
            "p": shown.p,
            "first": _rounded(self.start.seconds),
            "last": _rounded(self.last),
            "frames": self.frames,
            "decided": None if self.decided is None else _rounded(self.decided.seconds),
            "decided_at_frame": self.decided_at,
            "box": list(shown.box),
            "backbone": shown.answer.backbone,
            "false_accept": schedule.alpha if schedule else None,
            "file": shown.file,
            "first_file": self.start.file,
            "last_file": self.last_file,
            "saved": saved,
        }


class Tracker:
    """Gives the looks at frames to tracks, and ends those of things that are gone."""

    def __init__(self, schedule: Schedule | None) -> None:
        """With a schedule, matches are decided by it; without, a track is a match with its first frame that is one."""
        self._schedule = schedule
        self._number = 0
        self.tracks: list[Track] = []

    def see(self, looks: Sequence[Look]) -> tuple[list[Track], list[Track]]:
        """Take in all looks at one frame: the tracks that were decided by it, and those that ended."""
        decided, taken = [], set()
        for look in looks:
            fitting = [track for track in self.tracks if track.number not in taken and track.fits(look)]
            track = max(fitting, key=lambda each: _iou(each.latest.box, look.box), default=None)
            if track is None:
                self._number += 1
                track = Track(self._number, self._schedule, look, look, look, look.seconds, look.file)
                self.tracks.append(track)
            taken.add(track.number)
            if track.add(look):
                decided.append(track)
        for track in self.tracks:
            track.missed += track.number not in taken
        ended = [track for track in self.tracks if track.missed > GAP]
        self.tracks = [track for track in self.tracks if track.missed <= GAP]
        return decided, ended

    def still(self, seconds: float | None, file: str | None) -> None:
        """Note a frame that shows what the one before showed."""
        for track in self.tracks:
            if not track.missed:
                track.still_there(seconds, file)

    def end(self) -> list[Track]:
        """End all tracks."""
        ended, self.tracks = self.tracks, []
        return ended


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _iou(first: Box, other: Box) -> float:
    width = min(first[2], other[2]) - max(first[0], other[0])
    height = min(first[3], other[3]) - max(first[1], other[1])
    if min(width, height) <= 0:
        return 0.0
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, other))
    return width * height / (areas - width * height)
