"""Evaluating: labelled queries judged from stored vectors alone; no model is loaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.judged import Judged, judge
from evaluation.outcomes import Outcomes, count_outcomes
from evaluation.samples import CategorySamples, Leak, find_leaks, labelled_queries, load_samples
from evaluation.shots import METRICS, Figure, measure, shot_counts, summarise
from retriever.calibrate import LEAVE_ONE_OUT, OTHER_LABELS, is_for_calibration
from retriever.choice import choose_rows, choose_supported
from retriever.decision import Policy
from retriever.policy import policy_in_force
from retriever.scores import Score
from schema.calibrations import CalibrationRow, stored_calibrations
from schema.catalog import BackboneRow
from schema.errors import UsageError
from schema.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationOptions:
    """Options of an evaluation; empty backbones and categories mean all that have labelled queries."""

    backbones: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    score: Score = Score.MAX_SIM
    seeds: int = 5
    keep_leaks: bool = False


@dataclass(frozen=True, slots=True)
class OutcomeRow:
    """A row of Table 7. `category` is None in a backbone's totals."""

    category: str | None
    backbone: str
    policy: Policy | None
    outcomes: Outcomes


@dataclass(frozen=True, slots=True)
class ShotsRow:
    """A row of Table 8: a backbone with so many shots a label, over all categories."""

    backbone: str
    shots: int
    figures: Mapping[str, Figure]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Both tables, and what they rest on: `judged` by backbone and category, where there are queries and shots.

    `unseen_only` tells that the queries which a calibration has seen were left out (`seen` of them), `leaks` which queries were
    left out, or kept, as copies of shots. `inputs` is a digest of all that went in.
    """

    options: EvaluationOptions
    outcomes: Sequence[OutcomeRow]
    shots: Sequence[ShotsRow]
    judged: Sequence[Judged]
    leaks: Sequence[Leak]
    unseen_only: bool
    seen: int
    inputs: str


def evaluate(store: Store, options: EvaluationOptions) -> Evaluation:
    """Judge every backbone on the same queries; UsageError where there is nothing to judge by."""
    with store.reading() as catalog:
        rows = choose_rows(catalog, options.backbones)
        categories = choose_supported(catalog, options.categories)
        hog = next((row for row in catalog.backbones() if row.name == "hog"), None)
        calibrations = {row.name: stored_calibrations(catalog, row.id, options.score) for row in rows}
        unseen_only = any(
            _saw_queries(calibration)
            for found in calibrations.values()
            for category, calibration in found.items()
            if category in categories
        )
        leaks: list[Leak] = []
        wanted: dict[str, set[str]] = {}
        seen = 0
        for category in categories:
            queries = labelled_queries(catalog, rows, category)
            copies = {sha: leak for sha, leak in find_leaks(catalog, rows, hog, category).items() if sha in queries}
            leaks += sorted(copies.values(), key=lambda leak: leak.query)
            kept = queries if options.keep_leaks else queries - set(copies)
            unseen = {sha256 for sha256 in kept if not is_for_calibration(sha256)}
            seen += len(kept) - len(unseen)
            wanted[category] = unseen if unseen_only else kept
        if not any(wanted.values()):
            if seen:
                raise UsageError("calibration has seen all labelled queries; add others, and run `nearshot index`")
            raise UsageError(
                "there are no labelled queries to judge by: put queries into 6.preprocessed/<label>/ (or Unknown/), "
                "or write a labels.csv, and run `nearshot index`"
            )
        categories = [category for category in categories if wanted[category] or category in options.categories]
        digest = hashlib.sha256(repr(options).encode())
        outcomes: list[OutcomeRow] = []
        shots: list[ShotsRow] = []
        judged: list[Judged] = []
        for row in rows:
            samples = [load_samples(catalog, row, category, wanted[category]) for category in categories]
            policies = [
                policy_in_force(row, options.score, calibrations[row.name].get(one.category)) for one in samples
            ]
            for one, policy in zip(samples, policies, strict=True):
                digest.update(_facts(row, one, policy).encode())
            similarities = [one.similarities() for one in samples]
            mine = [
                judge(one, known, row.name, policy, options.score)
                for one, known, policy in zip(samples, similarities, policies, strict=True)
            ]
            outcomes += _count(row, mine)
            shots += _measure(row, samples, similarities, policies, options)
            judged += [one for one in mine if len(one.truth) and one.names]
    return Evaluation(
        options, outcomes, shots, judged, leaks, unseen_only, seen if unseen_only else 0, digest.hexdigest()
    )


def _count(row: BackboneRow, judged: Sequence[Judged]) -> list[OutcomeRow]:
    counted = [
        OutcomeRow(one.category, row.name, one.policy, count_outcomes(one.predicted, one.truth)) for one in judged
    ]
    total = sum((one.outcomes for one in counted), Outcomes())
    return [*counted, OutcomeRow(None, row.name, None, total)]


def _measure(
    row: BackboneRow,
    samples: Sequence[CategorySamples],
    similarities: Sequence[NDArray[np.float64]],
    policies: Sequence[Policy],
    options: EvaluationOptions,
) -> list[ShotsRow]:
    figures = []
    for count in shot_counts(samples):
        draws = [
            [
                measure(one, known, options.score, policy, count, seed)
                for one, policy, known in zip(samples, policies, similarities, strict=True)
                if len(one.truth)
            ]
            for seed in range(options.seeds)
        ]
        summary = {name: summarise([each[name] for each in draw] for draw in draws) for name in METRICS}
        figures.append(ShotsRow(row.name, count, summary))
    return figures


def _saw_queries(calibration: CalibrationRow) -> bool:
    about = calibration.about()
    return about["method"] not in (OTHER_LABELS, LEAVE_ONE_OUT) or about["margin_method"] not in (LEAVE_ONE_OUT, None)


def _facts(row: BackboneRow, samples: CategorySamples, policy: Policy) -> str:
    """Everything that decides one category's figures, but for the vectors, which fingerprint and bytes decide."""
    support, queries = samples.support, samples.queries
    return json.dumps(
        [
            *(row.name, row.fingerprint, samples.category, policy.threshold, policy.margin_floor, policy.calibrated),
            list(zip(support.paths, support.labels, support.shots, support.hashes, strict=True)),
            list(zip(queries.paths, queries.labels, queries.hashes, strict=True)),
            list(samples.negatives.hashes),
        ]
    )
