"""`nearshot forget`: take a data directory out of the store."""

from __future__ import annotations

import json

import click

from nearshot.commands.common import FilePath, json_option, reports_errors, store_option
from nearshot.schema.errors import UsageError
from nearshot.schema.location import Location
from nearshot.schema.paths import AnyPath, named, resolved


@click.command("forget")
@click.argument("data", type=FilePath())
@json_option
@store_option
@reports_errors
def forget_command(data: AnyPath, store_location: Location, *, as_json: bool) -> None:
    """Take the images of DATA out of the index, whether the directory is still there or not.

    No file of yours is touched, and vectors stay in the store: indexing DATA again costs no embedding.
    """
    from nearshot.schema.store import Store

    root = named(resolved(data))
    with Store(store_location) as store, store.held(f"nearshot forget {root}", root), store.writing() as editor:
        root_id = editor.root_id(root)
        if root_id is None:
            raise UsageError(f"{root} is not indexed; there are {', '.join(editor.roots().values()) or 'none'}")
        removed = editor.forget_root(root_id)
    click.echo(json.dumps({"removed": removed}) if as_json else f"forgot {removed} images of {root}")
