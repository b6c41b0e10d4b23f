"""`nearshot query`: recognise images, or say Unknown."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from commands.common import (
    FiniteRange,
    device_option,
    json_option,
    max_pixels_option,
    near,
    printable,
    reports_errors,
    store_option,
    weights_option,
)
from schema.errors import UsageError

if TYPE_CHECKING:
    from retriever.answer import Answer, Unreadable
    from retriever.decision import Decision
    from retriever.rank import Candidate
    from retriever.retriever import Retriever

COLOURS = {"match": "green", "ambiguous": "yellow", "unknown": "red", "no_support": "red"}
CSV_COLUMNS = (
    *("path", "backbone", "category", "verdict", "label", "nearest", "score", "runner_up", "runner_up_score", "margin"),
    *("threshold", "margin_floor", "calibrated", "nearest_path", "error"),
)


@click.command()
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path, allow_dash=True))
@click.option("--backbone", help="Search with this backbone. Default: the best one indexed.")
@click.option("--category", help="Search this category only. Default: all.")
@click.option(
    "--score",
    type=click.Choice(["max_sim", "prototype", "knn_vote"]),
    default="max_sim",
    show_default=True,
    help="What a label is scored by: its best image, the mean of its images, or the votes of the nearest images.",
)
@click.option("--top-k", type=click.IntRange(1, 1_000_000_000), default=5, show_default=True, help="Hits to list.")
@click.option("--threshold", type=FiniteRange(-1, 1), help="Least score of a match. Default: as calibrated.")
@click.option(
    "--margin",
    "margin_floor",
    type=FiniteRange(0, 2),
    help="Least lead over the best other label. Default: as calibrated.",
)
@click.option(
    "--against",
    type=click.Choice(["support", "query", "all"]),
    default="support",
    show_default=True,
    help="Where the hits come from; the verdict always rests on support.",
)
@click.option("--text", help="Mix these words into each image (with clip): this, but red.")
@click.option(
    "--text-weight",
    type=FiniteRange(0, 1),
    default=0.5,
    show_default=True,
    help="Share of the words in the mixture; 0 is the image alone, 1 the words alone.",
)
@click.option("--hits/--no-hits", default=None, help="List the hits of each image. Default: for a single image.")
@click.option("--caption", "captions", is_flag=True, help="Show the captions of the hits, and so the hits.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, a row an image.")
@device_option
@weights_option
@max_pixels_option
@json_option
@store_option
@reports_errors
def query(
    images: tuple[Path, ...], store_directory: Path, *, as_json: bool, as_csv: bool, hits: bool | None, **chosen: Any
) -> None:
    """Recognise IMAGES: files, directories, or - for an image on standard input.

    The verdict is match, ambiguous (the lead over the best other label is below the margin), unknown (the score is below
    the threshold) or no_support. With --json, one object a line. Exit status 1 if an image could not be read.
    """
    from retriever.answer import Unreadable
    from retriever.options import Against, QueryOptions
    from retriever.retriever import Retriever
    from retriever.scores import Score
    from retriever.sources import STANDARD_INPUT, read_queries
    from schema.store import Store

    if as_json and as_csv:
        raise UsageError("--json and --csv exclude each other")
    chosen["against"], chosen["score"] = Against(chosen["against"]), Score(chosen["score"])
    if chosen["text"] is not None and not chosen["text"].strip():
        raise UsageError("--text needs words")
    options = QueryOptions(**chosen)
    standard_input = sys.stdin.buffer.read() if any(str(path) == STANDARD_INPUT for path in images) else None
    with Store(store_directory) as store:
        retriever = Retriever(store, options)
        single = len(images) == 1 and not os.path.isdir(images[0])  # noqa: PTH112 (Path.is_dir may raise)
        layout = _Layout.of(retriever, hits=(single or options.captions) if hits is None else hits)
        show = _printer(layout, as_json=as_json, as_csv=as_csv)
        answered = unread = 0
        for answer in retriever.answer(read_queries(images, standard_input)):
            show(answer)
            answered += 1
            unread += isinstance(answer, Unreadable)
    reference = retriever.reference
    if lacking := reference.coverage.lacking:
        name, total = reference.row.name, reference.coverage.covered + lacking
        click.echo(
            f"nearshot: {name} has not seen {lacking} of {total} support images yet; "
            f"run `nearshot index DATA --backbone {name}`",
            err=True,
        )
    if reference.stale:
        click.echo(
            f"nearshot: the support set of {', '.join(reference.stale)} has changed since it was calibrated; "
            "run `nearshot calibrate`",
            err=True,
        )
    if not answered:
        raise UsageError(f"no images in {', '.join(map(str, images))}")
    if not (as_json or as_csv):
        for note in _policy_notes(retriever, options.score):
            click.echo(note)
        if options.text is not None:
            click.echo(
                f"each image mixed with the words '{options.text}' (weight {options.text_weight:g}): scores are lower than "
                "between images, for which the threshold is meant"
            )
    if unread:
        sys.exit(1)


@dataclass(frozen=True)
class _Layout:
    """How answers are laid out: the width of the label column, and whether labels need their category."""

    width: int
    with_category: bool
    hits: bool

    @classmethod
    def of(cls, retriever: Retriever, *, hits: bool) -> _Layout:
        """The layout for what a retriever searches."""
        categories = [category for category, labels in retriever.reference.labels.items() if labels]
        with_category = len(categories) > 1
        names = [
            f"{category}/{label}" if with_category else label
            for category in categories
            for label in retriever.reference.labels[category]
        ]
        return cls(max([len(name) + 2 for name in names] + [len("label")]), with_category, hits)


def _printer(layout: _Layout, *, as_json: bool, as_csv: bool) -> Callable[[Answer | Unreadable], None]:
    if as_json:
        return lambda answer: click.echo(json.dumps(answer.as_json()))
    if as_csv:
        writer = csv.DictWriter(sys.stdout, CSV_COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        return lambda answer: writer.writerow(_csv_row(answer.as_json()))
    width = layout.width
    click.echo(f"{'verdict':<10} {'label':<{width}} {'score':>6}  {'runner-up':<{width + 6}} {'margin':>6}  image")
    return lambda answer: _print_answer(answer, layout)


def _csv_row(facts: dict[str, Any]) -> dict[str, Any]:
    first = next(iter(facts.get("hits", [])), None)
    return facts | {"path": printable(facts["path"]), "nearest_path": first["path"] if first else ""}


def _print_answer(answer: Answer | Unreadable, layout: _Layout) -> None:
    from retriever.answer import Unreadable

    if isinstance(answer, Unreadable):
        click.echo(f"{click.style('error', fg='red'):<10} {printable(answer.path)}: {answer.reason}")
        return
    decision = answer.decision
    label = _label(decision, with_category=layout.with_category)
    runner_up = _runner_up(decision, with_category=layout.with_category)
    width = layout.width
    verdict = click.style(f"{decision.verdict:<10}", fg=COLOURS[decision.verdict])
    score = f"{decision.nearest.score:.3f}" if decision.nearest else "-"
    margin = f"{decision.margin:.3f}" if decision.margin is not None else "-"
    click.echo(f"{verdict} {label:<{width}} {score:>6}  {runner_up:<{width + 6}} {margin:>6}  {printable(answer.path)}")
    if decision.negative is not None:
        click.echo(f"    {decision.negative.score:.3f}  {decision.reason}: {near(decision.negative.path)}")
    if layout.hits:
        for hit in answer.hits:
            shot = "/".join(part for part in (hit.image.category, hit.image.label, hit.image.shot) if part)
            click.echo(f"    {hit.score:.3f}  {shot}  {near(hit.image.path)}")
            if answer.captions is not None:
                click.echo(f"           {answer.captions.get(hit.image.id, '(no caption)')}")


def _name(candidate: Candidate, *, with_category: bool) -> str:
    return f"{candidate.category}/{candidate.label}" if with_category else candidate.label


def _label(decision: Decision, *, with_category: bool) -> str:
    """The label recognised; in parentheses the nearest one, where none was."""
    if decision.nearest is None:
        return "-"
    name = _name(decision.nearest, with_category=with_category)
    return name if decision.label else f"({name})"


def _runner_up(decision: Decision, *, with_category: bool) -> str:
    if decision.runner_up is None:
        return "-"
    return f"{_name(decision.runner_up, with_category=with_category)} {decision.runner_up.score:.3f}"


def _policy_notes(retriever: Retriever, score: str) -> list[str]:
    """A line for each policy that was applied, and where it comes from."""
    applied: dict[str, list[str]] = {}
    reference, options = retriever.reference, retriever.options
    for category in reference.supported:
        policy = reference.policy(category, options)
        line = f"threshold {policy.threshold:g}, margin {policy.margin_floor:g} ({reference.origin(category, options)})"
        applied.setdefault(line, []).append(category)
    by = retriever.reference.row.name if score == "max_sim" else f"{retriever.reference.row.name}, {score}"
    return [
        ", ".join([by, *([" ".join(categories)] if len(applied) > 1 else []), line])
        for line, categories in applied.items()
    ]
