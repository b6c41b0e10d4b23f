"""Finding a policy: the threshold and margin floor that evidence allows under some aims, and what they do. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearshot.backbones.spec import by_preference, canonical_name, parts_of
from nearshot.retriever.choose_score import ScoreEvidence, best_score
from nearshot.retriever.conformal import (
    Aim,
    Aims,
    Known,
    Rate,
    Strangers,
    accept_threshold,
    allowed_errors,
    answered_right,
    margin_floor_for,
    matches,
    refusing_threshold,
    reject_threshold,
    resampled_over_labels,
)
from nearshot.retriever.evidence import Evidence, Source
from nearshot.retriever.policy import Policy, prior_policy
from nearshot.retriever.scores import Numbers
from nearshot.schema.vocabulary import Guard, Score

GUARD_COST = 0.05
"""Of the known images, the share whose right answer a guard against other kinds of strangers may cost before it is left out."""

EQUAL = 0.05
"""Backbones whose evidence differs by no more are equally good: the better one is tried fused with the other."""

ENOUGH = 30
"""Labelled queries that tell more of known images than any number of shots, which are alike."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Outcome for known images and for strangers that had no part in the model."""

    right: Rate
    wrong: Rate
    ambiguous: Rate
    refused: Rate
    accepted: Rate
    other_kinds: Rate

    def as_json(self) -> dict[str, Any]:
        """Each share with its count and interval."""
        names = ("right", "wrong", "ambiguous", "refused", "accepted", "other_kinds")
        return {name: _as_json(getattr(self, name)) for name in names}


@dataclass(frozen=True, slots=True)
class Calibration:
    """Result of calibrating one backbone, category and score.

    `policy` is the new one, or the uncalibrated prior where a target cannot be met; then `missing` says why. `method` tells
    what the promise about strangers rests on (of the known, where none is made about strangers), with `n` of them, and
    `known_method` what stood for known images. `evidence` (`answered_right`) is what scores and backbones are compared by.
    `strangers` is how many the model knows. `guarded` tells whether the threshold is set against other kinds of strangers, too.
    `known` and `against` are the known images and strangers whose scores it rests on. `useless` tells that no known image
    would be answered right: then `missing` says so, and no policy is kept, but by force.
    """

    backbone: str
    category: str
    score: Score
    aims: Aims
    policy: Policy
    method: Source | None
    known_method: Source
    n: int
    shares: Shares
    evidence: float
    strangers: int
    guarded: bool
    known: Known
    against: Strangers
    missing: str | None = None
    useless: bool = False

    def facts(self) -> dict[str, Any]:
        """Return what is kept beside the policy, and what `calibrate --json` prints."""
        return {
            "aims": {aim.value: rate for aim, rate in self.aims.rates.items()},
            "confidence": self.aims.confidence,
            "method": self.method,
            "known_method": self.known_method,
            "n": self.n,
            "guarded": self.guarded,
            "strangers_in_model": self.strangers,
            "evidence": round(self.evidence, 6),
            **self.shares.as_json(),
        }

    def as_json(self) -> dict[str, Any]:
        """The object that `calibrate --json` prints."""
        return {
            "backbone": self.backbone,
            "category": self.category,
            "score": self.score.value,
            "threshold": self.policy.threshold,
            "margin_floor": self.policy.margin_floor,
            "calibrated": self.policy.calibrated,
            "missing": self.missing,
            **self.facts(),
        }


@dataclass(frozen=True, slots=True)
class FusionTried:
    """Two backbones tried as one: the best calibration of both together, the best of one alone, and which is taken."""

    fused: Calibration
    best: Calibration
    pays: bool

    def as_json(self) -> dict[str, Any]:
        """The object that `calibrate --json` prints."""
        return {
            "fused": self.fused.backbone,
            "category": self.fused.category,
            "score": self.fused.score.value,
            "evidence": round(self.fused.evidence, 6),
            "best": self.best.backbone,
            "best_evidence": round(self.best.evidence, 6),
            "taken": self.pays,
        }


def find_policy(
    backbone: str,
    category: str,
    score: Score,
    aims: Aims,
    guard: Guard,
    evidence: Evidence,
    *,
    strangers: int,
    force: bool = False,
) -> Calibration:
    """The policy that the evidence allows: by queries and known strangers where there are enough, else by the shots. Pure.

    Known strangers that are too few to promise anything count all the same: no more of them match than the target allows.
    A policy that answers no known image right is none, but with `force`.
    """
    prior = prior_policy(backbone, score)
    known, known_method = _known_images(aims, evidence)
    threshold, method, guarded = prior.threshold, None, False
    missing: list[str] = []
    if Aim.FALSE_ACCEPT in aims.rates:
        bound = _against_strangers(aims, evidence, known, guard)
        if bound is None:
            missing.append(_too_few(aims, Aim.FALSE_ACCEPT, len(evidence.negatives), len(evidence.left_out)))
        else:
            threshold, method, guarded = bound
    elif Aim.FALSE_REJECT in aims.rates:
        highest = reject_threshold(aims, known.best) if _may_use(aims, known_method) else None
        if highest is None:
            missing.append(_too_few(aims, Aim.FALSE_REJECT, len(evidence.queries), len(evidence.shots)))
        else:
            threshold = highest
    floor = 0.0
    if Aim.WRONG in aims.rates and not missing:
        least = margin_floor_for(aims, known, threshold) if _may_use(aims, known_method) else None
        if least is None:
            missing.append(
                f"no margin keeps wrong {aims.rates[Aim.WRONG]:g} on {len(known)} known images "
                f"({known_method}): {_right_and_wrong(known, threshold)}"
            )
        else:
            floor = least
    if Aim.FALSE_REJECT in aims.rates and not missing and (Aim.FALSE_ACCEPT in aims.rates or floor > 0):
        failing = _refusals(aims, known, threshold, floor) if _may_use(aims, known_method) else None
        if failing is not None or not _may_use(aims, known_method):
            missing.append(failing or _too_few(aims, Aim.FALSE_REJECT, len(evidence.queries), len(evidence.shots)))
    useless = not missing and len(known) > 0 and not (matches(known, threshold, floor) & known.right).any()
    if useless and not force:
        missing.append(
            f"at a threshold of {threshold:.3f} and a margin of {floor:.3f} none of {len(known)} known images ({known_method}) "
            f"would be answered right: {_outcome(known, threshold, floor)}"
        )
    policy = prior if missing else Policy(threshold, floor, calibrated=True)
    against = evidence.negatives if len(evidence.negatives) else evidence.left_out
    return Calibration(
        backbone=backbone,
        category=category,
        score=score,
        aims=aims,
        policy=policy,
        method=None if missing else method or known_method,
        known_method=known_method,
        n=len(known) if method is None else _count(method, evidence),
        shares=_shares(policy, known, known.truth if known_method == Source.SHOTS else None, evidence),
        known=known,
        against=against,
        evidence=answered_right(known, against),
        strangers=strangers if score == Score.LDA else 0,
        guarded=guarded,
        missing="; ".join(missing) or None,
        useless=bool(useless),
    )


def _count(method: Source, evidence: Evidence) -> int:
    return len(evidence.negatives) if method == Source.NEGATIVES else len(evidence.left_out)


def _known_images(aims: Aims, evidence: Evidence) -> tuple[Known, Source]:
    """Labelled queries where there are enough for every bound on known images (and any at all), else the shots."""
    needed = max((aims.samples_needed(aim) for aim in aims.rates if aim != Aim.FALSE_ACCEPT), default=1)
    if len(evidence.queries) >= max(needed, min(len(evidence.shots), ENOUGH)):
        return evidence.queries, Source.QUERIES
    return evidence.shots, Source.SHOTS


def _may_use(aims: Aims, source: Source) -> bool:
    """Shots are not independent of each other: they bear no bound that holds with a stated confidence."""
    return aims.confidence is None or source == Source.QUERIES


def _against_strangers(aims: Aims, evidence: Evidence, known: Known, guard: Guard) -> tuple[float, Source, bool] | None:
    """The threshold, what it rests on, and whether it holds off other kinds of strangers, too; None where there are too few."""
    rate = aims.rates[Aim.FALSE_ACCEPT]
    on_average = Aims({Aim.FALSE_ACCEPT: rate})
    by_known = accept_threshold(aims, evidence.negatives.best)
    by_labels = accept_threshold(on_average, evidence.left_out.best)
    if by_known is None:
        if by_labels is None or aims.confidence is not None:
            return None
        if not len(evidence.negatives):
            return by_labels, Source.OTHER_LABELS, True
        return max(by_labels, refusing_threshold(rate, evidence.negatives.best)), Source.BOTH, True
    if guard == Guard.KNOWN or by_labels is None:
        return by_known, Source.NEGATIVES, False
    both = max(by_known, by_labels)
    cost = float(np.mean(known.right & (known.best >= by_known) & (known.best < both))) if len(known) else 0.0
    if guard == Guard.ANY or cost <= GUARD_COST:
        return both, Source.NEGATIVES, True
    return by_known, Source.NEGATIVES, False


def _refusals(aims: Aims, known: Known, threshold: float, floor: float) -> str | None:
    """Why the bound on refusals does not hold under a policy; None where it does."""
    rate = aims.rates[Aim.FALSE_REJECT]
    refused = int((~matches(known, threshold, floor)).sum())
    allowed = allowed_errors(aims, Aim.FALSE_REJECT, len(known))
    if allowed is not None and refused <= allowed:
        return None
    return f"false-reject {rate:g} cannot hold together with the rest: {refused} of {len(known)} known images would not match"


def _too_few(aims: Aims, aim: Aim, asked: int, shots: int) -> str:
    sources = (Source.NEGATIVES, Source.OTHER_LABELS) if aim == Aim.FALSE_ACCEPT else (Source.QUERIES, Source.SHOTS)
    sure = "" if aims.confidence is None else f" with {aims.confidence:.0%} confidence"
    there = f"{asked} ({sources[0]}) and {shots} ({sources[1]})"
    hint = "" if aims.confidence is None else "; shots are alike, and bear no bound with confidence"
    return f"{aim} {aims.rates[aim]:g}{sure} needs {aims.samples_needed(aim)} samples: there are {there}{hint}"


def _right_and_wrong(known: Known, threshold: float) -> str:
    matched = known.best >= threshold
    return f"{int((matched & known.right).sum())} of them would match rightly and {int((matched & ~known.right).sum())} wrongly"


def _outcome(known: Known, threshold: float, floor: float) -> str:
    matched, refused = matches(known, threshold, floor), known.best < threshold
    return f"{int(matched.sum())} wrong, {int((~matched & ~refused).sum())} ambiguous, {int(refused.sum())} refused"


def _shares(policy: Policy, known: Known, labels: Numbers | None, evidence: Evidence) -> Shares:
    matched = matches(known, policy.threshold, policy.margin_floor)
    refused = known.best < policy.threshold
    other_kinds = matches(evidence.left_out, policy.threshold, policy.margin_floor)
    return Shares(
        right=_rate(matched & known.right, labels),
        wrong=_rate(matched & ~known.right, labels),
        ambiguous=_rate(~matched & ~refused, labels),
        refused=_rate(refused, labels),
        accepted=_rate(matches(evidence.negatives, policy.threshold, policy.margin_floor), None),
        other_kinds=_rate(other_kinds, evidence.left_out_labels),
    )


def _rate(hit: NDArray[np.bool_], labels: Numbers | None) -> Rate:
    return Rate(int(hit.sum()), len(hit), None if labels is None else resampled_over_labels(hit, labels))


def best_by_evidence(calibrations: Sequence[Calibration], *, even_useless: bool = False) -> Calibration | None:
    """Of one category's calibrations, the one that `query` takes: each backbone's best score, and of these the best.

    With `even_useless`, one may be that answers nothing right by itself, and yet is worth fusing.
    """
    best = []
    for backbone in by_preference(calibration.backbone for calibration in calibrations):
        mine = {
            calibration.score: calibration
            for calibration in calibrations
            if calibration.backbone == backbone
            and (calibration.policy.calibrated or (even_useless and calibration.useless))
        }
        by_score = {
            score: ScoreEvidence(each.evidence, each.shares.right.n, each.strangers > 0) for score, each in mine.items()
        }
        if by_score:
            best.append(mine[best_score(by_score)])
    return max(best, key=lambda calibration: round(calibration.evidence, 3), default=None)


def equally_good(calibrations: Sequence[Calibration], best: Calibration) -> list[str]:
    """The best backbone of a category with each that comes near it, as fused names; none that is there already."""
    backbones = dict.fromkeys(calibration.backbone for calibration in calibrations)
    single = [name for name in backbones if len(parts_of(name)) == 1]
    if best.backbone not in single:
        return []
    nearest = {
        other: best_by_evidence([each for each in calibrations if each.backbone == other], even_useless=True)
        for other in single
    }
    names = [
        canonical_name(f"{best.backbone}+{other}")
        for other, theirs in nearest.items()
        if theirs is not None and other != best.backbone and best.evidence - theirs.evidence <= EQUAL
    ]
    return [name for name in names if name not in backbones]


def fusing_pays(fused: Calibration, best: Calibration) -> bool:
    """Tell whether two backbones fused answer better than the best alone by more than one standard error of the latter."""
    n = max(best.shares.right.n, 1)
    return fused.evidence - best.evidence > math.sqrt(max(best.evidence * (1 - best.evidence), 0.01) / n)


def _as_json(rate: Rate) -> dict[str, Any]:
    low, high = rate.interval
    value = None if rate.value is None else round(rate.value, 4)
    return {"count": rate.count, "n": rate.n, "rate": value, "low": round(low, 4), "high": round(high, 4)}
