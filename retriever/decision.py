"""The decision: what the ranked candidates amount to under a policy. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from retriever.rank import Candidate
from retriever.scores import DECIMALS, Score


class Verdict(StrEnum):
    """What a query was found to be."""

    MATCH = "match"
    AMBIGUOUS = "ambiguous"
    UNKNOWN = "unknown"
    NO_SUPPORT = "no_support"


@dataclass(frozen=True, slots=True)
class Policy:
    """The least score of a match (`threshold`) and its least lead over the best other label (`margin_floor`)."""

    threshold: float
    margin_floor: float
    calibrated: bool = False


PRIORS = {
    "hog": Policy(0.90, 0.005),
    "clip": Policy(0.80, 0.03),
    "resnet50": Policy(0.75, 0.03),
    "dinov2": Policy(0.60, 0.05),
}
"""Policies before calibration. hog's was set on the demo's photographs; the others are guesses of the right order, from
how far apart unlike images lie for each backbone, and were never measured. None of them is a promise."""

PRIOR = Policy(0.75, 0.03)
"""The policy of a backbone that has no prior of its own."""

VOTE_PRIOR = Policy(0.60, 0.20)
"""The policy for shares of votes, whatever the backbone: a guess, too."""


@dataclass(frozen=True, slots=True)
class Negative:
    """A rejected image, and its cosine with the query."""

    path: str
    score: float


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict and what it rests on.

    `nearest` is the best candidate whatever the verdict, `runner_up` the best other label's, `margin` the difference of
    their scores: None where there is no second label, and then no margin is asked for. `negative` is the rejected image that
    is nearer than any shot, and the reason for an unknown.
    """

    verdict: Verdict
    nearest: Candidate | None
    runner_up: Candidate | None
    margin: float | None
    policy: Policy
    negative: Negative | None = None

    @property
    def reason(self) -> str | None:
        """Why it is no match; None for one."""
        if self.negative is not None:
            return "nearer to a rejected image than to any shot"
        return {
            Verdict.UNKNOWN: "the score is below the threshold",
            Verdict.AMBIGUOUS: "the lead is below the margin",
            Verdict.NO_SUPPORT: "there are no shots that the backbone has seen",
        }.get(self.verdict)

    @property
    def label(self) -> str | None:
        """The label recognised; None unless the verdict is a match."""
        return self.nearest.label if self.nearest and self.verdict == Verdict.MATCH else None


def prior_policy(backbone: str, score: Score = Score.MAX_SIM) -> Policy:
    """A backbone's uncalibrated policy for a score."""
    return VOTE_PRIOR if score == Score.KNN_VOTE else PRIORS.get(backbone, PRIOR)


def decide(candidates: Sequence[Candidate], policy: Policy, negative: Negative | None = None) -> Decision:
    """Decide on candidates, best first: unknown below the threshold, ambiguous below the margin floor, else a match.

    Whatever is nearer to a negative (the nearest one) than to the best hit of any candidate is unknown.
    """
    if not candidates:
        return Decision(Verdict.NO_SUPPORT, None, None, None, policy)
    nearest = candidates[0]
    runner_up = candidates[1] if len(candidates) > 1 else None
    margin = round(nearest.score - runner_up.score, DECIMALS) if runner_up else None
    if negative is not None and negative.score > max(candidate.best.score for candidate in candidates):
        return Decision(Verdict.UNKNOWN, nearest, runner_up, margin, policy, negative)
    if nearest.score < policy.threshold:
        verdict = Verdict.UNKNOWN
    elif margin is not None and margin < policy.margin_floor:
        verdict = Verdict.AMBIGUOUS
    else:
        verdict = Verdict.MATCH
    return Decision(verdict, nearest, runner_up, margin, policy)
