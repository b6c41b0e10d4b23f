"""Carrying out intents: files are written and deleted with the rows that speak of them, whatever dies in between."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from nearshot.indexer.crop_files import uncrop
from nearshot.schema.disk import sweep_aside
from nearshot.schema.editor import Editor, SeenImage
from nearshot.schema.errors import AwayError
from nearshot.schema.feedback import add_feedback, undo_feedback
from nearshot.schema.images import FoundImage
from nearshot.schema.intents import Intent, Planned, drop_intent, planned
from nearshot.schema.paths import AnyPath, delete_file, is_file, path_of, sha256_of, state_of, write_file
from nearshot.schema.store import Store, utc_now
from nearshot.schema.vocabulary import Action, Role

log = logging.getLogger(__name__)


class Finished(NamedTuple):
    """Something that a killed command had begun: the file, and what has become of it, in words."""

    path: str
    outcome: str


def finish_intents(store: Store, *, indexing: bool = False) -> list[Finished]:
    """Finish what killed commands began, or drop it where nothing of it is there.

    A label whose shot is whole on the disk becomes what it was to be; what was taken back goes. An image that was being added
    is left to an index run (`indexing`), which takes it up as any other file.
    """
    with store.reading() as catalog:
        left = planned(catalog)
    if not left:
        return []
    done: list[Finished] = []
    # Whoever carries out an intent holds the write lock all the while: one that is seen here is nobody's.
    with store.writing() as editor:
        for intent in planned(editor):
            try:
                with editor.connection.begin_nested():
                    if outcome := _finish(editor, intent, indexing=indexing):
                        done.append(Finished(intent.path, outcome))
            except OSError as error:  # left for the next command
                log.warning("%s: what was cut off cannot be finished yet: %s", intent.path, error.strerror or error)
    return done


def _finish(editor: Editor, intent: Intent, *, indexing: bool) -> str | None:
    """Finish or drop an intent; what was finished, in words. OSError where its file cannot be dealt with now."""
    path = path_of(intent.path)
    if intent.action == Planned.CROP:
        return None  # a cropping run holds the store, and not the write lock, while it writes: it is its own to finish
    if isinstance(path, Path):
        sweep_aside(path.parent)
    if intent.action == Planned.UNCROP:
        uncrop(editor, intent)
        return None
    if intent.action == Planned.UNDO:
        take_back(editor, intent)
        return "taking it back was cut off, and is finished"
    if intent.action == Planned.REMOVE:
        take_away(editor, intent)
        return "removing it was cut off, and is finished"
    if not is_whole(path, intent.sha256):
        drop_intent(editor, intent)
    elif intent.action == Planned.LABEL:
        record_shot(editor, intent)
        return f"labelling it {intent.label} was cut off, and is finished"
    elif indexing:
        drop_intent(editor, intent)
    return None


def make_shot(editor: Editor, intent: Intent, data: bytes) -> None:
    """Write the shot of a label, and record it; OSError where it cannot be written."""
    write_file(path_of(intent.path), data)
    record_shot(editor, intent)


def record_shot(editor: Editor, intent: Intent) -> None:
    """Record a shot that is on the disk, and the label that it was made by."""
    path = path_of(intent.path)
    [root] = [root for root_id, root in editor.roots().items() if root_id == intent.root_id]
    assert intent.content_id is not None, "a label is of an indexed content"
    shot = FoundImage(
        intent.path.removeprefix(f"{root}/"),
        intent.category,
        Role.SUPPORT,
        intent.label,
        path.stem,
        state_of(path),
    )
    editor.put_images(intent.root_id, [SeenImage(shot, intent.content_id)])
    add_feedback(
        editor,
        Action.LABEL,
        category=intent.category,
        content_id=intent.content_id,
        path=intent.query or "",
        label=intent.label,
        shot_path=intent.path,
        created=intent.created,
    )
    drop_intent(editor, intent)


def take_back(editor: Editor, intent: Intent) -> None:
    """Delete the shot of a label, unless it has changed since, and record that neither holds any longer."""
    assert intent.feedback_id is not None
    undo_feedback(editor, intent.feedback_id, utc_now())
    if take_away(editor, intent):
        path = path_of(intent.path)
        with suppress(OSError):  # it holds other shots
            if isinstance(path, Path):
                path.parent.rmdir()


def take_away(editor: Editor, intent: Intent) -> bool:
    """Take an image out of the index, and delete its file, unless it has changed since; True where it was deleted. OSError."""
    path = path_of(intent.path)
    assert intent.content_id is not None
    placed = [image.id for image in editor.images_of(intent.content_id) if f"{image.root}/{image.path}" == intent.path]
    whole = is_whole(path, intent.sha256)
    if whole or not is_file(path):
        editor.remove_images(placed)
    if whole:
        delete_file(path)
    drop_intent(editor, intent)
    return whole


def is_whole(path: AnyPath, sha256: str) -> bool:
    """Tell whether a file is there as it was to be written; AwayError where nobody can tell."""
    try:
        return sha256_of(path) == sha256
    except AwayError:
        raise
    except OSError:
        return False
