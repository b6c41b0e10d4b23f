"""The answer to one query: the decision and the hits, as programs and people read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nearshot.retriever import shapes
from nearshot.retriever.decision import Decision
from nearshot.retriever.prediction_set import PredictionSet
from nearshot.retriever.rank import Hit
from nearshot.retriever.stopping import Stop
from nearshot.schema.vocabulary import Score, Verdict


@dataclass(frozen=True, slots=True, repr=False)
class Answer:
    """Answer for one image. `category` is the one asked for, None where all were searched.

    `captions` are those of the hits, by image id; None where they were not asked for. `close` names the labels between which an
    ambiguous query cannot choose, best first; `possible` those that cannot be ruled out, None where it was not asked for;
    and so `stop`, where the hits end. `box` is the part that the answer is about, left, top, right and bottom in pixels of the
    upright picture; None for all of it. `picture` is the image itself, where there is a notebook to show it in.
    """

    path: str
    backbone: str
    category: str | None
    decision: Decision
    hits: tuple[Hit, ...]
    captions: Mapping[int, str] | None = None
    score_by: Score = Score.MAX_SIM
    close: tuple[str, ...] = ()
    possible: PredictionSet | None = None
    stop: Stop | None = None
    box: tuple[int, int, int, int] | None = None
    picture: Any = field(default=None, compare=False)

    @property
    def verdict(self) -> Verdict:
        """Verdict on the image: match, ambiguous, unknown or no_support."""
        return self.decision.verdict

    @property
    def label(self) -> str | None:
        """The label recognised; None unless the verdict is a match."""
        return self.decision.label

    @property
    def nearest(self) -> str | None:
        """The best label whatever the verdict; None where there are no shots."""
        return self.decision.nearest.label if self.decision.nearest else None

    @property
    def score(self) -> float | None:
        """The score of the best label, whatever the verdict."""
        return self.decision.nearest.score if self.decision.nearest else None

    @property
    def margin(self) -> float | None:
        """By how much the best label leads the best other one; None where there is no other."""
        return self.decision.margin

    @property
    def threshold(self) -> float:
        """The least score of a match."""
        return self.decision.policy.threshold

    @property
    def margin_floor(self) -> float:
        """The least lead of a match."""
        return self.decision.policy.margin_floor

    def __repr__(self) -> str:
        best = "" if self.score is None else f", {self.nearest} {self.score:.3f}"
        lead = "" if self.margin is None else f", leads by {self.margin:.3f}"
        return f"<Answer {self.verdict}{best}{lead}, by {self.backbone}: {self.path}>"

    def with_picture(self, picture: Any) -> Answer:
        """The answer with the image that it is about, for notebooks to show."""
        return replace(self, picture=picture)

    def _repr_html_(self) -> str:
        from nearshot.retriever.notebook import answer_html

        return answer_html(self)

    def as_json(self) -> shapes.Answer:
        """The object that `query --json` prints; scores are cosines, rounded to 6 decimals (float32 carries no more)."""
        decision = self.decision
        nearest, runner_up = decision.nearest, decision.runner_up
        matched = nearest if decision.verdict == Verdict.MATCH else None
        return {
            "path": self.path,
            "backbone": self.backbone,
            "category": self.category or (matched.category if matched else None),
            "verdict": decision.verdict,
            "label": decision.label,
            "reason": decision.reason,
            "negative": decision.negative.path if decision.negative else None,
            "negative_score": _rounded(decision.negative.score) if decision.negative else None,
            "nearest": nearest.label if nearest else None,
            "nearest_category": nearest.category if nearest else None,
            "score": _rounded(nearest.score) if nearest else None,
            "score_by": self.score_by,
            "runner_up": runner_up.label if runner_up else None,
            "runner_up_category": runner_up.category if runner_up else None,
            "runner_up_score": _rounded(runner_up.score) if runner_up else None,
            "margin": _rounded(decision.margin) if decision.margin is not None else None,
            "threshold": decision.policy.threshold,
            "margin_floor": decision.policy.margin_floor,
            "calibrated": decision.policy.calibrated,
            "nearest_hit": self._hit(nearest.best) if nearest else None,
            "runner_up_hit": self._hit(runner_up.best) if runner_up else None,
            "close": list(self.close),
            "possible": self.possible.as_json() if self.possible else None,
            "stop": self.stop.as_json() if self.stop else None,
            "box": None if self.box is None else list(self.box),
            "hits": [self._hit(hit, captioned=self.captions is not None) for hit in self.hits],
        }

    def _hit(self, hit: Hit, *, captioned: bool = False) -> shapes.Hit:
        image = hit.image
        shown: shapes.Hit = {
            "id": image.id,
            "label": image.label,
            "category": image.category,
            "role": image.role,
            "path": image.path,
            "shot": image.shot,
            "score": _rounded(hit.score),
        }
        if (origin := image.origin) is not None:
            shown["origin"] = {
                "picture": origin.picture,
                "box": list(origin.box),
                "name": origin.name,
                "score": None if origin.score is None else _rounded(origin.score),
            }
        if captioned and self.captions is not None:
            shown["caption"] = self.captions.get(image.id)
        return shown


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A query image that could not be read, and why. It has no verdict and no label."""

    path: str
    reason: str

    @property
    def verdict(self) -> None:
        """None: nothing was found out."""

    @property
    def label(self) -> None:
        """None."""

    def as_json(self) -> shapes.Unreadable:
        """The object that `query --json` prints."""
        return {"path": self.path, "error": self.reason}


def _rounded(score: float) -> float:
    return round(score, 6)
