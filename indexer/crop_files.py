"""The files of crops: written before the rows that speak of them, deleted after, whatever dies in between."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from nearshot.schema.contract import QUERY_DIRECTORY, SUPPORT_DIRECTORY
from nearshot.schema.crops import (
    Crop,
    Cropping,
    crops_of,
    drop_croppings,
    is_recorded,
    put_cropping,
    recrop,
)
from nearshot.schema.disk import delete_file, make_directories, sha256_of, sweep_aside, write_together
from nearshot.schema.editor import Editor
from nearshot.schema.errors import UsageError
from nearshot.schema.intents import Intent, Planned, drop_intent, plan, planned
from nearshot.schema.store import Store, utc_now

IN_THE_WAY = "is there, and no cropping run wrote it; move it away"


class CropFile(NamedTuple):
    """A crop that is to be on the disk, and its bytes."""

    crop: Crop
    data: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Cropped:
    """What became of a picture: its crops; `replaces` are the ids of what was cut out of it for the same destination before."""

    cropping: Cropping
    files: Sequence[CropFile]
    replaces: Sequence[int]


class CropFiles:
    """Writes crops into a data directory, and the rows that tell where they came from. One at a time, with the store held."""

    def __init__(self, store: Store, root: Path, root_id: int, *, threads: int) -> None:
        self._store, self._root, self._root_id, self._threads = store, root, root_id, threads

    def finish(self) -> None:
        """Clear away what a killed run left half done: what it had written is cut anew, what it was to delete goes."""
        with _told(), self._store.writing() as editor:
            for intent in planned(editor):
                if intent.action == Planned.UNCROP:
                    uncrop(editor, intent)
                elif intent.action == Planned.CROP and intent.root_id == self._root_id:
                    path = Path(intent.path)
                    sweep_aside(path.parent)
                    relative = path.relative_to(self._root).as_posix()
                    recrop(editor, self._root_id, relative)
                    if not is_recorded(editor, self._root_id, relative, intent.sha256):
                        _delete_whole(path, intent.sha256)
                    drop_intent(editor, intent)

    def obstacle(self, cropped: Cropped) -> str | None:
        """Name a file of a crop's name that is not that crop, and that no run wrote; None for none."""
        for crop, _ in cropped.files:
            path = self._root / crop.path
            if not os.path.lexists(path):
                continue
            try:
                held = sha256_of(path)
            except OSError:
                return f"{crop.path} {IN_THE_WAY}"
            with self._store.reading() as catalog:
                ours = held == crop.sha256 or is_recorded(catalog, self._root_id, crop.path, held)
            if not ours:
                return f"{crop.path} {IN_THE_WAY}"
        return None

    def commit(self, batch: Sequence[Cropped]) -> int:
        """Write the crops of some pictures, record them, and delete those that they replace; how many those were.

        UsageError where one cannot be written.
        """
        files = [(self._root / crop.path, crop.sha256, data) for cropped in batch for crop, data in cropped.files]
        due = [(path, sha256, data) for path, sha256, data in files if _held(path) != sha256]
        categories = {self._root / crop.path: each.cropping.category for each in batch for crop, _ in each.files}
        intents: list[Intent] = []
        if due:
            with self._store.writing() as editor:
                intents = [self._plan(editor, Planned.CROP, path, sha256, categories[path]) for path, sha256, _ in due]
            self._write([(path, data) for path, _, data in due])
        with self._store.writing() as editor:
            before = crops_of(editor, [cropping_id for each in batch for cropping_id in each.replaces])
            drop_croppings(editor, before)
            kept = {crop.path for cropped in batch for crop, _ in cropped.files}
            for cropped in batch:
                put_cropping(editor, self._root_id, cropped.cropping, [crop for crop, _ in cropped.files])
            for intent in intents:
                drop_intent(editor, intent)
            replaced = [crop for crops in before.values() for crop in crops if crop.path not in kept]
            going = [
                self._plan(editor, Planned.UNCROP, self._root / crop.path, crop.sha256, crop.path.split("/")[0])
                for crop in replaced
            ]
        return self._delete(going)

    def drop(self, cropping_ids: Iterable[int]) -> int:
        """Delete the crops of pictures that are gone, and their rows; how many there were on the disk."""
        with self._store.writing() as editor:
            before = crops_of(editor, cropping_ids)
            drop_croppings(editor, before)
            going = [
                self._plan(editor, Planned.UNCROP, self._root / crop.path, crop.sha256, crop.path.split("/")[0])
                for crops in before.values()
                for crop in crops
            ]
        return self._delete(going)

    def _delete(self, intents: Sequence[Intent]) -> int:
        if not intents:
            return 0
        with _told(), self._store.writing() as editor:
            return sum(uncrop(editor, intent) for intent in intents)

    def _plan(self, editor: Editor, action: Planned, path: Path, sha256: str, category: str) -> Intent:
        return plan(
            editor, action, path=str(path), sha256=sha256, root_id=self._root_id, category=category, created=utc_now()
        )

    def _write(self, files: Sequence[tuple[Path, bytes]]) -> None:
        with _told():
            for directory in dict.fromkeys(path.parent for path, _ in files):
                make_directories(*_missing(directory, self._root))
            write_together(files, threads=self._threads)


@contextmanager
def _told() -> Iterator[None]:
    """Tell of a disk that fails in one clear error; the next run goes on from there."""
    try:
        yield
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        raise UsageError(
            f"cannot write or delete crops{where}: {error.strerror or error}; run it again then"
        ) from error


def uncrop(editor: Editor, intent: Intent) -> bool:
    """Delete a crop that is to go, unless somebody has changed it or moved it away; True where it was there. OSError."""
    deleted = _delete_whole(Path(intent.path), intent.sha256)
    drop_intent(editor, intent)
    return deleted


def _delete_whole(path: Path, sha256: str) -> bool:
    """Delete a file that holds what was written, and the directories that it leaves empty; OSError where that fails."""
    if _held(path) != sha256:
        return False
    delete_file(path)
    for parent in path.parents:
        if parent.name in (SUPPORT_DIRECTORY, QUERY_DIRECTORY):
            break
        try:
            parent.rmdir()
        except OSError:  # it holds something else
            break
    return True


def _held(path: Path) -> str | None:
    """The SHA-256 of a file; None where there is none."""
    try:
        return sha256_of(path)
    except OSError:
        return None


def _missing(directory: Path, root: Path) -> list[Path]:
    """The directories from a data directory down to one, outermost first."""
    below = directory.relative_to(root)
    return [root.joinpath(*below.parts[: depth + 1]) for depth in range(len(PurePosixPath(below).parts))]
