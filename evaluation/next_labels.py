"""Unlabelled queries to label next, those that would tell most, and how many more shots each label is likely to need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearshot.evaluation.learning_curve import Need, is_beyond, needs_of
from nearshot.evaluation.outcomes import REFUSED, predict
from nearshot.evaluation.rules import rules_in_force
from nearshot.evaluation.standing import Standings
from nearshot.retriever.choose_backbone import choose_row, choose_rows, choose_supported
from nearshot.retriever.scores import AT_ONCE, Labelled, cosines, fit, in_parts, nearer_to_rejected
from nearshot.schema.catalog import BackboneRow, Catalog, PlacedImage
from nearshot.schema.errors import UsageError
from nearshot.schema.feedback import negatives, said_labels
from nearshot.schema.labelled import LabelledVectors, labelled_vectors
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Role, Score

ALIKE = 0.97
"""The cosine from which two queries count as the same picture: one of them is worth labelling."""

LEAST_SCALE = 0.05
"""The least distance, in scores, over which doubt falls by a factor e."""

NEIGHBOURS = 10
"""Unlabelled queries whose nearness makes a query a typical one."""

MOST = 4000
"""Unlabelled queries of a category that are weighed; of more, an even choice by their SHA-256."""


@dataclass(frozen=True, slots=True)
class Worth:
    """An unlabelled query that is worth labelling, and why.

    `id` and `path` (absolute) are those of the image. `disagreement` is the share of backbones and scores that do not name the
    label that most of them name; `doubt` is 1 at the threshold (or at a tie of two labels) and falls with the distance from it;
    `typical` is high where many queries are like it. `value` is (disagreement + doubt) / 2 times typical; all are in [0, 1].
    `stands_for` counts the queries that are nearly the same picture.
    """

    id: int
    category: str
    path: str
    nearest: str
    score: float
    disagreement: float
    doubt: float
    typical: float
    value: float
    stands_for: int

    def as_json(self) -> dict[str, Any]:
        """The object that `next --json` prints."""
        return {
            **{name: getattr(self, name) for name in ("id", "category", "path")},
            "nearest": self.nearest,
            **{name: round(getattr(self, name), 4) for name in ("score", "disagreement", "doubt", "typical", "value")},
            "stands_for": self.stands_for,
        }


@dataclass(frozen=True, slots=True)
class Advice:
    """Queries most worth labelling, best first, and what each label needs; `beyond` names the categories that have too many
    shots for that to be estimated.
    """

    worth: Sequence[Worth]
    needs: Sequence[Need]
    beyond: Sequence[str] = ()


def advise(store: Store, category: str | None = None, *, backbone: str | None = None, limit: int = 20) -> Advice:
    """Weigh the unlabelled queries of a category, or of all. UsageError where nothing is indexed or named wrongly."""
    with store.reading() as catalog:
        categories = choose_supported(catalog, [category] if category else [])
        worth: list[Worth] = []
        needs: list[Need] = []
        for name in categories:
            row, _ = choose_row(catalog, backbone, [name])
            worth += _worth(catalog, row, name, limit)
            needs += needs_of(catalog, row, name)
        beyond = [name for name in categories if is_beyond(catalog, name)]
    if not worth and not needs and not beyond:
        raise UsageError("there are no shots that a backbone has seen; run `nearshot index DATA`")
    return Advice(sorted(worth, key=lambda query: (-query.value, query.path))[:limit], needs, beyond)


@dataclass(frozen=True, slots=True, eq=False)
class Weighed:
    """The q unlabelled queries of a category, each content once, as a backbone sees them: SHA-256, the cosines between them
    `near` (q, q), their scores (q, m) with the labels `names`, the predictions `predicted` (q,) of `evaluation.outcomes`, and
    shares (q,): how much backbones disagree, the doubt, how typical, and their `value`. There are `left` more that were not
    weighed.
    """

    hashes: Sequence[str]
    near: NDArray[np.float64]
    names: tuple[str, ...]
    scores: NDArray[np.float64]
    predicted: NDArray[np.int64]
    disagreement: NDArray[np.float64]
    doubt: NDArray[np.float64]
    typical: NDArray[np.float64]
    left: int

    @property
    def value(self) -> NDArray[np.float64]:
        """What labelling each is worth (q,), in [0, 1]."""
        return (self.disagreement + self.doubt) / 2 * self.typical


def weigh(catalog: Catalog, row: BackboneRow, category: str, *, every: bool = True) -> Weighed | None:
    """Weigh the queries of a category of which nobody knows what they show, or of these only those that match no label; None
    without any, or without shots.
    """
    support = labelled_vectors(catalog, row, category, Role.SUPPORT)
    queries = labelled_vectors(catalog, row, category, Role.QUERY)
    rejected = negatives(catalog, row, category)
    open_ = _unlabelled(queries, {*support.hashes, *rejected.hashes, *said_labels(catalog, category)})
    if not open_ or not support.paths:
        return None
    rules = rules_in_force(catalog, row, None, category)
    labelled = Labelled.of(support.labels, support.vectors, rules.strangers.vectors)
    scorer = fit(rules.score, labelled)

    weighed: list[int] = []
    scored, predicted, waiting = [], [], 0
    for few in in_parts(len(open_), AT_ONCE):
        part = open_[few]
        if every and len(weighed) == MOST:  # else what the others are told decides whether they wait
            waiting += len(part)
            continue
        scores = scorer.scores(queries.vectors[part])
        refused = nearer_to_rejected(queries.vectors[part], support.vectors, rejected.vectors)
        told = predict(Standings.of(scores, np.full(len(part), REFUSED)), rules.policy, refused)
        wanted = np.flatnonzero(every | (told < 0))
        waiting += len(wanted)
        wanted = wanted[: MOST - len(weighed)]
        weighed += [part[index] for index in wanted.tolist()]
        scored.append(scores[wanted])
        predicted.append(told[wanted])
    if not weighed:
        return None
    scores, hashes = np.concatenate(scored), [queries.hashes[index] for index in weighed]
    near = cosines(queries.vectors[weighed], queries.vectors[weighed])
    return Weighed(
        hashes=hashes,
        near=near,
        names=labelled.names,
        scores=scores,
        predicted=np.concatenate(predicted),
        disagreement=_disagreement(catalog, category, hashes),
        doubt=doubts(scores, rules.policy.threshold, rules.policy.margin_floor),
        typical=typicality(near),
        left=waiting - len(weighed),
    )


def _worth(catalog: Catalog, row: BackboneRow, category: str, limit: int) -> list[Worth]:
    weighed = weigh(catalog, row, category)
    if weighed is None:
        return []
    best, value = weighed.scores.argmax(axis=1), weighed.value
    worth = []
    for index, alike in one_of_each(value, weighed.near, limit):
        image = query_of(catalog, category, weighed.hashes[index])
        worth.append(
            Worth(
                *(image.id, category, f"{image.root}/{image.path}"),
                nearest=weighed.names[best[index]],
                score=float(weighed.scores[index, best[index]]),
                disagreement=float(weighed.disagreement[index]),
                doubt=float(weighed.doubt[index]),
                typical=float(weighed.typical[index]),
                value=float(value[index]),
                stands_for=len(alike),
            )
        )
    return worth


def query_of(catalog: Catalog, category: str, sha256: str) -> PlacedImage:
    """Find the image of a category that shows a content."""
    content = catalog.content(sha256)
    assert content is not None
    return next(image for image in catalog.images_of(content.id) if image.category == category)


def _unlabelled(queries: LabelledVectors, taken: set[str]) -> list[int]:
    """The queries without a label, by number: each content once, known ones left out; by their SHA-256, so that the first of
    them are an even choice.
    """
    known = taken | {sha for sha, label in zip(queries.hashes, queries.labels, strict=True) if label is not None}
    kept: dict[str, int] = {}
    for index, sha256 in enumerate(queries.hashes):
        if sha256 not in known:
            kept.setdefault(sha256, index)
    return [kept[sha256] for sha256 in sorted(kept)]


def _disagreement(catalog: Catalog, category: str, hashes: Sequence[str]) -> NDArray[np.float64]:
    """The share (q,) of all backbones and scores that do not name the label that most of them name, per query."""
    votes: list[list[str]] = [[] for _ in hashes]
    for row in choose_rows(catalog, ()):
        support = labelled_vectors(catalog, row, category, Role.SUPPORT)
        queries = labelled_vectors(catalog, row, category, Role.QUERY)
        positions = {sha256: index for index, sha256 in enumerate(queries.hashes)}
        seen = [number for number, sha256 in enumerate(hashes) if sha256 in positions]
        if not support.paths or not seen:
            continue
        labelled = Labelled.of(support.labels, support.vectors)
        vectors = queries.vectors[[positions[hashes[number]] for number in seen]]
        for score in Score:
            for number, best in zip(seen, fit(score, labelled).scores(vectors).argmax(axis=1).tolist(), strict=True):
                votes[number].append(labelled.names[best])
    return np.array([1 - max(map(own.count, own)) / len(own) if own else 0.0 for own in votes])


def doubts(scores: NDArray[np.float64], threshold: float, floor: float) -> NDArray[np.float64]:
    """Rate the doubt in the answer to each query (q, m), in [0, 1]: the larger of its nearness to the threshold and to a tie.

    Each falls exponentially with the distance, by a factor e per standard deviation of the best scores (0.05 at least: of a
    few queries it may be next to nothing).
    """
    ordered = np.sort(scores, axis=1)
    top = ordered[:, -1]
    scale = max(float(np.std(top)), LEAST_SCALE)
    distance = np.abs(top - threshold)
    if scores.shape[1] > 1:
        distance = np.minimum(distance, np.abs(top - ordered[:, -2] - floor))
    nearness: NDArray[np.float64] = np.exp(-distance / scale)
    return nearness


def typicality(near: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rate how typical each query is, in [0, 1], by cosines (q, q): the mean with the ten nearest, over the largest such."""
    if len(near) < 2:
        return np.ones(len(near))
    others = near - 2 * np.eye(len(near))
    count = min(NEIGHBOURS, len(near) - 1)
    means = np.clip(np.partition(others, -count, axis=1)[:, -count:].mean(axis=1), 0.0, 1.0)
    largest = float(means.max())
    shares: NDArray[np.float64] = means / largest if largest > 0 else np.ones(len(near))
    return shares


def one_of_each(
    value: NDArray[np.float64], near: NDArray[np.float64], limit: int
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """The queries of most value, none nearly the same picture as one before, each with those that it stands for, itself too."""
    left = np.ones(len(value), dtype=np.bool_)
    for _ in range(limit):
        if not left.any():
            return
        index = int(np.where(left, value, -np.inf).argmax())
        alike = left & (near[index] >= ALIKE)
        alike[index] = True
        left &= ~alike
        yield index, np.flatnonzero(alike)
