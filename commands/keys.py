"""`nearshot keys`: who may ask a service, and who may change its store."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from nearshot.commands.common import json_option, reports_errors, store_option
from nearshot.schema.errors import UsageError, option
from nearshot.schema.location import Location

Function = TypeVar("Function", bound=Callable[..., Any])
KEYS_FILE = "keys.json"


def _file_option(function: Function) -> Function:
    option = click.option(
        "--file",
        "file",
        type=click.Path(path_type=Path, dir_okay=False),
        help="The file of keys. Default: STORE/keys.json.",
    )
    return option(function)


def _own_file(location: Location) -> Path:
    """The file in a store's directory; UsageError where it has none."""
    if not isinstance(location, Path):
        raise UsageError(f"a store in PostgreSQL has no file of keys of its own; name one with {option('file')}")
    return location / KEYS_FILE


@click.group()
@store_option
@click.pass_context
def keys(context: click.Context, store_location: Location) -> None:
    """Make, list and revoke the API keys that `nearshot serve --api-keys FILE` asks for.

    The file holds hashes only. A service that runs follows it.
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
    click.echo(add_key(file or _own_file(store_location), name, scopes))


@keys.command("list")
@_file_option
@json_option
@store_option
@reports_errors
def list_(file: Path | None, store_location: Location, *, as_json: bool) -> None:
    """List the keys: names, what they may do, and when they were made."""
    from nearshot.service.keys import read_keys

    for key in read_keys(file or _own_file(store_location)):
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

    revoke_key(file or _own_file(store_location), name)
    click.echo(f"revoked {name}")
