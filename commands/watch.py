"""`nearshot watch`: recognise what a video, a camera or a directory that fills shows, one line a track."""

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
    decodable,
    device_option,
    max_pixels_option,
    printable,
    reports_errors,
    score_option,
    stopping_politely,
    store_option,
    weights_option,
)
from nearshot.schema.location import Location
from nearshot.schema.vocabulary import Score

if TYPE_CHECKING:
    from nearshot.retriever.watch import WatchRun


@click.command("watch")
@click.argument("source")
@click.option(
    "--category", shell_complete=completion.categories, help="Recognise by this category. Default: the only one."
)
@click.option(
    "--backbone",
    shell_complete=completion.backbones,
    help="Search with this backbone. Default: the best calibrated, else the best one indexed.",
)
@score_option
@click.option(
    "--every", type=click.IntRange(min=1), default=5, show_default=True, help="Look at every so-manyth frame."
)
@click.option("--objects", is_flag=True, help="Recognise every object that is detected in a frame, not the frame.")
@click.option("--find", multiple=True, help="Recognise what shows this, in words: 'a mug' (repeatable).")
@click.option("--detector", help="Detect by this: regions, florence2 or hf:REPO_OR_DIR.")
@click.option(
    "--false-accept",
    type=FiniteRange(0, 1, min_open=True, max_open=True),
    default=0.05,
    show_default=True,
    help="The share of strangers' tracks that may match, however long they are watched.",
)
@click.option("--save", type=FilePath(on_disk=True, file_okay=False), help="Save the best look of each track here.")
@click.option("--at-once", is_flag=True, help="Print a match when it is decided, not when its track ends.")
@click.option(
    "--wait/--no-wait", default=True, show_default=True, help="Wait at a directory for images that come later."
)
@device_option
@weights_option
@max_pixels_option
@store_option
@reports_errors
def watch_command(
    source: str,
    store_location: Location,
    *,
    every: int,
    false_accept: float,
    save: Path | None,
    at_once: bool,
    wait: bool,
    score: str | None,
    **chosen: Any,
) -> None:
    """Watch SOURCE: a video file, a directory that fills, rtsp://... or /dev/video0. Prints one JSON object a track.

    A track is what is seen of one thing over frames: its verdict rests on looks that are spread over it, so that at most the
    share --false-accept of strangers ever match (after `nearshot calibrate`; without, nothing is promised). A camera's frames
    that nobody has time for are dropped and counted, and a camera that is lost is reached again. Ctrl-C ends it.
    """
    from nearshot.retriever.options import QueryOptions
    from nearshot.retriever.watch import WatchOptions, WatchRun
    from nearshot.schema.store import Store

    query = QueryOptions(score=Score(score) if score else None, top_k=1, **chosen)
    options = WatchOptions(every=every, false_accept=false_accept, wait=wait, save=save, at_once=at_once)
    with Store(store_location) as store, stopping_politely() as should_stop:
        run = WatchRun(store, source, query, options, should_stop=should_stop)
        for reason in run.passed_over.values():
            click.echo(f"nearshot: {run.backbone} answers, because {reason}", err=True)
        click.echo(f"nearshot: {_promise(run)}", err=True)
        for track in run:
            click.echo(json.dumps(_decodable(track)))
        for line in run.seen.unread[:10]:
            click.echo(f"nearshot: {printable(line)}", err=True)
        click.echo(f"nearshot: {_counts(run)}", err=True)
        stopped = should_stop()
    if stopped:
        sys.exit(INTERRUPTED)


def _decodable(track: dict[str, Any]) -> dict[str, Any]:
    return {name: decodable(value) if isinstance(value, str) else value for name, value in track.items()}


def _promise(run: WatchRun) -> str:
    if run.schedule is None:
        return (
            "not calibrated for one category: a track matches with its first frame that does, and nothing is promised"
        )
    share, looks = run.schedule.alpha, run.schedule.looks
    if not looks:
        return (
            f"{run.strangers} strangers are too few to keep to {share:g}: nothing will match; give a higher --false-accept, "
            "or calibrate with more strangers"
        )
    return (
        f"at most {share:g} of strangers' tracks match: decided at frames {', '.join(map(str, looks))} of a track, "
        f"by {run.strangers} strangers"
    )


def _counts(run: WatchRun) -> str:
    seen = run.seen
    parts = [f"{seen.frames} frames", f"{run.looked_at} looked at", f"{run.still} unchanged", f"{seen.dropped} dropped"]
    if seen.reconnected:
        parts.append(f"reached again {seen.reconnected} times")
    return ", ".join(parts)
