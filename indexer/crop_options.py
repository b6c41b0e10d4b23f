"""Options of a cropping run."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, replace
from math import inf
from pathlib import Path

from nearshot.backbones.decode import decoder_version
from nearshot.backbones.limits import MAX_PIXELS
from nearshot.detectors.cutting import Cutting
from nearshot.detectors.loading import default_detector
from nearshot.detectors.selection import Selection
from nearshot.schema.contract import QUERY_DIRECTORY, RAW_DIRECTORY, SUPPORT_DIRECTORY, is_ignored, is_label
from nearshot.schema.errors import UsageError, option
from nearshot.schema.vocabulary import Precision, Role

RULES = 1
"""The version of how crops are selected, cut and written; crops of another are cut anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CropOptions:
    """Options of a cropping run.

    `detector` None is `regions`, or `florence2` where there is something to `find`: phrases, none for whatever is detected.
    `role` is what crops become: queries, or shots, of `label` or, without one, of the first directory that a picture lies in,
    else of the category's name. `min_score` None is the detector's usual one. `tiles` is the side in pixels of the parts that
    larger pictures are looked at in, besides the whole. Of a picture that is to become a shot, one crop is taken, the best,
    unless `selection` says how many.
    """

    source: str = RAW_DIRECTORY
    categories: tuple[str, ...] = ()
    detector: str | None = None
    find: tuple[str, ...] = ()
    role: Role = Role.QUERY
    label: str | None = None
    min_score: float | None = None
    selection: Selection = field(default_factory=Selection)
    cutting: Cutting = field(default_factory=Cutting)
    tiles: int | None = None
    weights: Path | None = None
    device: str = "auto"
    precision: Precision = Precision.FP32
    workers: int | None = None
    max_pixels: int = MAX_PIXELS
    follow_links: bool = False

    def check(self) -> None:
        """Raise UsageError where they make no sense together."""
        if self.source in (SUPPORT_DIRECTORY, QUERY_DIRECTORY) or "/" in self.source or is_ignored(self.source):
            raise UsageError(
                f"{option('source')} {self.source} cannot hold raw pictures; it is a directory of each category, such as "
                f"{RAW_DIRECTORY}"
            )
        for name, value, least, greatest in (
            ("min_score", self.min_score, 0, 1),
            ("padding", self.cutting.padding, 0, 1),
            ("min_size", self.selection.min_size, 1, inf),
            ("most", self.selection.most, 1, inf),
            ("tiles", self.tiles, 64, inf),
        ):
            if value is not None and not least <= value <= greatest:
                raise UsageError(f"{option(name)} {value} is not within {least} and {greatest:g}")
        if self.label is not None and self.role != Role.SUPPORT:
            raise UsageError(f"{option('label')} is for shots; add {option('to')} support")
        if self.label is not None and not is_label(self.label):
            raise UsageError(f"{self.label!r} cannot be a label")
        if any(not phrase.strip() or not phrase.isprintable() for phrase in self.find):
            raise UsageError(f"{option('find')} needs words")

    @property
    def detector_name(self) -> str:
        """The detector that is taken."""
        return self.detector or default_detector(self.find)

    @property
    def selected(self) -> Selection:
        """What becomes crops."""
        is_shot = self.role == Role.SUPPORT and self.selection.most is None
        return replace(self.selection, most=1) if is_shot else self.selection

    @property
    def words(self) -> str:
        """The phrases that are looked for, as JSON; empty for none."""
        return json.dumps(self.find, ensure_ascii=False) if self.find else ""

    @property
    def decoder(self) -> str:
        """The decoder and its cap: a failed picture is tried again when either changes."""
        return f"{decoder_version()} {self.max_pixels}"

    @property
    def threads(self) -> int:
        """Number of threads that read, decode, cut and write."""
        return self.workers or min(os.cpu_count() or 1, 16)

    def recipe(self) -> str:
        """Everything but the detector that decides what crops look like, as JSON."""
        chosen = {"rules": RULES, "tiles": self.tiles, "min_score": self.min_score}
        return json.dumps(chosen | asdict(self.selected) | asdict(self.cutting), sort_keys=True)
