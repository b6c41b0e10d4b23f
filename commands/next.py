"""`nearshot next`: what to label next, and how many shots more."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from nearshot.commands import completion
from nearshot.commands.common import json_option, near, reports_errors, store_option
from nearshot.schema.location import Location

if TYPE_CHECKING:
    from nearshot.evaluation.learning_curve import Need


@click.command("next")
@click.option("--category", shell_complete=completion.categories, help="Only this category. Default: all.")
@click.option(
    "--backbone", shell_complete=completion.backbones, help="By the vectors of this backbone. Default: the best one."
)
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="Images to name.")
@json_option
@store_option
@reports_errors
def next_command(
    store_location: Location, *, category: str | None, backbone: str | None, limit: int, as_json: bool
) -> None:
    """Name the unlabelled queries that are most worth labelling, one of each kind, and what each label needs.

    Worth most is what backbones and scores disagree on or what lies near the threshold, and what many others are like. How many
    more shots a label needs is estimated from its learning curve; the interval covers 90 % of resamples of its shots.
    """
    from nearshot.evaluation.learning_curve import MOST_SHOTS
    from nearshot.evaluation.next_labels import advise
    from nearshot.schema.store import Store

    with Store(store_location) as store:
        advice = advise(store, category, backbone=backbone, limit=limit)
    if as_json:
        advice_json = {
            "next": [query.as_json() for query in advice.worth],
            "labels": [need.as_json() for need in advice.needs],
            "beyond": list(advice.beyond),
        }
        click.echo(json.dumps(advice_json))
        return
    for query in advice.worth:
        alike = f", stands for {query.stands_for}" if query.stands_for > 1 else ""
        click.echo(
            f"{query.value:.3f}  {near(query.path)}  ({query.nearest} {query.score:.3f}; "
            f"disagreement {query.disagreement:.2f}, doubt {query.doubt:.2f}, typical {query.typical:.2f}{alike})"
        )
    if not advice.worth:
        click.echo("no unlabelled queries: every one has a label, or none are indexed")
    for need in advice.needs:
        click.echo(f"{need.category}/{need.label}: {_in_words(need)}")
    for name in advice.beyond:
        click.echo(f"{name}: of more than {MOST_SHOTS:,} shots, what each label needs is not estimated")
    if advice.worth:
        click.echo("next: nearshot review, or nearshot label IMAGE LABEL, or nearshot reject IMAGE")


def _in_words(need: Need) -> str:
    now = f"{need.now:.0%} of its {need.shots} shots come out nearest to it"
    if not need.tells:
        return f"{now}: too few to tell how many more it needs"
    if need.more == 0:
        return f"{now}: enough for 95 %"
    other = f"; with {need.other} more do" if need.other else ""
    if need.more is None:
        return f"{now}: more shots will not help, another backbone may{other}"
    bound = "without bound" if need.high is None else str(need.high)
    return f"{now}: about {need.more} more shots for 95 % (90 % interval {need.low} to {bound}){other}"
