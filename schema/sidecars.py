"""Sidecars: captions that lie as text files beside their images, and what the store took from them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from itertools import starmap
from typing import NamedTuple

from sqlalchemy import Connection, delete, exists, insert, select, update

from nearshot.schema import tables
from nearshot.schema.captions import put_captions
from nearshot.schema.catalog import CHUNK, USABLE
from nearshot.schema.editor import Editor
from nearshot.schema.images import FileState
from nearshot.schema.vocabulary import BY_HAND

images, captions, sidecars = tables.images.c, tables.captions.c, tables.sidecars.c


class TakenSidecar(NamedTuple):
    """A sidecar whose words were taken: of an image (by id and path), for a content, in a state on disk."""

    image_id: int
    path: str
    content_id: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @property
    def state(self) -> FileState:
        """The file's state when it was read."""
        return FileState(self.size, self.mtime_ns, self.ctime_ns)


class Captioned(NamedTuple):
    """An image, its content, and the words that its sidecar holds, in a state on disk."""

    image_id: int
    content_id: int
    text: str
    state: FileState


def taken_sidecars(connection: Connection, root_id: int, categories: Collection[str]) -> dict[str, TakenSidecar]:
    """The sidecars taken of images of some categories under a root, by the image's path."""
    columns = (sidecars.image_id, images.path, sidecars.content_id, sidecars.size, sidecars.mtime_ns, sidecars.ctime_ns)
    query = (
        select(*columns)
        .join(tables.images, images.id == sidecars.image_id)
        .where(images.root_id == root_id, images.category.in_(sorted(categories)))
    )
    return {taken.path: taken for taken in starmap(TakenSidecar, connection.execute(query))}


class UsableImage(NamedTuple):
    """The ids of an image and of the content that it shows."""

    image_id: int
    content_id: int


def usable_images(connection: Connection, root_id: int, paths: Iterable[str]) -> dict[str, UsableImage]:
    """Those of some paths that are usable images, by path."""
    usable: dict[str, UsableImage] = {}
    wanted = sorted(paths)
    for start in range(0, len(wanted), CHUNK):
        query = select(images.path, images.id, images.content_id).where(
            USABLE, images.root_id == root_id, images.path.in_(wanted[start : start + CHUNK])
        )
        usable |= {path: UsableImage(image_id, content_id) for path, image_id, content_id in connection.execute(query)}
    return usable


def take_sidecars(editor: Editor, captioned_images: Iterable[Captioned], created: str) -> None:
    """Record captions by hand from sidecars that were not taken before. Of several for one content, the last one's hold."""
    taken = list(captioned_images)
    said = [(captioned.content_id, captioned.text) for captioned in taken]
    put_captions(editor, said, task=BY_HAND, fingerprint=None, created=created)
    rows = [
        {
            **{"image_id": captioned.image_id, "content_id": captioned.content_id, "revision": editor.stamp},
            **captioned.state._asdict(),
        }
        for captioned in taken
    ]
    editor.connection.execute(insert(tables.sidecars), rows)


def drop_sidecars(editor: Editor, gone: Mapping[str, TakenSidecar]) -> None:
    """Forget sidecars, and the captions that still are as they left them; what a person set since stays.

    With a caption, the other sidecars of the same content are forgotten, so that they are read again and their words hold.
    """
    for taken in gone.values():
        as_left = exists().where(
            sidecars.image_id == taken.image_id,
            sidecars.content_id == captions.content_id,
            sidecars.revision == captions.revision,
        )
        dropped = editor.connection.execute(delete(tables.captions).where(captions.task == BY_HAND, as_left)).rowcount
        editor.connection.execute(delete(tables.sidecars).where(sidecars.image_id == taken.image_id))
        if dropped:
            editor.connection.execute(delete(tables.sidecars).where(sidecars.content_id == taken.content_id))


def move_sidecar(editor: Editor, taken: TakenSidecar, image_id: int, state: FileState) -> None:
    """Record that a sidecar now lies beside another image of the same content; its words are as they were."""
    editor.connection.execute(delete(tables.sidecars).where(sidecars.image_id == image_id))
    moved = update(tables.sidecars).where(sidecars.image_id == taken.image_id)
    editor.connection.execute(moved.values(image_id=image_id, **state._asdict()))
