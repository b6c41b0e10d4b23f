"""`nearshot label` and `nearshot reject`: what query images show, said by a person."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from nearshot.commands import completion
from nearshot.commands.common import flag, json_option, near, printable, reports_errors, store_option
from nearshot.schema.errors import NearshotError, UsageError
from nearshot.schema.images import UNKNOWN
from nearshot.schema.location import Location
from nearshot.schema.paths import AnyPath, is_there, path_of

CATEGORY = click.option(
    "--category", shell_complete=completion.categories, help="Of this category, where an image lies in several."
)

Said = tuple[dict[str, Any], str]
"""What became of an image: the object that is printed with --json, and the words that are without."""


@click.command("label")
@click.argument("images", nargs=-1, metavar="IMAGE... LABEL")
@CATEGORY
@click.option(
    "--from",
    "listed",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Images and labels from a CSV file: path,label; Unknown rejects.",
)
@click.option(
    "--undo", "take_back", is_flag=True, help="Take it back: the shot goes, unless its file has changed since."
)
@json_option
@store_option
@reports_errors
def label_command(
    images: tuple[str, ...],
    store_location: Location,
    *,
    category: str | None,
    listed: Path | None,
    take_back: bool,
    as_json: bool,
) -> None:
    """Say that each IMAGE, an indexed query, shows LABEL: a copy becomes a shot, which counts from the next query on.

    Each is done by itself: where one cannot be, the others are, and the exit status is 1.
    """
    from nearshot.indexer.feedback import add_shot, reject, undo
    from nearshot.schema.store import Store
    from nearshot.schema.vocabulary import Action

    if (listed is not None) == bool(images) or (listed is not None and take_back):
        raise UsageError("give images and then their label, or --from FILE.csv, or images and --undo")
    if listed is None and not take_back and len(images) < 2:
        raise UsageError("give images and then their LABEL, or --undo to take back what was said")
    if take_back and not is_there(path_of(images[-1])):
        raise UsageError(f"--undo takes images alone, and {images[-1]} is none")
    named = images if take_back else images[:-1]
    pairs = _rows(listed) if listed else [(path_of(image), None if take_back else images[-1]) for image in named]

    with Store(store_location) as store:

        def say(image: AnyPath, label: str | None) -> Said:
            if label is None:
                said = undo(store, image, Action.LABEL, category)
                words = f"no longer a shot of {said.category}/{said.label}: {near(said.shot_path or '')}"
                return {"undone": said.label, "shot": said.shot_path}, words
            if listed is not None and label == UNKNOWN:
                own = reject(store, image, category)
                return {"category": own, "rejected": True}, f"now a negative of {own}: {printable(str(image))}"
            shot = add_shot(store, image, label, category)
            return {"label": label, "shot": str(shot)}, f"now a shot of {label}: {near(str(shot))}"

        _say_all(pairs, say, as_json=as_json)


@click.command("reject")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@CATEGORY
@click.option("--undo", "take_back", is_flag=True, help="Take it back.")
@json_option
@store_option
@reports_errors
def reject_command(
    images: tuple[str, ...], store_location: Location, *, category: str | None, take_back: bool, as_json: bool
) -> None:
    """Say that each IMAGE, an indexed query, shows no label of its category: what is nearer to it than to a shot is unknown."""
    from nearshot.indexer.feedback import reject, undo
    from nearshot.schema.store import Store
    from nearshot.schema.vocabulary import Action

    with Store(store_location) as store:

        def say(image: AnyPath, _: str | None) -> Said:
            own = undo(store, image, Action.REJECT, category).category if take_back else reject(store, image, category)
            words = f"{'no longer' if take_back else 'now'} a negative of {own}: {printable(str(image))}"
            return {"category": own, "rejected": not take_back}, words

        _say_all([(path_of(image), None) for image in images], say, as_json=as_json)


def _say_all(
    pairs: Iterable[tuple[AnyPath, str | None]], say: Callable[[AnyPath, str | None], Said], *, as_json: bool
) -> None:
    """Say something of each image; of one alone, an error is the command's; of several, it is told and the others go on."""
    every = list(pairs)
    failed = 0
    for image, label in every:
        try:
            outcome, words = say(image, label)
        except NearshotError as error:
            if len(every) == 1:
                raise
            failed += 1
            click.echo(f"nearshot: {printable(error.told(flag))}", err=True)
            continue
        click.echo(json.dumps(outcome) if as_json else words)
    if failed:
        click.echo(f"nearshot: {failed} of {len(every)} could not be done", err=True)
        sys.exit(1)


def _rows(file: Path) -> Iterator[tuple[AnyPath, str]]:
    """The images and labels that a CSV file lists, paths relative to where the command is run; UsageError for another."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = [row for row in csv.reader(stream) if row]
    except (ValueError, csv.Error) as error:
        raise UsageError(f"{file} is no CSV file: {error}") from error
    if rows and [cell.strip().lower() for cell in rows[0]] == ["path", "label"]:
        del rows[0]
    for number, row in enumerate(rows, start=1):
        if len(row) != 2 or not all(cell.strip() for cell in row):
            raise UsageError(f"{file}, image {number}: a row is path,label")
    if not rows:
        raise UsageError(f"{file} lists no images")
    return ((path_of(path.strip()), label.strip()) for path, label in rows)
