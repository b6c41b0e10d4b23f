"""The catalog: every question that is asked of the database, within one read transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import starmap
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Connection, Select, and_, bindparam, func, select, text

from nearshot.schema import tables
from nearshot.schema.digests import check
from nearshot.schema.errors import StoreError
from nearshot.schema.images import Origin, Shown
from nearshot.schema.vocabulary import Role

if TYPE_CHECKING:
    from nearshot.schema.segment_file import Segment

images, contents, embeddings = tables.images.c, tables.contents.c, tables.embeddings.c
backbones = tables.backbones.c

USABLE = and_(images.present, images.content_id.is_not(None))
DROPPED = and_(embeddings.vector.is_(None), embeddings.failure.is_(None))
"""The condition that a vector was damaged and dropped: until it is computed again, its row tells that it was there."""

CHUNK = 4096
DAMAGED_VECTOR = "a stored vector is damaged; `nearshot verify --repair` finds it and makes room for a new one"


class BackboneRow(NamedTuple):
    """A backbone that has been used on this store."""

    id: int
    name: str
    fingerprint: str
    dimension: int
    precision: str
    source: str
    location: str | None
    signature: str
    revision: int


class KnownContent(NamedTuple):
    """A content that was seen before, and the ids of the backbones that have dealt with it."""

    id: int
    dealt_with: set[int]


class PlacedImage(NamedTuple):
    """An image and where it lies: `path` is relative to its data directory, `root`."""

    id: int
    root_id: int
    root: str
    path: str
    category: str


class ImageCount(NamedTuple):
    """Present images of a category and role: usable, failed; labels and shots among the usable."""

    category: str
    role: str
    images: int
    failed: int
    labels: int
    shots: int


class CategoryCount(NamedTuple):
    """A category's usable shots, by label, and the number of its usable queries."""

    category: str
    labels: dict[str, int]
    queries: int


class VectorCount(NamedTuple):
    """Usable images of a category and role: with a vector, not dealt with yet, and without a usable vector."""

    category: str
    role: str
    vectors: int
    lacking: int
    failed: int


class RunRow(NamedTuple):
    """An index run; times are UTC in ISO 8601, `report` and `arguments` JSON. No outcome: it still runs, or was killed."""

    started: str
    finished: str | None
    outcome: str | None
    report: str | None
    arguments: str


class Catalog:
    """Reads the database. All of one catalog's answers belong to the same state of it."""

    def __init__(self, connection: Connection, segment_directory: Path) -> None:
        self.connection, self.segment_directory = connection, segment_directory
        # What `schema.vectors` has opened: by backbone id, and what no record names
        self.holding: dict[int, list[Segment]] = {}
        self.unrecorded: list[Segment] | None = None

    def revision(self) -> int:
        """The number of the last change."""
        return int(self.connection.execute(select(tables.revision.c.value)).scalar_one())

    def identity(self) -> str:
        """What tells this database from another that has or had its address: what was derived of one is not of the other.

        In PostgreSQL its own number, that of this copy of it, and the timeline, of which a restored one has another. None ("")
        in SQLite, beside whose file all that is derived of it lies.
        """
        if self.connection.dialect.name == "sqlite":
            return ""
        query = text(
            "SELECT concat_ws('-', (SELECT id FROM store_identity), oid, (SELECT timeline_id FROM pg_control_checkpoint()))"
            " FROM pg_database WHERE datname = current_database()"
        )
        return str(self.connection.execute(query).scalar_one())

    # Images

    def roots(self) -> dict[int, str]:
        """Data directories by id."""
        return {row.id: row.path for row in self.connection.execute(select(tables.roots))}

    def root_id(self, path: str) -> int | None:
        """The id of a data directory, if it was ever indexed."""
        query = select(tables.roots.c.id).where(tables.roots.c.path == path)
        return self.connection.execute(query).scalar_one_or_none()

    def has_images(self, root_id: int, category: str | None = None) -> bool:
        """Tell whether a data directory (or a category of it) has images that are present."""
        query = select(images.id).where(images.root_id == root_id, images.present).limit(1)
        if category is not None:
            query = query.where(images.category == category)
        return self.connection.execute(query).scalar() is not None

    def sample_images(self, root_id: int, most: int) -> list[tuple[str, int]]:
        """The paths and sizes of so many present images of a data directory, evenly among all; of fewer, of each."""
        own = (images.root_id == root_id, images.present)
        count = self.connection.execute(select(func.count()).select_from(tables.images).where(*own)).scalar_one()
        numbered = select(images.path, images.size, func.row_number().over(order_by=images.path).label("number"))
        rows = numbered.where(*own).subquery().c
        evenly = rows.number * most % max(1, count) < most
        return list(map(tuple, self.connection.execute(select(rows.path, rows.size).where(evenly))))

    def removed_since(self, root_id: int, paths: Iterable[str], revision: int) -> set[str]:
        """Those of some paths under a root that were taken out of the store after a revision."""
        query = select(images.path).where(
            images.root_id == root_id, images.path.in_(list(paths)), ~images.present, images.revision > revision
        )
        return set(self.connection.execute(query).scalars())

    def shown(self, ids: Collection[int]) -> dict[int, Shown]:
        """Find what to show of some images, by id."""
        columns = (images.id, tables.roots.c.path, images.path, images.category, images.role, images.label, images.shot)
        crops, croppings, contents = tables.crops.c, tables.croppings.c, tables.contents.c
        boxes = (crops.box_left, crops.box_top, crops.box_right, crops.box_bottom)
        same = (crops.path == images.path) & (crops.sha256 == contents.sha256)
        joined = (
            select(*columns, croppings.id, crops.id, croppings.path, *boxes, crops.name, crops.score)
            .join(tables.roots, tables.roots.c.id == images.root_id)
            .outerjoin(tables.contents, contents.id == images.content_id)
            .outerjoin(tables.crops, same)
            .outerjoin(tables.croppings, (croppings.id == crops.cropping_id) & (croppings.root_id == images.root_id))
        )
        wanted = sorted(ids)
        shown_by_id: dict[int, Shown] = {}
        for start in range(0, len(wanted), CHUNK):
            chunk = images.id.in_(wanted[start : start + CHUNK])
            check(self.connection, tables.images, chunk)
            rows = self.connection.execute(joined.where(chunk)).all()
            for column, number in ((croppings.id, len(columns)), (crops.id, len(columns) + 1)):
                if used := {row[number] for row in rows} - {None}:
                    check(self.connection, column.table, column.in_(sorted(used)))
            for image_id, root, path, category, role, label, shot, _, _, raw, *cut in rows:
                origin = None if raw is None else Origin(f"{root}/{raw}", (cut[0], cut[1], cut[2], cut[3]), *cut[4:])
                if origin is None and image_id in shown_by_id:
                    continue  # another data directory has a crop of that path
                shown_by_id[image_id] = Shown(image_id, f"{root}/{path}", category, Role(role), label, shot, origin)
        return shown_by_id

    def categories(self, role: Role) -> list[str]:
        """The categories that hold usable images of a role, in order."""
        least = select(func.min(images.category)).where(USABLE, images.role == role)
        names = least.cte("names", recursive=True)  # one look into the index per category, not one per image
        [name] = names.c
        names = names.union_all(select(least.where(images.category > name).scalar_subquery()).where(name.is_not(None)))
        every = [each for each in self.connection.execute(select(names)).scalars() if each is not None]
        if not all(isinstance(each, str) for each in every):
            raise StoreError("an index of images is damaged; `nearshot verify` says where")
        return every

    def count_categories(self) -> list[CategoryCount]:
        """Every category that holds usable images, with its labels and queries counted, in order."""
        names = {name for role in Role for name in self.categories(role)}
        counted = (
            select(images.category, func.count()).where(USABLE, images.role == Role.QUERY).group_by(images.category)
        )
        queries = dict(map(tuple, self.connection.execute(counted)))
        return [CategoryCount(name, self.support_labels(name), queries.get(name, 0)) for name in sorted(names)]

    def support_labels(self, category: str) -> dict[str, int]:
        """Count the usable support images that each label of a category has."""
        query = (
            select(images.label, func.count())
            .where(USABLE, images.category == category, images.role == Role.SUPPORT)
            .group_by(images.label)
            .order_by(images.label)
        )
        return dict(map(tuple, self.connection.execute(query)))

    def content(self, sha256: str) -> KnownContent | None:
        """The content of a SHA-256; None for one never seen."""
        return self.contents([sha256]).get(sha256)

    def contents(self, hashes: Iterable[str]) -> dict[str, KnownContent]:
        """Those of some contents that were seen before, by SHA-256."""
        query = (
            select(contents.sha256, contents.id, embeddings.backbone_id)
            .select_from(
                tables.contents.outerjoin(tables.embeddings, and_(embeddings.content_id == contents.id, ~DROPPED))
            )
            .where(contents.sha256.in_(bindparam("hashes", expanding=True)))
        )
        known: dict[str, KnownContent] = {}
        for sha256, content_id, backbone_id in self.connection.execute(query, {"hashes": list(hashes)}):
            content = known.setdefault(sha256, KnownContent(content_id, set()))
            if backbone_id is not None:
                content.dealt_with.add(backbone_id)
        return known

    def content_of(self, image_id: int) -> int | None:
        """The content that a present image shows; None for none."""
        query = select(images.content_id).where(images.id == image_id, USABLE)
        return self.connection.execute(query).scalar_one_or_none()

    def images_of(self, content_id: int) -> list[PlacedImage]:
        """The present images that show a content, in the order of their paths."""
        query = (
            select(images.id, images.root_id, tables.roots.c.path, images.path, images.category)
            .join(tables.roots, tables.roots.c.id == images.root_id)
            .where(images.present, images.content_id == content_id)
            .order_by(tables.roots.c.path, images.path)
        )
        return list(starmap(PlacedImage, self.connection.execute(query)))

    def count_images(self) -> list[ImageCount]:
        """Count the present images of each category and role, and their labels and shots."""
        shots = func.count((images.label + "/" + images.shot).distinct())
        query = (
            select(
                images.category,
                images.role,
                func.count().filter(images.content_id.is_not(None)),
                func.count().filter(images.failure.is_not(None)),
                func.count(images.label.distinct()).filter(images.content_id.is_not(None)),
                shots.filter(images.content_id.is_not(None)),
            )
            .where(images.present)
            .group_by(images.category, images.role)
            .order_by(images.category, images.role.desc())
        )
        return list(starmap(ImageCount, self.connection.execute(query)))

    def count_vectors_by_category(self, backbone_id: int) -> list[VectorCount]:
        """Count the usable images of each category and role with and without a vector of a backbone, and why not.

        Answered from indexes: looking at the vectors themselves would read a page of the file for each.
        """
        group = (images.category, images.role)
        usable = (
            select(*group, func.count()).where(USABLE).group_by(*group).order_by(images.category, images.role.desc())
        )
        dealt_with = embeddings.backbone_id == backbone_id
        embedded = and_(embeddings.content_id == images.content_id, dealt_with)
        joined = tables.images.join(tables.embeddings, embedded)
        every = {(category, role): count for category, role, count in self.connection.execute(usable)}
        seen = every
        if not self.has_rows_of_all(backbone_id):
            counted = select(*group, func.count()).select_from(joined).where(USABLE).group_by(*group)
            seen = {(category, role): count for category, role, count in self.connection.execute(counted)}
        without = (
            select(*group, func.count().filter(DROPPED), func.count(embeddings.failure))
            .select_from(joined)
            .where(USABLE, embeddings.vector.is_(None))
            .group_by(*group)
        )
        few = {
            (category, role): (dropped, failed) for category, role, dropped, failed in self.connection.execute(without)
        }
        counts = []
        for key, count in every.items():
            dropped, failed = few.get(key, (0, 0))
            dealt = seen.get(key, 0) - dropped
            counts.append(VectorCount(*key, dealt - failed, count - dealt, failed))
        return counts

    def has_rows_of_all(self, backbone_id: int) -> bool:
        """Tell whether a backbone has a row, with a vector or without, of every content that there ever was."""
        number = select(func.count()).select_from(tables.embeddings).where(embeddings.backbone_id == backbone_id)
        return bool(self.connection.execute(number).scalar_one() >= self.newest_content())

    def newest_content(self) -> int:
        """The id of the content that was seen last: as many as there ever were. 0 for none."""
        return int(self.connection.execute(select(func.max(contents.id))).scalar() or 0)

    def failures(self) -> list[tuple[str, str]]:
        """Present images that could not be used: absolute path and reason, by path."""
        query = (
            select(tables.roots.c.path, images.path, images.failure)
            .join(tables.roots, tables.roots.c.id == images.root_id)
            .where(images.present, images.failure.is_not(None))
            .order_by(tables.roots.c.path, images.path)
        )
        return [(f"{root}/{path}", failure) for root, path, failure in self.connection.execute(query)]

    def last_run(self) -> RunRow | None:
        """The newest index run."""
        table = tables.runs.c
        query = select(*(table[name] for name in RunRow._fields)).order_by(table.id.desc()).limit(1)
        return next(starmap(RunRow, self.connection.execute(query)), None)

    def integrity_problems(self) -> list[str]:
        """List what the database engine's own checks find wrong with its file."""
        if self.connection.dialect.name != "sqlite":
            return []
        checks = self.connection.exec_driver_sql("PRAGMA integrity_check").scalars()
        problems = [line for line in checks if line != "ok"]
        dangling = self.connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        return problems + [f"{row[0]} row {row[1]} refers to a {row[2]} that is not there" for row in dangling]

    # Backbones

    def backbones(self) -> list[BackboneRow]:
        """The backbones in use: of each name the row used last, by name."""
        query = select(*(backbones[name] for name in BackboneRow._fields)).order_by(backbones.name, backbones.revision)
        latest = {row.name: row for row in starmap(BackboneRow, self.connection.execute(query))}
        return list(latest.values())

    def all_backbones(self) -> list[BackboneRow]:
        """Every backbone ever used, those superseded included, oldest first."""
        query = select(*(backbones[name] for name in BackboneRow._fields)).order_by(backbones.id)
        return list(starmap(BackboneRow, self.connection.execute(query)))

    # Vectors

    def contents_lacking(self, backbone_id: int, root_id: int, categories: Collection[str]) -> set[int]:
        """Contents of usable images that a backbone has not dealt with."""
        dealt_with = (
            select(embeddings.content_id)
            .where(embeddings.content_id == images.content_id, embeddings.backbone_id == backbone_id)
            .exists()
        )
        query = (
            select(images.content_id)
            .where(USABLE, images.root_id == root_id, images.category.in_(sorted(categories)), ~dealt_with)
            .distinct()
        )
        dropped = select(embeddings.content_id).where(embeddings.backbone_id == backbone_id, DROPPED)
        lost = (
            select(images.content_id)
            .where(USABLE, images.root_id == root_id, images.category.in_(sorted(categories)))
            .where(images.content_id.in_(dropped))
        )
        return {*self.connection.execute(query).scalars(), *self.connection.execute(lost).scalars()}

    def embedding(self, content_id: int, backbone_id: int) -> dict[str, Any]:
        """The row of a vector but its bytes, unchecked."""
        query = select(embeddings.failure, embeddings.revision, embeddings.digest).where(
            embeddings.content_id == content_id, embeddings.backbone_id == backbone_id
        )
        return dict(self.connection.execute(query).mappings().one())

    def images_showing(self, content_id: int) -> list[int]:
        """The ids of the present images that show a content."""
        query = select(images.id).where(images.present, images.content_id == content_id)
        return list(self.connection.execute(query).scalars())

    def dropped_vectors(self) -> list[tuple[int, int]]:
        """Content and backbone of the vectors that were damaged, and are not there again."""
        query = select(embeddings.content_id, embeddings.backbone_id).where(DROPPED)
        return [(content_id, backbone_id) for content_id, backbone_id in self.connection.execute(query)]

    def count_vectors(self, backbone_id: int, root_id: int, categories: Collection[str]) -> int:
        """Count the usable images under a root that have a vector of a backbone."""
        dealt_with = (
            select(func.count())
            .select_from(tables.images.join(tables.embeddings, embeddings.content_id == images.content_id))
            .where(USABLE, images.root_id == root_id, images.category.in_(sorted(categories)))
            .where(embeddings.backbone_id == backbone_id)
        )
        # Both are answered from indexes: looking at the vectors themselves would read a page of the file for each.
        total = self.connection.execute(dealt_with).scalar_one()
        without = dealt_with.where(images.content_id.in_(_without_vector(backbone_id)))
        return int(total - self.connection.execute(without).scalar_one())


def _without_vector(backbone_id: int) -> Select[Any]:
    """The contents that a backbone has no vector of though it was asked: few, and in an index of their own."""
    return select(embeddings.content_id).where(embeddings.backbone_id == backbone_id, embeddings.vector.is_(None))
