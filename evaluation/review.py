"""Reviewing: the unlabelled queries that a person should decide, those that are nearly the same picture together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from nearshot.evaluation.next_labels import Weighed, one_of_each, query_of, weigh
from nearshot.evaluation.outcomes import verdict_of
from nearshot.retriever.choose_backbone import choose_row, choose_supported
from nearshot.schema.catalog import Catalog
from nearshot.schema.errors import UsageError
from nearshot.schema.feedback import undecided
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Verdict

GUESSES = 3
"""Labels that are named as what an image may show."""

KEYS = "123456789abcdefghijklmprtvwxyz"
"""A key for each label, in their order. Others say none of these (n), skip (s), undo (u), open (o) and quit (q)."""


@dataclass(frozen=True, slots=True)
class Guess:
    """A label that an image may show, with its score."""

    label: str
    score: float


@dataclass(frozen=True, slots=True)
class Group:
    """Unlabelled queries of a category that are nearly the same picture, to be decided together.

    `ids` and `paths` (absolute) are those of the images, the most worthwhile first, for which the rest stands: its verdict, the
    labels that it comes nearest to, best first, and its value in [0, 1] (`Worth`).
    """

    category: str
    ids: Sequence[int]
    paths: Sequence[str]
    verdict: Verdict
    guesses: Sequence[Guess]
    value: float

    def as_json(self) -> dict[str, Any]:
        """The object that `review --json` prints."""
        guesses = [{"label": guess.label, "score": round(guess.score, 4)} for guess in self.guesses]
        return asdict(self) | {"verdict": self.verdict.value, "guesses": guesses, "value": round(self.value, 4)}


@dataclass(frozen=True, slots=True)
class Review:
    """The groups to decide, most useful first, by category. `images` are all that wait, those of groups beyond a limit too, and
    those beyond the 4,000 that are weighed of a category. `keys` are, by category, the keys that stand for its labels.
    """

    groups: Sequence[Group]
    images: int
    keys: Mapping[str, Mapping[str, str]]

    def as_json(self) -> dict[str, Any]:
        """The object that `review --json` prints."""
        keys = {category: dict(labels) for category, labels in self.keys.items()}
        return {"groups": [group.as_json() for group in self.groups], "images": self.images, "keys": keys}


def review(
    store: Store, category: str | None = None, *, backbone: str | None = None, limit: int = 100, every: bool = False
) -> Review:
    """The queries of a category, or of all, that are unknown or ambiguous and that nobody has decided; with `every`, those that
    match a label, too. UsageError where nothing is indexed or named wrongly.
    """
    groups: list[Group] = []
    images, keys = 0, {}
    with store.reading() as catalog:
        categories = choose_supported(catalog, [category] if category else [])
        if not categories:
            raise UsageError("there are no shots that a backbone has seen; run `nearshot index DATA`")
        for name in categories:
            keys[name] = _keys(catalog, name)
            row, _ = choose_row(catalog, backbone, [name])
            weighed = weigh(catalog, row, name, every=every)
            if weighed is None:
                continue
            images += len(weighed.hashes) + weighed.left
            value = weighed.value
            for first, alike in one_of_each(value, weighed.near, limit - len(groups)):
                members = [first, *alike[alike != first].tolist()]
                shown = [query_of(catalog, name, weighed.hashes[member]) for member in members]
                groups.append(
                    Group(
                        category=name,
                        ids=[image.id for image in shown],
                        paths=[f"{image.root}/{image.path}" for image in shown],
                        verdict=verdict_of(int(weighed.predicted[first])),
                        guesses=_guesses(weighed, first),
                        value=float(value[first]),
                    )
                )
    return Review(groups, images, keys)


def still_open(catalog: Catalog, weighed: Review, limit: int) -> Review:
    """What nobody has decided since it was weighed: so many groups, each without the images that somebody has."""
    by_category: dict[str, set[int]] = {}
    for group in weighed.groups:
        by_category.setdefault(group.category, set()).update(group.ids)
    open_ = {category: undecided(catalog, category, ids) for category, ids in by_category.items()}
    groups, decided = [], 0
    for group in weighed.groups:
        kept = [member for member, image_id in enumerate(group.ids) if image_id in open_[group.category]]
        decided += len(group.ids) - len(kept)
        if kept:
            ids, paths = [group.ids[member] for member in kept], [group.paths[member] for member in kept]
            groups.append(replace(group, ids=ids, paths=paths))
    keys = {category: _keys(catalog, category) for category in weighed.keys}
    return Review(groups[:limit], weighed.images - decided, keys)


def _keys(catalog: Catalog, category: str) -> dict[str, str]:
    """The keys that stand for a category's first labels; the rest is typed."""
    return dict(zip(KEYS, sorted(catalog.support_labels(category)), strict=False))


def _guesses(weighed: Weighed, query: int) -> list[Guess]:
    scores = weighed.scores[query]
    best = np.argsort(-scores, kind="stable")[:GUESSES].tolist()
    return [Guess(weighed.names[label], float(scores[label])) for label in best if np.isfinite(scores[label])]
