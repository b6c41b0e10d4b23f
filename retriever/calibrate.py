"""Calibrating: from a store's shots and labelled queries to policies that the store keeps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbones.decode import decode
from retriever.calibration import (
    Aim,
    Rate,
    Samples,
    Target,
    false_accepts,
    false_rejects,
    margin_floor_for,
    refusing_threshold,
    threshold_for,
)
from retriever.choice import choose_rows, choose_supported, load_indexed
from retriever.decision import Policy, prior_policy
from retriever.embedding import embed_picture
from retriever.scores import Score, cosines, label_numbers, label_scores, mean_lengths
from retriever.sources import read_queries
from schema.calibrations import CalibrationRow, put_calibration
from schema.catalog import BackboneRow
from schema.errors import ImageError, UsageError
from schema.images import UNKNOWN, Role
from schema.labelled import LabelledVectors, labelled_vectors, support_digest
from schema.store import Store, utc_now

LEAVE_ONE_OUT = "leave-one-shot-out"
QUERIES = "labelled queries"
NEGATIVES = "known negatives"
OTHER_LABELS = "shots of other labels"
BOTH = "shots of other labels, and known negatives"


@dataclass(frozen=True, slots=True)
class Calibration:
    """What calibrating one backbone, category and score came to.

    `policy` is the new one, or the uncalibrated prior where the samples are too few; then `missing` says how many there are
    and how many are needed. `method` tells what the threshold rests on, `margin_method` what the margin floor does.
    """

    backbone: str
    category: str
    score: Score
    target: Target
    policy: Policy
    method: str | None
    margin_method: str | None
    n: int
    false_accept: Rate
    false_reject: Rate
    missing: str | None = None

    def facts(self) -> dict[str, Any]:
        """What is kept beside the policy, and what `calibrate --json` prints."""
        return {
            "method": self.method,
            "margin_method": self.margin_method,
            "target": self.target.aim.value,
            "rate": self.target.rate,
            "n": self.n,
            "false_accept": _as_json(self.false_accept),
            "false_reject": _as_json(self.false_reject),
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
    """Options of a calibration; empty backbones and categories mean all that are indexed."""

    target: Target
    backbones: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    scores: tuple[Score, ...] = tuple(Score)
    negatives: Path | None = None
    device: str = "auto"
    weights: Path | None = None


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
            for score in options.scores:
                yield calibrate(store, row, category, score, options.target, negatives=negatives)


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
    score: Score,
    target: Target,
    *,
    negatives: Mapping[str, NDArray[np.float32]] = MappingProxyType({}),
) -> Calibration:
    """Find a policy from what the store has, and keep it; where that is not enough, leave the store as it is.

    `negatives` are unit vectors (dimension,) of images that show no label, by SHA-256; those that are shots or labelled
    queries are left out. Labelled queries count half: those whose SHA-256 is even, so that `evaluate` can judge by the others.
    """
    with store.reading() as catalog:
        support = labelled_vectors(catalog, backbone, category, Role.SUPPORT)
        queries = labelled_vectors(catalog, backbone, category, Role.QUERY)
        seen = support_digest(catalog, backbone, category)
    shots = leave_one_shot_out(support, score)
    asked = query_samples(support, queries, score)
    known = {*support.hashes, *(sha for sha, label in zip(queries.hashes, queries.labels, strict=True) if label)}
    strange = [vector for sha256, vector in negatives.items() if sha256 not in known]
    if strange:
        _, numbers, lengths = label_numbers(support.labels, support.vectors)
        strangers = _best(label_scores(score, cosines(np.stack(strange), support.vectors), numbers, lengths))
        asked = Samples(asked.genuine, asked.margins, np.concatenate([asked.impostors, strangers]))
    made = find_policy(backbone.name, category, score, target, shots, asked)
    if made.policy.calibrated:
        policy, facts = made.policy, json.dumps(made.facts() | {"fingerprint": backbone.fingerprint})
        row = CalibrationRow(
            backbone.id, category, score.value, policy.threshold, policy.margin_floor, facts, seen, utc_now()
        )
        with store.writing() as editor:
            put_calibration(editor, row)
    return made


def find_policy(
    backbone: str, category: str, score: Score, target: Target, shots: Samples, asked: Samples
) -> Calibration:
    """The policy that samples from shots and from queries allow: by queries where there are enough, else by shots. Pure.

    Known strangers that are too few to promise anything count all the same: no more of them match than the target allows.
    """
    names = {
        Aim.FALSE_ACCEPT: (NEGATIVES, OTHER_LABELS),
        Aim.FALSE_REJECT: (QUERIES, LEAVE_ONE_OUT),
    }[target.aim]
    prior = prior_policy(backbone, score)
    for samples, method in zip((asked, shots), names, strict=True):
        threshold = threshold_for(target, samples)
        if threshold is not None:
            if method == OTHER_LABELS and len(asked.impostors):
                threshold, method = max(threshold, refusing_threshold(target.rate, asked.impostors)), BOTH
            margins, margin_method = (
                (asked, QUERIES) if len(asked.genuine) >= target.samples_needed else (shots, LEAVE_ONE_OUT)
            )
            enough = len(margins.genuine) >= target.samples_needed
            floor = margin_floor_for(target.rate, margins, threshold) if enough else prior.margin_floor
            return Calibration(
                backbone,
                category,
                score,
                target,
                Policy(threshold, floor, calibrated=True),
                method,
                margin_method if enough else None,
                len(samples.relevant(target.aim)),
                false_accepts(asked if len(asked.impostors) else shots, threshold),
                false_rejects(asked if len(asked.genuine) else shots, threshold),
            )
    counts = [(len(samples.relevant(target.aim)), name) for samples, name in zip((asked, shots), names, strict=True)]
    missing = f"{target.aim} {target.rate:g} needs {target.samples_needed} samples: there are " + " and ".join(
        f"{count} ({name})" for count, name in counts
    )
    nothing = Rate(0, 0)
    return Calibration(backbone, category, score, target, prior, None, None, 0, nothing, nothing, missing)


def leave_one_shot_out(support: LabelledVectors, score: Score) -> Samples:
    """Each shot (its first image) as a query that the rest of the support set answers, and as one that shows no label.

    What has the same bytes is left out with it. A shot that is its label's only one has no genuine score.
    """
    _, numbers, lengths = label_numbers(support.labels, support.vectors)
    shots = list(zip(support.labels, support.shots, strict=True))
    first = [index for index, shot in enumerate(shots) if shots.index(shot) == index] if shots else []
    similarities = cosines(support.vectors[first], support.vectors)
    own_lengths = np.tile(lengths, (len(first), 1))
    for row, index in enumerate(first):
        left = np.array(
            [
                shot == shots[index] or sha256 == support.hashes[index]
                for shot, sha256 in zip(shots, support.hashes, strict=True)
            ]
        )
        similarities[row, left] = np.nan
        if score == Score.PROTOTYPE:
            own_lengths[row] = mean_lengths(support.vectors[~left], numbers[~left], len(lengths))
    scores = label_scores(score, similarities, numbers, own_lengths)
    return _samples(scores, numbers[first], strangers=False)


def query_samples(support: LabelledVectors, queries: LabelledVectors, score: Score) -> Samples:
    """The half of the labelled queries that calibration may see.

    Copies of shots are left out, and of a query's own copies the first counts.
    """
    names, numbers, lengths = label_numbers(support.labels, support.vectors)
    place: dict[str | None, int] = {UNKNOWN: -1}
    place.update((name, number) for number, name in enumerate(names))
    seen = set(support.hashes)
    kept = []
    for index, (label, sha256) in enumerate(zip(queries.labels, queries.hashes, strict=True)):
        if label in place and sha256 not in seen and is_for_calibration(sha256):
            kept.append(index)
            seen.add(sha256)
    truth = np.array([place[queries.labels[index]] for index in kept], dtype=np.int64)
    scores = label_scores(score, cosines(queries.vectors[kept], support.vectors), numbers, lengths)
    return _samples(scores, truth, strangers=True)


def is_for_calibration(sha256: str) -> bool:
    """Whether a labelled query belongs to the half that calibration may see."""
    return int(sha256[-1], 16) % 2 == 0


def _samples(scores: NDArray[np.float64], truth: NDArray[np.int64], *, strangers: bool) -> Samples:
    """Samples from scores (q, m) and true labels (q,), -1 for none.

    With `strangers`, the impostors are the queries without a label; else each query, its own label left out.
    """
    rows = np.arange(len(scores))
    known = truth >= 0
    own = np.where(known, scores[rows, truth], -np.inf) if scores.size else np.zeros(0)
    others = scores.copy()
    others[rows[known], truth[known]] = -np.inf
    best_other = _best(others)
    genuine = np.isfinite(own)
    impostors = _best(scores[~known]) if strangers else best_other
    return Samples(own[genuine], own[genuine] - best_other[genuine], impostors[np.isfinite(impostors)])


def _best(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.max(scores, axis=1, initial=-np.inf) if len(scores) else np.zeros(0)


def _as_json(rate: Rate) -> dict[str, Any]:
    low, high = rate.interval
    value = None if rate.value is None else round(rate.value, 4)
    return {"count": rate.count, "n": rate.n, "rate": value, "low": round(low, 4), "high": round(high, 4)}
