"""The editor: every change to the database, within one write transaction that stamps what it changes."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Insert, Table, bindparam, delete, func, insert, literal, select, update
from sqlalchemy.dialects import postgresql

from nearshot.schema import postgres, tables
from nearshot.schema.catalog import CHUNK, BackboneRow, Catalog
from nearshot.schema.digests import intact
from nearshot.schema.images import FoundImage
from nearshot.schema.vector_bytes import REFERENCE, encoded, reference_to, vector_kind
from nearshot.schema.vocabulary import VectorKind


class Embedding(NamedTuple):
    """Result of a backbone for a content: a vector (dimension,), or the reason why there is none."""

    content_id: int
    backbone_id: int
    vector: NDArray[np.float32] | None
    failure: str | None = None


class NewContent(NamedTuple):
    """A content that was decoded; width and height in pixels, upright."""

    sha256: str
    size: int
    width: int
    height: int
    format: str


class SeenImage(NamedTuple):
    """An image as it was found, and the content that it shows; or the reason why it could not be used, by which decoder."""

    found_image: FoundImage
    content_id: int | None
    failure: str | None = None
    decoder: str | None = None


class Editor(Catalog):
    """Writes the database. Nothing is visible to others before the transaction that it belongs to is committed."""

    @cached_property
    def stamp(self) -> int:
        """This transaction's revision, drawn when it is first needed: a transaction that changes nothing draws none."""
        table = tables.revision
        self.connection.execute(update(table).values(value=table.c.value + 1))
        return self.revision()

    @cached_property
    def _vector_kind(self) -> VectorKind:
        return vector_kind(self)

    def add_root(self, path: str) -> int:
        """The id of a data directory, new or known."""
        known = self.root_id(path)
        return known if known is not None else self._insert(tables.roots, path=path)

    def add_contents(self, seen: Iterable[NewContent]) -> dict[str, int]:
        """Record contents that are new; the ids of all, by SHA-256."""
        wanted = {content.sha256: content for content in seen}
        known = self.contents(wanted)
        rows = [{**wanted[sha256]._asdict(), "revision": self.stamp} for sha256 in wanted if sha256 not in known]
        if rows:
            self.connection.execute(insert(tables.contents), rows)
            known = self.contents(wanted)
        return {sha256: known[sha256].id for sha256 in wanted}

    def put_images(self, root_id: int, seen: Iterable[SeenImage]) -> None:
        """Record what paths show now, or why they could not be used. Each path once."""
        table = tables.images.c
        rows = {image.found_image.path: self._image_row(root_id, image) for image in seen}
        paths = list(rows)
        known: dict[str, int] = {}
        for start in range(0, len(paths), CHUNK):
            query = select(table.path, table.id).where(
                table.root_id == root_id, table.path.in_(bindparam("paths", expanding=True))
            )
            known |= dict(map(tuple, self.connection.execute(query, {"paths": paths[start : start + CHUNK]})))
        if new := [row for path, row in rows.items() if path not in known]:
            self.connection.execute(insert(tables.images), new)
        if known:
            changes = update(tables.images).where(table.id == bindparam("image_id"))
            values: dict[str, Any] = {name: bindparam(name) for name in next(iter(rows.values()))}
            self.connection.execute(
                changes.values(values), [{"image_id": image_id, **rows[path]} for path, image_id in known.items()]
            )

    def remove_images(self, ids: Collection[int], *, as_of: int | None = None) -> int:
        """Mark images as no longer there; how many. Their rows and vectors stay.

        Where somebody looked for them `as_of` a revision, those whose rows have changed since are left as they are.
        """
        table = tables.images.c
        wanted = sorted(ids)
        removed = 0
        for start in range(0, len(wanted), CHUNK):
            unchanged = (table.revision <= as_of,) if as_of is not None else ()
            statement = update(tables.images).where(
                table.id.in_(wanted[start : start + CHUNK]), table.present, *unchanged
            )
            removed += self.connection.execute(statement.values(present=False, revision=self.stamp)).rowcount
        return removed

    def forget_root(self, root_id: int) -> int:
        """Mark all images of a data directory as no longer there; how many."""
        present = (tables.images.c.root_id == root_id, tables.images.c.present)
        statement = update(tables.images).where(*present).values(present=False, revision=self.stamp)
        return int(self.connection.execute(statement).rowcount)

    def move_root(self, root_id: int, new: str) -> int:
        """Have a data directory lie elsewhere, with the paths of all that was said of its images; how many are there.

        What another directory inside of it holds stays where it is. A row that has the new path already, of a directory without
        images, has the old one then.
        """
        roots = {each: path for each, path in self.roots().items() if each != root_id}
        old, table = self.roots()[root_id], tables.roots
        stamp = self.stamp  # who shows paths looks again
        taken = next((each for each, path in roots.items() if path == new), None)
        for each, path in ((taken, ""), (root_id, new), (taken, old)):
            self.connection.execute(update(table).where(table.c.id == each).values(path=path))
        inner = [path for path in roots.values() if path.startswith(f"{old}/")]
        feedback, intents = tables.feedback.c, tables.intents.c
        elsewhere = [func.substr(feedback.path, 1, len(path) + 1) != f"{path}/" for path in inner]
        for column, own, values in (
            (feedback.shot_path, elsewhere, {"revision": stamp}),
            (feedback.path, elsewhere, {"revision": stamp}),
            (intents.path, [intents.root_id == root_id], {}),
            (intents.query, [intents.root_id == root_id], {}),
        ):
            inside = func.substr(column, 1, len(old) + 1) == f"{old}/"
            moved = literal(new).concat(func.substr(column, len(old) + 1))
            self.connection.execute(update(column.table).where(inside, *own).values({column.name: moved, **values}))
        own_images = (tables.images.c.root_id == root_id, tables.images.c.present)
        count = select(func.count()).select_from(tables.images).where(*own_images)
        return int(self.connection.execute(count).scalar_one())

    def return_images(self, ids: Sequence[int], *, as_of: int) -> int:
        """Mark images as there again, but those that were taken out after a revision; how many."""
        returned = 0
        for start in range(0, len(ids), CHUNK):
            chunk = tables.images.c.id.in_(list(ids[start : start + CHUNK]))
            gone = (chunk, ~tables.images.c.present, tables.images.c.revision <= as_of)
            statement = update(tables.images).where(*gone).values(present=True, revision=self.stamp)
            returned += int(self.connection.execute(statement).rowcount)
        return returned

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
        attributes: dict[str, Any] = {
            "precision": precision,
            "source": source,
            "location": location,
            "signature": signature,
        }
        in_use = next((row for row in self.backbones() if row.name == name), None)
        if in_use and in_use == in_use._replace(fingerprint=fingerprint, **attributes):
            return in_use
        known = select(table.c.id).where(table.c.name == name, table.c.fingerprint == fingerprint)
        backbone_id = self.connection.execute(known).scalar()
        if backbone_id is None:
            new = {"name": name, "fingerprint": fingerprint, "dimension": dimension}
            backbone_id = self._insert(table, **new, **attributes, revision=self.stamp)
            if self.connection.dialect.name == "postgresql":
                postgres.add_partition(self.connection, backbone_id, dimension)
        else:
            changes = update(table).where(table.c.id == backbone_id).values(**attributes, revision=self.stamp)
            self.connection.execute(changes)
        return BackboneRow(
            backbone_id, name, fingerprint, dimension, precision, source, location, signature, self.stamp
        )

    def put_embeddings(self, embeddings: Iterable[Embedding]) -> None:
        """Record what backbones made of contents: L2-normalised vectors, or the reasons why there is none."""
        rows, pending = [], []
        for embedding in embeddings:
            owner = {"content_id": embedding.content_id, "backbone_id": embedding.backbone_id}
            vector = None if embedding.vector is None else encoded(embedding.vector, self._vector_kind)
            if vector is not None and self._vector_kind == VectorKind.FLOAT16:
                pending.append({**owner, "vector": vector})
                vector = reference_to(vector)
            rows.append({**owner, "vector": vector, "failure": embedding.failure, "revision": self.stamp})
        if rows:
            table = tables.embeddings.c
            again = (table.content_id == bindparam("content"), table.backbone_id == bindparam("backbone"))
            if dropped := {*self.dropped_vectors()} & {(row["content_id"], row["backbone_id"]) for row in rows}:
                keys = [{"content": content_id, "backbone": backbone_id} for content_id, backbone_id in sorted(dropped)]
                self.connection.execute(delete(tables.embeddings).where(*again), keys)
            self.connection.execute(self._insert_embeddings, rows)
        if pending:
            self.connection.execute(insert(tables.pending_vectors), pending)

    @property
    def _insert_embeddings(self) -> Insert:
        """In PostgreSQL several runs may come upon the same content: the first to commit has embedded it."""
        if self.connection.dialect.name == "postgresql":
            return postgresql.insert(tables.embeddings).on_conflict_do_nothing()
        return insert(tables.embeddings)

    def drop_embedding(self, content_id: int, backbone_id: int) -> None:
        """Drop a content's damaged vector: the next index run computes it again, and until then it is known to be lost."""
        table, pending = tables.embeddings.c, tables.pending_vectors.c
        owner = (table.content_id == content_id, table.backbone_id == backbone_id)
        lost = update(tables.embeddings).where(*owner).values(vector=None, failure=None, revision=self.stamp)
        self.connection.execute(lost)
        owner = (pending.content_id == content_id, pending.backbone_id == backbone_id)
        self.connection.execute(delete(tables.pending_vectors).where(*owner))
        shows_it = tables.images.c.content_id == content_id
        self.connection.execute(update(tables.images).where(shows_it).values(revision=self.stamp))

    def restore_vector(self, content_id: int, backbone_id: int, vector: bytes) -> None:
        """Put the bytes of a damaged vector back, its revision as it was: nothing has changed."""
        table = tables.embeddings.c
        owner = (table.content_id == content_id, table.backbone_id == backbone_id)
        self.connection.execute(update(tables.embeddings).where(*owner).values(vector=vector))

    def refer_to_segment(self, backbone_id: int, references: Mapping[int, bytes], *, as_of: int) -> int:
        """Keep vectors, one or more by content, in the segments alone that have them now, but those that were written after a
        revision; how many had been of float32 in their rows.
        """
        table, pending = tables.embeddings.c, tables.pending_vectors.c
        of_float32 = (table.vector.is_not(None), func.length(table.vector) != REFERENCE, table.revision <= as_of)
        own = (table.backbone_id == backbone_id, table.content_id == bindparam("content"))
        changes = update(tables.embeddings).where(*own, *of_float32).values(vector=bindparam("reference"))
        refers = select(table.content_id).where(*own, table.vector == bindparam("reference"))
        held = (pending.backbone_id == backbone_id, pending.content_id == bindparam("content"), refers.exists())
        rows = [{"content": content, "reference": reference} for content, reference in references.items()]
        shrunk = self.connection.execute(changes, rows).rowcount
        self.connection.execute(delete(tables.pending_vectors).where(*held), rows)
        return int(shrunk)

    def keep_pending(self, backbone_id: int, vectors: Mapping[int, bytes]) -> None:
        """Keep vectors of float16, one or more by content, that will be in no segment any more."""
        pending = tables.pending_vectors.c
        owner = (pending.backbone_id == backbone_id, pending.content_id == bindparam("content"))
        self.connection.execute(
            delete(tables.pending_vectors).where(*owner), [{"content": content} for content in vectors]
        )
        rows = [
            {"content_id": content, "backbone_id": backbone_id, "vector": vector} for content, vector in vectors.items()
        ]
        self.connection.execute(insert(tables.pending_vectors), rows)

    def retire_images(self, ids: Collection[int]) -> None:
        """Give up the rows of damaged images: none of what they say is kept, and their files come in as new ones."""
        table = tables.images.c
        lost = {"label": None, "shot": None, "failure": None, "decoder": None, "content_id": None, "present": False}
        for image_id in ids:
            name = f"(damaged {image_id})"
            row = {**lost, "path": name, "category": name, "role": "query", "revision": self.stamp}
            self.connection.execute(update(tables.images).where(table.id == image_id).values(row))

    def forget_damaged(self, table: Table) -> None:
        """Delete the rows of a table that are not what was written."""
        self.connection.execute(delete(table).where(~intact(table)))

    def begin_run(self, root_id: int, *, arguments: Mapping[str, Any], started: str, version: str) -> int:
        """Record the start of an index run."""
        row = {"root_id": root_id, "arguments": json.dumps(arguments), "started": started, "version": version}
        return self._insert(tables.runs, **row)

    def end_run(self, run_id: int, *, finished: str, outcome: str, report: Mapping[str, Any]) -> None:
        """Record how an index run ended."""
        table = tables.runs
        changes = {"finished": finished, "outcome": outcome, "report": json.dumps(report)}
        self.connection.execute(update(table).where(table.c.id == run_id).values(changes))

    def _image_row(self, root_id: int, image: SeenImage) -> dict[str, Any]:
        found_image = image.found_image
        return {
            "root_id": root_id,
            "path": found_image.path,
            "category": found_image.category,
            "role": found_image.role,
            "label": found_image.label,
            "shot": found_image.shot,
            **found_image.state._asdict(),
            "content_id": image.content_id,
            "failure": image.failure,
            "decoder": image.decoder,
            "present": True,
            "revision": self.stamp,
        }

    def _insert(self, table: Any, **row: Any) -> int:
        statement = insert(table).values(row).returning(table.c.id)
        return int(self.connection.execute(statement).scalar_one())
