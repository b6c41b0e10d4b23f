"""Finding changes: a walk over a data directory beside what the store knows of it, a few images of both at a time."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from nearshot.backbones.in_order import batches
from nearshot.indexer.compare import Changes, Comparison
from nearshot.indexer.discover import Discovery
from nearshot.schema.catalog import CHUNK, Catalog
from nearshot.schema.known_images import known_images_at, known_images_of, present_ids


def find_changes(
    discovery: Discovery, catalog: Catalog, root_id: int, categories: Collection[str], *, decoder: str, as_of: int
) -> Changes:
    """Walk, and compare what is there with what the catalog has under a root (of some categories, or all).

    Memory follows what changed: of what did not, an id is kept.
    """
    comparison = Comparison(decoder=decoder, as_of=as_of)
    for images in batches(discovery, CHUNK):
        comparison.find(images, known_images_at(catalog, root_id, [image.path for image in images]))
    present = present_ids(catalog, root_id, categories)
    missing = np.sort(present[~np.isin(present, np.array(comparison.seen, dtype=np.int64))])
    for image in known_images_of(catalog, missing.tolist()):
        comparison.miss(image, hidden=discovery.hides(image.path))
    return comparison.changes


def all_new(discovery: Discovery, *, decoder: str) -> Changes:
    """Walk over what no store knows of."""
    comparison = Comparison(decoder=decoder, as_of=0)
    comparison.find(discovery, {})
    return comparison.changes
