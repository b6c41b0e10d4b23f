"""The editor: every change to the database, within one write transaction that stamps what it changes."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import bindparam, delete, insert, select, update

from schema import tables
from schema.catalog import BackboneRow, Catalog, SnapshotRow
from schema.images import FoundImage


class Embedding(NamedTuple):
    """What a backbone made of a content: a vector (dimension,), or the reason why there is none."""

    content_id: int
    backbone_id: int
    vector: NDArray[np.float32] | None
    failure: str | None = None


class Editor(Catalog):
    """Writes the database. Nothing is visible to others before the transaction that it belongs to is committed."""

    @cached_property
    def stamp(self) -> int:
        """This transaction's revision, drawn when it is first needed: a transaction that changes nothing draws none."""
        table = tables.revision
        self.connection.execute(update(table).values(value=table.c.value + 1))
        return self.revision()

    def add_root(self, path: str) -> int:
        """The id of a data directory, new or known."""
        known = self.root_id(path)
        return known if known is not None else self._insert(tables.roots, path=path)

    def add_content(self, *, sha256: str, size: int, width: int, height: int, image_format: str) -> int:
        """Record a content; the id, new or known."""
        known = self.content(sha256)
        if known is not None:
            return known[0]
        facts = {"sha256": sha256, "size": size, "width": width, "height": height, "format": image_format}
        return self._insert(tables.contents, **facts, revision=self.stamp)

    def put_image(self, root_id: int, found: FoundImage, *, content_id: int) -> int:
        """Record that a path now shows a content."""
        return self._put_image(root_id, found, content_id=content_id, failure=None, decoder=None)

    def put_failure(self, root_id: int, found: FoundImage, *, reason: str, decoder: str) -> int:
        """Record that a path could not be used, why, and by which decoder."""
        return self._put_image(root_id, found, content_id=None, failure=reason, decoder=decoder)

    def remove_images(self, ids: Collection[int]) -> None:
        """Mark images as no longer there. Their rows and vectors stay."""
        if ids:
            statement = update(tables.images).where(tables.images.c.id == bindparam("image_id"))
            changes = statement.values(present=False, revision=self.stamp)
            self.connection.execute(changes, [{"image_id": image_id} for image_id in ids])

    def forget_root(self, root_id: int) -> int:
        """Mark all images of a data directory as no longer there; how many."""
        present = (tables.images.c.root_id == root_id, tables.images.c.present)
        statement = update(tables.images).where(*present).values(present=False, revision=self.stamp)
        return int(self.connection.execute(statement).rowcount)

    def relabel_images(self, labels: Mapping[int, str | None]) -> None:
        """Set the labels of images, by id."""
        if labels:
            statement = update(tables.images).where(tables.images.c.id == bindparam("image_id"))
            changes = statement.values(label=bindparam("new_label"), revision=self.stamp)
            self.connection.execute(changes, [{"image_id": i, "new_label": label} for i, label in labels.items()])

    def use_backbone(
        self,
        *,
        name: str,
        fingerprint: str,
        dimension: int,
        precision: str,
        source: str,
        location: str | None,
        signature: str,
    ) -> BackboneRow:
        """Record that a backbone is in use from now on; of its name, it becomes the one that queries take."""
        table = tables.backbones
        facts = {"precision": precision, "source": source, "location": location, "signature": signature}
        in_use = next((row for row in self.backbones() if row.name == name), None)
        if in_use and in_use.fingerprint == fingerprint and in_use[4:-1] == tuple(facts.values()):
            return in_use
        known = select(table.c.id).where(table.c.name == name, table.c.fingerprint == fingerprint)
        backbone_id = self.connection.execute(known).scalar()
        if backbone_id is None:
            new = {"name": name, "fingerprint": fingerprint, "dimension": dimension}
            backbone_id = self._insert(table, **new, **facts, revision=self.stamp)
        else:
            changes = update(table).where(table.c.id == backbone_id).values(**facts, revision=self.stamp)
            self.connection.execute(changes)
        return BackboneRow(
            backbone_id, name, fingerprint, dimension, precision, source, location, signature, self.stamp
        )

    def put_embeddings(self, embeddings: Iterable[Embedding]) -> None:
        """Record what backbones made of contents: L2-normalised vectors, or the reasons why there is none."""
        rows = [
            {
                "content_id": embedding.content_id,
                "backbone_id": embedding.backbone_id,
                "vector": None if embedding.vector is None else embedding.vector.astype("<f4").tobytes(),
                "failure": embedding.failure,
                "revision": self.stamp,
            }
            for embedding in embeddings
        ]
        if rows:
            self.connection.execute(insert(tables.embeddings), rows)

    def drop_embedding(self, content_id: int, backbone_id: int) -> None:
        """Forget a content's vector, so that the next index run computes it again."""
        table = tables.embeddings.c
        owner = (table.content_id == content_id, table.backbone_id == backbone_id)
        self.connection.execute(delete(tables.embeddings).where(*owner))
        shows_it = tables.images.c.content_id == content_id
        self.connection.execute(update(tables.images).where(shows_it).values(revision=self.stamp))

    def record_snapshot(self, row: SnapshotRow) -> None:
        """Record a snapshot in the place of the one before it."""
        self.forget_snapshot(row.backbone_id, row.category, row.role)
        self.connection.execute(insert(tables.snapshots).values(row._asdict()))

    def forget_snapshot(self, backbone_id: int, category: str, role: str) -> None:
        """Forget a snapshot; the rows still hold all that was in it."""
        table = tables.snapshots.c
        owner = (table.backbone_id == backbone_id, table.category == category, table.role == role)
        self.connection.execute(delete(tables.snapshots).where(*owner))

    def begin_run(self, root_id: int, *, arguments: Mapping[str, Any], started: str, version: str) -> int:
        """Record the start of an index run."""
        facts = {"root_id": root_id, "arguments": json.dumps(arguments), "started": started, "version": version}
        return self._insert(tables.runs, **facts)

    def end_run(self, run_id: int, *, finished: str, outcome: str, report: Mapping[str, Any]) -> None:
        """Record how an index run ended."""
        table = tables.runs
        facts = {"finished": finished, "outcome": outcome, "report": json.dumps(report)}
        self.connection.execute(update(table).where(table.c.id == run_id).values(facts))

    def _put_image(
        self, root_id: int, found: FoundImage, *, content_id: int | None, failure: str | None, decoder: str | None
    ) -> int:
        table = tables.images
        facts: dict[str, Any] = {
            "category": found.category,
            "role": found.role,
            "label": found.label,
            "shot": found.shot,
            **found.state._asdict(),
            "content_id": content_id,
            "failure": failure,
            "decoder": decoder,
            "present": True,
            "revision": self.stamp,
        }
        known = select(table.c.id).where(table.c.root_id == root_id, table.c.path == found.path)
        image_id = self.connection.execute(known).scalar()
        if image_id is None:
            return self._insert(table, root_id=root_id, path=found.path, **facts)
        self.connection.execute(update(table).where(table.c.id == image_id).values(facts))
        return int(image_id)

    def _insert(self, table: Any, **facts: Any) -> int:
        statement = insert(table).values(facts).returning(table.c.id)
        return int(self.connection.execute(statement).scalar_one())
