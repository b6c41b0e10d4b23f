"""Finding changes: a walk over a data directory beside what the store knows of it, a few images of both at a time."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from nearshot.backbones.in_order import batches
from nearshot.indexer.compare import Changes, Comparison
from nearshot.indexer.discover import Discovery
from nearshot.schema.catalog import CHUNK, Catalog


def find_changes(
    discovery: Discovery,
    catalog: Catalog | None,
    root_id: int | None,
    categories: Collection[str],
    *,
    decoder: str,
    as_of: int,
) -> Changes:
    """Walk, and compare what is there with what the catalog has under a root (of some categories, or all).

    Memory follows what changed: of what did not, an id is kept.
    """
    comparison = Comparison(decoder=decoder, as_of=as_of)
    known_root = root_id if catalog is not None else None
    for images in batches(discovery, CHUNK):
        known = {}
        if catalog is not None and known_root is not None:
            known = catalog.known_images_at(known_root, [image.path for image in images])
        comparison.find(images, known)
    if catalog is not None and known_root is not None:
        missing = np.setdiff1d(catalog.present_ids(known_root, categories), np.array(comparison.seen, dtype=np.int64))
        for image in catalog.known_images_of(missing.tolist()):
            comparison.miss(image, hidden=discovery.hides(image.path))
    return comparison.changes
