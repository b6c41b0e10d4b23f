"""`nearshot query`: recognise images, or say Unknown."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nearshot.commands import completion
from nearshot.commands.common import (
    FilePath,
    decodable,
    device_option,
    json_option,
    max_pixels_option,
    mirror_option,
    near,
    number_option,
    one_of,
    printable,
    reports_errors,
    score_option,
    store_option,
    weights_option,
)
from nearshot.schema.errors import UsageError
from nearshot.schema.location import Location
from nearshot.schema.spreadsheet import cell
from nearshot.schema.vocabulary import Against

if TYPE_CHECKING:
    from nearshot.retriever.context import Context
    from nearshot.retriever.options import QueryOptions
    from nearshot.retriever.retriever import Retriever


class Rectangle(click.ParamType[tuple[int, int, int, int]]):
    """A rectangle: x,y,width,height."""

    name = "x,y,w,h"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int, int, int]:
        """Four whole numbers; a usage error for anything else."""
        parts = str(value).split(",") if isinstance(value, str) else value
        try:
            x, y, width, height = map(int, parts)
        except (TypeError, ValueError):
            self.fail(f"{value} is none: give x,y,width,height in whole pixels", param, ctx)
        return x, y, width, height


JsonObject = Mapping[str, Any]
"""An answer, or why there is none, as `query --json` prints it."""
Answering = Callable[[Iterable[tuple[str, bytes | OSError]]], Iterator[JsonObject]]

COLOURS = {"match": "green", "ambiguous": "yellow", "unknown": "red", "no_support": "red"}
CSV_COLUMNS = (
    *("path", "backbone", "category", "verdict", "label", "nearest", "score", "runner_up", "runner_up_score", "margin"),
    *("threshold", "margin_floor", "calibrated", "nearest_path", "box", "error"),
)


@click.command("query")
@click.argument("images", nargs=-1, required=True, type=FilePath(allow_dash=True))
@click.option(
    "--backbone",
    shell_complete=completion.backbones,
    multiple=True,
    help="Search with this backbone (repeatable: one after the other). Default: the best calibrated, else the best one "
    "indexed whose weights are here.",
)
@click.option("--category", shell_complete=completion.categories, help="Search this category only. Default: all.")
@score_option
@click.option("--top-k", type=click.IntRange(1, 1_000_000_000), default=5, show_default=True, help="Hits to list.")
@number_option("threshold")
@number_option("margin_floor", "--margin")
@click.option(
    "--against",
    type=one_of(Against),
    default="support",
    show_default=True,
    help="Where the hits come from; the verdict always rests on support.",
)
@number_option("coverage")
@number_option("false")
@click.option("--exact", is_flag=True, help="Find hits among queries without approximate indexes (index --ann).")
@click.option("--text", help="Mix these words into each image (with clip): this, but red.")
@number_option("text_weight", default=0.5, show_default=True)
@click.option(
    "--box", multiple=True, type=Rectangle(), help="Ask about this part: x,y,width,height in pixels (repeatable)."
)
@click.option(
    "--find", multiple=True, help="Ask about what shows this, in words: 'a mug' (by florence2, or --detector)."
)
@click.option("--objects", is_flag=True, help="Ask about every object that is detected, not the best alone.")
@click.option("--detector", help="Detect by this: regions, florence2 or hf:REPO_OR_DIR.")
@click.option("--hits/--no-hits", default=None, help="List the hits of each image. Default: for a single image.")
@click.option("--caption", "captions", is_flag=True, help="Show the captions of the hits, and so the hits.")
@click.option(
    "--server",
    envvar="NEARSHOT_SERVER",
    show_envvar=True,
    help="Ask the service (`nearshot serve`) at this URL, instead of loading a model here.",
)
@click.option(
    "--explain", "explains", is_flag=True, help="Draw what made the score of the nearest shot, for one image."
)
@click.option(
    "--output",
    type=FilePath(on_disk=True, dir_okay=False),
    default="explanation.png",
    show_default=True,
    help="With --explain: the PNG to draw into.",
)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, one row per image.")
@device_option
@weights_option
@max_pixels_option
@json_option
@mirror_option
@store_option
@reports_errors
def query_command(
    images: tuple[Path, ...],
    store_location: Location,
    *,
    server: str | None,
    mirror: str | None,
    as_json: bool,
    as_csv: bool,
    hits: bool | None,
    explains: bool,
    output: Path,
    **chosen: Any,
) -> None:
    """Recognise IMAGES: files, directories, or - for an image on standard input.

    The verdict is match, ambiguous (the lead over the best other label is below the margin), unknown (the score is below
    the threshold) or no_support. With --json, one object per line. Exit status 1 if an image could not be read.
    """
    from nearshot.retriever.options import QueryOptions
    from nearshot.retriever.sources import STANDARD_INPUT, is_folder, read_queries
    from nearshot.schema.vocabulary import Against, Score

    if as_json and as_csv:
        raise UsageError("--json and --csv exclude each other")
    chosen["against"], chosen["score"] = Against(chosen["against"]), Score(chosen["score"]) if chosen["score"] else None
    backbones = tuple(dict.fromkeys(chosen.pop("backbone"))) or (None,)
    options = [QueryOptions(backbone=backbone, **chosen) for backbone in backbones]
    if explains and (
        server is not None
        or len(images) != 1
        or is_folder(images[0])
        or options[0].objects
        or len(options[0].box) > 1
        or len(backbones) > 1
    ):
        raise UsageError("--explain is for one image, and one answer about it by one backbone, without --server")
    if server is None and len(options) > 1:
        _require_indexed(store_location, backbones)
    standard_input = sys.stdin.buffer.read() if any(str(path) == STANDARD_INPUT for path in images) else None
    explaining = _Explaining(output) if explains else None
    single = len(images) == 1 and not is_folder(images[0])
    show = _csv_printer() if as_csv else _print_json if as_json else None
    labels: list[list[str | None]] = []  # of several backbones: nothing is kept of what one alone answers
    unread = 0
    for number, each in enumerate(options):
        if number and show is None:
            click.echo("")
        with _asked(server, store_location, mirror, each, explaining, once=single) as (context, answer_queries):
            layout = _Layout.of(context, hits=(single or each.captions) if hits is None else hits)
            labels.append([])
            answered, stop = False, None
            show_one = show or _printer(layout)
            for answer in answer_queries(read_queries(images, standard_input)):
                show_one(answer)
                answered = True
                if len(options) > 1:
                    labels[-1].append(None if answer.get("label") is None else _whole_label(answer))
                unread += "error" in answer
                stop = answer.get("stop") or stop
        _warn(context)
        if not answered:
            raise UsageError(f"no images in {', '.join(map(str, images))}")
        if show is None:
            _print_notes(context, each, layout, stop)
    if (
        show is None and len(labels) > 1 and len({len(each) for each in labels}) == 1
    ):  # else images came or went meanwhile
        click.echo(f"\n{_agreement(labels)}")
    if unread:
        sys.exit(1)


def _require_indexed(store_location: Location, backbones: Iterable[str | None]) -> None:
    """Raise UsageError for a backbone that nothing is indexed with, before any other has answered."""
    from nearshot.retriever.choose_backbone import choose_rows
    from nearshot.schema.store import Store

    with Store(store_location) as store, store.reading() as catalog:
        choose_rows(catalog, [name for name in backbones if name is not None])


def _warn(context: Context) -> None:
    """Say on standard error what makes answers worth less than they look."""
    if context.lacking:
        total = context.covered + context.lacking
        click.echo(
            f"nearshot: {context.backbone} has not seen {context.lacking} of {total} support images yet; "
            f"run `nearshot index DATA --backbone {context.backbone}`",
            err=True,
        )
    if context.stale:
        click.echo(
            f"nearshot: the support set of {', '.join(context.stale)} has changed since it was calibrated; "
            "run `nearshot calibrate`",
            err=True,
        )
    for category, reason in context.lapsed.items():
        click.echo(f"nearshot: the promise of {category} has lapsed: {reason}", err=True)


def _print_notes(context: Context, options: QueryOptions, layout: _Layout, stop: Any) -> None:
    """Print what the answers rest on."""
    from nearshot.retriever.stopping import Stop

    for note in _policy_notes(context):
        click.echo(note)
    if options.text is not None:
        click.echo(
            f"each image mixed with the words '{options.text}' (weight {options.text_weight:g}): scores are lower than "
            "between images, for which the threshold is meant"
        )
    if layout.hits and context.recall is not None:
        click.echo(f"hits among queries are approximate (recall@10 {context.recall:.3f}); --exact compares with all")
    if layout.hits and stop is not None:
        click.echo(f"hits: {Stop.from_json(stop).in_words()}")


def _whole_label(answer: JsonObject) -> str:
    return f"{answer['nearest_category']}/{answer['label']}"


def _agreement(labels: list[list[str | None]]) -> str:
    """How often backbones that were asked one after the other matched the same label, and how often none matched."""
    images = list(zip(*labels, strict=True))
    same = sum(len(set(each)) == 1 and each[0] is not None for each in images)
    none = sum(not any(each) for each in images)
    return f"the same label by all of them: {same} of {len(images)}; a label by none of them: {none}"


@contextmanager
def _asked(
    server: str | None,
    store_location: Location,
    mirror: str | None,
    options: QueryOptions,
    explaining: _Explaining | None,
    *,
    once: bool,
) -> Iterator[tuple[Context, Answering]]:
    """Provide what queries are compared with, and what answers them: a service, or the store here, for one image (`once`) or
    many.
    """
    if server is not None:
        from nearshot.service.client import Client

        client = Client(server, options)
        yield client.context, client.answer
        return
    from nearshot.retriever.retriever import Retriever
    from nearshot.schema.store import Store

    with Store(store_location, mirror=mirror) as store:
        retriever = Retriever(store, options, once=once)
        for reason in retriever.passed_over.values():
            click.echo(f"nearshot: {retriever.searcher.row.name} answers, because {reason}", err=True)
        context = retriever.searcher.context(options)
        if explaining is not None:
            yield context, lambda queries: explaining.answered(retriever, queries)
        else:
            yield context, lambda queries: (answer.as_json() for answer in retriever.answer(queries))


@dataclass(frozen=True)
class _Explaining:
    """Draws what made a score."""

    output: Path

    def answered(self, retriever: Retriever, queries: Iterable[tuple[str, bytes | OSError]]) -> Iterator[JsonObject]:
        """The answer to one image, with its explanation, which is drawn into a file."""
        from nearshot.retriever.answer import Answer
        from nearshot.retriever.explain import explain, load_explainer
        from nearshot.schema.disk import written_whole

        [(name, data)] = queries
        for answer in retriever.answer([(name, data)]):
            told = dict(answer.as_json())
            if isinstance(answer, Answer) and isinstance(data, bytes):
                options = retriever.options
                backbone = load_explainer(retriever.searcher.row, weights=options.weights, device=options.device)
                explanation = explain(backbone, answer, data, max_pixels=options.max_pixels)
                with written_whole(self.output.absolute()) as aside:
                    explanation.picture.save(aside, "PNG")
                told["explanation"] = explanation.as_json() | {"path": str(self.output)}
            yield told


@dataclass(frozen=True)
class _Layout:
    """Layout of answers: the width of the label column, and whether labels need their category."""

    width: int
    with_category: bool
    hits: bool

    @classmethod
    def of(cls, context: Context, *, hits: bool) -> _Layout:
        """The layout for what is searched."""
        with_category = len(context.labels) > 1
        names = [
            f"{category}/{label}" if with_category else label
            for category, labels in context.labels.items()
            for label in labels
        ]
        return cls(max([len(name) + 2 for name in names] + [len("label")]), with_category, hits)


def _print_json(answer: JsonObject) -> None:
    click.echo(json.dumps({**answer, "path": decodable(answer["path"])}))


def _csv_printer() -> Callable[[JsonObject], None]:
    writer = csv.DictWriter(sys.stdout, CSV_COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    return lambda answer: writer.writerow(_csv_row(answer))


def _printer(layout: _Layout) -> Callable[[JsonObject], None]:
    width = layout.width
    click.echo(f"{'verdict':<10} {'label':<{width}} {'score':>6}  {'runner-up':<{width + 6}} {'margin':>6}  image")
    return lambda answer: _print_answer(answer, layout)


def _csv_row(answer: JsonObject) -> JsonObject:
    first = next(iter(answer.get("hits", [])), None)
    row = {**answer, "path": printable(answer["path"]), "nearest_path": first["path"] if first else ""}
    row["box"] = _box(answer) or ""
    return {name: cell(value) for name, value in row.items()}


def _print_answer(answer: JsonObject, layout: _Layout) -> None:
    if "error" in answer:
        click.echo(f"{click.style('error', fg='red'):<10} {printable(answer['path'])}: {answer['error']}")
        return
    nearest, runner_up = (_name(answer, which, layout) for which in ("nearest", "runner_up"))
    label = nearest if answer["label"] or answer["nearest"] is None else f"({nearest})"
    other = runner_up if answer["runner_up"] is None else f"{runner_up} {answer['runner_up_score']:.3f}"
    score, margin = ("-" if answer[name] is None else f"{answer[name]:.3f}" for name in ("score", "margin"))
    verdict = click.style(f"{answer['verdict']:<10}", fg=COLOURS[answer["verdict"]])
    width = layout.width
    part = f"  [{box}]" if (box := _box(answer)) else ""
    click.echo(
        f"{verdict} {label:<{width}} {score:>6}  {other:<{width + 6}} {margin:>6}  {printable(answer['path'])}{part}"
    )
    if answer["negative"] is not None:
        click.echo(f"    {answer['negative_score']:.3f}  {answer['reason']}: {near(answer['negative'])}")
    if len(answer["close"]) > 1:
        click.echo(f"    too close to choose: {', '.join(answer['close'])}")
    if answer["possible"] is not None:
        click.echo(f"    {_possible(answer['possible'])}")
    if explanation := answer.get("explanation"):
        x, y = explanation["peak"]
        click.echo(f"    drawn in {explanation['path']}: most of the score comes from around {x:.0f},{y:.0f}")
    if layout.hits:
        for hit in answer["hits"]:
            shot = "/".join(part for part in (hit["category"], hit["label"], hit["shot"]) if part)
            origin = f"  (out of {near(hit['origin']['picture'])} [{_box(hit['origin'])}])" if "origin" in hit else ""
            click.echo(f"    {hit['score']:.3f}  {shot}  {near(hit['path'])}{origin}")
            if "caption" in hit:
                click.echo(f"           {printable(hit['caption'] or '(no caption)')}")


def _box(answer: JsonObject) -> str | None:
    """The part that an answer is about as --box takes it; None for all of the image."""
    if answer.get("box") is None:
        return None
    left, top, right, bottom = answer["box"]
    return f"{left},{top},{right - left},{bottom - top}"


def _name(answer: JsonObject, which: str, layout: _Layout) -> str:
    """A candidate's label, with its category where several are searched; a dash for none."""
    if answer[which] is None:
        return "-"
    return f"{answer[f'{which}_category']}/{answer[which]}" if layout.with_category else str(answer[which])


def _possible(prediction_set: JsonObject) -> str:
    """The labels that cannot be ruled out, and how plausible it is that it is none of them."""
    labels = (
        ", ".join(f"{candidate['label']} (p {candidate['p']:.2f})" for candidate in prediction_set["labels"]) or "none"
    )
    none = (
        "" if prediction_set["none_of_these"] is None else f"; none of these: p {prediction_set['none_of_these']:.2f}"
    )
    return f"not ruled out at {prediction_set['coverage']:g}: {labels}{none}"


def _policy_notes(context: Context) -> list[str]:
    """A line for each policy that was applied, by which score, and where it comes from."""
    applied: dict[str, list[str]] = {}
    for category, policy in context.policies.items():
        line = f"threshold {policy.threshold:g}, margin {policy.margin_floor:g} ({policy.origin})"
        applied.setdefault(line, []).append(category)
    by = f"{context.backbone}, {context.score} ({context.score_reason})"
    return [
        ", ".join([by, *([" ".join(categories)] if len(applied) > 1 else []), line])
        for line, categories in applied.items()
    ]
