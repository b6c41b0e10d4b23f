"""`nearshot caption`: describe what is indexed, by Florence-2 or by hand."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nearshot.commands import completion
from nearshot.commands.common import (
    INTERRUPTED,
    FilePath,
    device_option,
    json_option,
    max_pixels_option,
    one_of,
    printable,
    reports_errors,
    stopping_politely,
    store_option,
    weights_option,
)
from nearshot.progress import progress_bar
from nearshot.schema.errors import UsageError
from nearshot.schema.location import Location
from nearshot.schema.paths import AnyPath
from nearshot.schema.vocabulary import CaptionTask, Precision, Role

if TYPE_CHECKING:
    from nearshot.backbones.captioner import Captioner
    from nearshot.indexer.captions import CaptionReport, CaptionRun

SHOWN = 10


@click.command("caption")
@click.argument("image", required=False, type=FilePath())
@click.option("--set", "words", help="Write this caption of IMAGE by hand; it wins over generated ones.")
@click.option(
    "--task",
    type=one_of(CaptionTask),
    default="caption",
    show_default=True,
    help="What Florence-2 is to write.",
)
@click.option("--category", shell_complete=completion.categories, help="Only images of this category.")
@click.option("--role", type=one_of(Role), help="Only images of this role.")
@click.option("--limit", type=click.IntRange(1, 1_000_000_000), help="At most so many, the newest images first.")
@click.option("--redo", is_flag=True, help="Write anew what was generated before; captions by hand stay.")
@click.option(
    "--precision",
    type=one_of(Precision),
    default="fp32",
    show_default=True,
    help="Number format of the weights.",
)
@click.option("--batch-size", type=click.IntRange(min=1), help="Images at once. Default: 4 on a CPU, 16 on a GPU.")
@device_option
@weights_option
@max_pixels_option
@json_option
@store_option
@reports_errors
def caption_command(
    image: AnyPath | None, store_location: Location, *, words: str | None, as_json: bool, **chosen: Any
) -> None:
    """Caption what is indexed and lacks a caption, or set IMAGE's caption by hand with --set.

    Captions belong to the content of a file: copies and renames keep them. Ctrl-C keeps what is done.
    """
    from nearshot.schema.store import Store

    if (image is None) != (words is None):
        raise UsageError("IMAGE and --set TEXT go together; without both, everything that lacks a caption gets one")
    with Store(store_location) as store:
        if image is not None and words is not None:
            from nearshot.indexer.captions import set_caption

            set_caption(store, image, words)
            report = None
        else:
            report = _generate(store, **chosen)
    if report is None:
        click.echo(json.dumps({"written": 1}) if as_json else f"captioned by hand: {printable(str(image))}")
        return
    click.echo(json.dumps(report.as_json()) if as_json else _in_words(report))
    if report.interrupted:
        sys.exit(INTERRUPTED)


def _generate(
    store: Any,
    *,
    task: str,
    category: str | None,
    role: str | None,
    device: str,
    weights: Path | None,
    precision: str,
    **chosen: Any,
) -> CaptionReport:
    from nearshot.indexer.captioner import load_remembered_captioner
    from nearshot.indexer.captions import CaptionOptions, CaptionRun
    from nearshot.schema.image_filter import ImageFilter

    wanted = ImageFilter(category=category, role=Role(role) if role else None)
    options = CaptionOptions(task=CaptionTask(task), wanted=wanted, workers=os.cpu_count() or 1, **chosen)

    def load() -> Captioner:
        return load_remembered_captioner(store, weights, device=device, precision=Precision(precision))

    with stopping_politely() as should_stop:
        run = CaptionRun(store, load, options, should_stop=should_stop)
        watch(run)
    return run.report


def watch(run: CaptionRun) -> None:
    """Make a captioning run go, with a progress bar on a terminal."""
    with progress_bar("captioning", "images") as advance:
        for done, total in run:
            advance(done, total, len(run.report.failures))


def _in_words(report: CaptionReport) -> str:
    lines = [f"captions: {report.written} written, {len(report.failures)} failed"]
    lines += [f"  {printable(failure.path)}: {failure.reason}" for failure in report.failures[:SHOWN]]
    if len(report.failures) > SHOWN:
        lines.append(f"  ... and {len(report.failures) - SHOWN} more; --json lists all")
    return "\n".join(lines)
