"""Feedback: an indexed query image becomes a shot, or a negative; nothing is embedded again, and all of it can be undone."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nearshot.schema.catalog import Catalog
from nearshot.schema.contract import ADDED, SUPPORT_DIRECTORY, is_label
from nearshot.schema.disk import sha256_of, written_whole
from nearshot.schema.editor import SeenImage
from nearshot.schema.errors import UsageError, option
from nearshot.schema.feedback import FeedbackRow, add_feedback, feedback_in_force, undo_feedback
from nearshot.schema.files import read_indexed
from nearshot.schema.images import FileState, FoundImage
from nearshot.schema.store import Store, utc_now
from nearshot.schema.vocabulary import Action, Role

_SHOT = re.compile(r"shot([0-9]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Named:
    """The query that a user named: its absolute path, bytes, content, data directory and category."""

    path: Path
    data: bytes
    sha256: str
    content_id: int
    root_id: int
    root: Path
    category: str


def add_shot(store: Store, image: Path, label: str, category: str | None = None) -> Path:
    """Copy an indexed query to the place of a new shot of a label, and record both; the path of the shot.

    The vectors are those of its content. Raises UsageError where the image is no indexed query, or where the label is none.
    Writers take turns, those of other processes too: no two ever take the same place.
    """
    if not is_label(label):
        raise UsageError(
            f"{label!r} cannot be a label; take a plain name other than Unknown, {ADDED}, shotN and names of images"
        )
    shot: Path | None = None
    try:
        with store.writing() as editor:
            named = _find(editor, image, category)
            if feedback_in_force(editor, named.content_id, named.category, Action.LABEL):
                raise UsageError(f"{image} was made a shot already; take that back with {option('undo')}")
            straight = "" if _lies_straight(named, label) else label
            shot = _copy(named, named.root / named.category / SUPPORT_DIRECTORY / straight)
            file_stat = shot.stat()
            shot_image = FoundImage(
                str(shot.relative_to(named.root)),
                named.category,
                Role.SUPPORT,
                label,
                shot.stem,
                FileState(file_stat.st_size, file_stat.st_mtime_ns, file_stat.st_ctime_ns),
            )
            editor.put_images(named.root_id, [SeenImage(shot_image, named.content_id)])
            add_feedback(
                editor,
                Action.LABEL,
                category=named.category,
                content_id=named.content_id,
                path=str(named.path),
                label=label,
                shot_path=str(shot),
                created=utc_now(),
            )
    except BaseException:
        if shot is not None:
            shot.unlink(
                missing_ok=True
            )  # what the store does not know of must not become a shot with the next index run
        raise
    return shot


def _copy(named: _Named, directory: Path) -> Path:
    """Write the image as the next shot of a directory, whole or not at all. UsageError where that cannot be done."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        shot = directory / f"shot{_next_number(directory)}{named.path.suffix}"
        with written_whole(shot) as aside:
            aside.write_bytes(named.data)
    except OSError as error:
        raise UsageError(f"cannot write into {directory}: {error.strerror or error}") from error
    return shot


def reject(store: Store, image: Path, category: str | None = None) -> str:
    """Keep an indexed image as a negative of its category; the category. UsageError where it is not indexed."""
    with store.writing() as editor:
        named = _find(editor, image, category)
        if feedback_in_force(editor, named.content_id, named.category, Action.REJECT):
            raise UsageError(f"{image} was rejected already; take that back with {option('undo')}")
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


def undo(store: Store, image: Path, action: Action, category: str | None = None) -> FeedbackRow:
    """Take a piece of feedback back; of a label, the shot's file as well, unless it has changed since. The feedback undone."""
    with store.writing() as editor:
        named = _find(editor, image, category)
        said = feedback_in_force(editor, named.content_id, named.category, action)
        if said is None:
            raise UsageError(f"there is no `nearshot {action} {image}` to take back")
        undo_feedback(editor, said.id, utc_now())
        if said.shot_path is not None:
            shot = Path(said.shot_path)
            if shot.is_file() and sha256_of(shot) == named.sha256:
                placed = editor.images_of(named.content_id)
                editor.remove_images(
                    [placed_image.id for placed_image in placed if Path(placed_image.root, placed_image.path) == shot]
                )
                shot.unlink()
                with suppress(OSError):  # it holds other shots
                    shot.parent.rmdir()
    return said


def _find(catalog: Catalog, image: Path, category: str | None) -> _Named:
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
    own = [query for query in shown if Path(query.root, query.path) == path] or shown
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
    return _Named(path, data, sha256, content_id, first.root_id, Path(first.root), first.category)


def _lies_straight(named: _Named, label: str) -> bool:
    """Tell whether the shots of a label lie straight under the support set, without a directory of the label's name."""
    return label == named.category and not (named.root / named.category / SUPPORT_DIRECTORY / label).is_dir()


def _next_number(directory: Path) -> int:
    numbers = [int(match[1]) for path in directory.iterdir() if (match := _SHOT.fullmatch(path.stem))]
    return max(numbers, default=0) + 1
