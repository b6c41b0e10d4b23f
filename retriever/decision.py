"""The decision: what the ranked candidates amount to under a policy. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nearshot.retriever.policy import Policy
from nearshot.retriever.rank import Candidate
from nearshot.retriever.scores import DECIMALS
from nearshot.schema.vocabulary import Verdict


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


def decide(candidates: Sequence[Candidate], policy: Policy, negative: Negative | None = None) -> Decision:
    """Decide on candidates, best first: unknown below the threshold, ambiguous below the margin floor, else a match.

    Of the candidates the first two count. With a `negative`, which is nearer than any shot, it is unknown.
    """
    if not candidates:
        return Decision(Verdict.NO_SUPPORT, None, None, None, policy)
    nearest = candidates[0]
    runner_up = candidates[1] if len(candidates) > 1 else None
    margin = round(nearest.score - runner_up.score, DECIMALS) if runner_up else None
    if negative is not None:
        return Decision(Verdict.UNKNOWN, nearest, runner_up, margin, policy, negative)
    if nearest.score < policy.threshold:
        verdict = Verdict.UNKNOWN
    elif margin is not None and margin < policy.margin_floor:
        verdict = Verdict.AMBIGUOUS
    else:
        verdict = Verdict.MATCH
    return Decision(verdict, nearest, runner_up, margin, policy)
