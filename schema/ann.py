"""Approximate indexes in the database: which backbones are to have them, and the records of those that are there."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import delete, func, insert, select

from nearshot.schema import tables
from nearshot.schema.catalog import BackboneRow, Catalog
from nearshot.schema.digests import intact
from nearshot.schema.editor import Editor
from nearshot.schema.segments import segment_rows
from nearshot.schema.vocabulary import Ann

LEAST = 20_000
"""Vectors below which a segment has no index: to look at all of them takes milliseconds."""

RECALL = 0.99
"""The recall@10 up to which more and more of an index is looked at. With words it must be reached, or all is compared."""

SAMPLE = 100
"""Captions and labels, each, that recall with words is measured by."""

choices, indexes, segments = tables.ann_choices.c, tables.ann_indexes.c, tables.segments.c


class AnnRow(NamedTuple):
    """The record of a segment's approximate index: its file and digest, how much is looked at, and its recall@10 with
    that: with images as queries, and with words (None: not measured).
    """

    segment_id: int
    kind: Ann
    file: str
    xxh3: str
    effort: int
    recall: float
    words_effort: int | None
    words_recall: float | None


class AnnState(NamedTuple):
    """An approximate index as people are told of it: over how many images of which role, and its recall@10, also with words."""

    backbone: str
    role: str
    kind: Ann
    vectors: int
    recall: float
    words_recall: float | None

    def in_words(self) -> str:
        """Say whose it is, and what comes of its recall."""
        low = "" if self.recall >= RECALL else f" (below {RECALL:g}, with as much looked at as it ever is)"
        words = "" if self.words_recall is None else f", with words {self.words_recall:.3f}"
        compared = "; words are compared with all" if self.words_recall is None or self.words_recall < RECALL else ""
        whose = f"{self.backbone}: approximate index ({self.kind}) of {self.vectors:,} {self.role} images"
        return f"{whose}, recall@10 {self.recall:.3f}{low}{words}{compared}"


def ann_choices(catalog: Catalog) -> dict[int, Ann]:
    """The kind that was chosen, by backbone id; those without one have none."""
    query = select(choices.backbone_id, choices.kind).where(intact(tables.ann_choices))
    return {backbone_id: Ann(kind) for backbone_id, kind in catalog.connection.execute(query)}


def choose_ann(editor: Editor, backbone_id: int, kind: Ann) -> None:
    """Choose the kind of a backbone's indexes; what it has of another kind is forgotten."""
    editor.connection.execute(delete(tables.ann_choices).where(choices.backbone_id == backbone_id))
    if kind != Ann.NONE:
        editor.connection.execute(insert(tables.ann_choices).values(backbone_id=backbone_id, kind=kind))
    own = select(segments.id).where(segments.backbone_id == backbone_id)
    editor.connection.execute(delete(tables.ann_indexes).where(indexes.segment_id.in_(own), indexes.kind != kind))


def ann_rows(catalog: Catalog, backbone_id: int | None = None) -> dict[int, AnnRow]:
    """The records of a backbone's indexes, or of all, by the id of their segment; without those that are damaged."""
    query = select(*(indexes[name] for name in AnnRow._fields)).where(intact(tables.ann_indexes))
    if backbone_id is not None:
        own = select(segments.id).where(segments.backbone_id == backbone_id)
        query = query.where(indexes.segment_id.in_(own))
    rows = (AnnRow(*values) for values in catalog.connection.execute(query))
    return {row.segment_id: row._replace(kind=Ann(row.kind)) for row in rows}


def ann_states(catalog: Catalog, backbone: BackboneRow) -> list[AnnState]:
    """The indexes that a backbone has."""
    indexed = ann_rows(catalog, backbone.id)
    return [
        AnnState(backbone.name, role, ann.kind, segment.vectors, ann.recall, ann.words_recall)
        for (_, role), records in segment_rows(catalog, backbone.id).items()
        for segment in records
        if (ann := indexed.get(segment.id)) is not None
    ]


def record_ann(editor: Editor, row: AnnRow) -> None:
    """Record an index, in the place of one that its segment may have; nothing where the segment is no longer there."""
    forget_ann(editor, row.segment_id)
    there = select(segments.id).where(segments.id == row.segment_id)
    if editor.connection.execute(there).scalar() is not None:
        editor.connection.execute(insert(tables.ann_indexes).values(row._asdict()))


def forget_ann(editor: Editor, segment_id: int) -> None:
    """Forget the index of a segment."""
    editor.connection.execute(delete(tables.ann_indexes).where(indexes.segment_id == segment_id))


def sample_texts(catalog: Catalog, most: int = SAMPLE) -> list[str]:
    """Distinct captions, and labels as words would name them, up to so many of each: an even choice by their digests."""
    captions, images = tables.captions.c, tables.images.c
    texts = select(captions.text).group_by(captions.text).order_by(func.min(captions.digest)).limit(most)
    labels = select(images.label).where(images.label.is_not(None)).group_by(images.label)
    labels = labels.order_by(func.min(images.digest)).limit(most)
    written, named = (catalog.connection.execute(query).scalars().all() for query in (texts, labels))
    return [*written, *(f"a photo of a {label.replace('_', ' ').replace('-', ' ')}" for label in named)]
