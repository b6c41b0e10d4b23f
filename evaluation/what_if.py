"""What if: every labelled query of a category as it stands, so that a threshold and a margin can be tried on all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearshot.evaluation.outcomes import Outcomes, count_outcomes, predict
from nearshot.evaluation.rules import rules_in_force
from nearshot.evaluation.samples import find_leaks, labelled_queries, load_samples
from nearshot.evaluation.standing import Standings, standings
from nearshot.retriever.choose_backbone import choose_row, choose_supported
from nearshot.retriever.policy import Policy, origin_of
from nearshot.retriever.scores import DECIMALS, fit, nearer_to_rejected
from nearshot.schema.catalog import BackboneRow, Catalog
from nearshot.schema.images import UNKNOWN
from nearshot.schema.labelled import image_ids
from nearshot.schema.vocabulary import Role, Score


@dataclass(frozen=True, slots=True)
class Asked:
    """A labelled query: what it shows, the label that comes nearest with its score and lead (None with one label alone), and
    whether it is refused whatever the policy, for being nearer to a rejected image.
    """

    image_id: int
    path: str
    truth: str
    nearest: str
    score: float
    margin: float | None
    rejected: bool

    def as_json(self) -> dict[str, Any]:
        """The object that `policy --json` prints."""
        return asdict(self)


@dataclass(frozen=True, slots=True, eq=False)
class WhatIf:
    """The labelled queries of a category by a backbone and a score, but for copies of shots; the policy in force, and where it
    comes from.
    """

    category: str
    row: BackboneRow
    score_by: Score
    policy: Policy
    origin: str
    queries: Sequence[Asked]
    standing: Standings
    truth: NDArray[np.int64]
    rejected: NDArray[np.bool_]

    def outcomes(self, policy: Policy) -> Outcomes:
        """What would become of them under a policy."""
        return count_outcomes(predict(self.standing, policy, self.rejected), self.truth)

    def renewed(self, catalog: Catalog) -> WhatIf:
        """The same under the policy that is in force now: how queries score does not hang on it."""
        rules = rules_in_force(catalog, self.row, self.score_by, self.category)
        return replace(self, policy=rules.policy, origin=origin_of(self.row.name, rules.calibration))

    def as_json(self) -> dict[str, Any]:
        """The object that `policy --json` prints of a category."""
        return {
            "category": self.category,
            "backbone": self.row.name,
            "score_by": self.score_by.value,
            "threshold": self.policy.threshold,
            "margin_floor": self.policy.margin_floor,
            "calibrated": self.policy.calibrated,
            "by_hand": self.policy.by_hand,
            "origin": self.origin,
            "queries": [query.as_json() for query in self.queries],
        }


def what_if(catalog: Catalog, category: str, *, backbone: str | None = None, score: Score | None = None) -> WhatIf:
    """Score a category's labelled queries as `query` would. UsageError where it has no shots, or nothing by the backbone."""
    [category] = choose_supported(catalog, [category])
    row, _ = choose_row(catalog, backbone, [category])
    rules = rules_in_force(catalog, row, score, category)
    hog = next((each for each in catalog.backbones() if each.name == "hog"), None)
    wanted = labelled_queries(catalog, [row], category) - set(find_leaks(catalog, [row], hog, category))
    samples = load_samples(catalog, row, category, wanted)
    scorer = fit(rules.score, samples.labelled(rules.strangers.vectors))
    standing = standings(scorer, samples.queries.vectors, samples.truth, len(samples.names))
    # As a query is answered: where it was rejected itself, it is nearest to that.
    rejected = nearer_to_rejected(samples.queries.vectors, samples.support.vectors, samples.negatives.vectors)
    ids = image_ids(catalog, category, Role.QUERY)
    leads = np.round(standing.top - standing.second, DECIMALS)
    queries = [
        Asked(
            image_id=ids[path],
            path=path,
            truth=UNKNOWN if truth < 0 else samples.names[truth],
            nearest=samples.names[best],
            score=round(float(top), DECIMALS),
            margin=float(lead) if np.isfinite(lead) else None,
            rejected=bool(refused),
        )
        for path, truth, best, top, lead, refused in zip(
            samples.queries.paths, samples.truth, standing.best, standing.top, leads, rejected, strict=True
        )
    ]
    origin = origin_of(row.name, rules.calibration)
    return WhatIf(category, row, rules.score, rules.policy, origin, queries, standing, samples.truth, rejected)
