"""Completion: what a shell offers for categories, labels and backbones, from the store that a command would use."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from nearshot.commands.common import STORE
from nearshot.schema.errors import NearshotError
from nearshot.schema.location import location_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nearshot.schema.catalog import Catalog


def categories(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """The categories that begin so."""
    return _known(context, incomplete, _categories)


def labels(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """The labels that begin so: of the category that was chosen, else of all."""
    chosen = context.params.get("category")
    return _known(
        context,
        incomplete,
        lambda catalog: [
            label for each in ([chosen] if chosen else _categories(catalog)) for label in catalog.support_labels(each)
        ],
    )


def backbones(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """The backbones that the store was indexed with, or that have a name of their own, and begin so."""
    from nearshot.backbones.spec import NAMED

    return _known(context, incomplete, lambda catalog: [row.name for row in catalog.backbones()], NAMED)


def _categories(catalog: Catalog) -> list[str]:
    from nearshot.schema.vocabulary import Role

    return [category for role in Role for category in catalog.categories(role)]


def _known(
    context: click.Context,
    incomplete: str,
    names: Callable[[Catalog], Iterable[str]],
    always: Iterable[str] = (),
) -> list[str]:
    from nearshot.schema.store import Store, is_there

    location = location_of(context.params.get("store_location") or os.environ.get("NEARSHOT_STORE") or STORE)
    known = set(always)
    try:
        if is_there(location):
            with Store(location, upgrade=False) as store, store.reading() as catalog:
                known.update(names(catalog))
    except NearshotError:  # the command itself will say so
        pass
    return sorted(name for name in known if name.startswith(incomplete))
