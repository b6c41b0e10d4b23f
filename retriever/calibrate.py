"""Calibrating: from a store's shots and labelled queries to policies that the store keeps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbones.decode import decode
from retriever.calibration import (
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
from retriever.choice import choose_rows, choose_supported, load_indexed
from retriever.choose_score import Found, best_score
from retriever.embedding import embed_picture
from retriever.held_out import HeldOut, without_the_label, without_the_shot
from retriever.policy import Policy, prior_policy
from retriever.prediction_set import SetSamples
from retriever.scores import Labelled, Numbers, Score, Scores, fit
from retriever.sources import read_queries
from retriever.strangers import is_for_calibration, model_strangers
from schema.calibrations import CalibrationRow, put_calibration
from schema.catalog import BackboneRow
from schema.errors import ImageError, UsageError
from schema.feedback import negatives as rejected_images
from schema.images import UNKNOWN, Role
from schema.labelled import LabelledVectors, labelled_vectors, support_digest
from schema.store import Store, utc_now

GUARD_COST = 0.05
"""Of the known images, the share whose right answer a guard against other kinds of strangers may cost before it is left out."""


class Source(StrEnum):
    """What stands for known images, or for strangers."""

    QUERIES = "labelled queries"
    SHOTS = "shots, each left out in turn"
    NEGATIVES = "known strangers"
    OTHER_LABELS = "shots whose label is left out"
    BOTH = "shots whose label is left out, and known strangers"


class Guard(StrEnum):
    """Against which strangers the threshold is set.

    `known`: those like the known strangers. `any`: those, and labels that the support set does not have, as its own labels
    tell when each is left out. `auto`: `any` where that costs at most 5 % of the right answers.
    """

    AUTO = "auto"
    KNOWN = "known"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class Shares:
    """What became of known images and of strangers that had no part in the model."""

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
    """What calibrating one backbone, category and score came to.

    `policy` is the new one, or the uncalibrated prior where a target cannot be met; then `missing` says why. `method` tells
    what the promise about strangers rests on (of the known, where none is made about strangers), with `n` of them, and
    `known_method` what stood for known images. `evidence` (`answered_right`) is what scores and backbones are compared by.
    `strangers` is how many the model knows. `guarded` tells whether the threshold is set against other kinds of strangers, too.
    `known` and `against` are the known images and strangers whose scores it rests on.
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

    def facts(self) -> dict[str, Any]:
        """What is kept beside the policy, and what `calibrate --json` prints."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationOptions:
    """Options of a calibration; empty backbones and categories mean all that are indexed.

    With `every`, all labelled queries count, and none are left for `evaluate`.
    """

    aims: Aims = field(default_factory=lambda: Aims({Aim.FALSE_ACCEPT: 0.05}))
    guard: Guard = Guard.AUTO
    every: bool = False
    backbones: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    scores: tuple[Score, ...] = tuple(Score)
    negatives: Path | None = None
    device: str = "auto"
    weights: Path | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What a calibration rests on: scores by models that have not seen what they score.

    From the support set alone: `shots` as known images, `left_out` as strangers, with their labels by number (n,), which
    resampling draws whole. From labelled queries: `queries` and `negatives`.
    """

    shots: Known
    left_out: Strangers
    left_out_labels: Numbers
    queries: Known
    negatives: Strangers


def calibrate_all(store: Store, options: CalibrationOptions) -> Iterator[Calibration]:
    """Calibrate every backbone, category and score that is asked for; UsageError for what is not indexed.

    Raises WeightsError where negatives are given and a backbone cannot be loaded, UsageError for one that cannot be read.
    """
    with store.reading() as catalog:
        rows = choose_rows(catalog, options.backbones)
        categories = choose_supported(catalog, options.categories)
    for row in rows:
        negatives = _embed_all(row, options) if options.negatives else {}
        for category in categories:
            yield from calibrate(store, row, category, options, negatives=negatives)


def _embed_all(row: BackboneRow, options: CalibrationOptions) -> dict[str, NDArray[np.float32]]:
    """The unit vectors of all images that --negatives names, by SHA-256, by the indexer's own functions."""
    backbone = load_indexed(row, weights=options.weights, device=options.device)
    vectors: dict[str, NDArray[np.float32]] = {}
    for name, data in read_queries([options.negatives] if options.negatives else []):
        if isinstance(data, OSError):
            raise UsageError(f"{name} cannot be read: {data.strerror or data}")
        try:
            vectors[hashlib.sha256(data).hexdigest()] = embed_picture(backbone, decode(data).picture)[0]
        except ImageError as error:
            raise UsageError(f"{name}: {error}") from error
    if not vectors:
        raise UsageError(f"no images in {options.negatives}")
    return vectors


def calibrate(
    store: Store,
    backbone: BackboneRow,
    category: str,
    options: CalibrationOptions,
    *,
    negatives: Mapping[str, NDArray[np.float32]] = MappingProxyType({}),
) -> Iterator[Calibration]:
    """Find a policy per score from what the store has, and keep it; where that is not enough, leave the store as it is.

    `negatives` are unit vectors (dimension,) of images that show no label, by SHA-256, for the threshold; those that are
    shots, rejected or labelled queries are left out. Labelled queries count half: those of which `is_for_calibration` holds,
    so that `evaluate` can judge by the others.
    """
    with store.reading() as catalog:
        support = labelled_vectors(catalog, backbone, category, Role.SUPPORT)
        queries = labelled_vectors(catalog, backbone, category, Role.QUERY)
        needed = options.aims.samples_needed(Aim.FALSE_ACCEPT) if Aim.FALSE_ACCEPT in options.aims.rates else 0
        model = model_strangers(catalog, backbone, category, needed=needed, every=options.every)
        rejected = rejected_images(catalog, backbone, category).hashes
        seen = support_digest(catalog, backbone, category)
    labelled = Labelled.of(support.labels, support.vectors, model.vectors)
    held_out = HeldOut.of(support, labelled.numbers)
    known, strange = _asked(support, queries, {*rejected, *model.hashes}, labelled, every=options.every)
    taken = {
        *support.hashes,
        *rejected,
        *(sha for sha, label in zip(queries.hashes, queries.labels, strict=True) if label),
    }
    outside = [vector for sha256, vector in negatives.items() if sha256 not in taken]
    strangers = np.concatenate(
        [queries.vectors[strange], np.array(outside, dtype=np.float32).reshape(-1, backbone.dimension)]
    )
    truth = np.array([labelled.names.index(str(queries.labels[index])) for index in known], dtype=np.int64)
    for score in options.scores:
        evidence = gather(score, labelled, held_out, queries.vectors[known], truth, strangers)
        made = find_policy(backbone.name, category, score, options, evidence, len(model.hashes))
        if made.policy.calibrated:
            more: dict[str, Any] = {
                "every": options.every,
                "strangers": list(model.hashes) if score == Score.LDA else [],
                "stream": stream_samples(evidence, made.known_method),
                "sets": set_samples(made.known, made.against, labelled.names).as_json(),
            }
            _keep(store, backbone, made, seen, more)
        yield made


def _keep(store: Store, backbone: BackboneRow, made: Calibration, seen: str, more: dict[str, Any]) -> None:
    facts = json.dumps(made.facts() | more | {"fingerprint": backbone.fingerprint})
    policy = made.policy
    row = CalibrationRow(
        backbone.id, made.category, made.score.value, policy.threshold, policy.margin_floor, facts, seen, utc_now()
    )
    with store.writing() as editor:
        put_calibration(editor, row)


def _asked(
    support: LabelledVectors, queries: LabelledVectors, taken: set[str], labelled: Labelled, *, every: bool
) -> tuple[list[int], list[int]]:
    """The queries that calibration may ask with, by number: those that show a label, and strangers that are not in the model.

    Copies of shots are left out, and of a query's own copies the first counts.
    """
    known: list[int] = []
    strange: list[int] = []
    seen = set(support.hashes)
    for index, (label, sha256) in enumerate(zip(queries.labels, queries.hashes, strict=True)):
        if sha256 in seen or not (every or is_for_calibration(sha256)):
            continue
        if label == UNKNOWN and sha256 not in taken:
            strange.append(index)
        elif label in labelled.names:
            known.append(index)
        seen.add(sha256)
    return known, strange


def gather(
    score: Score,
    labelled: Labelled,
    held_out: HeldOut,
    queries: NDArray[np.float32],
    truth: Numbers,
    strangers: NDArray[np.float32],
) -> Evidence:
    """Score everything by a model that has not seen it: shots, queries (q, d) of labels `truth` (q,), strangers (u, d)."""
    model = fit(score, labelled)
    by_others = without_the_shot(score, labelled, held_out)
    no_label = without_the_label(score, labelled, held_out)
    own = np.isfinite(by_others[np.arange(len(held_out.truth)), held_out.truth])
    others = np.isfinite(no_label).any(axis=1)
    return Evidence(
        shots=_known(by_others[own], held_out.truth[own]),
        left_out=_strangers(no_label[others]),
        left_out_labels=held_out.truth[others],
        queries=_known(model.scores(queries), truth),
        negatives=_strangers(model.scores(strangers)),
    )


def find_policy(
    backbone: str, category: str, score: Score, options: CalibrationOptions, evidence: Evidence, strangers: int
) -> Calibration:
    """The policy that the evidence allows: by queries and known strangers where there are enough, else by the shots. Pure.

    Known strangers that are too few to promise anything count all the same: no more of them match than the target allows.
    """
    aims, prior = options.aims, prior_policy(backbone, score)
    known, known_method = _known_images(aims, evidence)
    threshold, method, guarded = prior.threshold, None, False
    missing: list[str] = []
    if Aim.FALSE_ACCEPT in aims.rates:
        found = _against_strangers(aims, evidence, known, options.guard)
        if found is None:
            missing.append(_too_few(aims, Aim.FALSE_ACCEPT, len(evidence.negatives), len(evidence.left_out)))
        else:
            threshold, method, guarded = found
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
    )


def _count(method: Source, evidence: Evidence) -> int:
    return len(evidence.negatives) if method == Source.NEGATIVES else len(evidence.left_out)


def _known_images(aims: Aims, evidence: Evidence) -> tuple[Known, Source]:
    """Labelled queries where there are enough for every bound on known images (and any at all), else the shots."""
    needed = max((aims.samples_needed(aim) for aim in aims.rates if aim != Aim.FALSE_ACCEPT), default=1)
    if len(evidence.queries) >= max(needed, min(len(evidence.shots), ENOUGH)):
        return evidence.queries, Source.QUERIES
    return evidence.shots, Source.SHOTS


ENOUGH = 30
"""Labelled queries that tell more of known images than any number of shots, which are alike."""


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


def set_samples(known: Known, against: Strangers, names: Sequence[str]) -> SetSamples:
    """What prediction sets rest on: how known images score their own labels (by name), and how strangers score at best."""
    own = {name: np.sort(known.own[known.truth == label]).tolist() for label, name in enumerate(names)}
    return SetSamples({name: scores for name, scores in own.items() if scores}, np.sort(against.best).tolist())


def stream_samples(evidence: Evidence, known_method: Source) -> list[float]:
    """What later queries are compared with (`retriever.drift`): best scores of labelled queries, strangers included.

    Shots score as queries do not: where they stand for known images, there is nothing to compare with.
    """
    if known_method != Source.QUERIES:
        return []
    best: list[float] = np.sort(np.concatenate([evidence.queries.best, evidence.negatives.best])).tolist()
    return best


def _rate(hit: NDArray[np.bool_], labels: Numbers | None) -> Rate:
    return Rate(int(hit.sum()), len(hit), None if labels is None else resampled_over_labels(hit, labels))


def _known(scores: Scores, truth: Numbers) -> Known:
    best, margins = _best_and_margin(scores)
    if not scores.size:
        return Known(best, margins, np.zeros(0, dtype=np.bool_), np.zeros(0), truth[:0])
    return Known(best, margins, scores.argmax(axis=1) == truth, scores[np.arange(len(truth)), truth], truth)


def _strangers(scores: Scores) -> Strangers:
    return Strangers(*_best_and_margin(scores))


def _best_and_margin(scores: Scores) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The best scores (n,) of (n, m) and their lead over the second, +inf where there is none."""
    if not scores.size:
        return np.zeros(0), np.zeros(0)
    if scores.shape[1] == 1:
        return scores[:, 0], np.full(len(scores), np.inf)
    second, best = np.partition(scores, -2, axis=1)[:, -2:].T
    return best, np.round(best - second, 6)


def best_by_evidence(made: Sequence[Calibration]) -> Calibration | None:
    """Of one category's calibrations, the one that `query` takes: each backbone's best score, and of these the best."""
    best = []
    for backbone in dict.fromkeys(one.backbone for one in made):
        mine = {one.score: one for one in made if one.backbone == backbone and one.policy.calibrated}
        found = {score: Found(one.evidence, one.shares.right.n, one.strangers > 0) for score, one in mine.items()}
        if found:
            best.append(mine[best_score(found)])
    return max(best, key=lambda one: round(one.evidence, 3), default=None)


def _as_json(rate: Rate) -> dict[str, Any]:
    low, high = rate.interval
    value = None if rate.value is None else round(rate.value, 4)
    return {"count": rate.count, "n": rate.n, "rate": value, "low": round(low, 4), "high": round(high, 4)}
