"""`nearshot mirror`: a copy of the vectors in Milvus, which shards, kept up to date."""

from __future__ import annotations

import json
import shlex
import sys
import time

import click

from nearshot.commands import completion
from nearshot.commands.common import (
    INTERRUPTED,
    flag,
    json_option,
    naming_store,
    printable,
    reports_errors,
    stopping_politely,
    store_option,
)
from nearshot.progress import progress_bar
from nearshot.schema.errors import StoreBusyError, UnreachableError
from nearshot.schema.location import Location
from nearshot.schema.vocabulary import Role

EVERY, LOOKING = 1.0, 30.0
"""Seconds between two looks at the store that is followed, and at a mirror of which nothing should have changed."""


@click.command("mirror")
@click.argument("engine")
@click.option(
    "--backbone",
    "backbones",
    multiple=True,
    shell_complete=completion.backbones,
    help="Mirror the vectors of this one (repeatable). Default: of all that are indexed.",
)
@click.option("--role", type=click.Choice([role.value for role in Role]), help="Mirror these alone. Default: both.")
@click.option("--anew", is_flag=True, help="Make the mirror anew, whatever is there.")
@click.option(
    "--follow",
    is_flag=True,
    help="Go on until Ctrl-C: bring it up to date whenever the store has changed, also after Milvus was away.",
)
@json_option
@store_option
@reports_errors
def mirror_command(
    engine: str,
    store_location: Location,
    *,
    backbones: tuple[str, ...],
    role: str | None,
    anew: bool,
    follow: bool,
    as_json: bool,
) -> None:
    """Keep a copy of the vectors in ENGINE, a Milvus: milvus://[USER:PASSWORD@]HOST[:PORT][/DATABASE].

    `query`, `search` and `serve` ask it with --mirror, and need not hold the vectors in memory. The store stays the truth: what
    changes counts at once, whether the mirror knows it yet or not, and what Milvus names is looked up and scored here.
    """
    from nearshot.indexer.mirroring import MirrorRun
    from nearshot.schema.store import Store
    from nearshot.vectors.milvus import shown_engine

    done: int | None = None
    told, looked_at = "", 0.0
    with Store(store_location) as store, stopping_politely() as should_stop:
        while True:
            with store.reading() as catalog:
                revision = catalog.revision()
            if revision != done or time.monotonic() - looked_at > LOOKING:
                looked_at = time.monotonic()
                try:
                    run = MirrorRun(
                        store,
                        engine,
                        backbones=backbones,
                        roles=[Role(role)] if role else list(Role),
                        anew=anew and done is None,
                        should_stop=should_stop,
                    )
                    with progress_bar("mirroring", "images") as advance:
                        for there, total in run:
                            advance(there, total, 0)
                except (UnreachableError, StoreBusyError) as error:
                    if not follow:
                        raise
                    if str(error) != told:
                        click.echo(f"nearshot: {printable(error.told(flag))}; trying again", err=True)
                    told = str(error)
                else:
                    if told:
                        click.echo("nearshot: it goes on", err=True)
                    for report in run.reports:
                        if done is None or report.put or report.gone or report.anew:
                            click.echo(json.dumps(report.as_json()) if as_json else report.in_words())
                    if run.interrupted:
                        click.echo("nearshot: stopped; the same command goes on", err=True)
                        sys.exit(INTERRUPTED)
                    done, told = revision, ""
            if not follow:
                break
            time.sleep(EVERY)
            if should_stop():
                sys.exit(INTERRUPTED)
    if not as_json:
        address = shlex.quote(shown_engine(engine))
        click.echo(f"next: nearshot query IMAGE --mirror {address}{naming_store(store_location)}")
