"""Evaluating: labelled queries judged from stored vectors alone; no model is loaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn import config_context

from nearshot.evaluation.judged import Judged, judge
from nearshot.evaluation.outcomes import Outcomes, count_outcomes
from nearshot.evaluation.pairs import PairRow, compare_backbones
from nearshot.evaluation.rules import Rules, rules_in_force
from nearshot.evaluation.samples import CategorySamples, Leak, find_leaks, labelled_queries, load_samples
from nearshot.evaluation.scores import ScoreRow, compare_scores
from nearshot.evaluation.shots import METRICS, Figure, draws_differ, measure, shot_counts, summarise
from nearshot.evaluation.standing import Standings, standings
from nearshot.retriever.choose_backbone import choose_rows, choose_supported
from nearshot.retriever.evidence import Source
from nearshot.retriever.policy import Policy
from nearshot.retriever.scores import fit
from nearshot.retriever.strangers import is_for_calibration
from nearshot.schema.calibrations import all_calibrations
from nearshot.schema.catalog import BackboneRow
from nearshot.schema.errors import UsageError, option
from nearshot.schema.labelled import json_parts
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Score


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationOptions:
    """Options of an evaluation; empty backbones and categories mean all that have labelled queries.

    Without a score, each backbone is judged by the one that `query` would take in each category.
    """

    backbones: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    score: Score | None = None
    seeds: int = 5
    keep_leaks: bool = False


@dataclass(frozen=True, slots=True)
class OutcomeRow:
    """A row of Table 7. `category` is None in a backbone's totals, and so are score and policy."""

    category: str | None
    backbone: str
    score: Score | None
    policy: Policy | None
    outcomes: Outcomes


@dataclass(frozen=True, slots=True)
class ShotsRow:
    """A row of Table 8: a backbone with so many shots per label, over all categories."""

    backbone: str
    shots: int
    figures: Mapping[str, Figure]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The tables, and what they rest on: `judged` by backbone and category, where there are queries and shots.

    `unseen_only` tells that the queries which a calibration has seen were left out (`seen` of them), `strangers` how many more
    because a model knows them, `leaks` which queries were left out, or kept, as copies of shots. `inputs` is a digest of all
    that went in.
    """

    options: EvaluationOptions
    outcomes: Sequence[OutcomeRow]
    shots: Sequence[ShotsRow]
    scores: Sequence[ScoreRow]
    pairs: Sequence[PairRow]
    judged: Sequence[Judged]
    leaks: Sequence[Leak]
    unseen_only: bool
    seen: int
    strangers: int
    inputs: str

    @property
    def by_hand(self) -> list[str]:
        """The categories of which somebody set a policy that is judged here, and may have seen these queries."""
        rows = (row for row in self.outcomes if row.category and row.policy and row.policy.by_hand)
        return sorted({str(row.category) for row in rows})

    @property
    def table7(self) -> Any:
        """Outcomes by category and backbone, as a pandas DataFrame where pandas is installed, else as a `tables.Table`."""
        return self._table("table7")

    @property
    def table8(self) -> Any:
        """Figures by number of shots; see `table7` for what it is."""
        return self._table("table8")

    @property
    def table9(self) -> Any:
        """Scores side by side; see `table7` for what it is."""
        return self._table("table9")

    @property
    def table10(self) -> Any:
        """Backbones in pairs; see `table7` for what it is."""
        return self._table("table10")

    @property
    def table11(self) -> Any:
        """Outcomes by label; see `table7` for what it is."""
        return self._table("table11")

    def _table(self, name: str) -> Any:
        from nearshot.evaluation.tables import all_tables

        table = {table.name: table for table in all_tables(self)}[name]
        try:
            import pandas as pd
        except ImportError:
            return table
        return pd.DataFrame(table.as_objects(), columns=list(table.columns))


def evaluate(store: Store, options: EvaluationOptions) -> Evaluation:
    """Judge every backbone on the same queries; UsageError where there is nothing to judge by."""
    # scikit-learn would check the parameters of some thousand calls, which takes longer than they do.
    with store.reading() as catalog, config_context(skip_parameter_validation=True, assume_finite=True):
        rows = choose_rows(catalog, options.backbones)
        categories = choose_supported(catalog, options.categories)
        hog = next((row for row in catalog.backbones() if row.name == "hog"), None)
        rules = {
            (row.name, category): rules_in_force(catalog, row, options.score, category)
            for row in rows
            for category in categories
        }
        unseen_only = any(
            category_rules.calibration is not None and _saw_queries(category_rules) for category_rules in rules.values()
        )
        leaks: list[Leak] = []
        wanted: dict[str, set[str]] = {}
        in_model: dict[str, set[str]] = {}
        seen = strangers = 0
        for category in categories:
            queries = labelled_queries(catalog, rows, category)
            copies = {sha: leak for sha, leak in find_leaks(catalog, rows, hog, category).items() if sha in queries}
            leaks += sorted(copies.values(), key=lambda leak: leak.query)
            kept = queries if options.keep_leaks else queries - set(copies)
            every = any(_saw_every_query(rules[row.name, category]) for row in rows)
            unseen = set() if every else {sha256 for sha256 in kept if not is_for_calibration(sha256)}
            seen += len(kept) - len(unseen)
            wanted[category] = unseen if unseen_only else kept
            in_model[category] = {
                sha256
                for row in rows
                for sha256 in rules_in_force(catalog, row, Score.LDA, category).strangers.hashes
                if sha256 in wanted[category]
            }
            if any(rules[row.name, category].strangers.hashes for row in rows):
                wanted[category] -= in_model[category]
                strangers += len(in_model[category])
        if not any(wanted.values()):
            copied = 0 if options.keep_leaks else len(leaks)
            if seen or strangers:
                among = f", but for {copied} that are copies of shots" if copied else ""
                raise UsageError(
                    f"calibration has seen all labelled queries{among}; add others, and run `nearshot index`"
                )
            if copied:
                raise UsageError(
                    f"all {copied} labelled queries are copies of shots (such as {leaks[0].query}: {leaks[0].reason}), by "
                    f"which nothing can be judged; add others, or keep them with {option('keep_leaks')}"
                )
            raise UsageError(
                "there are no labelled queries to judge by: put queries into 6.preprocessed/<label>/ (or Unknown/), "
                "or write a labels.csv, and run `nearshot index`"
            )
        categories = [category for category in categories if wanted[category] or category in options.categories]
        digest = hashlib.sha256(repr(options).encode())
        outcomes: list[OutcomeRow] = []
        shots: list[ShotsRow] = []
        scores: list[ScoreRow] = []
        judged: list[Judged] = []
        for row in rows:
            samples = [load_samples(catalog, row, category, wanted[category]) for category in categories]
            applied = [rules[row.name, category_samples.category] for category_samples in samples]
            calibrations = all_calibrations(catalog, row.id)
            for category_samples, by in zip(samples, applied, strict=True):
                for part in _facts(row, category_samples, by):
                    digest.update(part)
                about = [each.lasting() for each in calibrations if each.category == category_samples.category]
                digest.update(json.dumps([about, sorted(in_model[category_samples.category])]).encode())
            mine = [_judge(row, category_samples, by) for category_samples, by in zip(samples, applied, strict=True)]
            outcomes += _count(row, mine)
            shots += _measure(row, samples, applied, options)
            scores += compare_scores(catalog, row, samples, in_model)
            judged += [judgement for judgement in mine if len(judgement.truth) and judgement.names]
    return Evaluation(
        options=options,
        outcomes=outcomes,
        shots=shots,
        scores=scores,
        pairs=compare_backbones(judged),
        judged=judged,
        leaks=leaks,
        unseen_only=unseen_only,
        seen=seen if unseen_only else 0,
        strangers=strangers,
        inputs=digest.hexdigest(),
    )


def _judge(row: BackboneRow, samples: CategorySamples, rules: Rules) -> Judged:
    standing = Standings.of(np.zeros((len(samples.truth), 0)), samples.truth)
    if samples.names:
        scorer = fit(rules.score, samples.labelled(rules.strangers.vectors))
        standing = standings(scorer, samples.queries.vectors, samples.truth, len(samples.names))
    return judge(samples, standing, row.name, rules.policy, rules.score)


def _count(row: BackboneRow, judged: Sequence[Judged]) -> list[OutcomeRow]:
    counted = [
        OutcomeRow(
            judgement.category,
            row.name,
            judgement.score_by,
            judgement.policy,
            count_outcomes(judgement.predicted, judgement.truth),
        )
        for judgement in judged
    ]
    total = sum((outcome_row.outcomes for outcome_row in counted), Outcomes())
    return [*counted, OutcomeRow(None, row.name, None, None, total)]


def _measure(
    row: BackboneRow,
    samples: Sequence[CategorySamples],
    rules: Sequence[Rules],
    options: EvaluationOptions,
) -> list[ShotsRow]:
    figures = []
    for count in shot_counts(samples):
        draws = [
            [
                measure(category_samples, by.score, by.policy, by.strangers.vectors, count, seed)
                for category_samples, by in zip(samples, rules, strict=True)
                if len(category_samples.truth)
            ]
            for seed in range(options.seeds if draws_differ(samples, count) else 1)
        ]
        summary = {name: summarise(name, draws) for name in METRICS}
        figures.append(ShotsRow(row.name, count, summary))
    return figures


def _saw_queries(rules: Rules) -> bool:
    """Tell whether the calibration in force has looked at labelled queries."""
    about = rules.calibration.about() if rules.calibration is not None else {}
    methods = {about.get(name) for name in ("method", "margin_method", "known_method")}
    return bool(methods & {Source.QUERIES, Source.NEGATIVES, Source.BOTH, *BEFORE})


def _saw_every_query(rules: Rules) -> bool:
    """Tell whether the calibration in force has looked at all labelled queries."""
    return rules.calibration is not None and bool(rules.calibration.about().get("every"))


HASHED = 4096
"""Vectors that are hashed at once: others stay where they are mapped from."""

BEFORE = ("known negatives", "shots of other labels, and known negatives")
"""Methods recorded in earlier versions by calibrations that looked at labelled queries."""


def _facts(row: BackboneRow, samples: CategorySamples, rules: Rules) -> Iterator[bytes]:
    """Everything that decides one category's figures: as JSON, and then the vectors."""
    support, queries, policy = samples.support, samples.queries, rules.policy
    yield json.dumps(
        [
            *(row.name, row.fingerprint, samples.category, rules.score),
            *(policy.threshold, policy.margin_floor, policy.calibrated),
        ]
    )[:-1].encode()
    for items in (
        zip(support.paths, support.labels, support.shots, support.hashes, strict=True),
        zip(queries.paths, queries.labels, queries.hashes, strict=True),
        samples.negatives.hashes,
        rules.strangers.hashes,
    ):
        yield b", "
        yield from json_parts(items)
    yield b"]"
    for vectors in (support.vectors, queries.vectors, samples.negatives.vectors, rules.strangers.vectors):
        for start in range(0, len(vectors), HASHED):
            yield np.ascontiguousarray(vectors[start : start + HASHED]).tobytes()
