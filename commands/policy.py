"""`nearshot policy`: the threshold and margin of a category, and setting them by hand."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

import click

from nearshot.commands import completion
from nearshot.commands.common import (
    FiniteRange,
    json_option,
    naming_store,
    print_table,
    printable,
    reports_errors,
    score_option,
    store_option,
)
from nearshot.schema.errors import UsageError
from nearshot.schema.location import Location

if TYPE_CHECKING:
    from nearshot.evaluation.outcomes import Outcomes
    from nearshot.evaluation.what_if import WhatIf
    from nearshot.retriever.policy import Policy
    from nearshot.schema.store import Store
    from nearshot.schema.vocabulary import Score

OUTCOMES = {
    "known: right": "correct",
    "known: wrong": "wrong",
    "known: refused": "falsely_unknown",
    "strangers: refused": "correctly_unknown",
    "strangers: let in": "falsely_accepted",
    "ambiguous, of both": "ambiguous",
}
"""What became of a labelled query, in words, by `Outcomes`' names."""


@click.command("policy")
@click.argument("category", required=False, shell_complete=completion.categories)
@click.option(
    "--backbone",
    shell_complete=completion.backbones,
    help="Of this backbone. Default: the one that `query` takes for the category.",
)
@score_option
@click.option("--threshold", type=FiniteRange(-1, 1), help="Set the least score of a match. Default: as it is.")
@click.option("--margin", "margin_floor", type=FiniteRange(0, 2), help="Set the least lead. Default: as it is.")
@click.option("--dry-run", is_flag=True, help="Say what would become of the labelled queries, and set nothing.")
@click.option("--undo", "take_back", is_flag=True, help="Take back what was set last.")
@json_option
@store_option
@reports_errors
def policy_command(
    category: str | None,
    store_location: Location,
    *,
    backbone: str | None,
    score: str | None,
    threshold: float | None,
    margin_floor: float | None,
    dry_run: bool,
    take_back: bool,
    as_json: bool,
) -> None:
    """Show the threshold and margin of CATEGORY and what they do to its labelled queries, or set them by hand.

    Without CATEGORY, those of all that have shots.

    What is set answers from then on, until it is taken back or `nearshot calibrate` finds another; nothing is promised of it.
    Labelled queries that are copies of shots do not count. With --json, the queries with their scores and leads, too.
    """
    from dataclasses import asdict, replace

    from nearshot.evaluation.rules import rules_in_force
    from nearshot.evaluation.what_if import what_if
    from nearshot.retriever.by_hand import set_policy, undo_policy
    from nearshot.schema.store import Store
    from nearshot.schema.vocabulary import Score

    asked = threshold is not None or margin_floor is not None
    if take_back and (asked or dry_run):
        raise UsageError("--undo takes back what was set: give it alone")
    if dry_run and not asked:
        raise UsageError("--dry-run is for a --threshold or a --margin")
    chosen_score = Score(score) if score else None
    with Store(store_location) as store:
        if category is None:
            if asked or take_back:
                raise UsageError("name the CATEGORY whose policy is meant; `nearshot policy` alone lists them")
            _list(store, backbone, chosen_score, as_json=as_json)
            return
        with store.reading() as catalog:
            before = what_if(catalog, category, backbone=backbone, score=chosen_score)
        policy = replace(
            before.policy,
            threshold=before.policy.threshold if threshold is None else threshold,
            margin_floor=before.policy.margin_floor if margin_floor is None else margin_floor,
        )
        if take_back:
            policy = undo_policy(store, before.row, category, before.score_by)
        elif asked and not dry_run:
            chosen = {"threshold": threshold, "margin_floor": margin_floor}
            policy = set_policy(store, before.row, category, before.score_by, **chosen)
        with store.reading() as catalog:
            after = before.renewed(catalog)
            alone = rules_in_force(catalog, before.row, None, category).score
    outcomes = {"before": before.outcomes(before.policy), "after": before.outcomes(policy)}
    if as_json:
        tried = {"threshold": policy.threshold, "margin_floor": policy.margin_floor, "tried": dry_run}
        counted = {name: asdict(each) for name, each in outcomes.items()}
        click.echo(json.dumps({**after.as_json(), **tried, "outcomes": counted}))
        return
    click.echo(_in_words(before, policy, "tried: nothing is set" if dry_run else after.origin))
    changes = asked or take_back
    _print(outcomes["before"], outcomes["after"], changes=changes)
    if changes and not dry_run and alone != before.score_by:
        click.echo(f"`query` takes {alone} by itself: give it --score {before.score_by}")
    if asked and not dry_run:
        command = f"nearshot policy {shlex.quote(category)} --undo{_named(before, backbone, score)}"
        click.echo(f"to take it back: {printable(command)}{naming_store(store_location)}")


def _list(store: Store, backbone: str | None, score: Score | None, *, as_json: bool) -> None:
    """Show the policies of all categories that have shots."""
    from nearshot.evaluation.what_if import what_if
    from nearshot.retriever.choose_backbone import choose_supported

    with store.reading() as catalog:
        for category in choose_supported(catalog, ()):
            shown = what_if(catalog, category, backbone=backbone, score=score)
            click.echo(json.dumps(shown.as_json()) if as_json else _in_words(shown, shown.policy, shown.origin))


def _in_words(shown: WhatIf, policy: Policy, origin: str) -> str:
    numbers = f"threshold {policy.threshold:g}, margin {policy.margin_floor:g}"
    return f"{printable(shown.category)}, {shown.row.name} by {shown.score_by}: {numbers} ({origin})"


def _named(shown: WhatIf, backbone: str | None, score: str | None) -> str:
    return f"{f' --backbone {shown.row.name}' if backbone else ''}{f' --score {shown.score_by}' if score else ''}"


def _print(before: Outcomes, after: Outcomes, *, changes: bool) -> None:
    """What becomes of the labelled queries, before and after."""
    if before.queries == 0:
        click.echo("there are no labelled queries to see what it does: put some into 6.preprocessed/<label>/")
        return
    columns = ("labelled queries", "before", "after") if changes else ("labelled queries", "")
    rows = [
        [words, *(str(getattr(each, name)) for each in ((before, after) if changes else (before,)))]
        for words, name in OUTCOMES.items()
    ]
    print_table(columns, rows, columns[:1])
