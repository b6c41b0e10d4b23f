"""`nearshot copy`: a store in another place, in a directory or in PostgreSQL."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import click

from nearshot.commands.common import (
    INTERRUPTED,
    StoreLocation,
    json_option,
    own_file,
    reports_errors,
    stopping_politely,
)
from nearshot.progress import progress_bar
from nearshot.schema.location import Location, is_address, shown_location


@click.command("copy")
@click.argument("source", type=StoreLocation())
@click.argument("target", type=StoreLocation())
@json_option
@reports_errors
def copy_command(source: Location, target: Location, *, as_json: bool) -> None:
    """Copy the store SOURCE to TARGET, where there is none yet: directories, or addresses of PostgreSQL databases.

    All rows and vectors are copied as they are at the beginning, read back and compared; SOURCE may be used meanwhile. A copy
    that was cut off is no store yet: the same command goes on with it. Files are not copied: both name the same data
    directories, so go on with one of the two.
    """
    from nearshot.indexer.copying import CopyRun

    with stopping_politely() as should_stop:
        run = CopyRun(source, target, should_stop=should_stop)
        with progress_bar("copying", "images") as advance:
            for report in run:
                advance(report.contents, report.total, 0)
    report = run.report
    if as_json:
        click.echo(json.dumps(report.as_json()))
    elif report.interrupted:
        click.echo(
            f"stopped after {report.contents:,} of {report.total:,} contents; run the same command to go on from here"
        )
    else:
        shown = ("images", "vectors", "captions", "feedback", "marks", "calibrations")
        names = {"feedback": "labels and rejects"}
        counts = ", ".join(f"{names.get(name, name)} {report.rows[name]:,}" for name in shown if report.rows[name])
        click.echo(f"copied and compared: {counts or 'an empty store'}")
        if report.already:
            click.echo(f"  {report.already:,} of {report.contents:,} contents were there already")
        where = target if is_address(target) else Path(target).absolute()
        if _has_keys(source):
            click.echo("API keys are not copied: make them with `nearshot keys add NAME`")
        click.echo(f"next: export NEARSHOT_STORE={shlex.quote(shown_location(where))}")
    if report.interrupted:
        sys.exit(INTERRUPTED)


def _has_keys(location: Location) -> bool:
    """Tell whether a store has API keys of its own."""
    if (file := own_file(location)) is not None:
        return file.exists()
    from nearshot.schema.api_keys import api_key_rows
    from nearshot.schema.store import Store

    with Store(location) as store, store.reading() as catalog:
        return bool(api_key_rows(catalog))
