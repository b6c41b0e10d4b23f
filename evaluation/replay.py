"""Replay: what stored queries would be told under another policy or score; nothing is embedded again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nearshot.evaluation.outcomes import REFUSED, predict, verdict_of
from nearshot.evaluation.rules import Rules, rules_in_force
from nearshot.evaluation.standing import standings
from nearshot.retriever.choose_backbone import choose_categories, choose_row
from nearshot.retriever.policy import Policy
from nearshot.retriever.scores import Labelled, fit, nearer_to_rejected
from nearshot.schema.catalog import BackboneRow, Catalog
from nearshot.schema.errors import UsageError
from nearshot.schema.feedback import negatives
from nearshot.schema.labelled import labelled_vectors
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Role, Score, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOptions:
    """Settings to try instead of those in force: None leaves the score, or a part of its policy, as `query` would have it."""

    backbone: str | None = None
    category: str | None = None
    threshold: float | None = None
    margin_floor: float | None = None
    score: Score | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """Answer to a query: a verdict, the nearest label and its score."""

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
    """A stored query, its true label if that is known, and what it is told as things are, and by the replay."""

    category: str
    path: str
    truth: str | None
    before: Told
    after: Told

    @property
    def flips(self) -> bool:
        """True where the answer changes: the verdict, or the label of a match."""
        if self.before.verdict != self.after.verdict:
            return True
        return self.after.verdict == Verdict.MATCH and self.before.nearest != self.after.nearest


@dataclass(frozen=True, slots=True)
class Replay:
    """All stored queries of the categories asked for, decided twice by one backbone; the scores and policies of the second."""

    backbone: str
    scores: dict[str, Score]
    policies: dict[str, Policy]
    queries: list[Replayed]


def replay(store: Store, options: ReplayOptions) -> Replay:
    """Decide all stored queries as things are, and as they would be. UsageError where there is nothing to decide by."""
    with store.reading() as catalog:
        categories = choose_categories(catalog, options.category)
        row, _ = choose_row(catalog, options.backbone, categories)
        now = {category: rules_in_force(catalog, row, None, category) for category in categories}
        then = {
            category: _changed(rules_in_force(catalog, row, options.score, category), options)
            for category in categories
        }
        queries = [
            query
            for category in categories
            for query in _replay_category(catalog, row, category, now[category], then[category])
        ]
    if not queries:
        raise UsageError(
            "no queries are indexed where there are shots; put some into 6.preprocessed/ and run `nearshot index`"
        )
    scores, policies = ({name: getattr(rules, part) for name, rules in then.items()} for part in ("score", "policy"))
    return Replay(row.name, scores, policies, queries)


def _changed(rules: Rules, options: ReplayOptions) -> Rules:
    policy = replace(
        rules.policy,
        threshold=rules.policy.threshold if options.threshold is None else options.threshold,
        margin_floor=rules.policy.margin_floor if options.margin_floor is None else options.margin_floor,
    )
    return replace(rules, policy=policy)


def _replay_category(catalog: Catalog, row: BackboneRow, category: str, now: Rules, then: Rules) -> Iterator[Replayed]:
    support = labelled_vectors(catalog, row, category, Role.SUPPORT)
    queries = labelled_vectors(catalog, row, category, Role.QUERY)
    if not len(support.paths):
        return
    rejected = nearer_to_rejected(queries.vectors, support.vectors, negatives(catalog, row, category).vectors)
    unjudged = np.full(len(queries.paths), REFUSED)  # the labels that are known are told beside the answers
    told = []
    for rules in (now, then):
        labelled = Labelled.of(support.labels, support.vectors, rules.strangers.vectors)
        standing = standings(fit(rules.score, labelled), queries.vectors, unjudged, len(labelled.names))
        verdicts = predict(standing, rules.policy, rejected)
        told.append(
            [
                Told(verdict_of(int(verdict)), labelled.names[label], float(top))
                for verdict, label, top in zip(verdicts, standing.best, standing.top, strict=True)
            ]
        )
    for path, truth, before, after in zip(queries.paths, queries.labels, *told, strict=True):
        yield Replayed(category, path, truth, before, after)
