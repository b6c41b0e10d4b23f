"""Choosing what answers: a backbone that the store was indexed with, and the categories that are searched."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType

from nearshot.backbones.protocol import Backbone
from nearshot.backbones.resolve import resolve
from nearshot.backbones.spec import by_preference, canonical_name, parse_spec, parts_of
from nearshot.retriever.choose_score import best_score, evidence_by_score
from nearshot.retriever.fused import FusedBackbone
from nearshot.schema.calibrations import all_calibrations
from nearshot.schema.catalog import BackboneRow, Catalog
from nearshot.schema.digests import check_decisive
from nearshot.schema.errors import UsageError, WeightsError
from nearshot.schema.fusions import parts_of_fusion
from nearshot.schema.lacking import Lacking
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Role


def choose_row(
    catalog: Catalog,
    name: str | None,
    categories: Collection[str],
    *,
    roles: Collection[Role] = (Role.SUPPORT,),
    words: bool = False,
    among: Collection[int] | None = None,
    lacking: Lacking | None = None,
) -> tuple[BackboneRow, int]:
    """The backbone to search with, and of how many of some categories' images of some roles it lacks a vector.

    The one named, or else of those that lack none the one that calibration found best, or else the first by preference; an
    older row of a name counts where the newest is not complete. Where none is, the one that lacks fewest. With `words`, only
    those that can encode text; with `among`, only rows of these ids. UsageError where the store has none. Who chooses again
    and again gives what was found to be `lacking` before.
    """
    check_decisive(catalog.connection)
    rows = sorted(catalog.all_backbones(), key=lambda row: -row.revision)
    if among is not None:
        rows = [row for row in rows if row.id in among]
    names = list(dict.fromkeys(row.name for row in rows))
    if not names:
        raise UsageError("nothing is indexed yet; run `nearshot index DATA`")
    if name is not None:
        wanted = canonical_name(name)
        if wanted not in names:
            raise UsageError(
                f"nothing is indexed with {wanted}; run `nearshot index DATA --backbone {wanted}`, "
                f"or take {' or '.join(sorted(names))}"
            )
        names = [wanted]
    if words:
        able = [known for known in names if encodes_text(known)]
        if not able:
            reason = (
                f"{names[0]} cannot compare images with words"
                if name
                else "nothing is indexed with a backbone that understands words"
            )
            raise UsageError(f"{reason}; run `nearshot index DATA --backbone clip`")
        names = able
    choices = [row for each in by_preference(names) for row in rows if row.name == each]
    lacking = lacking or Lacking()
    counts = {row: lacking.count(catalog, row, categories, roles) for row in choices}
    whole = [row for row in choices if counts[row] == 0]
    if not whole:
        chosen = min(choices, key=lambda row: counts[row])
    elif words:
        chosen = whole[0]
    else:
        chosen = max(whole, key=lambda row: _evidence(catalog, row, categories))  # the first of those that are equal
    return chosen, counts[chosen]


def choose_rows(catalog: Catalog, names: Collection[str]) -> list[BackboneRow]:
    """The backbones in use that are named, or all; UsageError for one that nothing is indexed with."""
    check_decisive(catalog.connection)
    in_use = {row.name: row for row in catalog.backbones()}
    wanted = dict.fromkeys(canonical_name(name) for name in names) or in_use
    for name in wanted:
        if name not in in_use:
            raise UsageError(f"nothing is indexed with {name}; take {' or '.join(in_use) or 'none'}")
    return [in_use[name] for name in wanted]


def choose_supported(catalog: Catalog, names: Collection[str]) -> list[str]:
    """The categories named, or all that have shots, in order; UsageError for one that has none."""
    supported = catalog.categories(Role.SUPPORT)
    if not supported:
        raise UsageError("there are no shots yet; run `nearshot index DATA`")
    if unknown := sorted(set(names) - set(supported)):
        raise UsageError(f"no category '{unknown[0]}' has shots; there are {', '.join(supported)}")
    return sorted(set(names)) or supported


def choose_categories(catalog: Catalog, name: str | None) -> list[str]:
    """The category named, or all; UsageError for one that holds nothing usable."""
    names = sorted({category for role in Role for category in catalog.categories(role)})
    if name is None:
        return names
    if name not in names:
        raise UsageError(f"no category '{name}' is indexed; there are {', '.join(names) or 'none'}")
    return [name]


def encodes_text(name: str) -> bool:
    """Tell whether a backbone has vectors of words: a fused one has not."""
    names = parts_of(name)
    return len(names) == 1 and parse_spec(names[0]).encodes_text


def load_indexed(
    store: Store,
    row: BackboneRow,
    *,
    weights: Path | None,
    device: str,
    loaded: Mapping[int, Backbone] = MappingProxyType({}),
) -> Backbone:
    """The backbone of a row, loaded; WeightsError where the weights are not here, or are not those of the row.

    The parts of a fused one are taken from `loaded`, by the ids of their rows, where they are there.
    """
    with store.reading() as catalog:
        parts = parts_of_fusion(catalog, row.id)
    if parts:
        ready = [
            loaded.get(part.row.id) or load_indexed(store, part.row, weights=weights, device=device) for part in parts
        ]
        return FusedBackbone(row.name, ready, [part.weight for part in parts])
    choice = resolve(parse_spec(row.name), row=row, weights=weights)
    return require_indexed(choice.load(device), row)


def require_indexed(backbone: Backbone, row: BackboneRow) -> Backbone:
    """A backbone that was loaded for a row, where it is the row's own; WeightsError where it is another."""
    if backbone.description.fingerprint != row.fingerprint:
        raise WeightsError(
            f"{row.name}: the store was indexed with other weights, preprocessing, precision or decoder rules than those at "
            f"hand; index again with `nearshot index DATA --backbone {row.name}`"
        )
    return backbone


def _evidence(catalog: Catalog, row: BackboneRow, categories: Collection[str]) -> float:
    """The best evidence that calibration found for a backbone in all the categories that have shots; -1 for none."""
    supported = dict.fromkeys(category for category in catalog.categories(Role.SUPPORT) if category in categories)
    by_score = evidence_by_score(all_calibrations(catalog, row.id), supported)
    if len(supported) > 1:
        by_score = {score: each for score, each in by_score.items() if score.compares_categories}
    return round(by_score[best_score(by_score)].evidence, 3) if by_score else -1.0
