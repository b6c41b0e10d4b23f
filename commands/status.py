"""`nearshot status`: what is indexed, what is stale or failed, and why."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from nearshot.commands.common import json_option, output, printable, reports_errors, store_option
from nearshot.schema.location import Location
from nearshot.schema.vocabulary import VectorKind

if TYPE_CHECKING:
    from nearshot.indexer.status import BackboneState, RootState, Status

SHOWN = 20


@click.command("status")
@json_option
@store_option
@reports_errors
def status_command(store_location: Location, *, as_json: bool) -> None:
    """Show what is indexed, per category and backbone, and what is stale or failed."""
    from nearshot.indexer.status import read_status
    from nearshot.schema.store import Store

    with Store(store_location) as store:
        taken = read_status(store)
    if as_json:
        click.echo(json.dumps(taken.as_json()))
    else:
        _print(taken)


def _print(taken: Status) -> None:
    from rich.table import Table
    from rich.text import Text

    console = output()
    console.print(f"store {taken.store}, revision {taken.revision}", markup=False)
    for root in taken.roots:
        console.print(f"data {printable(root.path)}: {_root_in_words(root)}", markup=False)
    if taken.last_run:
        outcome = taken.last_run.outcome or "did not end: it runs still, or was killed"
        console.print(f"last index run {taken.last_run.started}: {outcome}")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("category", "role"):
        table.add_column(heading)
    for heading in ("images", "labels", "shots", "failed"):
        table.add_column(heading, justify="right")
    for row in taken.backbones:
        table.add_column(Text(row.name))
    for category in taken.categories:
        support = category.role == "support"
        cells = [category.images, *((category.labels, category.shots) if support else ("", "")), category.failed or ""]
        states = [_state_in_words(category.backbones.get(row.name), category.images) for row in taken.backbones]
        table.add_row(*(Text(str(cell)) for cell in (category.category, category.role, *cells, *states)))
    console.print(table)
    if taken.vectors == VectorKind.FLOAT16:
        console.print("vectors: once, as float16")
    for ann in taken.anns:
        console.print(ann.in_words(), markup=False)
    for mirror in taken.mirrors:
        console.print(mirror.in_words(), markup=False)
    for lapse in taken.lapses:
        console.print(
            f"{lapse.category}, {lapse.backbone}, {lapse.score}: the promise has lapsed: {lapse.reason}", markup=False
        )
    if taken.failures:
        console.print("failed:")
        for failure in taken.failures[:SHOWN]:
            console.print(f"  {printable(failure.path)}: {failure.reason}", markup=False)
        if len(taken.failures) > SHOWN:
            console.print(f"  ... and {len(taken.failures) - SHOWN} more; --json lists all")


def _root_in_words(root: RootState) -> str:
    if root.reason is not None:
        return f"cannot be reached: {printable(root.reason)}"
    if not root.there:
        return f"not there; if it lies elsewhere now, run `nearshot move {printable(root.path)} NEW`"
    counts = {"new": root.new, "changed": root.changed, "moved": root.moved, "removed": root.removed}
    pending = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return f"{pending} since it was indexed; run `nearshot index {root.path}`" if pending else "up to date"


def _state_in_words(state: BackboneState | None, images: int) -> str:
    if state is None:
        return "-"
    notes = [f"{state.lacking} lacking"] if state.lacking else []
    notes += [f"{state.failed} failed"] if state.failed else []
    if state.behind is None and images:
        notes.append("not in a segment yet")
    elif state.behind:
        notes.append(f"{state.behind} not in a segment yet")
    return f"{state.vectors} vectors" + (f" ({', '.join(notes)})" if notes else "")
