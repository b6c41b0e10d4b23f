"""`nearshot move`: tell the store where a data directory lies now."""

from __future__ import annotations

import json

import click

from nearshot.commands.common import FilePath, json_option, printable, reports_errors, store_option
from nearshot.schema.location import Location
from nearshot.schema.paths import AnyPath


@click.command("move")
@click.argument("old", type=FilePath())
@click.argument("new", type=FilePath())
@json_option
@store_option
@reports_errors
def move_command(old: AnyPath, new: AnyPath, store_location: Location, *, as_json: bool) -> None:
    """Take the data directory OLD for NEW, where its files lie now.

    No file is touched: move or copy the directory first. Nothing is embedded again, and what was said of images, and can be
    undone, goes with it. What was copied, or moved to another disk, is read once more by the next index run.
    """
    from nearshot.indexer.moving import move_root
    from nearshot.schema.store import Store

    with Store(store_location) as store:
        moved = move_root(store, old, new)
    if as_json:
        click.echo(json.dumps(moved.as_json()))
        return
    click.echo(f"{moved.images} images of {printable(moved.old)} are at {printable(moved.new)} now")
    if moved.missing:
        click.echo(
            f"of {moved.looked_at} that were looked at, {moved.missing} are not there or have changed; "
            f"run `nearshot index {printable(moved.new)}`"
        )
