"""`nearshot calibrate`: set thresholds from the user's own images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from commands.common import (
    FiniteRange,
    device_option,
    json_option,
    output,
    reports_errors,
    store_option,
    weights_option,
)
from schema.errors import UsageError

if TYPE_CHECKING:
    from retriever.calibrate import Calibration
    from retriever.calibration import Rate

SCORES = ("max_sim", "prototype", "knn_vote")
RATE = FiniteRange(0, 1, min_open=True, max_open=True)


@click.command()
@click.option(
    "--backbone", "backbones", multiple=True, help="This backbone (repeatable). Default: all that are indexed."
)
@click.option("--category", "categories", multiple=True, help="This category (repeatable). Default: all.")
@click.option(
    "--score", "scores", multiple=True, type=click.Choice(SCORES), help="This score (repeatable). Default: all."
)
@click.option("--false-accept", type=RATE, help="Let at most this share of unknowns match. Default: 0.05.")
@click.option("--false-reject", type=RATE, help="Refuse at most this share of what shows a label.")
@click.option(
    "--negatives",
    type=click.Path(path_type=Path, exists=True),
    help="Images that show no label (needs the backbones' weights).",
)
@device_option
@weights_option
@json_option
@store_option
@reports_errors
def calibrate(
    store_directory: Path,
    *,
    backbones: tuple[str, ...],
    categories: tuple[str, ...],
    scores: tuple[str, ...],
    false_accept: float | None,
    false_reject: float | None,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Find threshold and margin from your own shots and labelled queries, per backbone, category and score, and keep them.

    `query` uses them from then on. With --json, one object a line. Where there are too few images for the target, you are
    told how many it needs, and nothing is changed.
    """
    from retriever.calibrate import CalibrationOptions, calibrate_all
    from retriever.calibration import Aim, Target
    from retriever.scores import Score
    from schema.store import Store

    if false_accept is not None and false_reject is not None:
        raise UsageError("--false-accept and --false-reject exclude each other: a threshold can keep one promise")
    target = (
        Target(Aim.FALSE_REJECT, false_reject)
        if false_reject is not None
        else Target(Aim.FALSE_ACCEPT, false_accept or 0.05)
    )
    options = CalibrationOptions(
        backbones=backbones,
        categories=categories,
        scores=tuple(Score(score) for score in scores or SCORES),
        target=target,
        **chosen,
    )
    with Store(store_directory) as store:
        made = []
        for calibration in calibrate_all(store, options):
            made.append(calibration)
            if as_json:
                click.echo(json.dumps(calibration.as_json()))
    if not as_json:
        _print(made)


def _print(made: list[Calibration]) -> None:
    from rich import box
    from rich.table import Table

    console = output()
    found = [one for one in made if one.policy.calibrated]
    if found:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in (
            "backbone",
            "category",
            "score",
            "threshold",
            "margin",
            "unknown accepted",
            "label refused",
            "rests on",
        ):
            table.add_column(name, justify="right" if name in ("threshold", "margin") else "left", no_wrap=True)
        for one in found:
            policy = one.policy
            cells = (
                one.backbone,
                one.category,
                one.score.value,
                f"{policy.threshold:.3f}",
                f"{policy.margin_floor:.3f}",
            )
            table.add_row(*cells, _rate(one.false_accept), _rate(one.false_reject), f"{one.n} {one.method}")
        console.print(table)
    for one in made:
        if one.missing:
            console.print(f"{one.backbone}, {one.category}, {one.score.value}: not calibrated: {one.missing}")
    if found:
        target = found[0].target
        console.print(
            f"target: {target.aim.value} at most {target.rate:g}; in parentheses, exact 95 % confidence intervals"
        )


def _rate(rate: Rate) -> str:
    low, high = rate.interval
    return f"{rate.count}/{rate.n} ({low:.2f} to {high:.2f})" if rate.n else "-"
