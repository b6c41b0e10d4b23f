"""`nearshot review`: the queries that nobody has decided, one after the other; a key says what each shows."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

from nearshot.commands import completion
from nearshot.commands.common import flag, json_option, near, printable, reports_errors, store_option
from nearshot.schema.errors import DecidedError, NearshotError, UsageError
from nearshot.schema.location import Location
from nearshot.schema.paths import path_of, read_file

if TYPE_CHECKING:
    from nearshot.evaluation.review import Group, Review
    from nearshot.schema.store import Store

LINES = 18
"""Of a picture."""


@click.command("review")
@click.option("--category", shell_complete=completion.categories, help="Only this category. Default: all.")
@click.option(
    "--backbone", shell_complete=completion.backbones, help="By the vectors of this backbone. Default: the best one."
)
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="Groups to name at once.")
@click.option("--all", "every", is_flag=True, help="Those that match a label, too.")
@click.option(
    "--pictures/--no-pictures",
    default=None,
    help="Draw each picture in the terminal. Default: where COLORTERM says that it can.",
)
@json_option
@store_option
@reports_errors
def review_command(
    store_location: Location,
    *,
    category: str | None,
    backbone: str | None,
    limit: int,
    every: bool,
    pictures: bool | None,
    as_json: bool,
) -> None:
    """Decide the unlabelled queries that are unknown or ambiguous, most useful first: one key a label.

    In a terminal each is shown with its labels' keys; what a key says is kept before the next one is shown. Pictures that are
    nearly the same are decided together. Elsewhere, and with --json, they are listed. The page has the same (`nearshot serve`).
    """
    from nearshot.evaluation.review import review
    from nearshot.schema.store import Store

    with Store(store_location) as store:

        def waiting(skipped: int = 0) -> Review:
            return review(store, category, backbone=backbone, limit=limit + skipped, every=every)

        if as_json:
            click.echo(json.dumps(waiting().as_json()))
        elif sys.stdin.isatty() and sys.stdout.isatty():
            if pictures is None:
                pictures = os.environ.get("COLORTERM") in ("truecolor", "24bit") and not os.environ.get("NO_COLOR")
            session = _Session(store, waiting(), pictures=pictures)
            try:
                while session.ask():
                    if not session.groups:
                        session.take(waiting(session.skipped))
            finally:
                click.echo(session.in_words())
        else:
            _list(waiting())


def _list(review: Review) -> None:
    for group in review.groups:
        alike = f", and {len(group.ids) - 1} that are nearly the same" if len(group.ids) > 1 else ""
        click.echo(f"{group.value:.3f}  {near(group.paths[0])}  ({_told(group)}){alike}")
    if not review.groups:
        click.echo("nothing to decide: every query is known, or clear")
    elif review.images > (told := sum(len(group.ids) for group in review.groups)):
        click.echo(f"{review.images - told} more wait; name more with --limit")
    if review.groups:
        click.echo(
            "next: nearshot label IMAGE LABEL, or nearshot reject IMAGE; in a terminal, or on the page, by one key each"
        )


def _told(group: Group) -> str:
    guesses = ", ".join(f"{printable(guess.label)} {guess.score:.3f}" for guess in group.guesses)
    return f"{printable(group.category)}: {group.verdict}, nearest {guesses}"


@dataclass(frozen=True, slots=True)
class _Said:
    """What was said of a group: a label, or None where it shows none of them."""

    group: Group
    paths: tuple[str, ...]
    label: str | None


class _Session:
    """A person at a terminal: what waits, what was said, and what was skipped."""

    def __init__(self, store: Store, review: Review, *, pictures: bool) -> None:
        self.groups: list[Group] = []
        self._store, self._pictures = store, pictures
        self._skipped: set[int] = set()
        self._said: list[_Said] = []
        self.take(review)

    @property
    def skipped(self) -> int:
        """How many pictures were skipped."""
        return len(self._skipped)

    def take(self, review: Review) -> None:
        """What waits by now, but for what was skipped."""
        self.groups = [group for group in review.groups if not self._skipped.issuperset(group.ids)]
        self._images, self._keys = review.images, review.keys

    def ask(self) -> bool:
        """Show what comes first, and do what a key says; False at the end."""
        if not self.groups:
            return False
        group = self.groups[0]
        self._show(group)
        labels, best = self._keys[group.category], group.guesses[0].label if group.guesses else None
        while True:
            try:
                key = click.getchar().lower()
            except EOFError:
                return False
            if key in ("q", "\x04", "\x1b"):
                return False
            if key == "s":
                self._skipped.update(group.ids)
                self.groups.pop(0)
                return True
            if key == "u":
                self._undo()
                return True
            if key == "." and len(group.ids) > 1:
                self.groups[:1] = _one_by_one(group)
                return True
            if key == "o":
                click.launch(group.paths[0])
                continue
            label: str | None
            if key == "/":
                try:
                    label = click.prompt("label", default="", show_default=False).strip()
                except click.Abort as error:  # Ctrl-C
                    raise KeyboardInterrupt from error
            else:
                label = labels.get(key) or (best if key in ("\r", "\n", " ") else None)
            if label or key == "n":
                self._say(group, label or None)
                return True
            if key != "/":
                click.echo(f"{printable(key)} says nothing here")

    def _show(self, group: Group) -> None:
        done = sum(len(said.paths) for said in self._said)
        click.echo(f"\n[{done} of {self._images + done}]  {_told(group)}")
        alike = (
            f"  and {len(group.ids) - 1} that are nearly the same (. takes them one by one)"
            if len(group.ids) > 1
            else ""
        )
        click.echo(f"{near(group.paths[0])}{alike}")
        if self._pictures:
            self._draw(group.paths[0])
        keys = [f"{key} {printable(label)}" for key, label in self._keys[group.category].items()]
        click.echo(click.wrap_text("   ".join(keys), width=shutil.get_terminal_size().columns - 1))
        enter = f"Enter {printable(group.guesses[0].label)}, " if group.guesses else ""
        click.echo(f"{enter}N none of these, / another label, S skip, U undo, O open, Q quit")

    def _draw(self, path: str) -> None:
        from nearshot.backbones.decode import decode
        from nearshot.commands.terminal_picture import drawn

        try:
            picture = decode(read_file(path_of(path))).picture
        except (OSError, NearshotError) as error:
            click.echo(f"(it cannot be shown: {printable(str(error))})")
            return
        click.echo(drawn(picture, shutil.get_terminal_size().columns - 1, LINES), color=True)

    def _say(self, group: Group, label: str | None) -> None:
        """Say it of each picture of a group, each by itself; what cannot be said is told, and waits on."""
        from nearshot.indexer.feedback import add_shot, reject

        done, failed = [], []
        for path in group.paths:
            try:
                if label is None:
                    reject(self._store, path_of(path), group.category)
                else:
                    add_shot(self._store, path_of(path), label, group.category)
                done.append(path)
            except DecidedError:
                click.echo(f"{near(path)} had been decided elsewhere")
            except NearshotError as error:
                failed.append(path)
                click.echo(printable(error.told(flag)))
        if done:
            self._said.append(_Said(group, tuple(done), label))
            many = f", {len(done)} pictures" if len(done) > 1 else ""
            click.echo(f"-> {'none of these' if label is None else printable(label)}{many}")
        self._images -= len(group.paths) - len(failed)
        self.groups[:1] = [_some(group, failed)] if failed else []

    def _undo(self) -> None:
        from nearshot.indexer.feedback import undo
        from nearshot.schema.vocabulary import Action

        if not self._said:
            click.echo("there is nothing to undo")
            return
        said = self._said.pop()
        action = Action.REJECT if said.label is None else Action.LABEL
        back, kept = [], []
        for path in said.paths:
            try:
                undo(self._store, path_of(path), action, said.group.category)
                back.append(path)
            except NearshotError as error:
                click.echo(printable(error.told(flag)))
                if not isinstance(error, UsageError):  # else there is nothing to take back any more
                    kept.append(path)
        if kept:
            self._said.append(replace(said, paths=tuple(kept)))
        if back:
            self._images += len(back)
            self.groups.insert(0, _some(said.group, back))
            click.echo("taken back")

    def in_words(self) -> str:
        """What was done, for the end."""
        rejected = sum(len(said.paths) for said in self._said if said.label is None)
        labelled = sum(len(said.paths) for said in self._said) - rejected
        left = f"; {self._images} wait" if self._images else "; nothing is left to decide"
        return f"{labelled} labelled, {rejected} of none of these, {len(self._skipped)} skipped{left}"


def _some(group: Group, paths: list[str]) -> Group:
    """A group of some of its pictures."""
    ids = dict(zip(group.paths, group.ids, strict=True))
    return replace(group, ids=[ids[path] for path in paths], paths=paths)


def _one_by_one(group: Group) -> list[Group]:
    return [_some(group, [path]) for path in group.paths]
