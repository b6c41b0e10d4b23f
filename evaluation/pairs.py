"""Pairs: which of two backbones does better on the same queries, and how surely."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from nearshot.evaluation.judged import Judged
from nearshot.evaluation.resampling import better_in, resample


@dataclass(frozen=True, slots=True)
class PairRow:
    """A row of Table 10: by how much more of a category's queries `backbone` dealt with as it should than `other` did.

    `better_in` is the share of resamples of the queries in which it led.
    """

    category: str
    backbone: str
    other: str
    lead: float
    better_in: float


def compare_backbones(judged: Sequence[Judged]) -> list[PairRow]:
    """Every two backbones on the queries that both judged, in each category; the better one first."""
    rows = []
    for category in dict.fromkeys(judgement.category for judgement in judged):
        for first, second in combinations([judgement for judgement in judged if judgement.category == category], 2):
            # Right is the true label, and Unknown (-1 in both) for a stranger.
            well, other = (judgement.predicted == judgement.truth for judgement in (first, second))
            lead = float(np.mean(well) - np.mean(other))
            share = better_in(well, other, resample(first.truth))
            names = (first.backbone, second.backbone)
            if lead < 0:
                names, lead, share = names[::-1], -lead, 1 - share
            rows.append(PairRow(category, *names, lead=lead, better_in=share))
    return rows
