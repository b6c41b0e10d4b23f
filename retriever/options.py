"""Options of a query."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nearshot.backbones.limits import MAX_PIXELS
from nearshot.schema.errors import UsageError, option
from nearshot.schema.vocabulary import Against, Score

LEAST_FALSE = 0.001
"""The least share of false hits that can be asked for: it takes 999 marked queries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryOptions:
    """Options of a query; None leaves the choice to nearshot (`threshold` and `margin_floor`: as calibrated, else priors).

    `text` is mixed with each image: the unit vector of (1 - text_weight) times the image's plus text_weight times the words'.
    With `captions`, the hits carry theirs. With `coverage`, answers carry the labels that cannot be ruled out
    (`retriever.prediction_set`). With `false`, hits end where more than this share would be false (`retriever.stopping`).
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
    device: str = "auto"
    weights: Path | None = None
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        """Raise UsageError for a number out of its range, and for words that say nothing."""
        check_range("top_k", self.top_k, 1, math.inf)
        check_range("threshold", self.threshold, -1, 1)
        check_range("margin_floor", self.margin_floor, 0, 2)
        check_range("text_weight", self.text_weight, 0, 1)
        check_range("max_pixels", self.max_pixels, 1, math.inf)
        check_share("coverage", self.coverage)
        check_share("false", self.false, LEAST_FALSE)
        if self.text is not None and not self.text.strip():
            raise UsageError(f"{option('text')} needs words")


def check_range(name: str, value: float | None, least: float, most: float) -> None:
    """Raise UsageError unless a number lies in [least, most], or is None."""
    if value is not None and not (_is_number(value) and least <= value <= most):
        within = f"at least {least:g}" if math.isinf(most) else f"between {least:g} and {most:g}"
        raise UsageError(f"{option(name)} is a number {within}, not {value!r}")


def check_share(name: str, value: float | None, least: float = 0.0) -> None:
    """Raise UsageError unless a number lies between 0 and 1, neither of them, is at least `least`, or is None."""
    if value is not None and not (_is_number(value) and max(least, math.ulp(0)) <= value < 1):
        within = f"between {least:g} and 1" if least else "between 0 and 1"
        raise UsageError(f"{option(name)} is a share {within}, not {value!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
