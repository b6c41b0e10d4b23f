"""`nearshot label` and `nearshot reject`: what a query image shows, said by a person."""

from __future__ import annotations

import json
from pathlib import Path

import click

from nearshot.commands.common import json_option, near, reports_errors, store_option
from nearshot.schema.errors import UsageError

IMAGE = click.argument("image", type=click.Path(path_type=Path))
CATEGORY = click.option("--category", help="Of this category, where the image lies in several.")


@click.command("label")
@IMAGE
@click.argument("label", required=False)
@CATEGORY
@click.option(
    "--undo", "take_back", is_flag=True, help="Take it back: the shot goes, unless its file has changed since."
)
@json_option
@store_option
@reports_errors
def label_command(
    image: Path, label: str | None, store_directory: Path, *, category: str | None, take_back: bool, as_json: bool
) -> None:
    """Say that IMAGE, an indexed query, shows LABEL: a copy of it becomes a shot, which counts from the next query on."""
    from nearshot.indexer.feedback import add_shot, undo
    from nearshot.schema.store import Store
    from nearshot.schema.vocabulary import Action

    if (label is None) != take_back:
        raise UsageError("give LABEL, or --undo to take back what was said")
    with Store(store_directory) as store:
        if label is None:
            said = undo(store, image, Action.LABEL, category)
            outcome = {"undone": said.label, "shot": said.shot_path}
            words = f"no longer a shot of {said.category}/{said.label}: {near(said.shot_path or '')}"
        else:
            shot = add_shot(store, image, label, category)
            outcome, words = {"label": label, "shot": str(shot)}, f"now a shot of {label}: {near(str(shot))}"
    click.echo(json.dumps(outcome) if as_json else words)


@click.command("reject")
@IMAGE
@CATEGORY
@click.option("--undo", "take_back", is_flag=True, help="Take it back.")
@json_option
@store_option
@reports_errors
def reject_command(image: Path, store_directory: Path, *, category: str | None, take_back: bool, as_json: bool) -> None:
    """Say that IMAGE, an indexed query, shows no label of its category: what is nearer to it than to any shot is unknown."""
    from nearshot.indexer.feedback import reject as keep
    from nearshot.indexer.feedback import undo
    from nearshot.schema.store import Store
    from nearshot.schema.vocabulary import Action

    with Store(store_directory) as store:
        image_category = (
            undo(store, image, Action.REJECT, category).category if take_back else keep(store, image, category)
        )
    words = (
        f"no longer a negative of {image_category}: {image}"
        if take_back
        else f"now a negative of {image_category}: {image}"
    )
    click.echo(json.dumps({"category": image_category, "rejected": not take_back}) if as_json else words)
