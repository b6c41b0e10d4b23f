"""`nearshot index`: bring the store up to date with a data directory."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from commands.common import (
    INTERRUPTED,
    device_option,
    json_option,
    max_pixels_option,
    progress_console,
    reports_errors,
    store_option,
    weights_option,
)

if TYPE_CHECKING:
    from indexer.report import Report
    from indexer.run import IndexRun

SHOWN = 10


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option(
    "--backbone",
    "backbones",
    multiple=True,
    help="Use this backbone (repeatable). Default: all whose weights are here.",
)
@click.option("--category", "categories", multiple=True, help="Only this category (repeatable).")
@click.option(
    "--precision", type=click.Choice(["fp32", "bf16", "fp16"]), help="Number format of the weights. Default: fp32."
)
@click.option(
    "--batch-size", type=click.IntRange(min=1), help="Images a forward pass. Default: 16 on a CPU, 64 on a GPU."
)
@click.option("--workers", type=click.IntRange(min=1), help="Threads that read and decode. Default: one a core.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@device_option
@weights_option
@max_pixels_option
@json_option
@store_option
@reports_errors
def index(data: Path, store_directory: Path, *, dry_run: bool, as_json: bool, **chosen: Any) -> None:
    """Index the images of DATA, or what changed there since the last time.

    DATA holds a directory a category: DATA/<category>/2.support-set/[<label>/]shotN... are the labelled shots,
    DATA/<category>/6.preprocessed/... the queries. Files that have not changed cost one look; a file that moved is not
    embedded again. Ctrl-C commits what is done.
    """
    from indexer.options import IndexOptions
    from indexer.run import IndexRun
    from indexer.run import dry_run as foresee
    from schema.store import DATABASE_FILE, Store

    precision = _precision(chosen.pop("precision"))
    options = IndexOptions(**chosen, precision=precision)
    if dry_run:
        exists = (store_directory / DATABASE_FILE).is_file()
        report = foresee(Store(store_directory) if exists else None, data, options)
    else:
        _require_directory(data)
        with Store(store_directory, create=True) as store, _stopping_politely() as should_stop:
            run = IndexRun(store, data, options, should_stop=should_stop)
            _watch(run)
            report = run.report
    click.echo(json.dumps(report.as_json()) if as_json else _in_words(report, data, store_directory, dry_run=dry_run))
    if report.interrupted:
        sys.exit(INTERRUPTED)


def _precision(name: str | None) -> Any:
    from backbones.protocol import Precision

    return Precision(name) if name else None


def _require_directory(data: Path) -> None:
    """Refuse a wrong path before a store is made for it."""
    from schema.errors import UsageError

    if not data.is_dir():
        raise UsageError(f"{data} is not a directory; give the data directory that holds <category>/2.support-set/")


@contextmanager
def _stopping_politely() -> Iterator[Callable[[], bool]]:
    """Make the first Ctrl-C (or SIGTERM) a wish to stop, and the second an interrupt."""
    wish = threading.Event()

    def stop(_number: int, _frame: object) -> None:
        if wish.is_set():
            raise KeyboardInterrupt
        wish.set()
        click.echo("nearshot: committing what is done; press Ctrl-C again to drop it", err=True)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield wish.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _watch(run: IndexRun) -> None:
    """Make a run go, with a progress bar on a terminal."""
    if not sys.stderr.isatty():
        for _ in run:
            pass
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("indexing"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]} images/s"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[failed]} failed"),
    )
    with Progress(*columns, console=progress_console(), transient=True) as bars:
        bar = bars.add_task("indexing", total=None, rate="-", failed=0)
        for progress in run:
            elapsed = bars.tasks[0].elapsed or 0.0
            rate = f"{progress.done / elapsed:.1f}" if progress.done and elapsed else "-"
            bars.update(bar, completed=progress.done, total=progress.total, failed=progress.failed, rate=rate)


def _in_words(report: Report, data: Path, store: Path, *, dry_run: bool) -> str:
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
    lines += _listed("failed", [f"{failure.path}: {failure.reason}" for failure in report.failures])
    outside = [
        f"{breach.path}{f' ({breach.files} files)' if breach.files > 1 else ''}: {breach.rule}"
        for breach in report.breaches
    ]
    lines += _listed("outside the contract, not indexed", outside)
    indexed = report.added + report.changed + report.moved + report.unchanged
    if not indexed and not report.failures:
        lines.append(
            f"nothing to index in {data}: put shots in <category>/2.support-set/<label>/shot1.jpg, shot2.jpg, ..."
        )
    elif report.interrupted:
        lines.append("run the same command to go on from here")
    elif not dry_run and report.added:
        where = "" if str(store) == ".nearshot" else f" --store {store}"
        lines.append(f"next: nearshot query IMAGE{where}")
    return "\n".join(lines)


def _listed(title: str, items: list[str]) -> list[str]:
    if not items:
        return []
    more = [f"  ... and {len(items) - SHOWN} more; --json lists all"] if len(items) > SHOWN else []
    return [f"{title}:", *(f"  {item}" for item in items[:SHOWN]), *more]
