"""Options of a query."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nearshot.backbones.limits import MAX_PIXELS
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
    device: str = "auto"
    weights: Path | None = None
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        """Raise UsageError for a number out of its range, and for words that say nothing."""
        for name, number in QUERY_NUMBERS.items():
            number.check(name, getattr(self, name))
        if self.text is not None and not self.text.strip():
            raise UsageError(f"{option('text')} needs words")
