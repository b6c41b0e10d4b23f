"""`nearshot keys`: who may ask a service, and who may change its store."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nearshot.commands.common import json_option, own_file, reports_errors, store_option
from nearshot.schema.location import Location

if TYPE_CHECKING:
    from nearshot.schema.store import Store

Function = TypeVar("Function", bound=Callable[..., Any])


def _file_option(function: Function) -> Function:
    option = click.option(
        "--file",
        "file",
        type=click.Path(path_type=Path, dir_okay=False),
        help="A file of keys. Default: STORE/keys.json; a store in PostgreSQL has a table of its own.",
    )
    return option(function)


@contextmanager
def _kept(file: Path | None, location: Location) -> Iterator[Path | Store]:
    """Where the keys are: in a file, or in a store that has no directory for one."""
    from nearshot.schema.store import Store

    if (own := file or own_file(location)) is not None:
        yield own
        return
    with Store(location) as store:
        yield store


@click.group()
@store_option
@click.pass_context
def keys(context: click.Context, store_location: Location) -> None:
    """Make, list and revoke the API keys that `nearshot serve --api-keys store` (or FILE) asks for.

    What is kept are hashes only. A service that runs follows it; of a store in PostgreSQL, all services over it do.
    """
    context.default_map = {name: {"store_location": str(store_location)} for name in ("add", "list", "revoke")}


@keys.command()
@click.argument("name")
@click.option("--write", is_flag=True, help="The key may also index, label, reject and add images.")
@_file_option
@store_option
@reports_errors
def add(name: str, file: Path | None, store_location: Location, *, write: bool) -> None:
    """Make a key, and print its secret: this once, for it is kept nowhere."""
    from nearshot.service.keys import Access, add_key

    scopes = [Access.READ, *([Access.WRITE] if write else [])]
    with _kept(file, store_location) as kept:
        click.echo(add_key(kept, name, scopes))


@keys.command("list")
@_file_option
@json_option
@store_option
@reports_errors
def list_(file: Path | None, store_location: Location, *, as_json: bool) -> None:
    """List the keys: names, what they may do, and when they were made."""
    from nearshot.service.keys import read_keys

    with _kept(file, store_location) as kept:
        every = read_keys(kept)
    for key in every:
        key_fields = {"name": key.name, "scopes": list(key.scopes), "created": key.created}
        click.echo(json.dumps(key_fields) if as_json else f"{key.name}  {' '.join(key.scopes)}  {key.created}")


@keys.command()
@click.argument("name")
@_file_option
@store_option
@reports_errors
def revoke(name: str, file: Path | None, store_location: Location) -> None:
    """Take a key back: it is refused from now on."""
    from nearshot.service.keys import revoke_key

    with _kept(file, store_location) as kept:
        revoke_key(kept, name)
    click.echo(f"revoked {name}")
