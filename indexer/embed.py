"""Embedding: the vectors of one batch of loaded files, each content and backbone once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nearshot.backbones.protocol import Backbone, Prepared
from nearshot.indexer.load import Loaded, Skipped
from nearshot.indexer.run_backbones import RunBackbones
from nearshot.indexer.tasks import Task
from nearshot.schema.catalog import Catalog
from nearshot.schema.editor import Embedding
from nearshot.vectors.normalise import find_faults, normalise

Batch = Sequence[tuple[Task, Loaded | Skipped]]
"""Files with what was read of them."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """A batch's unit vectors, and the reasons where there is none: backbone's name to SHA-256 to either."""

    vectors: Mapping[str, Mapping[str, NDArray[np.float32]]] = field(default_factory=dict)
    faults: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def rows(self, content_ids: Mapping[str, int], backbone_ids: Mapping[str, int]) -> Iterable[Embedding]:
        """Yield the rows to record, given the ids of contents by SHA-256 and of backbones by name."""
        for name, vectors in self.vectors.items():
            for sha256, vector in vectors.items():
                yield Embedding(content_ids[sha256], backbone_ids[name], vector)
        for name, faults in self.faults.items():
            for sha256, reason in faults.items():
                yield Embedding(content_ids[sha256], backbone_ids[name], None, reason)


def embed(
    batch: Iterable[Loaded], catalog: Catalog, selection: RunBackbones, *, in_hand: Collection[str] = ()
) -> Embedded:
    """Encode and normalise what a batch's contents still lack.

    A content that came twice, in the batch or since it was loaded, is encoded once; so is what is `in_hand`, by SHA-256: about
    to be committed.
    """
    pictures = {loaded.sha256: loaded.picture for loaded in batch if loaded.picture and loaded.sha256 not in in_hand}
    known = catalog.contents(pictures)
    prepared = {
        name: {
            sha256: picture.prepared[name]
            for sha256, picture in pictures.items()
            if name in picture.prepared and not (sha256 in known and row.id in known[sha256].dealt_with)
        }
        for name, row in selection.rows.items()
    }
    return encode(prepared, selection.backbone)


def encode(prepared: Mapping[str, Mapping[str, Prepared]], backbone: Callable[[str], Backbone]) -> Embedded:
    """Encode and normalise prepared pictures, given by the backbone's name and SHA-256."""
    vectors: dict[str, dict[str, NDArray[np.float32]]] = {}
    faults: dict[str, dict[str, str]] = {}
    for name, pictures in prepared.items():
        if not pictures:
            continue
        encoded = backbone(name).encode(list(pictures.values()))
        bad = find_faults(encoded)
        good = [index for index in range(len(encoded)) if index not in bad]
        hashes = list(pictures)
        vectors[name] = dict(zip((hashes[index] for index in good), normalise(encoded[good]), strict=True))
        faults[name] = {hashes[index]: reason for index, reason in bad.items()}
    return Embedded(vectors, faults)
