"""Feedback: an indexed query image becomes a shot, or a negative; nothing is embedded again, and all of it can be undone."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath

from nearshot.indexer.intents import finish_intents, is_whole, make_shot, take_back
from nearshot.schema.catalog import Catalog
from nearshot.schema.contract import ADDED, SUPPORT_DIRECTORY, is_label
from nearshot.schema.editor import Editor
from nearshot.schema.errors import AwayError, DecidedError, NearshotError, UsageError, option
from nearshot.schema.feedback import FeedbackRow, add_feedback, feedback_in_force, undo_feedback
from nearshot.schema.files import read_indexed
from nearshot.schema.intents import Intent, Planned, drop_intent, is_planned, plan, planned
from nearshot.schema.paths import (
    AnyPath,
    delete_file,
    is_directory,
    is_file,
    is_there,
    make_directories,
    names_in,
    path_of,
)
from nearshot.schema.store import Store, utc_now
from nearshot.schema.vocabulary import Action, Role

_SHOT = re.compile(r"shot([0-9]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Named:
    """The query that a user named: its absolute path, bytes, content, data directory and category."""

    path: AnyPath
    data: bytes
    sha256: str
    content_id: int
    root_id: int
    root: AnyPath
    category: str


def add_shot(store: Store, image: AnyPath, label: str, category: str | None = None) -> AnyPath:
    """Copy an indexed query to the place of a new shot of a label, and record both; the path of the shot.

    The vectors are those of its content. Raises UsageError where the image is no indexed query, or where the label is none.
    Writers take turns, those of other processes too: no two ever take the same place.
    """
    if not is_label(label):
        raise UsageError(
            f"{label!r} cannot be a label; take a plain name other than Unknown, {ADDED}, shotN and names of images"
        )
    finish_intents(store)
    while True:
        with store.writing() as editor:
            named = _find(editor, image, category)
            _refuse_decided(editor, named, image)
            straight = "" if _lies_straight(named, label) else label
            intent = plan(
                editor,
                Planned.LABEL,
                path=str(_next_shot(editor, named, named.root / named.category / SUPPORT_DIRECTORY / straight)),
                sha256=named.sha256,
                root_id=named.root_id,
                category=named.category,
                content_id=named.content_id,
                label=label,
                query=str(named.path),
                created=utc_now(),
            )
        if _carry_out(store, intent, named.data):
            return path_of(intent.path)


def _carry_out(store: Store, intent: Intent, data: bytes) -> bool:
    """Make a shot; False where somebody dropped the intent, or took its place. UsageError where it cannot be written."""
    shot = path_of(intent.path)
    try:
        with store.writing() as editor:
            if not is_planned(editor, intent):
                return False
            if is_there(shot):
                drop_intent(editor, intent)
                return False
            make_shot(editor, intent, data)
    except FileExistsError:  # somebody else took its place, who knows nothing of this store
        with store.writing() as editor:
            if is_planned(editor, intent):
                drop_intent(editor, intent)
        return False
    except BaseException as error:
        # What the store does not know of must not become a shot with the next index run. Where it cannot be taken back now, or
        # another command has finished it already, the intent says so to the next one.
        with suppress(NearshotError, OSError), store.writing() as editor:
            if is_planned(editor, intent):
                if is_whole(shot, intent.sha256):  # what is there otherwise is not ours
                    delete_file(shot)
                drop_intent(editor, intent)
        if isinstance(error, OSError) and not isinstance(error, AwayError):
            raise UsageError(f"cannot write into {shot.parent}: {error.strerror or error}") from error
        raise
    return True


def reject(store: Store, image: AnyPath, category: str | None = None) -> str:
    """Keep an indexed image as a negative of its category; the category. UsageError where it is not indexed."""
    finish_intents(store)
    with store.writing() as editor:
        named = _find(editor, image, category)
        _refuse_decided(editor, named, image)
        add_feedback(
            editor,
            Action.REJECT,
            category=named.category,
            content_id=named.content_id,
            path=str(named.path),
            label=None,
            shot_path=None,
            created=utc_now(),
        )
    return named.category


def undo(store: Store, image: AnyPath, action: Action, category: str | None = None) -> FeedbackRow:
    """Take a piece of feedback back; of a label, the shot's file as well, unless it has changed since. The feedback undone."""
    finish_intents(store)
    with store.writing() as editor:
        named = _find(editor, image, category)
        said = feedback_in_force(editor, named.content_id, named.category, action)
        if said is None:
            raise UsageError(f"there is no `nearshot {action} {image}` to take back")
        if said.shot_path is None:
            undo_feedback(editor, said.id, utc_now())
            return said
        intent = plan(
            editor,
            Planned.UNDO,
            path=_where_it_lies_now(editor, said.shot_path, named.content_id),
            sha256=named.sha256,
            root_id=named.root_id,
            category=named.category,
            content_id=named.content_id,
            feedback_id=said.id,
            created=utc_now(),
        )
    try:
        with store.writing() as editor:
            if is_planned(editor, intent):  # else another command has finished it
                take_back(editor, intent)
    except AwayError:
        raise
    except OSError as error:
        raise UsageError(
            f"cannot delete {said.shot_path}: {error.strerror or error}; the next command tries again"
        ) from error
    return said


def _refuse_decided(editor: Editor, named: _Named, image: AnyPath) -> None:
    """DecidedError where the image was made a shot (or is being made one by somebody else), or rejected: what is said of it
    twice would contradict itself.
    """
    about = named.content_id, named.category
    being_made = any(
        intent.action == Planned.LABEL and (intent.content_id, intent.category) == about for intent in planned(editor)
    )
    for action, done in ((Action.LABEL, "made a shot"), (Action.REJECT, "rejected")):
        if (action == Action.LABEL and being_made) or feedback_in_force(editor, *about, action):
            raise DecidedError(f"{image} was {done} already; take that back with {option('undo')}")


def _where_it_lies_now(editor: Editor, shot: str, content_id: int) -> str:
    """The path of a shot, which its data directory may have taken along since."""
    if is_file(path_of(shot)):
        return shot
    placed = (image for image in editor.images_of(content_id) if shot.endswith(f"/{image.path}"))
    return next((f"{image.root}/{image.path}" for image in placed), shot)


def _find(catalog: Catalog, image: AnyPath, category: str | None) -> _Named:
    """Find what the store knows of an image: by its path, else by its content."""
    path, data, sha256, content_id = read_indexed(catalog, image)
    placed = catalog.images_of(content_id) if content_id is not None else []
    roles = {
        image_id: shown_image.role
        for image_id, shown_image in catalog.shown([placed_image.id for placed_image in placed]).items()
    }
    shown = [placed_image for placed_image in placed if roles[placed_image.id] == Role.QUERY]
    if placed and not shown:
        raise UsageError(f"{image} is a shot already; only queries can be labelled or rejected")
    own = [query for query in shown if f"{query.root}/{query.path}" == str(path)] or shown
    wanted = [query for query in own if category in (None, query.category)]
    if content_id is None or not wanted:
        where = f" in category '{category}'" if own else ""
        raise UsageError(
            f"{image} is not indexed{where} as it is now; put it below <category>/6.preprocessed/ and run `nearshot index`"
        )
    categories = sorted({query.category for query in wanted})
    if len(categories) > 1:
        raise UsageError(
            f"{image} lies in several categories: {', '.join(categories)}; name one with {option('category')}"
        )
    first = wanted[0]
    return _Named(path, data, sha256, content_id, first.root_id, path_of(first.root), first.category)


def _lies_straight(named: _Named, label: str) -> bool:
    """Tell whether the shots of a label lie straight under the support set, without a directory of the label's name."""
    return label == named.category and not is_directory(named.root / named.category / SUPPORT_DIRECTORY / label)


def _next_shot(editor: Editor, named: _Named, directory: AnyPath) -> AnyPath:
    """The next shot of a directory that is neither there nor about to be; UsageError where the directory cannot be made."""
    if not is_directory(named.root / named.category):
        raise UsageError(
            f"{named.root / named.category} is not there; mount it again, or say where it lies now (`nearshot move OLD NEW`)"
        )
    try:
        make_directories(directory.parent, directory)
        names = [PurePosixPath(name).stem for name in names_in(directory)]
    except AwayError:
        raise
    except OSError as error:
        raise UsageError(f"cannot write into {directory}: {error.strerror or error}") from error
    about_to_be = (PurePosixPath(intent.path) for intent in planned(editor))
    names += [path.stem for path in about_to_be if path.parent == PurePosixPath(str(directory))]
    numbers = [int(match[1]) for name in names if (match := _SHOT.fullmatch(name))]
    return directory / f"shot{max(numbers, default=0) + 1}{named.path.suffix}"
