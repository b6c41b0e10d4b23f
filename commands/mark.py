"""`nearshot mark`: of single hits, whether they are right."""

from __future__ import annotations

import json
from pathlib import Path

import click

from nearshot.commands.common import (
    FilePath,
    device_option,
    json_option,
    near,
    one_of,
    reports_errors,
    store_option,
    weights_option,
)
from nearshot.schema.errors import UsageError
from nearshot.schema.location import Location
from nearshot.schema.paths import AnyPath
from nearshot.schema.vocabulary import Mode


@click.command("mark")
@click.argument("hits", nargs=-1, required=True, type=FilePath())
@click.option("--words", help="Hits of a search for these words.")
@click.option(
    "--mode",
    type=one_of(Mode),
    default="auto",
    show_default=True,
    help="The search's, with --words.",
)
@click.option("--query", "image", type=FilePath(), help="Hits of this indexed image.")
@click.option("--right/--not", "right", default=None, help="They are right, or they are not.")
@click.option("--undo", is_flag=True, help="Take back what was said of them.")
@device_option
@weights_option
@json_option
@store_option
@reports_errors
def mark_command(
    hits: tuple[AnyPath, ...],
    store_location: Location,
    *,
    words: str | None,
    mode: str,
    image: AnyPath | None,
    right: bool | None,
    undo: bool,
    device: str,
    weights: Path | None,
    as_json: bool,
) -> None:
    """Say that HITS, indexed images, are right hits of a query, or that they are not: `--false` ends lists by it.

    Labelled queries need no marks: what has their label is right.
    """
    from nearshot.retriever.marking import LISTED, mark_files, mark_found
    from nearshot.retriever.search import SearchOptions
    from nearshot.schema.store import Store

    if (words is None) == (image is None):
        raise UsageError("give --words, or --query IMAGE: what they are hits of")
    if (right is None) != undo:
        raise UsageError("give --right or --not, or --undo to take back what was said")
    with Store(store_location) as store:
        if image is not None:
            mark_files(store, image, hits, right)
        else:
            options = SearchOptions(mode=Mode(mode), limit=LISTED, device=device, weights=weights)
            mark_found(store, str(words), options, hits, right)
    said = {None: "no longer marked", True: "right", False: "not right"}[right]
    for path in hits:
        click.echo(json.dumps({"path": str(path), "right": right}) if as_json else f"{said}: {near(str(path))}")
