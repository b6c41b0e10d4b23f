"""`nearshot replay`: what would be decided otherwise under another policy."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from nearshot.commands import completion
from nearshot.commands.common import FiniteRange, json_option, printable, reports_errors, score_option, store_option
from nearshot.schema.location import Location

if TYPE_CHECKING:
    from nearshot.evaluation.replay import Replay, Told


@click.command("replay")
@click.option(
    "--backbone",
    shell_complete=completion.backbones,
    help="By the vectors of this backbone. Default: the best one indexed.",
)
@click.option("--category", shell_complete=completion.categories, help="Only queries of this category. Default: all.")
@click.option("--threshold", type=FiniteRange(-1, 1), help="Least score of a match. Default: as it is.")
@click.option("--margin", "margin_floor", type=FiniteRange(0, 2), help="Least lead. Default: as it is.")
@score_option
@json_option
@store_option
@reports_errors
def replay_command(store_location: Location, *, score: str | None, as_json: bool, **chosen: Any) -> None:
    """Decide all indexed queries again under another threshold, margin or score, and show which answers flip.

    Nothing is embedded and nothing is changed: `query` goes on as before. With --json, an object for each that flips.
    """
    from nearshot.evaluation.replay import ReplayOptions
    from nearshot.evaluation.replay import replay as decide_again
    from nearshot.schema.store import Store
    from nearshot.schema.vocabulary import Score

    with Store(store_location) as store:
        comparison = decide_again(store, ReplayOptions(score=Score(score) if score else None, **chosen))
    if as_json:
        for query in comparison.queries:
            if query.flips:
                query_fields = {"category": query.category, "path": query.path, "truth": query.truth}
                click.echo(
                    json.dumps({**query_fields, "before": query.before.as_json(), "after": query.after.as_json()})
                )
    else:
        _print(comparison)


def _print(comparison: Replay) -> None:
    flipping = [query for query in comparison.queries if query.flips]
    for query in flipping:
        truth = f" (truth: {query.truth})" if query.truth else ""
        click.echo(f"{printable(query.path)}: {_words(query.before)} -> {_words(query.after)}{truth}")
    before, after = (
        Counter(getattr(query, side).verdict.value for query in comparison.queries) for side in ("before", "after")
    )
    click.echo(f"{len(flipping)} of {len(comparison.queries)} queries flip by {comparison.backbone}")
    for verdict in ("match", "ambiguous", "unknown"):
        click.echo(f"  {verdict:<10} {before[verdict]:>6} -> {after[verdict]}")


def _words(told: Told) -> str:
    label = told.nearest if told.verdict == "match" else f"({told.nearest})"
    return f"{told.verdict} {label} {told.score:.3f}"
