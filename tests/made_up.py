"""Stores of made-up vectors: what is searched, without images or backbones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nearshot.schema.catalog import BackboneRow
from nearshot.schema.editor import Embedding, NewContent, SeenImage
from nearshot.schema.images import FileState, FoundImage
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Role

Place = tuple[str, str | None]
"""A category, and a label of it; None: a query without one."""


def add_images(
    store: Store, name: str, vectors: NDArray[np.float32], places: Sequence[Place], *, first: int = 0
) -> BackboneRow:
    """Commit images with unit vectors (n, dimension) of a backbone; their contents are numbered from `first`."""
    with store.writing() as editor:
        root_id = editor.add_root("/data")
        row = editor.use_backbone(
            **{"name": name, "fingerprint": name, "precision": "fp32", "source": "made up", "signature": name},
            dimension=vectors.shape[1],
            location=None,
        )
        numbers = range(first, first + len(vectors))
        ids = editor.add_contents(NewContent(f"{number:064x}", 7, 64, 64, "PNG") for number in numbers)
        editor.put_images(
            root_id,
            [seen(number, own, ids[f"{number:064x}"]) for number, own in zip(numbers, places, strict=True)],
        )
        editor.put_embeddings(
            Embedding(ids[f"{number:064x}"], row.id, vector) for number, vector in zip(numbers, vectors, strict=True)
        )
    return row


def seen(number: int, name: Place, content_id: int) -> SeenImage:
    """A shot, or a query where there is no label, as an index run would have found it."""
    category, label = name
    role = Role.QUERY if label is None else Role.SUPPORT
    path = (
        f"{category}/6.preprocessed/{number}.png"
        if label is None
        else f"{category}/2.support-set/{label}/shot{number}.png"
    )
    return SeenImage(FoundImage(path, category, role, label, f"shot{number}", FileState(7, number, number)), content_id)
