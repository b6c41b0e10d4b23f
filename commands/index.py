"""`nearshot index`: bring the store up to date with a data directory."""

from __future__ import annotations

import json
import shlex
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nearshot.commands import completion
from nearshot.commands.background import compile_in_background
from nearshot.commands.caption import watch as watch_captions
from nearshot.commands.common import (
    INTERRUPTED,
    FilePath,
    device_option,
    json_option,
    listed,
    max_pixels_option,
    naming_store,
    one_of,
    reports_errors,
    stopping_politely,
    store_option,
    weights_option,
)
from nearshot.progress import progress_bar
from nearshot.schema.contract import has_image_suffix, meant, nothing_in
from nearshot.schema.location import Location
from nearshot.schema.paths import AnyPath, resolved
from nearshot.schema.vocabulary import Ann, Loading, Precision, VectorKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from nearshot.indexer.captions import CaptionReport
    from nearshot.indexer.options import IndexOptions
    from nearshot.indexer.report import Report
    from nearshot.indexer.run import IndexRun
    from nearshot.schema.store import Store

COMPILING = (
    "  {}: being compiled in the background, for commands without torch; `nearshot backbones` tells when it is done"
)


@click.command("index")
@click.argument("data", type=FilePath())
@click.option(
    "--backbone",
    "backbones",
    shell_complete=completion.backbones,
    multiple=True,
    help="Use this backbone (repeatable). Default: all whose weights are here.",
)
@click.option(
    "--category",
    "categories",
    shell_complete=completion.categories,
    multiple=True,
    help="Only this category (repeatable).",
)
@click.option(
    "--precision",
    type=one_of(Precision),
    help="Number format of the weights. Default: what the store has, else fp32.",
)
@click.option(
    "--batch-size", type=click.IntRange(min=1), help="Images a forward pass. Default: 16 on a CPU, 128 on a GPU."
)
@click.option(
    "--workers", type=click.IntRange(min=1), help="Threads or processes that read and decode. Default: one a core."
)
@click.option(
    "--loading",
    type=one_of(Loading),
    default=Loading.AUTO.value,
    show_default=True,
    help="Read and decode on threads or in processes; auto takes processes for many files where a GPU encodes.",
)
@click.option(
    "--ray",
    metavar="ADDRESS",
    help="Have the nodes of a Ray cluster read and encode (auto: the one that this machine belongs to); docs/scale.md.",
)
@click.option(
    "--ann",
    type=one_of(Ann),
    help="Build approximate indexes for searches among many images, now and in later runs. Verdicts stay exact.",
)
@click.option(
    "--vectors",
    type=one_of(VectorKind),
    help="Keep vectors as float32, or once and as float16: a quarter of the bytes, now and in later runs (docs/segments.md).",
)
@click.option("--follow-links", is_flag=True, help="Take links that lead out of DATA, too.")
@click.option("--no-captions", is_flag=True, help="Leave captions for later (nearshot caption).")
@click.option(
    "--compile/--no-compile",
    "compiles",
    default=True,
    show_default=True,
    help="On a CPU, compile new backbones in the background afterwards, so that later commands start without torch.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@device_option
@weights_option
@max_pixels_option
@json_option
@store_option
@reports_errors
def index_command(
    data: AnyPath,
    store_location: Location,
    *,
    dry_run: bool,
    no_captions: bool,
    compiles: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Index the images of DATA, or what changed there since the last time.

    DATA has one directory per category: DATA/<category>/2.support-set/[<label>/]shotN... are the labelled shots,
    DATA/<category>/6.preprocessed/... the queries. Files that have not changed cost one look; a file that moved is not
    embedded again. Ctrl-C commits what is done. When all vectors are committed, Florence-2 captions what lacks a caption,
    if its weights are here. Exit status 1 where there was nothing to index.
    """
    from nearshot.indexer.options import IndexOptions
    from nearshot.indexer.run import IndexRun
    from nearshot.indexer.run import dry_run as foresee
    from nearshot.schema.store import Store, is_there

    enums: dict[str, type[Any]] = {"precision": Precision, "loading": Loading, "ann": Ann, "vectors": VectorKind}
    options = IndexOptions(
        **{name: enums[name](value) if value and name in enums else value for name, value in chosen.items()}
    )
    captions: CaptionReport | str | None = None
    in_background = False
    exists = is_there(store_location)
    if not dry_run:
        _require_sense(data, options)
    if dry_run or not (exists or _has_something(data, options)):
        with Store(store_location) if exists else nullcontext() as store:
            report = foresee(store, data, options)
    else:
        with Store(store_location, create=True) as store, stopping_politely() as should_stop:
            run = IndexRun(store, data, options, should_stop=should_stop)
            _watch(run)
            report = run.report
            if not (no_captions or report.interrupted):
                captions = _caption(store, options, should_stop)
        if compiles and report.uncompiled and not report.interrupted:
            in_background = compile_in_background(report.uncompiled, store_location, options.weights)
    if as_json:
        written = {"skipped": captions} if isinstance(captions, str) else captions.as_json() if captions else None
        click.echo(json.dumps({**report.as_json(), "captions": written}))
    else:
        chosen_ann = None if dry_run else options.ann
        lines = _in_words(
            report, captions, data, store_location, dry_run=dry_run, in_background=in_background, ann=chosen_ann
        )
        click.echo(lines)
    if report.interrupted or (captions and not isinstance(captions, str) and captions.interrupted):
        sys.exit(INTERRUPTED)
    if not (dry_run or report.indexed or report.removed or report.failures):
        sys.exit(1)


def _require_sense(data: AnyPath, options: IndexOptions) -> None:
    """Refuse a wrong path or name before a store is made for it."""
    from nearshot.backbones.spec import parts_of
    from nearshot.schema.errors import UsageError

    if isinstance(data, Path) and not data.is_dir():  # of objects, discovery tells
        raise UsageError(f"{data} is not a directory; give the data directory that holds <category>/2.support-set/")
    for name in options.backbones:
        parts_of(name)


def _has_something(data: AnyPath, options: IndexOptions) -> bool:
    """Tell whether there is anything to index: no store is made for nothing."""
    from nearshot.indexer.discover import Discovery

    return any(True for _ in Discovery(resolved(data), options.categories, follow_links=options.follow_links))


def _warn(report: Report) -> None:
    """Say, before it takes its time, what a run leaves incomplete."""
    for name, number in report.left_behind.items():
        click.echo(
            f"nearshot: {name} has changed, and {number} images of other categories have vectors by the former one only; "
            f"`query` sees these again after `nearshot index DATA --backbone {name}` without --category",
            err=True,
        )


def _watch(run: IndexRun) -> None:
    """Make a run go, with a progress bar on a terminal."""
    with progress_bar("indexing", "images") as advance:
        for number, progress in enumerate(run):
            if number == 0:
                _warn(run.report)
            advance(progress.done, progress.total, progress.failed)


def _caption(store: Store, options: IndexOptions, should_stop: Callable[[], bool]) -> CaptionReport | str | None:
    """Caption what lacks a caption; the reason, where there is no captioner; None where nothing lacks one."""
    from nearshot.backbones.spec import FLORENCE2
    from nearshot.backbones.weights import locate
    from nearshot.indexer.captioner import load_remembered_captioner, remembered_captioner
    from nearshot.indexer.captions import CaptionOptions, CaptionRun
    from nearshot.schema.captions import uncaptioned
    from nearshot.schema.errors import WeightsError
    from nearshot.schema.image_filter import ImageFilter
    from nearshot.schema.vocabulary import CaptionTask

    with store.reading() as catalog:
        every = ImageFilter()
        if not uncaptioned(catalog.connection, CaptionTask.CAPTION, every, categories=options.categories, limit=1):
            return None
    try:
        locate(FLORENCE2, options.weights, remembered=remembered_captioner(store))
    except WeightsError as error:
        return str(error)
    precision = options.precision or Precision.FP32
    run = CaptionRun(
        store,
        lambda: load_remembered_captioner(store, options.weights, device=options.device, precision=precision),
        CaptionOptions(categories=options.categories, workers=options.threads, max_pixels=options.max_pixels),
        should_stop=should_stop,
    )
    watch_captions(run)
    return run.report


def _class_per_folder(data: AnyPath, report: Report) -> AnyPath | None:
    """The directory, if any, that holds one directory of images per class: the commonest layout of all."""
    strays = [breach.path.rstrip("/").split("/") for breach in report.breaches]
    if any(len(parts) == 2 and has_image_suffix(parts[1]) for parts in strays):
        return data
    below = [parts[0] for parts in strays if len(parts) == 2]
    return data / below[0] if below and len(below) > 1 and len(set(below)) == 1 else None


def _in_words(
    report: Report,
    captions: CaptionReport | str | None,
    data: AnyPath,
    store: Location,
    *,
    dry_run: bool,
    in_background: bool,
    ann: Ann | None,
) -> str:
    done = [
        f"{getattr(report, name)} {name}"
        for name in ("added", "changed", "moved", "removed", "unchanged", "failed")
        if getattr(report, name) or name in ("added", "unchanged")
    ]
    verb = "would be" if dry_run else "stopped after" if report.interrupted else "images:"
    lines = [f"{verb} {', '.join(done)}"]
    for name, count in report.backbones.items():
        failed = f", {count.failed} without a usable vector" if count.failed else ""
        lines.append(f"  {name}: {count.embedded} embedded, {count.reused} reused{failed}")
    if report.skipped_backbones:
        names = " ".join(report.skipped_backbones)
        lines.append(
            f"  without {names.replace(' ', ', ')}: no weights on this machine; `nearshot backbones pull {names}` fetches them"
        )
    lines += [f"  {each.in_words()}" for each in report.ann]
    if ann not in (None, Ann.NONE) and not report.ann_there and not report.interrupted:
        from nearshot.schema.ann import LEAST

        lines.append(f"  no approximate index yet: no segment has {LEAST:,} vectors, and all are compared")
    if report.captions_taken:
        lines.append(f"  captions: {report.captions_taken} taken from text files")
    if isinstance(captions, str):
        lines.append("  without captions: no weights on this machine; `nearshot backbones pull florence2` fetches them")
    elif captions:
        lines.append(f"  captions: {captions.written} written, {len(captions.failures)} failed")
    if in_background:
        lines.append(COMPILING.format(", ".join(report.uncompiled)))
    lines += listed("failed", [f"{failure.path}: {failure.reason}" for failure in report.failures])
    outside = [
        f"{breach.path}{f' ({breach.files} files)' if breach.files > 1 else ''}: {breach.rule}"
        f"{f'; did you mean {likely}?' if (likely := meant(breach.path)) else ''}"
        for breach in report.breaches
    ]
    lines += listed("outside the contract, not indexed", outside)
    if report.interrupted:
        lines.append("run the same command to go on from here")
    elif not report.indexed and not report.failures:
        lines.append(nothing_in(str(data)))
        if (folder := _class_per_folder(data, report)) is not None:
            lines.append(
                f"{folder} looks like a folder with one directory per class: "
                f"`{shlex.join(['nearshot', 'import', 'folder', str(folder), f'{resolved(folder).name}-data'])}` "
                "makes a data directory of it"
            )
    elif not dry_run and report.added:
        where = naming_store(store)
        lines.append(f"next: nearshot query IMAGE{where}")
    return "\n".join(lines)
