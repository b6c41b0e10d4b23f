"""Crops as the store keeps them: which raw pictures were looked at, by which detector, and what was cut out of each."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import ColumnElement, Select, delete, insert, select, update

from nearshot.schema import tables
from nearshot.schema.catalog import CHUNK, Catalog
from nearshot.schema.digests import check
from nearshot.schema.editor import Editor
from nearshot.schema.images import FileState

detectors, croppings, crops = tables.detectors.c, tables.croppings.c, tables.crops.c


class DetectorRow(NamedTuple):
    """A detector that was used; `location` is where its weights lay, None where it needs none."""

    id: int
    name: str
    fingerprint: str
    signature: str
    location: str | None


class Destination(NamedTuple):
    """What a picture is cropped for: a role, the label of shots (empty for queries), and the words looked for, as JSON.

    A picture has one set of crops for each.
    """

    role: str
    label: str
    words: str


class Cropping(NamedTuple):
    """A raw picture that was looked at. `failure` is set, and `sha256` may be None, where it could not be used."""

    path: str
    category: str
    size: int
    mtime_ns: int
    ctime_ns: int
    sha256: str | None
    role: str
    label: str
    words: str
    detector_id: int
    options: str
    failure: str | None
    decoder: str
    created: str

    @property
    def state(self) -> FileState:
        """The file's state when it was last read."""
        return FileState(self.size, self.mtime_ns, self.ctime_ns)

    @property
    def destination(self) -> Destination:
        """What it was cropped for."""
        return Destination(self.role, self.label, self.words)


class Crop(NamedTuple):
    """A crop's file, by its path in the data directory and the SHA-256 it was written with; its box, and what was detected."""

    path: str
    sha256: str
    box_left: int
    box_top: int
    box_right: int
    box_bottom: int
    name: str | None
    score: float | None
    mask: bytes | None


def known_detectors(catalog: Catalog, name: str) -> list[DetectorRow]:
    """The detectors of a name that were used, in the order in which they first were. StoreError for a damaged row."""
    check(catalog.connection, tables.detectors, detectors.name == name)
    query = select(*(detectors[field] for field in DetectorRow._fields)).where(detectors.name == name)
    return [DetectorRow(*row) for row in catalog.connection.execute(query.order_by(detectors.id))]


def use_detector(editor: Editor, *, name: str, fingerprint: str, signature: str, location: str | None) -> int:
    """Record that a detector is in use; its id, the same for the same name and fingerprint."""
    values = {"signature": signature, "location": location}
    own = (detectors.name == name, detectors.fingerprint == fingerprint)
    known = editor.connection.execute(select(detectors.id).where(*own)).scalar()
    if known is not None:
        editor.connection.execute(update(tables.detectors).where(detectors.id == known).values(values))
        return int(known)
    row = {"name": name, "fingerprint": fingerprint, **values}
    statement = insert(tables.detectors).values(row).returning(detectors.id)
    return int(editor.connection.execute(statement).scalar_one())


def known_croppings(catalog: Catalog, root_id: int, categories: Collection[str]) -> dict[int, Cropping]:
    """What is known of the raw pictures of some categories, by id; StoreError for a damaged row."""
    own = (croppings.root_id == root_id, croppings.category.in_(sorted(categories)))
    check(catalog.connection, tables.croppings, *own)
    query = select(croppings.id, *(croppings[name] for name in Cropping._fields)).where(*own).order_by(croppings.id)
    return {row[0]: Cropping(*row[1:]) for row in catalog.connection.execute(query)}


def crops_of(catalog: Catalog, cropping_ids: Iterable[int]) -> dict[int, list[Crop]]:
    """The crops of some croppings, by their id, in the order in which they were cut."""
    wanted = sorted(cropping_ids)
    held: dict[int, list[Crop]] = {cropping_id: [] for cropping_id in wanted}
    fields = [crops[name] for name in Crop._fields]
    for start in range(0, len(wanted), CHUNK):
        own = crops.cropping_id.in_(wanted[start : start + CHUNK])
        check(catalog.connection, tables.crops, own)
        for cropping_id, *row in catalog.connection.execute(
            select(crops.cropping_id, *fields).where(own).order_by(crops.id)
        ):
            held[cropping_id].append(Crop(*row))
    return held


def put_cropping(editor: Editor, root_id: int, cropping: Cropping, cut: Sequence[Crop]) -> None:
    """Record what was cut out of a picture, in the place of what was cut out of it for the same destination before."""
    same = {name: getattr(cropping, name) for name in ("path", "role", "label", "words")} | {"root_id": root_id}
    before = select(croppings.id).where(*(croppings[name] == value for name, value in same.items()))
    drop_croppings(editor, editor.connection.execute(before).scalars().all())
    statement = insert(tables.croppings).values(root_id=root_id, **cropping._asdict()).returning(croppings.id)
    cropping_id = editor.connection.execute(statement).scalar_one()
    if cut:
        editor.connection.execute(
            insert(tables.crops), [{"cropping_id": cropping_id, **crop._asdict()} for crop in cut]
        )


def touch_cropping(editor: Editor, cropping_id: int, cropping: Cropping) -> None:
    """Record what a picture's file is like now, whose crops are what they were."""
    statement = update(tables.croppings).where(croppings.id == cropping_id)
    editor.connection.execute(statement.values(cropping._asdict()))


def drop_croppings(editor: Editor, cropping_ids: Iterable[int]) -> None:
    """Forget what was cut out of some pictures."""
    wanted = sorted(cropping_ids)
    for start in range(0, len(wanted), CHUNK):
        chunk = wanted[start : start + CHUNK]
        editor.connection.execute(delete(tables.crops).where(crops.cropping_id.in_(chunk)))
        editor.connection.execute(delete(tables.croppings).where(croppings.id.in_(chunk)))


def forget_croppings(editor: Editor) -> None:
    """Forget everything about crops, where a row of it is damaged: the next run looks at all pictures again."""
    for table in (tables.crops, tables.croppings, tables.detectors):
        editor.connection.execute(delete(table))


def cropped_pictures(catalog: Catalog, root_id: int) -> list[tuple[str, str]]:
    """The raw pictures of a data directory that crops were cut out of, each with the SHA-256 of what they showed."""
    query = select(croppings.path, croppings.sha256).join(tables.crops, crops.cropping_id == croppings.id).distinct()
    rows = catalog.connection.execute(query.where(croppings.root_id == root_id).order_by(croppings.path))
    return [(path, sha256) for path, sha256 in rows]


def is_recorded(catalog: Catalog, root_id: int, path: str, sha256: str) -> bool:
    """Tell whether a crop was written at a path with these bytes."""
    return catalog.connection.execute(_at(root_id, path, crops.sha256 == sha256)).first() is not None


def recrop(editor: Editor, root_id: int, path: str) -> None:
    """Have the next run look at the picture again that a crop at a path was cut out of, as if its file had changed."""
    again = update(tables.croppings).where(croppings.id.in_(_at(root_id, path)))
    editor.connection.execute(again.values(size=-1))


def _at(root_id: int, path: str, *more: ColumnElement[bool]) -> Select[tuple[int]]:
    """The croppings that a crop at a path in a data directory is of."""
    query = select(crops.cropping_id).join(tables.croppings, crops.cropping_id == croppings.id)
    return query.where(croppings.root_id == root_id, crops.path == path, *more)
