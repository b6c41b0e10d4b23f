"""`nearshot crop`: cut what is to be recognised out of raw pictures."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nearshot.commands import completion
from nearshot.commands.common import (
    INTERRUPTED,
    FilePath,
    FiniteRange,
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
from nearshot.schema.location import Location
from nearshot.schema.vocabulary import Masked, Precision, Role

if TYPE_CHECKING:
    from nearshot.indexer.crop_report import CropReport


@click.command("crop")
@click.argument("data", type=FilePath(on_disk=True))
@click.option("--source", default="1.raw", show_default=True, help="The directory of each category with raw pictures.")
@click.option(
    "--category",
    "categories",
    shell_complete=completion.categories,
    multiple=True,
    help="Only this category (repeatable).",
)
@click.option(
    "--detector",
    help="regions (what stands out, without weights), florence2, or hf:REPO_OR_DIR. Default: regions; with --find florence2.",
)
@click.option("--find", multiple=True, help="Look for this, in words (repeatable): 'a mug'.")
@click.option(
    "--to",
    "role",
    type=one_of(Role),
    default=Role.QUERY.value,
    show_default=True,
    help="Make queries of the crops, or shots.",
)
@click.option(
    "--label",
    shell_complete=completion.labels,
    help="With --to support: the label of the shots. Default: the directory a picture lies in.",
)
@click.option(
    "--min-score", type=FiniteRange(0, 1), help="The least score of a detection. Default: the detector's usual."
)
@click.option(
    "--min-size", type=click.IntRange(min=1), default=32, show_default=True, help="The least pixels of a box's side."
)
@click.option(
    "--most", type=click.IntRange(min=1), help="Crops a picture at most. Default: all; with --to support, one."
)
@click.option(
    "--padding",
    type=FiniteRange(0, 1),
    default=0.05,
    show_default=True,
    help="Room on each side, as a share of the box's longer side.",
)
@click.option("--square", is_flag=True, help="Cut squares.")
@click.option("--mask", type=one_of(Masked), help="Lay white over what was not detected, or blur it.")
@click.option("--tiles", type=click.IntRange(min=64), help="Look at larger pictures in parts of so many pixels, too.")
@click.option("--preview", type=FilePath(on_disk=True, file_okay=False), help="Draw the boxes on contact sheets here.")
@click.option("--dry-run", is_flag=True, help="Detect, draw and count, and write no crops.")
@click.option(
    "--precision", type=one_of(Precision), default="fp32", show_default=True, help="Number format of the weights."
)
@click.option("--workers", type=click.IntRange(min=1), help="Threads that read, decode and cut. Default: one a core.")
@click.option("--follow-links", is_flag=True, help="Take links that lead out of DATA, too.")
@device_option
@weights_option
@max_pixels_option
@json_option
@store_option
@reports_errors
def crop_command(
    data: Path,
    store_location: Location,
    *,
    preview: Path | None,
    dry_run: bool,
    as_json: bool,
    min_size: int,
    most: int | None,
    padding: float,
    square: bool,
    mask: str | None,
    **chosen: Any,
) -> None:
    """Cut what a detector detects in the raw pictures of DATA out of them, for `nearshot index` to take up.

    Raw pictures lie in DATA/<category>/1.raw/, or videos, of which the first frame of each scene is a picture; their crops
    become queries, in 6.preprocessed/, or shots. Where each came from is remembered: pictures that have not changed are not
    looked at again, and one that has changed, or is gone, takes its crops along. Crops that somebody edited or moved stay.
    Ctrl-C keeps what is done.
    """
    from nearshot.detectors.cutting import Cutting
    from nearshot.detectors.selection import Selection
    from nearshot.indexer.crop_options import CropOptions
    from nearshot.indexer.crops import CropRun, require_raw
    from nearshot.schema.store import Store, is_there

    chosen["role"], chosen["precision"] = Role(chosen["role"]), Precision(chosen["precision"])
    options = CropOptions(
        **chosen,
        selection=Selection(min_size=min_size, most=most),
        cutting=Cutting(padding=padding, square=square, mask=Masked(mask) if mask else None),
    )
    require_raw(data, options)  # before a store is made for it
    there = is_there(store_location)
    store = Store(store_location, create=not dry_run) if there or not dry_run else None
    try:
        with stopping_politely() as should_stop:
            run = CropRun(store, data, options, preview=preview, dry=dry_run, should_stop=should_stop)
            with progress_bar("cropping", "pictures") as advance:
                for progress in run:
                    advance(progress.done, progress.total, progress.failed)
    finally:
        if store is not None:
            store.close()
    report = run.report
    click.echo(json.dumps(report.as_json()) if as_json else _in_words(report, data, store_location, dry_run=dry_run))
    if report.interrupted:
        sys.exit(INTERRUPTED)


def _in_words(report: CropReport, data: Path, store: Location, *, dry_run: bool) -> str:
    verb = "would be" if dry_run else "stopped after" if report.interrupted else "crops:"
    lines = [f"{verb} {report.written} out of {_pictures(report.cropped)}, {report.unchanged} unchanged"]
    if report.empty:
        lines.append(f"  {_pictures(report.empty)} in which nothing was detected")
    if report.gone:
        lines.append(f"  {_pictures(report.gone)} gone")
    if report.deleted:
        lines.append(f"  {report.deleted} earlier crops deleted")
    if report.stale:
        lines.append(
            f"  {_pictures(report.stale)} changed, with crops that were cut with another --to, --label or --find: "
            "crop so again"
        )
    lines += listed("failed", [f"{failure.path}: {failure.reason}" for failure in report.failures])
    lines += listed("outside the contract", [f"{breach.path}: {breach.rule}" for breach in report.breaches])
    lines += [f"boxes drawn in {path}" for path in report.previews]
    if report.interrupted:
        lines.append("run the same command to go on from here")
    elif (report.written or report.deleted) and not dry_run:
        where = naming_store(store)
        lines.append(f"next: nearshot index {data}{where}")
    return "\n".join(lines)


def _pictures(number: int) -> str:
    return f"{number} picture{'' if number == 1 else 's'}"
