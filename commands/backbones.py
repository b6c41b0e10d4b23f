"""`nearshot backbones`: which there are, which can be used here, and fetching their weights."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nearshot.commands.common import flag, json_option, output, reports_errors, store_option, weights_option
from nearshot.schema.location import Location

if TYPE_CHECKING:
    from nearshot.schema.catalog import BackboneRow

PRESENT = {"backbone": "none needed", "captioner": "none needed", "fused": "of its parts"}
"""Words shown for weights that have no file of their own."""


@click.group(invoke_without_command=True)
@weights_option
@json_option
@store_option
@click.pass_context
@reports_errors
def backbones(context: click.Context, store_location: Location, weights: Path | None, *, as_json: bool) -> None:
    """List the backbones and the captioner, and whether their weights are on this machine.

    Besides these, any model of four libraries goes by spec: open_clip:ARCH/TAG, torchvision:NAME/WEIGHTS, timm:NAME and
    hf:REPO_OR_DIR.
    """
    if context.invoked_subcommand is not None:
        return
    rows = _rows(store_location, weights)
    if as_json:
        click.echo(json.dumps(rows))
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("name", "dimension", "source", "licence", "weights", "compiled", "indexed"):
        table.add_column(heading, justify="right" if heading == "dimension" else "left", no_wrap=True)
    for row in rows:
        here = "here" if row["weights"] else PRESENT[row["kind"]] if row["available"] else "missing"
        table.add_row(
            row["name"],
            str(row["dimension"] or ("captions" if row["kind"] == "captioner" else "?")),
            row["source"],
            row["licence"] or "?",
            here,
            "yes" if row["compiled"] else "",
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
def pull(names: tuple[str, ...], store_location: Location) -> None:
    """Fetch the weights of backbones, or of the captioner florence2, into their libraries' caches; needs a network."""
    from nearshot.backbones.spec import FLORENCE2, parse_spec, parts_of
    from nearshot.backbones.weights import pull as fetch

    parts = [part for name in names for part in ([name] if name == FLORENCE2.name else parts_of(name))]
    specs = [FLORENCE2 if name == FLORENCE2.name else parse_spec(name) for name in parts]
    for spec in specs:
        location = fetch(spec)
        click.echo(f"{spec.name}: {location.path if location else 'needs no weights'}")


@backbones.command("compile")
@click.argument("names", nargs=-1)
@click.option("--remove", is_flag=True, help="Delete what was compiled instead.")
@weights_option
@store_option
@reports_errors
def compile_command(names: tuple[str, ...], store_location: Location, weights: Path | None, *, remove: bool) -> None:
    """Compile backbones for this CPU: NAMES, or all that the store was indexed with.

    Each is exported to ONNX once, its vectors are held against torch's, and the files are kept in the cache ($NEARSHOT_CACHE,
    else ~/.cache/nearshot). From then on commands on a CPU encode with them, and import neither torch nor the model's library.
    """
    from nearshot.backbones.compiled import compiled_cache
    from nearshot.backbones.resolve import resolve
    from nearshot.backbones.spec import NAMED, parse_spec, parts_of
    from nearshot.schema.errors import UsageError, WeightsError

    cache = compiled_cache()
    if cache is None:
        raise UsageError("NEARSHOT_RUNTIME is torch: nothing is compiled then; unset it")
    indexed = _indexed(store_location)
    wanted = [part for name in names or indexed for part in parts_of(name)]
    if not wanted:
        raise UsageError(f"nothing is indexed in {store_location}; name the backbones: {', '.join(NAMED)}")
    failed: list[str] = []
    for name in dict.fromkeys(wanted):
        try:
            choice = resolve(parse_spec(name), row=indexed.get(name), weights=weights)
        except WeightsError as error:
            failed.append(error.told(flag))  # the others can be compiled all the same
            continue
        if choice.location is None:
            click.echo(f"{name}: has no weights to compile")
            continue
        if not choice.can_be_compiled:
            failed.append(f"{name}: stays with torch: only fp32 is compiled, and it is indexed in {choice.precision}")
            continue
        if remove:
            known = cache.fingerprint_of(choice.signature)
            click.echo(f"{name}: {'deleted' if known and cache.remove(known) else 'was not compiled'}")
            continue
        begun: list[str] = []

        def compiling(name: str, begun: list[str] = begun) -> None:
            begun.append(name)
            click.echo(f"{name}: compiling, some 10 to 30 s", err=True)

        backbone = choice.load("cpu", compiling=compiling)
        compiled = cache.of(backbone.description.fingerprint)
        if compiled is None or compiled.refused:
            failed.append(f"{name}: stays with torch: {compiled.refused if compiled else 'it could not be kept'}")
            continue
        done = f"compiled in {compiled.record['seconds']} s" if begun else "is compiled"
        cosine = compiled.record["cosine"]
        click.echo(f"{name}: {done}, {compiled.size / 1e6:.0f} MB; cosine to torch at least {cosine:.8f}")
    if failed:
        raise WeightsError("; ".join(failed))


@backbones.command("verify")
@click.argument("names", nargs=-1)
@weights_option
@json_option
@store_option
@reports_errors
def verify_command(names: tuple[str, ...], store_location: Location, weights: Path | None, *, as_json: bool) -> None:
    """Read the weights of backbones whole: NAMES, or all that the store was indexed with.

    Other commands go by the names, sizes and times of the files, and by what they found before. Exit status 1 where the weights
    are not those that the store was indexed with, or the cache had something wrong, which is deleted.
    """
    from nearshot.backbones.checking import check_weights
    from nearshot.backbones.compiled import compiled_cache
    from nearshot.backbones.resolve import resolve
    from nearshot.backbones.spec import NAMED, parse_spec, parts_of
    from nearshot.schema.errors import UsageError, WeightsError

    indexed = _indexed(store_location)
    wanted = list(dict.fromkeys(part for name in names or indexed for part in parts_of(name)))
    if not wanted:
        raise UsageError(f"nothing is indexed in {store_location}; name the backbones: {', '.join(NAMED)}")
    wrong = False
    for name in wanted:
        row = indexed.get(name)
        try:
            problems = check_weights(resolve(parse_spec(name), row=row, weights=weights), row, compiled_cache())
        except WeightsError as error:
            problems = [error.told(flag)]
        wrong |= bool(problems)
        if as_json:
            click.echo(json.dumps({"name": name, "problems": problems}))
        else:
            whole = "as the store was indexed with it" if row else "read whole"
            click.echo(f"{name}: {'; '.join(problems) or whole}")
    if wrong:
        sys.exit(1)


def _indexed(store_location: Location) -> dict[str, BackboneRow]:
    """The rows of the backbones that a store is indexed with, by name; none where there is no store."""
    from nearshot.schema.store import Store, is_there

    if not is_there(store_location):
        return {}
    with Store(store_location) as store, store.reading() as catalog:
        return {row.name: row for row in catalog.backbones()}


def _rows(store_location: Location, weights: Path | None) -> list[dict[str, Any]]:
    from nearshot.backbones.resolve import resolve
    from nearshot.backbones.spec import FLORENCE2, NAMED, Library, parse_spec, parts_of
    from nearshot.backbones.weights import locate
    from nearshot.schema.errors import WeightsError

    known = _indexed(store_location)
    rows: list[dict[str, Any]] = []
    fused = [name for name in known if len(parts_of(name)) > 1]
    for name in dict.fromkeys([*NAMED, *(name for name in known if name not in fused), FLORENCE2.name]):
        spec, row = FLORENCE2 if name == FLORENCE2.name else parse_spec(name), known.get(name)
        compiled = False
        try:
            if spec == FLORENCE2:
                location = locate(spec, weights)
            else:
                choice = resolve(spec, row=row, weights=weights)
                location, compiled = choice.location, choice.is_compiled
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
                "compiled": compiled,
                "problem": problem,
                "indexed": row is not None,
            }
        )
    problems, licences, ready = (
        {row["name"]: row[fact] for row in rows} for fact in ("problem", "licence", "compiled")
    )
    for name in fused:
        problem = "; ".join(filter(None, (problems[part] for part in parts_of(name)))) or None
        licence = " and ".join(licences[part] or "?" for part in parts_of(name))
        kind = {"name": name, "kind": "fused", "dimension": known[name].dimension, "source": known[name].source}
        compiled = all(ready[part] for part in parts_of(name) if parse_spec(part).library != Library.SCIKIT_IMAGE)
        state = {"licence": licence, "available": problem is None, "weights": None, "compiled": compiled}
        state |= {"problem": problem, "indexed": True}
        rows.append(kind | state)
    return rows
