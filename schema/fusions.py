"""Fusions: backbones whose vectors are made of those of others, their parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import insert, select

from nearshot.schema import tables
from nearshot.schema.catalog import BackboneRow, Catalog
from nearshot.schema.editor import Editor
from nearshot.schema.vectors import vectors_of

fusions, backbones = tables.fusions.c, tables.backbones.c


class Part(NamedTuple):
    """A part of a fused backbone, and its share of the cosines: shares are positive and sum to 1."""

    row: BackboneRow
    weight: float


class PartVector(NamedTuple):
    """Result of a part for a content: a vector (dimension,), or the reason why there is none."""

    vector: NDArray[np.float32] | None
    failure: str | None


def parts_of_fusion(catalog: Catalog, backbone_id: int) -> list[Part]:
    """The parts of a fused backbone in the order in which its vectors hold them; none for any other backbone."""
    query = (
        select(fusions.weight, *(backbones[name] for name in BackboneRow._fields))
        .join(tables.backbones, backbones.id == fusions.part_id)
        .where(fusions.backbone_id == backbone_id)
        .order_by(fusions.place)
    )
    return [Part(BackboneRow(*row), weight) for weight, *row in catalog.connection.execute(query)]


def put_parts(editor: Editor, backbone_id: int, parts: Sequence[Part]) -> None:
    """Record the parts of a backbone that has none yet."""
    rows = [
        {"backbone_id": backbone_id, "place": position, "part_id": part.row.id, "weight": part.weight}
        for position, part in enumerate(parts)
    ]
    editor.connection.execute(insert(tables.fusions), rows)


def contents_to_fuse(catalog: Catalog, backbone_id: int, parts: Sequence[Part]) -> list[int]:
    """The contents, ascending, that all parts have dealt with and the fused backbone has not."""
    held = [tables.embeddings.alias() for _ in parts]
    own = tables.embeddings.alias()
    done = select(own.c.content_id).where(own.c.backbone_id == backbone_id, own.c.content_id == held[0].c.content_id)
    query = select(held[0].c.content_id).where(held[0].c.backbone_id == parts[0].row.id, ~done.exists())
    for part, theirs in zip(parts[1:], held[1:], strict=True):
        there = select(theirs.c.content_id).where(
            theirs.c.backbone_id == part.row.id, theirs.c.content_id == held[0].c.content_id
        )
        query = query.where(there.exists())
    # What was damaged and dropped is fused again, once its parts are back.
    dropped = catalog.dropped_vectors()
    lost = {content_id for content_id, owner in dropped if owner == backbone_id}
    missing = {content_id for content_id, owner in dropped if owner in {part.row.id for part in parts}}
    return sorted({*catalog.connection.execute(query).scalars(), *lost} - missing)


def part_vectors(catalog: Catalog, backbone: BackboneRow, content_ids: Sequence[int]) -> dict[int, PartVector]:
    """Find what a part made of some contents (at most `catalog.CHUNK`), by id; StoreError where one is damaged."""
    table = tables.embeddings.c
    query = select(table.content_id, table.failure).where(
        table.backbone_id == backbone.id, table.content_id.in_(content_ids)
    )
    vectors = vectors_of(catalog, backbone, content_ids)
    return {
        content: PartVector(vectors.get(content), failure) for content, failure in catalog.connection.execute(query)
    }
