"""`nearshot mirror`: a copy of the vectors in Milvus, which shards, kept up to date."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

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

if TYPE_CHECKING:
    from nearshot.schema.store import Store
    from nearshot.vectors.mirrors import Mirrored

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
    from nearshot.schema.store import Store
    from nearshot.vectors.milvus import shown_engine

    with Store(store_location) as store, stopping_politely() as should_stop:
        wanted = {"backbones": backbones, "roles": [Role(role)] if role else list(Role), "should_stop": should_stop}
        if follow:
            _follow(store, engine, wanted, anew=anew, as_json=as_json)
        _tell(_brought_up(store, engine, wanted, anew=anew), as_json=as_json)
    if not as_json:
        address = shlex.quote(shown_engine(engine))
        click.echo(f"next: nearshot query IMAGE --mirror {address}{naming_store(store_location)}")


def _follow(store: Store, engine: str, wanted: Mapping[str, Any], *, anew: bool, as_json: bool) -> NoReturn:
    """Bring the mirrors up to date whenever the store has changed, until a wish to stop; whoever is away is waited for."""
    done: int | None = None
    told, looked_at = "", -LOOKING
    while not wanted["should_stop"]():
        try:
            with store.reading() as catalog:
                revision = catalog.revision()
            if revision != done or time.monotonic() - looked_at > LOOKING:
                looked_at = time.monotonic()
                reports = _brought_up(store, engine, wanted, anew=anew and done is None)
                _tell([each for each in reports if done is None or each.put or each.gone or each.anew], as_json=as_json)
                done = revision
            if told:
                click.echo("nearshot: it goes on", err=True)
            told = ""
        except (UnreachableError, StoreBusyError) as error:
            if str(error) != told:
                click.echo(f"nearshot: {printable(error.told(flag))}; trying again", err=True)
            told, looked_at = str(error), -LOOKING
        time.sleep(EVERY)
    sys.exit(INTERRUPTED)


def _brought_up(store: Store, engine: str, wanted: Mapping[str, Any], *, anew: bool) -> list[Mirrored]:
    """Bring the mirrors up to date, once; what was done to each."""
    from nearshot.indexer.mirroring import MirrorRun

    run = MirrorRun(store, engine, anew=anew, **wanted)
    with progress_bar("mirroring", "images") as advance:
        for there, total in run:
            advance(there, total, 0)
    if run.interrupted:
        click.echo("nearshot: stopped; the same command goes on", err=True)
        sys.exit(INTERRUPTED)
    return run.reports


def _tell(reports: Iterable[Mirrored], *, as_json: bool) -> None:
    for report in reports:
        click.echo(json.dumps(report.as_json()) if as_json else report.in_words())
