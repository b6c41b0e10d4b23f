"""`nearshot search`: find images by the words of their captions."""

from __future__ import annotations

import json
from pathlib import Path

import click

from commands.common import json_option, near, reports_errors, store_option


@click.command()
@click.argument("words", nargs=-1, required=True)
@click.option("--category", help="Only images of this category.")
@click.option("--label", help="Only images of this label.")
@click.option("--role", type=click.Choice(["support", "query"]), help="Only images of this role.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Results to list.")
@json_option
@store_option
@reports_errors
def search(
    words: tuple[str, ...],
    store_directory: Path,
    *,
    category: str | None,
    label: str | None,
    role: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """Find images by WORDS of their captions, best first.

    All words must occur; "quoted words" in that order; AND, OR, NOT and prefix* are understood. Words that begin with a
    dash go after --. With --json, one object a line.
    """
    from retriever.search import search_by_caption
    from schema.captions import ImageFilter
    from schema.images import Role
    from schema.store import Store

    wanted = ImageFilter(category=category, label=label, role=Role(role) if role else None)
    with Store(store_directory) as store:
        found = search_by_caption(store, " ".join(words), wanted, limit=limit)
    for hit in found:
        if as_json:
            click.echo(json.dumps(hit.as_json(), ensure_ascii=False))
        else:
            where = "/".join(part for part in (hit.image.category, hit.image.label) if part)
            click.echo(f"{hit.place:>3}  {where}  {near(hit.image.path)}\n     {hit.snippet}")
    if not found and not as_json:
        click.echo("nothing found; `nearshot caption` writes captions, if there are none yet")
