"""Label names: labels that are called by some words."""

from __future__ import annotations

import re
from typing import NamedTuple

from nearshot.schema.catalog import Catalog
from nearshot.schema.vocabulary import Role


class NamedLabel(NamedTuple):
    """A label of a category, and how many shots it has."""

    category: str
    label: str
    shots: int


def labels_called(catalog: Catalog, words: str, category: str | None = None) -> list[NamedLabel]:
    """The labels (of a category) of whose name each of some words is a word, or begins one, whatever the case; in order."""
    wanted = _plain(words)
    categories = catalog.categories(Role.SUPPORT) if category is None else [category]
    return [
        NamedLabel(name, label, shots)
        for name in sorted(categories)
        for label, shots in catalog.support_labels(name).items()
        if wanted and all(any(own.startswith(word) for own in _plain(label)) for word in wanted)
    ]


def _plain(name: str) -> list[str]:
    return re.findall(r"[^\W_]+", name.casefold())
