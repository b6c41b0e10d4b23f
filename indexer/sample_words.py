"""Sample words: what people of this store may search by, encoded, to measure by how an approximate index serves them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nearshot.backbones.protocol import TextEncoder
from nearshot.indexer.run_backbones import RunBackbones
from nearshot.schema.ann import sample_texts
from nearshot.schema.catalog import BackboneRow
from nearshot.schema.store import Store
from nearshot.vectors.normalise import find_faults, normalise

AT_ONCE = 32


def encoded_words(store: Store, selection: RunBackbones, row: BackboneRow) -> NDArray[np.float32] | None:
    """Unit vectors (w, dimension) of captions and labels of a store, none or more; None for a backbone without a text encoder.

    Loads the backbone: WeightsError.
    """
    if row.name not in selection.names:  # made of others
        return None
    backbone = selection.backbone(row.name)
    if not isinstance(backbone, TextEncoder):
        return None
    with store.reading() as catalog:
        texts = sample_texts(catalog)
    vectors = [np.zeros((0, row.dimension), dtype=np.float32)]
    for start in range(0, len(texts), AT_ONCE):
        encoded = backbone.encode_text(texts[start : start + AT_ONCE])
        kept = np.setdiff1d(np.arange(len(encoded)), list(find_faults(encoded)))
        vectors.append(normalise(encoded[kept]))
    return np.concatenate(vectors)
