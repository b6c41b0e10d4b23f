"""What the tests of index runs share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nearshot.backbones.hog import HogBackbone
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Role
from nearshot.vectors.segments import open_vectors

SHOT = "things/2.support-set/cat/shot1.png"


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches that hog encodes."""
    sizes: list[int] = []
    real = HogBackbone.encode

    def encode(self: HogBackbone, batch: list[object]) -> object:
        sizes.append(len(batch))
        return real(self, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(HogBackbone, "encode", encode)
    return sizes


def support(store: Store, category: str = "things") -> dict[str, tuple[int, bytes]]:
    """Image id and vector of each support image, by its path under the category."""
    with store.reading() as catalog:
        hog = next(row for row in catalog.backbones() if row.name == "hog")
        vectors = open_vectors(store, catalog, hog, Role.SUPPORT, category=category)
        shown = catalog.shown(vectors.ids().tolist())
    return {
        "/".join(Path(image.path).parts[-2:]): (image_id, vectors.vectors(np.array([image_id]))[0].tobytes())
        for image_id, image in shown.items()
    }
