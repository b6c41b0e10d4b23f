"""Tasks: the files that a run must read, and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from nearshot.indexer.compare import Changes
from nearshot.schema.catalog import BackboneRow, Catalog
from nearshot.schema.images import FoundImage, KnownImage
from nearshot.schema.known_images import known_images_showing
from nearshot.schema.vocabulary import Role


@dataclass(frozen=True, slots=True)
class Task:
    """A file to read; `known` is the image that the store has at its path, None for a new one."""

    image: FoundImage
    known: KnownImage | None = None

    @property
    def is_unchanged(self) -> bool:
        """True where it is read for a backbone's sake alone, the file being as it was."""
        return self.known is not None and self.known.content_id is not None and self.known.state == self.image.state


def lacking_tasks(
    catalog: Catalog, rows: Iterable[BackboneRow], changes: Changes, root_id: int, categories: Iterable[str]
) -> list[Task]:
    """Unchanged images whose contents some backbone has not dealt with, and returned ones, as new; one image a content."""
    wanted = list(categories)
    lacking: set[int] = set()
    for row in rows:
        lacking |= catalog.contents_lacking(row.id, root_id, wanted)
    if not lacking:
        return []
    unchanged, returned = set(changes.unchanged), set(changes.returned)
    first: dict[int, KnownImage] = {}
    for known in known_images_showing(catalog, root_id, lacking):
        if known.content_id is not None and (known.id in unchanged or known.id in returned):
            first.setdefault(known.content_id, known)
    return [Task(_as_found(known, changes), known if known.id in unchanged else None) for known in first.values()]


def changed_tasks(changes: Changes) -> list[Task]:
    """Images that are new, or not as they were."""
    return [
        *(Task(image) for image in changes.new),
        *(Task(image, known) for image, known in changes.touched),
    ]


def _as_found(known: KnownImage, changes: Changes) -> FoundImage:
    label = changes.relabelled.get(known.id, known.label)
    return FoundImage(known.path, known.category, Role(known.role), label, known.shot, known.state)
