"""Context: what a user should know of the answers to come: what is searched, by which policies, and how current it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class PolicyNote:
    """The policy that applies to a category, and where it comes from, in words."""

    threshold: float
    margin_floor: float
    origin: str


@dataclass(frozen=True, slots=True)
class Context:
    """Context that queries are answered in.

    `score` is what labels are scored by, and `score_reason` why. `labels` are those of each category that has shots. Of the
    support images, the backbone has dealt with `covered` and not yet with `lacking`. `stale` are the categories whose support
    set changed after they were calibrated, `lapsed` those whose promise no longer holds, and why. `recall` is the recall@10
    of the approximate indexes that hits among queries come from; None where all are compared, as shots always are.
    """

    backbone: str
    score: str
    score_reason: str
    labels: Mapping[str, Sequence[str]]
    policies: Mapping[str, PolicyNote]
    covered: int
    lacking: int
    stale: Sequence[str]
    lapsed: Mapping[str, str]
    recall: float | None

    @classmethod
    def from_json(cls, answer: Mapping[str, Any]) -> Context:
        """A context from the object that the service answers with."""
        policies = {category: PolicyNote(**note) for category, note in answer["policies"].items()}
        return cls(**{**answer, "policies": policies})
