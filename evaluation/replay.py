"""Replay: what stored queries would be told under another policy or score; nothing is embedded again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from evaluation.outcomes import AMBIGUOUS, REFUSED, predict
from retriever.choice import choose_categories, choose_row
from retriever.decision import Policy, Verdict
from retriever.policy import policy_in_force
from retriever.scores import Score, cosines, label_numbers, label_scores, nearer_to_negatives
from schema.calibrations import stored_calibrations
from schema.catalog import BackboneRow, Catalog
from schema.errors import UsageError
from schema.feedback import negatives
from schema.images import Role
from schema.labelled import labelled_vectors
from schema.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOptions:
    """What is to be other than it is: None leaves a part of the policy as it is for the score."""

    backbone: str | None = None
    category: str | None = None
    threshold: float | None = None
    margin_floor: float | None = None
    score: Score = Score.MAX_SIM


@dataclass(frozen=True, slots=True)
class Told:
    """What a query is told: a verdict, the nearest label and its score."""

    verdict: Verdict
    nearest: str
    score: float

    def as_json(self) -> dict[str, Any]:
        """The part of an object that `replay --json` prints; `label` is null unless it is a match."""
        matched = self.verdict == Verdict.MATCH
        return {
            "verdict": self.verdict.value,
            "label": self.nearest if matched else None,
            "nearest": self.nearest,
            "score": self.score,
        }


@dataclass(frozen=True, slots=True)
class Replayed:
    """A stored query, its true label if that is known, and what it is told by `max_sim` as things are, and by the replay."""

    category: str
    path: str
    truth: str | None
    before: Told
    after: Told

    @property
    def flips(self) -> bool:
        """Whether the answer is another: the verdict, or the label of a match."""
        if self.before.verdict != self.after.verdict:
            return True
        return self.after.verdict == Verdict.MATCH and self.before.nearest != self.after.nearest


@dataclass(frozen=True, slots=True)
class Replay:
    """All stored queries of the categories asked for, decided twice by one backbone."""

    backbone: str
    policies: dict[str, Policy]
    queries: list[Replayed]


def replay(store: Store, options: ReplayOptions) -> Replay:
    """Decide all stored queries as things are, and as they would be. UsageError where there is nothing to decide by."""
    with store.reading() as catalog:
        categories = choose_categories(catalog, options.category)
        row, _ = choose_row(catalog, options.backbone, categories)
        now = _policies(catalog, row, Score.MAX_SIM, categories)
        then = {
            category: replace(
                policy,
                threshold=policy.threshold if options.threshold is None else options.threshold,
                margin_floor=policy.margin_floor if options.margin_floor is None else options.margin_floor,
            )
            for category, policy in _policies(catalog, row, options.score, categories).items()
        }
        queries = [
            one
            for category in categories
            for one in _replay_category(catalog, row, category, now[category], then[category], options.score)
        ]
    if not queries:
        raise UsageError(
            "no queries are indexed where there are shots; put some into 6.preprocessed/ and run `nearshot index`"
        )
    return Replay(row.name, then, queries)


def _policies(catalog: Catalog, row: BackboneRow, score: Score, categories: list[str]) -> dict[str, Policy]:
    """The policies in force for a score."""
    found = stored_calibrations(catalog, row.id, score)
    return {category: policy_in_force(row, score, found.get(category)) for category in categories}


def _replay_category(
    catalog: Catalog, row: BackboneRow, category: str, now: Policy, then: Policy, score: Score
) -> Iterator[Replayed]:
    support = labelled_vectors(catalog, row, category, Role.SUPPORT)
    queries = labelled_vectors(catalog, row, category, Role.QUERY)
    names, numbers, lengths = label_numbers(support.labels, support.vectors)
    if not names:
        return
    similarities = cosines(queries.vectors, support.vectors)
    rejected = nearer_to_negatives(similarities, cosines(queries.vectors, negatives(catalog, row, category).vectors))
    told = []
    for kind, policy in ((Score.MAX_SIM, now), (score, then)):
        scores = label_scores(kind, similarities, numbers, lengths)
        verdicts = predict(scores, policy, rejected)
        best = np.argmax(scores, axis=1)
        told.append(
            [
                Told(_verdict(int(verdict)), names[label], float(scores[place, label]))
                for place, (verdict, label) in enumerate(zip(verdicts, best, strict=True))
            ]
        )
    for path, truth, before, after in zip(queries.paths, queries.labels, *told, strict=True):
        yield Replayed(category, path, truth, before, after)


def _verdict(predicted: int) -> Verdict:
    return {REFUSED: Verdict.UNKNOWN, AMBIGUOUS: Verdict.AMBIGUOUS}.get(predicted, Verdict.MATCH)
