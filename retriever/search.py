"""Text search: images found by the words of their captions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from schema.captions import ImageFilter, search_captions
from schema.images import Shown
from schema.store import Store
from schema.words import match_expression


@dataclass(frozen=True, slots=True)
class Found:
    """An image found by words: its place among the results (1 is best), and the part of the caption that matched."""

    place: int
    image: Shown
    caption: str
    snippet: str

    def as_json(self) -> dict[str, Any]:
        """The object that `search --json` prints."""
        return {
            "rank": self.place,
            "path": self.image.path,
            "category": self.image.category,
            "label": self.image.label,
            "role": self.image.role.value,
            "caption": self.caption,
            "snippet": self.snippet,
        }


def search_by_caption(store: Store, query: str, wanted: ImageFilter, *, limit: int) -> list[Found]:
    """The images whose captions hold the words of a query, best first by bm25; none for a query without words."""
    expression = match_expression(query)
    if expression is None:
        return []
    with store.reading() as catalog:
        hits = search_captions(catalog.connection, expression, wanted, limit=limit)
        shown = catalog.shown([hit.image_id for hit in hits])
    return [Found(place, shown[hit.image_id], hit.text, hit.snippet) for place, hit in enumerate(hits, start=1)]
