"""Options of a query."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nearshot.backbones.limits import MAX_PIXELS
from nearshot.detectors.loading import default_detector
from nearshot.schema.errors import UsageError, option
from nearshot.schema.numbers import QUERY_NUMBERS
from nearshot.schema.vocabulary import Against, Score


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryOptions:
    """Options of a query; None leaves the choice to nearshot (`threshold` and `margin_floor`: as calibrated, else priors).

    `text` is mixed with each image: the unit vector of (1 - text_weight) times the image's plus text_weight times the words'.
    With `captions`, the hits carry theirs. With `coverage`, answers carry the labels that cannot be ruled out
    (`retriever.prediction_set`). With `false`, hits end where more than this share would be false (`retriever.stopping`).
    With `exact`, hits among queries are found without approximate indexes.

    What is asked about is the whole picture; or boxes of it, each x, y, width and height in pixels of the upright picture; or
    what a detector detects (`detector`; None is florence2 where there is something to `find`, else regions): the best of it,
    or all of it with `objects`. Each part has an answer of its own.
    """

    backbone: str | None = None
    category: str | None = None
    top_k: int = 5
    score: Score | None = None
    threshold: float | None = None
    margin_floor: float | None = None
    against: Against = Against.SUPPORT
    text: str | None = None
    text_weight: float = 0.5
    captions: bool = False
    coverage: float | None = None
    false: float | None = None
    exact: bool = False
    box: tuple[tuple[int, int, int, int], ...] = ()
    find: tuple[str, ...] = ()
    objects: bool = False
    detector: str | None = None
    device: str = "auto"
    weights: Path | None = None
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        """Raise UsageError for a number out of its range, and for words that say nothing."""
        for name, number in QUERY_NUMBERS.items():
            number.check(name, getattr(self, name))
        if self.text is not None and not self.text.strip():
            raise UsageError(f"{option('text')} needs words")
        if self.box and self.detects:
            raise UsageError(
                f"{option('box')} says what to look at; leave {option('find')} and {option('objects')} out"
            )
        if self.detector is not None and not self.detects:
            raise UsageError(f"{option('detector')} is for {option('find')} or {option('objects')}")
        for x, y, width, height in self.box:
            if min(x, y) < 0 or min(width, height) < 1:
                raise UsageError(
                    f"{option('box')} {x},{y},{width},{height} is none: x,y,width,height in pixels from the upper left corner"
                )
        if any(not phrase.strip() or not phrase.isprintable() for phrase in self.find):
            raise UsageError(f"{option('find')} needs words")

    @property
    def detector_name(self) -> str:
        """The detector that is taken, where one is needed."""
        return self.detector or default_detector(self.find)

    @property
    def detects(self) -> bool:
        """True where a detector is needed."""
        return bool(self.find) or self.objects

    @property
    def whole(self) -> bool:
        """True where pictures are asked about as they are, not parts of them."""
        return not (self.box or self.detects)
