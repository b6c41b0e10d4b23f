"""Moving: a data directory that lies elsewhere now stays what it was to the store; nothing is read again."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nearshot.indexer.intents import finish_intents
from nearshot.schema.errors import UsageError
from nearshot.schema.store import Store

LOOKED_AT = 1000
"""Images, evenly among all, that are looked for at the new place: enough to tell another directory, and done in a moment."""


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


def move_root(store: Store, old: Path, new: Path) -> Moved:
    """Have a store take a data directory for the one where its files lie now.

    UsageError where the store knows no such directory, where there is none at the new place or the store knows that one
    already, or where more than half of the images that are looked for are not there as they were.
    """
    target = os.path.realpath(new)
    if not Path(target).is_dir():
        raise UsageError(f"{new} is no directory; move or copy the data directory first")
    with store.held(f"nearshot move {old} {new}"):
        with store.writing() as editor:
            roots = {path: root_id for root_id, path in editor.roots().items()}
            named = [path for path in (str(old), str(old.absolute()), os.path.realpath(old)) if path in roots]
            if not named:
                raise UsageError(f"{old} is not indexed; there are {', '.join(roots) or 'none'}")
            if target in roots:
                raise UsageError(
                    f"{target} is known to the store already: `nearshot index {target}` brings it up to date, "
                    f"`nearshot forget {named[0]}` takes the other out"
                )
            root_id = roots[named[0]]
            sample = editor.sample_images(root_id, LOOKED_AT)
            missing = sum(_size(f"{target}/{path}") != size for path, size in sample)
            if 2 * missing > len(sample):
                raise UsageError(
                    f"{target} is not what {named[0]} was: of {len(sample)} images that were looked for, {missing} are not "
                    f"there or have another size; to index it as another, run `nearshot index {target}`"
                )
            images = editor.move_root(root_id, named[0], target)
        finish_intents(store)
    return Moved(named[0], target, images, len(sample), missing)


def _size(path: str) -> int | None:
    try:
        return Path(path).stat().st_size
    except OSError:
        return None
