"""`nearshot backbones`: which there are, which can be used here, and fetching their weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from nearshot.commands.common import json_option, output, reports_errors, store_option, weights_option

PRESENT = {"backbone": "none needed", "captioner": "none needed", "fused": "of its parts"}
"""Words shown for weights that have no file of their own."""


@click.group(invoke_without_command=True)
@weights_option
@json_option
@store_option
@click.pass_context
@reports_errors
def backbones(context: click.Context, store_directory: Path, weights: Path | None, *, as_json: bool) -> None:
    """List the backbones and the captioner, and whether their weights are on this machine.

    Besides these, any model of four libraries goes by spec: open_clip:ARCH/TAG, torchvision:NAME/WEIGHTS, timm:NAME and
    hf:REPO_OR_DIR.
    """
    if context.invoked_subcommand is not None:
        return
    rows = _rows(store_directory, weights)
    if as_json:
        click.echo(json.dumps(rows))
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("name", "dimension", "source", "licence", "weights", "indexed"):
        table.add_column(heading, justify="right" if heading == "dimension" else "left", no_wrap=True)
    for row in rows:
        here = "here" if row["weights"] else PRESENT[row["kind"]] if row["available"] else "missing"
        table.add_row(
            row["name"],
            str(row["dimension"] or ("captions" if row["kind"] == "captioner" else "?")),
            row["source"],
            row["licence"] or "?",
            here,
            "yes" if row["indexed"] else "",
        )
    console = output()
    console.print(table)
    if missing := [row["name"] for row in rows if not row["available"]]:
        console.print(
            f"fetch weights with `nearshot backbones pull {' '.join(missing)}`, or give --weights DIR", markup=False
        )


@backbones.command()
@click.argument("names", nargs=-1, required=True)
@store_option
@reports_errors
def pull(names: tuple[str, ...], store_directory: Path) -> None:
    """Fetch the weights of backbones, or of the captioner florence2, into their libraries' caches; needs a network."""
    from nearshot.backbones.spec import FLORENCE2, parse_spec, parts_of
    from nearshot.backbones.weights import pull as fetch

    parts = [part for name in names for part in ([name] if name == FLORENCE2.name else parts_of(name))]
    specs = [FLORENCE2 if name == FLORENCE2.name else parse_spec(name) for name in parts]
    for spec in specs:
        location = fetch(spec)
        click.echo(f"{spec.name}: {location.path if location else 'needs no weights'}")


def _rows(store_directory: Path, weights: Path | None) -> list[dict[str, Any]]:
    from nearshot.backbones.spec import FLORENCE2, NAMED, parse_spec, parts_of
    from nearshot.backbones.weights import locate
    from nearshot.schema.errors import WeightsError
    from nearshot.schema.store import DATABASE_FILE, Store

    known = {}
    if (store_directory / DATABASE_FILE).is_file():
        with Store(store_directory) as store, store.reading() as catalog:
            known = {row.name: row for row in catalog.backbones()}
    rows: list[dict[str, Any]] = []
    fused = [name for name in known if len(parts_of(name)) > 1]
    for name in dict.fromkeys([*NAMED, *(name for name in known if name not in fused), FLORENCE2.name]):
        spec, row = FLORENCE2 if name == FLORENCE2.name else parse_spec(name), known.get(name)
        try:
            location = locate(spec, weights, remembered=Path(row.location) if row and row.location else None)
            available, problem = True, None
        except WeightsError as error:
            location, available, problem = None, False, str(error)
        rows.append(
            {
                "name": name,
                "kind": "captioner" if spec == FLORENCE2 else "backbone",
                "dimension": row.dimension if row else spec.dimension,
                "source": spec.source,
                "licence": spec.licence,
                "available": available,
                "weights": str(location.path) if location else None,
                "problem": problem,
                "indexed": row is not None,
            }
        )
    problems, licences = ({row["name"]: row[fact] for row in rows} for fact in ("problem", "licence"))
    for name in fused:
        problem = "; ".join(filter(None, (problems[part] for part in parts_of(name)))) or None
        licence = " and ".join(licences[part] or "?" for part in parts_of(name))
        kind = {"name": name, "kind": "fused", "dimension": known[name].dimension, "source": known[name].source}
        state = {"licence": licence, "available": problem is None, "weights": None, "problem": problem, "indexed": True}
        rows.append(kind | state)
    return rows
