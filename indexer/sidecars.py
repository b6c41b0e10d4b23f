"""Taking up sidecars: captions that people wrote into text files beside their images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nearshot.indexer.discover import Discovery
from nearshot.schema.contract import Breach
from nearshot.schema.images import FileState, Sidecar
from nearshot.schema.paths import AnyPath, read_file
from nearshot.schema.sidecars import (
    Captioned,
    TakenSidecar,
    UsableImage,
    drop_sidecars,
    move_sidecar,
    take_sidecars,
    taken_sidecars,
    usable_images,
)
from nearshot.schema.store import Store, utc_now

MAX_BYTES = 64 * 1024
"""A longer file is no caption."""

BATCH = 1000


@dataclass(frozen=True, slots=True)
class _Unusable:
    reason: str


def take_up(store: Store, root: AnyPath, root_id: int, discovery: Discovery) -> tuple[int, list[Breach]]:
    """Take the words of new and changed sidecars as captions by hand, and drop those of sidecars that are gone.

    Returns how many were taken, and the files that hold no usable caption, which count as not there. Only files that
    changed, or whose image did, are read.
    """
    with store.reading() as catalog:
        taken = taken_sidecars(catalog.connection, root_id, discovery.categories)
        if not (discovery.sidecars or taken):
            return 0, []
        usable = usable_images(catalog.connection, root_id, discovery.sidecars)
    gone = {
        path: before
        for path, before in taken.items()
        if not discovery.hides(path)
        and (
            path not in usable
            or before.content_id != usable[path].content_id
            or before.state != discovery.sidecars[path].state
        )
    }
    moved = _moved(gone, discovery, usable, taken)
    if gone:
        with store.writing() as editor:
            for path, new in moved.items():
                move_sidecar(editor, gone.pop(path), usable[new].image_id, discovery.sidecars[new].state)
            drop_sidecars(editor, gone)
            taken = taken_sidecars(editor.connection, root_id, discovery.categories)
    due = {path: discovery.sidecars[path] for path in usable if path not in taken}
    return _take(store, root, due, usable)


def _moved(
    gone: Mapping[str, TakenSidecar],
    discovery: Discovery,
    usable: Mapping[str, UsableImage],
    taken: Mapping[str, object],
) -> dict[str, str]:
    """Sidecars that went along with their images, old path to new: the same content, the same size and time of writing."""
    moved: dict[str, str] = {}
    new = [path for path in sorted(usable) if path not in taken]
    for old, before in gone.items():
        for path in new:
            state = discovery.sidecars[path].state
            if (
                old not in discovery.sidecars
                and usable[path].content_id == before.content_id
                and _as_written(state) == _as_written(before.state)
            ):
                moved[old] = path
                new.remove(path)
                break
    return moved


def _as_written(state: FileState) -> tuple[int, int]:
    """What a renaming leaves as it was: the size, and the time of writing."""
    return state.size, state.mtime_ns


def _take(
    store: Store, root: AnyPath, due: Mapping[str, Sidecar], usable: Mapping[str, UsableImage]
) -> tuple[int, list[Breach]]:
    breaches: dict[str, Breach] = {}
    paths = sorted(due)
    count = 0
    for start in range(0, len(paths), BATCH):
        captioned = []
        for path in paths[start : start + BATCH]:
            sidecar = due[path]
            words = _read(root / sidecar.path, sidecar.state)
            if isinstance(words, _Unusable):
                breaches[sidecar.path] = Breach(sidecar.path, words.reason)
            else:
                captioned.append(Captioned(*usable[path], words, sidecar.state))
        if captioned:
            with store.writing() as editor:
                take_sidecars(editor, captioned, utc_now())
        count += len(captioned)
    return count, list(breaches.values())


def _read(path: AnyPath, state: FileState) -> str | _Unusable:
    """The words of a text file, on one line."""
    if state.size > MAX_BYTES:
        return _Unusable(f"a caption file of more than {MAX_BYTES:,} bytes")
    try:
        data = read_file(path)
        words = " ".join(data.decode("utf-8-sig").split())
    except OSError as error:
        return _Unusable(f"a caption file that cannot be read: {error.strerror or error}")
    except UnicodeDecodeError:
        return _Unusable("a caption file that is not UTF-8 text")
    if "\0" in words:
        return _Unusable("a caption file with a NUL character")
    return words or _Unusable("a caption file without words")
