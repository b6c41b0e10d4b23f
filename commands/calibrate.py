"""`nearshot calibrate`: set thresholds from the user's own images."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

from nearshot.commands import completion
from nearshot.commands.common import (
    FilePath,
    FiniteRange,
    device_option,
    json_option,
    one_of,
    print_table,
    printable,
    reports_errors,
    store_option,
    weights_option,
)
from nearshot.schema.location import Location
from nearshot.schema.vocabulary import Guard, Score

if TYPE_CHECKING:
    from nearshot.retriever.conformal import Rate
    from nearshot.retriever.find_policy import Calibration, FusionTried
    from nearshot.schema.store import Store

RATE = FiniteRange(0, 1, min_open=True, max_open=True)


@click.command("calibrate")
@click.option(
    "--backbone",
    "backbones",
    shell_complete=completion.backbones,
    multiple=True,
    help="This backbone (repeatable). Default: all that are indexed.",
)
@click.option(
    "--category",
    "categories",
    shell_complete=completion.categories,
    multiple=True,
    help="This category (repeatable). Default: all.",
)
@click.option("--score", "scores", multiple=True, type=one_of(Score), help="This score (repeatable). Default: all.")
@click.option(
    "--false-accept", type=RATE, help="Let at most this share of strangers match. Default: 0.05, unless --false-reject."
)
@click.option("--wrong", type=RATE, help="Let at most this share of the matches of known images have the wrong label.")
@click.option(
    "--false-reject", type=RATE, help="Let at most this share of known images not match, ambiguous ones included."
)
@click.option(
    "--confidence",
    type=RATE,
    help="Hold all bounds in this share of calibrations, such as 0.95. Default: on average. Needs labelled queries.",
)
@click.option(
    "--strangers",
    "guard",
    type=one_of(Guard),
    default="auto",
    show_default=True,
    help="Hold off strangers like the known ones, or any, as far as labels left out can tell. auto: any, where that costs "
    "at most 5 % of the known images.",
)
@click.option(
    "--all", "every", is_flag=True, help="Use all labelled queries; half of them are left to `evaluate` otherwise."
)
@click.option("--force", is_flag=True, help="Keep a policy that answers no known image right, too.")
@click.option(
    "--negatives",
    type=FilePath(exists=True),
    help="More strangers: images that show no label (needs the backbones' weights).",
)
@device_option
@weights_option
@json_option
@store_option
@reports_errors
def calibrate_command(
    store_location: Location,
    *,
    scores: tuple[str, ...],
    false_accept: float | None,
    wrong: float | None,
    false_reject: float | None,
    confidence: float | None,
    guard: str,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Find threshold and margin from your own shots and labelled queries, per backbone, category and score, and keep them.

    `query` uses them from then on, and takes the backbone and the score that answered best. With --json, one object per line.
    Two backbones that are equally good are tried fused, and their vectors joined where that is better.
    Where a target cannot be met you are told why, and nothing is changed; exit status 1 if so it is for every score of a
    backbone and category.
    """
    from nearshot.retriever.calibrate import CalibrationOptions, calibrate_all
    from nearshot.retriever.conformal import Aim, Aims
    from nearshot.retriever.find_policy import FusionTried
    from nearshot.schema.store import Store

    if false_accept is None and false_reject is None:
        false_accept = 0.05
    rates = {Aim.FALSE_ACCEPT: false_accept, Aim.WRONG: wrong, Aim.FALSE_REJECT: false_reject}
    options = CalibrationOptions(
        aims=Aims({aim: rate for aim, rate in rates.items() if rate is not None}, confidence),
        guard=Guard(guard),
        scores=tuple(Score(score) for score in scores or Score),
        **chosen,
    )
    with Store(store_location) as store:
        by_hand = _by_hand(store)
        calibrations, tried = [], []
        for outcome in calibrate_all(store, options):
            if isinstance(outcome, FusionTried):
                tried.append(outcome)
            else:
                calibrations.append(outcome)
            if as_json:
                click.echo(json.dumps(outcome.as_json()))
    for each in calibrations:
        if each.policy.calibrated and (each.backbone, each.category, each.score.value) in by_hand:
            click.echo(
                f"nearshot: {printable(each.category)}, {each.backbone} by {each.score}: the policy by hand is replaced",
                err=True,
            )
    if not as_json:
        _print(calibrations, tried)
    asked = {(each.category, each.backbone) for each in calibrations}
    if asked != {(each.category, each.backbone) for each in calibrations if each.policy.calibrated}:
        sys.exit(1)


def _by_hand(store: Store) -> set[tuple[str, str, str]]:
    """The policies that somebody has set: backbone, category and score of each."""
    from nearshot.schema.calibrations import all_calibrations

    with store.reading() as catalog:
        rows = [
            (backbone.name, row) for backbone in catalog.backbones() for row in all_calibrations(catalog, backbone.id)
        ]
    return {(name, row.category, row.score) for name, row in rows if row.is_by_hand}


def _print(calibrations: Sequence[Calibration], tried: Sequence[FusionTried]) -> None:
    from nearshot.retriever.find_policy import best_by_evidence
    from nearshot.retriever.policy import promise_of

    for (category, backbone), group in groupby(
        calibrations, key=lambda calibration: (calibration.category, calibration.backbone)
    ):
        every = list(group)
        calibrated = [calibration for calibration in every if calibration.policy.calibrated]
        click.echo(f"{category}, {backbone}")
        if calibrated:
            _print_table(calibrated)
        for missing, scores in _by(every, _missing).items():
            if missing:
                click.echo(f"  {', '.join(scores)}: not calibrated: {missing}")
        for promise, scores in _by(calibrated, lambda calibration: promise_of(calibration.facts())).items():
            click.echo(f"  {', '.join(scores)}: {promise}")
        for line, scores in _by(calibrated, _strangers_said).items():
            click.echo(f"  {', '.join(scores)}: {line}")
    for each in tried:
        verdict = "fused and kept" if each.pays else "not fused: no better than the best alone, by more than chance"
        click.echo(
            f"{each.fused.category}: {each.fused.backbone} {each.fused.evidence:.3f}, {each.best.backbone} alone "
            f"{each.best.evidence:.3f}: {verdict}"
        )
    for category in dict.fromkeys(calibration.category for calibration in calibrations):
        best = best_by_evidence([calibration for calibration in calibrations if calibration.category == category])
        if best is not None:
            click.echo(
                f"{category}: `query` takes {best.backbone} by {best.score.value}: {best.evidence:.3f} of the known images "
                "answered right, over thresholds that 0 to 20 % of the strangers pass"
            )


def _missing(calibration: Calibration) -> str | None:
    hint = "; --force keeps it all the same" if calibration.useless else ""
    return f"{calibration.missing}{hint}" if calibration.missing else None


def _by(calibrations: Sequence[Calibration], said: Callable[[Calibration], str | None]) -> dict[str | None, list[str]]:
    """The scores of which the same is said, by what is said."""
    scores: dict[str | None, list[str]] = {}
    for calibration in calibrations:
        scores.setdefault(said(calibration), []).append(calibration.score.value)
    return scores


def _print_table(calibrations: Sequence[Calibration]) -> None:
    names = ("threshold", "margin", "right", "wrong", "ambiguous", "refused", "strangers", "other kinds")
    rows = []
    for calibration in calibrations:
        shares = calibration.shares
        known = (shares.right, shares.wrong, shares.ambiguous, shares.refused)
        rows.append(
            [
                calibration.score.value,
                f"{calibration.policy.threshold:.3f}",
                f"{calibration.policy.margin_floor:.3f}",
                *(_rate(share) for share in (*known, shares.accepted, shares.other_kinds)),
            ]
        )
    print_table(("score", *names), rows, ("score",))
    first = calibrations[0].shares
    click.echo(
        f"  of {first.right.n} known images ({calibrations[0].known_method}): right, wrong, ambiguous, refused; "
        f"matched of {first.accepted.n} known strangers, and of {first.other_kinds.n} shots whose label is left out; "
        "95 % intervals"
    )


def _strangers_said(calibration: Calibration) -> str:
    """Say what is promised of strangers, and what is not."""
    if calibration.guarded:
        return "strangers of other kinds than the labels here and the known strangers may still score higher"
    if calibration.method is None or calibration.shares.accepted.n == 0:
        return "strangers are not bounded"
    return (
        "only strangers like the known ones are held off: of other kinds more may match (see the last column); "
        "--strangers any sets the threshold against both"
    )


def _rate(rate: Rate) -> str:
    low, high = rate.interval
    return f"{100 * (rate.value or 0):.0f} %\n({100 * low:.0f} to {100 * high:.0f})" if rate.n else "-"
