"""Moving: a data directory that lies elsewhere now stays what it was to the store."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from nearshot.backbones.in_order import in_order
from nearshot.schema.catalog import Catalog
from nearshot.schema.errors import AwayError, UsageError
from nearshot.schema.paths import AT_ONCE, AnyPath, is_directory, named, resolved, state_of
from nearshot.schema.store import Store

LOOKED_AT = 1000
"""Images at most, evenly among all, that are looked for at the new place: enough to tell another directory."""


@dataclass(frozen=True, slots=True)
class Moved:
    """A directory that was moved: its images, and of those `looked_at`, how many are `missing` there or have another size."""

    old: str
    new: str
    images: int
    looked_at: int
    missing: int

    def as_json(self) -> dict[str, Any]:
        """The object that `move --json` prints."""
        return asdict(self)


def move_root(store: Store, old: AnyPath, new: AnyPath) -> Moved:
    """Have a store take a data directory for the one where its files lie now.

    What a command left half done is finished by the next one, at the new place. UsageError where the store knows no such
    directory or has no image of it, where there is none at the new place or the store has images of that one, or where more
    than half of the images that are looked for are not there as they were; AwayError where a store of objects does not answer.
    """
    there = resolved(new)
    target = named(there)
    if not is_directory(there):
        raise UsageError(f"{new} is no directory; move or copy the data directory first")
    with store.held(f"nearshot move {old} {new}"):
        with store.reading() as catalog:
            known, root_id = _root_of(catalog, old, target)
            sample = catalog.sample_images(root_id, LOOKED_AT)
        if not sample:
            raise UsageError(f"no image of {known} is indexed; run `nearshot index {target}`")
        missing = _count_missing(there, sample)  # over a network, perhaps: nobody who writes waits for it
        if 2 * missing > len(sample):
            raise UsageError(
                f"{target} is not what {known} was: of {len(sample)} images that were looked for, {missing} are not "
                f"there or have another size; to index it as another, run `nearshot index {target}`"
            )
        with store.writing() as editor:
            _root_of(editor, old, target)
            images = editor.move_root(root_id, target)
    return Moved(known, target, images, len(sample), missing)


def _root_of(catalog: Catalog, old: AnyPath, target: str) -> tuple[str, int]:
    """What the store calls a directory, and its id; UsageError where it is none that may become the target."""
    roots = {path: root_id for root_id, path in catalog.roots().items()}
    known = next((path for path in (named(old), str(old.absolute()), named(resolved(old))) if path in roots), None)
    if known is None:
        raise UsageError(f"{old} is not indexed; there are {', '.join(roots) or 'none'}")
    if known == target:
        raise UsageError(f"{target} is where it lies already")
    if target in roots and catalog.has_images(roots[target]):
        raise UsageError(
            f"{target} is indexed itself: `nearshot forget {target}`, and then move; or `nearshot forget {known}`, if what "
            "was said of its images may be lost"
        )
    return known, roots[known]


def _count_missing(there: AnyPath, sample: list[tuple[str, int]]) -> int:
    """How many of some images, by path and size, are not there or have another size. AwayError where nobody can tell."""

    def is_as_it_was(image: tuple[str, int]) -> bool:
        path, size = image
        try:
            return state_of(there / path).size == size
        except AwayError:
            raise
        except OSError:
            return False

    looked_at = in_order(is_as_it_was, sample, workers=AT_ONCE, ahead=AT_ONCE)
    return sum(not same for _, same in looked_at)
