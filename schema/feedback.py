"""Feedback as the store keeps it: query images that became shots, and those that show no label of their category."""

from __future__ import annotations

from collections.abc import Collection
from itertools import starmap
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import and_, insert, select, update

from nearshot.schema import tables
from nearshot.schema.catalog import CHUNK, USABLE, BackboneRow, Catalog
from nearshot.schema.editor import Editor
from nearshot.schema.images import UNKNOWN
from nearshot.schema.spill import gathered
from nearshot.schema.vectors import stored_vectors
from nearshot.schema.vocabulary import Action, Role

feedback, contents, embeddings, images = (
    each.c for each in (tables.feedback, tables.contents, tables.embeddings, tables.images)
)


class FeedbackRow(NamedTuple):
    """One piece of feedback that holds. `path` is that of the image it was said of, `shot_path` that of the shot made of it."""

    id: int
    action: str
    category: str
    content_id: int
    path: str
    label: str | None
    shot_path: str | None


class Negatives(NamedTuple):
    """The m rejected images of a category in the order of their paths: paths, SHA-256 and unit vectors (m, dimension)."""

    paths: tuple[str, ...]
    hashes: tuple[str, ...]
    vectors: NDArray[np.float32]


def feedback_in_force(catalog: Catalog, content_id: int, category: str, action: Action) -> FeedbackRow | None:
    """The last piece of feedback on a content in a category that has not been undone."""
    query = (
        select(*(feedback[name] for name in FeedbackRow._fields))
        .where(feedback.content_id == content_id, feedback.category == category)
        .where(feedback.action == action, feedback.undone.is_(None))
        .order_by(feedback.id.desc())
        .limit(1)
    )
    return next(starmap(FeedbackRow, catalog.connection.execute(query)), None)


def negatives(catalog: Catalog, backbone: BackboneRow, category: str) -> Negatives:
    """The rejected images of a category that a backbone has a vector of."""
    embedded = and_(embeddings.content_id == feedback.content_id, embeddings.backbone_id == backbone.id)
    query = (
        select(feedback.path, contents.sha256, embeddings.content_id)
        .select_from(tables.feedback.join(tables.embeddings, embedded))
        .join(tables.contents, contents.id == feedback.content_id)
        .where(feedback.category == category, feedback.action == Action.REJECT, feedback.undone.is_(None))
        .where(embeddings.vector.is_not(None))
        .order_by(feedback.path, feedback.id)
    )
    rows = [tuple(row) for row in catalog.connection.execute(query)]
    of_contents = np.array([row[2] for row in rows], dtype=np.int64)
    vectors = gathered(stored_vectors(catalog, backbone, of_contents), len(rows), backbone.dimension)
    return Negatives(tuple(row[0] for row in rows), tuple(row[1] for row in rows), vectors)


def rejected_in(catalog: Catalog) -> set[str]:
    """The categories that have rejected images."""
    query = select(feedback.category).where(feedback.action == Action.REJECT, feedback.undone.is_(None)).distinct()
    return set(catalog.connection.execute(query).scalars())


def said_labels(catalog: Catalog, category: str) -> dict[str, str]:
    """Find what people said that query images of a category show, by SHA-256: a label, or Unknown where they were rejected."""
    query = (
        select(contents.sha256, feedback.label)
        .join(tables.contents, contents.id == feedback.content_id)
        .where(feedback.category == category, feedback.undone.is_(None))
        .order_by(feedback.id)
    )
    return {sha256: label or UNKNOWN for sha256, label in catalog.connection.execute(query)}


def undecided(catalog: Catalog, category: str, ids: Collection[int]) -> set[int]:
    """Those of some query images of a category that are there yet and that nobody has decided: no label, nothing that was said
    of them, and no shot of the same content.
    """
    shots = tables.images.alias()
    said = select(feedback.id).where(
        feedback.content_id == images.content_id, feedback.category == category, feedback.undone.is_(None)
    )
    is_shot = select(shots.c.id).where(
        shots.c.content_id == images.content_id,
        shots.c.category == category,
        shots.c.role == Role.SUPPORT,
        shots.c.present,
    )
    open_ = select(images.id).where(
        images.role == Role.QUERY, images.label.is_(None), USABLE, ~said.exists(), ~is_shot.exists()
    )
    wanted = sorted(ids)
    chunks = [wanted[start : start + CHUNK] for start in range(0, len(wanted), CHUNK)]
    return {
        image_id
        for chunk in chunks
        for image_id in catalog.connection.execute(open_.where(images.id.in_(chunk))).scalars()
    }


def add_feedback(
    editor: Editor,
    action: Action,
    *,
    category: str,
    content_id: int,
    path: str,
    label: str | None,
    shot_path: str | None,
    created: str,
) -> None:
    """Record a piece of feedback."""
    subject = {"category": category, "content_id": content_id, "path": path, "label": label, "shot_path": shot_path}
    row = {**subject, "action": action, "created": created, "revision": editor.stamp}
    editor.connection.execute(insert(tables.feedback).values(row))


def undo_feedback(editor: Editor, feedback_id: int, when: str) -> None:
    """Record that a piece of feedback no longer holds."""
    changes = update(tables.feedback).where(feedback.id == feedback_id).values(undone=when, revision=editor.stamp)
    editor.connection.execute(changes)
