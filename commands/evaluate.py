"""`nearshot evaluate`: how good recognition is, from labelled queries."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nearshot.commands import completion
from nearshot.commands.common import (
    FilePath,
    json_option,
    print_table,
    printable,
    reports_errors,
    score_option,
    store_option,
)
from nearshot.schema.location import Location

if TYPE_CHECKING:
    from nearshot.evaluation.evaluate import Evaluation
    from nearshot.evaluation.tables import Table as Figures
    from nearshot.schema.store import Store

SHOWN = 10
POLICY = ("threshold", "margin_floor", "calibrated")


@click.command("evaluate")
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
@score_option
@click.option("--seeds", type=click.IntRange(min=1), default=5, show_default=True, help="Draws of shots for Table 8.")
@click.option("--keep-leaks", is_flag=True, help="Judge by queries that are copies of shots, too.")
@click.option(
    "--output",
    "directory",
    type=FilePath(on_disk=True, file_okay=False),
    help="Write CSV, Markdown and JSON here, and report.html.",
)
@json_option
@store_option
@reports_errors
def evaluate_command(
    store_location: Location, *, score: str | None, directory: Path | None, as_json: bool, **chosen: Any
) -> None:
    """Judge every backbone by the queries whose true label is known, from stored vectors: no model is loaded.

    Table 7 counts what became of them by the score and under the policy that `query` would take; Table 8 shows what more shots
    would give; Table 9 holds all scores side by side. The same images, labels and policies give the same tables to the byte.
    """
    from nearshot.evaluation.evaluate import EvaluationOptions
    from nearshot.evaluation.evaluate import evaluate as judge
    from nearshot.evaluation.tables import as_json as everything
    from nearshot.schema.store import Store
    from nearshot.schema.vocabulary import Score

    with Store(store_location) as store:
        evaluation = judge(store, EvaluationOptions(score=Score(score) if score else None, **chosen))
        written = _write(store, evaluation, directory) if directory else []
    if as_json:
        click.echo(json.dumps(everything(evaluation), ensure_ascii=False))
    else:
        _print(evaluation, written)


def _write(store: Store, evaluation: Evaluation, directory: Path) -> list[Path]:
    from nearshot.evaluation.report import render_report
    from nearshot.evaluation.tables import write

    return write(evaluation, directory, render_report(store, evaluation))


def _print(evaluation: Evaluation, written: list[Path]) -> None:
    from nearshot.evaluation.tables import all_tables, digest

    tables = all_tables(evaluation)
    _print_outcomes(tables[0])
    _print_shots(tables[1])
    _print_scores(tables[2])
    for row in evaluation.pairs:
        click.echo(
            f"{row.category}: {row.backbone} deals with {100 * row.lead:.1f} % more queries as it should than {row.other}: "
            f"better in {row.better_in:.0%} of resamples"
        )
    verb = "kept" if evaluation.options.keep_leaks else "left out"
    if evaluation.leaks:
        click.echo(f"{len(evaluation.leaks)} queries are copies of shots, and were {verb}:")
        for leak in evaluation.leaks[:SHOWN]:
            click.echo(f"  {printable(leak.query)} shows {printable(leak.shot)} ({leak.reason})")
        if len(evaluation.leaks) > SHOWN:
            click.echo(f"  ... and {len(evaluation.leaks) - SHOWN} more; --json lists all")
    if evaluation.unseen_only:
        click.echo(f"{evaluation.seen} queries were left out: the calibration has seen them")
    if evaluation.strangers:
        click.echo(f"{evaluation.strangers} known strangers were left out: the model knows them")
    if evaluation.by_hand:
        names = ", ".join(map(printable, evaluation.by_hand))
        click.echo(f"policies by hand in {names}: whoever set them may have seen these queries, which flatters them")
    for path in written:
        click.echo(f"wrote {path}")
    click.echo(f"inputs {evaluation.inputs[:16]}, tables {digest(tables)[:16]}")


def _print_outcomes(figures: Figures) -> None:
    """Table 7 without the policies, which would make it too wide."""
    columns = [column for column in figures.columns if column not in POLICY]
    rows = [[row[column] for column in columns] for row in figures.as_objects()]
    _print_table(figures.title, columns, [["-" if cell is None else _text(cell) for cell in row] for row in rows])


def _print_shots(figures: Figures) -> None:
    """Table 8 with each mean, its deviation and its sampling error in one cell."""
    columns = [column for column in figures.columns if not column.endswith(("_sd", "_se"))]
    rows = []
    for row in figures.as_objects():
        cells = [_text(row["backbone"]), _text(row["shots"])]
        for column in columns[2:]:
            mean, deviation, error = (row[f"{column}{part}"] for part in ("", "_sd", "_se"))
            due = "" if error is None else f" ({error:.3f})"
            cells.append("-" if mean is None or deviation is None else f"{mean:.3f} ± {deviation:.3f}{due}")
        rows.append(cells)
    _print_table(figures.title, columns, rows)


def _print_scores(figures: Figures) -> None:
    """Table 9 as it is."""
    rows = [["-" if cell is None else _text(cell) for cell in row] for row in figures.rows]
    _print_table(figures.title, figures.columns, rows)


def _print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    click.echo(title)
    print_table([column.replace("_", " ") for column in columns], rows, ("category", "backbone", "score"))


def _text(cell: object) -> str:
    return f"{cell:.3f}" if isinstance(cell, float) else str(cell)
