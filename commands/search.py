"""`nearshot search`: find images by words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from nearshot.commands import completion
from nearshot.commands.common import (
    FiniteRange,
    device_option,
    json_option,
    listed,
    mirror_option,
    near,
    one_of,
    printable,
    reports_errors,
    store_option,
    weights_option,
)
from nearshot.schema.location import Location
from nearshot.schema.numbers import FALSE
from nearshot.schema.vocabulary import Mode, Role

if TYPE_CHECKING:
    from nearshot.retriever.search import Found, Results


@click.command("search")
@click.argument("words", nargs=-1, required=True)
@click.option(
    "--mode",
    type=one_of(Mode),
    default="auto",
    show_default=True,
    help="Compare with captions, with images (by clip), with both, or with what there is.",
)
@click.option("--category", shell_complete=completion.categories, help="Only images of this category.")
@click.option("--label", shell_complete=completion.labels, help="Only images of this label.")
@click.option("--role", type=one_of(Role), help="Only images of this role.")
@click.option("--limit", type=click.IntRange(1, 1_000_000_000), default=20, show_default=True, help="Results to list.")
@click.option(
    "--false",
    type=FiniteRange(FALSE.least, FALSE.most, max_open=True),
    help="List only as many results that on average at most this share is false, as labels and marks tell (such as 0.1).",
)
@click.option("--exact", is_flag=True, help="Compare with all images, without approximate indexes (index --ann).")
@device_option
@weights_option
@json_option
@mirror_option
@store_option
@reports_errors
def search_command(
    words: tuple[str, ...],
    store_location: Location,
    *,
    mirror: str | None,
    mode: str,
    category: str | None,
    label: str | None,
    role: str | None,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Find images by WORDS, best first: by their captions, by what clip sees in them, or by both.

    In captions all words must occur; "quoted words" in that order; AND, OR, NOT and prefix* are understood. Words that begin
    with a dash go after --. With --json, one object per line.
    """
    from nearshot.retriever.label_names import labels_called
    from nearshot.retriever.search import SearchOptions
    from nearshot.retriever.search import search as find
    from nearshot.schema.image_filter import ImageFilter
    from nearshot.schema.store import Store

    wanted = ImageFilter(category=category, label=label, role=Role(role) if role else None)
    with Store(store_location, mirror=mirror) as store:
        results = find(store, " ".join(words), SearchOptions(mode=Mode(mode), wanted=wanted, **chosen), once=True)
        with store.reading() as catalog:
            named = [] if as_json or label or role == Role.QUERY else labels_called(catalog, " ".join(words), category)
    for hit in results.found:
        click.echo(json.dumps(hit.as_json(results.mode), ensure_ascii=False) if as_json else _in_words(hit, results))
    for reason in results.missing:
        click.echo(f"nearshot: searched without {reason}", err=True)
    for line in listed(
        "labels that are called so", [f"{each.category}/{each.label}  {each.shots:,} shots" for each in named]
    ):
        click.echo(line)
    if not as_json:
        if results.stop is not None:
            click.echo(results.stop.in_words())
        click.echo(f"{'' if results.found else 'nothing found; '}mode {_mode(results)}")


def _in_words(hit: Found, results: Results) -> str:
    image = hit.image
    where = "/".join(part for part in (image.category, image.label) if part)
    notes = [f"{kind} {rank}" for kind, rank in hit.ranks.items()] if results.mode == "hybrid" else []
    if hit.score is not None:
        notes.append(f"cosine {hit.score:.3f}")
    line = f"{hit.rank:>3}  {where}  {image.role}  {near(image.path)}" + (f"  ({', '.join(notes)})" if notes else "")
    caption = printable(hit.snippet or hit.caption or "")
    return f"{line}\n     {caption}" if caption else line


def _mode(results: Results) -> str:
    if results.backbone is None:
        return results.mode.value
    how = "" if results.recall is None else f", approximate: recall@10 {results.recall:.3f}; --exact compares with all"
    return f"{results.mode} (images by {results.backbone}{how})"
