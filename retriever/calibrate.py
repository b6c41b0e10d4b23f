"""Calibrating: from a store's shots and labelled queries to policies that the store keeps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearshot.backbones.decode import decode
from nearshot.backbones.spec import parts_of
from nearshot.retriever.choose_backbone import choose_rows, choose_supported, load_indexed
from nearshot.retriever.conformal import Aim, Aims
from nearshot.retriever.embedding import embed_picture
from nearshot.retriever.evidence import gather, set_samples, stream_samples
from nearshot.retriever.find_policy import (
    Calibration,
    FusionTried,
    best_by_evidence,
    equally_good,
    find_policy,
    fusing_pays,
)
from nearshot.retriever.held_out import HeldOut
from nearshot.retriever.material import ByHash, Material, join_material
from nearshot.retriever.scores import Labelled
from nearshot.retriever.sources import read_queries
from nearshot.schema.calibrations import CalibrationRow, put_calibration
from nearshot.schema.catalog import BackboneRow, Catalog
from nearshot.schema.errors import ImageError, UsageError, option
from nearshot.schema.labelled import digest_of_support
from nearshot.schema.paths import AnyPath
from nearshot.schema.store import Store, utc_now
from nearshot.schema.vocabulary import Guard, Score
from nearshot.vectors.fused import find_parts, fuse
from nearshot.vectors.segments import write_segments


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationOptions:
    """Options of a calibration; empty backbones and categories mean all that are indexed.

    With `every`, all labelled queries count, and none are left for `evaluate`. With `force`, a policy is kept though it answers
    no known image right.
    """

    aims: Aims = field(default_factory=lambda: Aims({Aim.FALSE_ACCEPT: 0.05}))
    guard: Guard = Guard.AUTO
    every: bool = False
    force: bool = False
    backbones: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    scores: tuple[Score, ...] = tuple(Score)
    negatives: AnyPath | None = None
    device: str = "auto"
    weights: Path | None = None


def calibrate_all(store: Store, options: CalibrationOptions) -> Iterator[Calibration | FusionTried]:
    """Calibrate every backbone, category and score that is asked for, and try pairs of backbones that are equally good.

    Raises UsageError for what is not indexed and for a negative that cannot be read, WeightsError where negatives are given
    and a backbone cannot be loaded, StoreBusyError where a pair is better and another process holds the store.
    """
    with store.reading() as catalog:
        rows = choose_rows(catalog, options.backbones)
        categories = choose_supported(catalog, options.categories)
    negatives = {row.id: _embed_all(store, row, options) if options.negatives else {} for row in rows}
    for category in categories:
        calibrations: dict[BackboneRow, list[Calibration]] = {}
        for row in rows:
            calibrations[row] = []
            for calibration in calibrate(store, row, category, options, negatives=negatives[row.id]):
                calibrations[row].append(calibration)
                yield calibration
        yield from _calibrate_pairs(store, category, options, calibrations, negatives)


def _calibrate_pairs(
    store: Store,
    category: str,
    options: CalibrationOptions,
    calibrations: Mapping[BackboneRow, Sequence[Calibration]],
    negatives: Mapping[int, ByHash],
) -> Iterator[Calibration | FusionTried]:
    """Try the best backbone fused with each that is as good; where that is better than the best, fuse the store's vectors."""
    every = list(chain.from_iterable(calibrations.values()))
    best = best_by_evidence(every, even_useless=True)
    if best is None:
        return
    rows = {row.name: row for row in calibrations}
    for name in equally_good(every, best):
        parts = [rows[part] for part in parts_of(name)]
        with store.reading() as catalog:
            weights = [part.weight for part in find_parts(catalog, parts)]
            first, second = (_read(catalog, row, category, options, negatives[row.id]) for row in parts)
        together = join_material(first, second, weights)
        tried = [calibration for calibration, _ in _find_policies(name, category, options, together)]
        better = best_by_evidence(tried, even_useless=True)
        if better is None:
            continue
        pays = better.policy.calibrated and fusing_pays(better, best)
        yield FusionTried(better, best, pays)
        if not pays:
            continue
        with store.held("nearshot calibrate"):
            fused, _ = fuse(store, parts)
            write_segments(store, [fused])
        yield from calibrate(store, fused, category, options, negatives=together.negatives)


def _embed_all(store: Store, row: BackboneRow, options: CalibrationOptions) -> dict[str, NDArray[np.float32]]:
    """The unit vectors of all images that --negatives names, by SHA-256, by the indexer's own functions."""
    backbone = load_indexed(store, row, weights=options.weights, device=options.device)
    vectors: dict[str, NDArray[np.float32]] = {}
    for name, data in read_queries([options.negatives] if options.negatives else []):
        if isinstance(data, OSError):
            raise UsageError(f"{name} cannot be read: {data.strerror or data}")
        try:
            vectors[hashlib.sha256(data).hexdigest()] = embed_picture(backbone, decode(data).picture)[0]
        except ImageError as error:
            raise UsageError(f"{name}: {error.told(option)}") from error
    if not vectors:
        raise UsageError(f"no images in {options.negatives}")
    return vectors


def calibrate(
    store: Store,
    backbone: BackboneRow,
    category: str,
    options: CalibrationOptions,
    *,
    negatives: ByHash = MappingProxyType({}),
) -> Iterator[Calibration]:
    """Find a policy per score from what the store has, and keep it; where that is not enough, leave the store as it is.

    `negatives` are images that show no label, for the threshold; those that are shots, rejected or labelled queries are left
    out. Labelled queries count half: those of which `is_for_calibration` holds, so that `evaluate` can judge by the others.
    """
    with store.reading() as catalog:
        material = _read(catalog, backbone, category, options, negatives)
        digest = digest_of_support(material.support)
        seen = {"revision": catalog.revision(), "images": len(material.support.paths)}
    for calibration, more in _find_policies(backbone.name, category, options, material):
        if calibration.policy.calibrated:
            _keep(store, backbone, calibration, digest, more | {"seen": seen})
        yield calibration


def _read(
    catalog: Catalog, backbone: BackboneRow, category: str, options: CalibrationOptions, negatives: ByHash
) -> Material:
    needed = options.aims.samples_needed(Aim.FALSE_ACCEPT) if Aim.FALSE_ACCEPT in options.aims.rates else 0
    return Material.of(catalog, backbone, category, needed=needed, every=options.every, negatives=negatives)


def _find_policies(
    backbone: str, category: str, options: CalibrationOptions, material: Material
) -> Iterator[tuple[Calibration, dict[str, Any]]]:
    """A calibration per score, with what else is kept beside it. Pure."""
    support, queries, model = material.support, material.queries, material.model
    labelled = Labelled.of(support.labels, support.vectors, model.vectors)
    held_out = HeldOut.of(support, labelled.numbers)
    known, strange = material.asked(labelled.names, every=options.every)
    strangers = material.strangers(strange)
    truth = np.array([labelled.names.index(str(queries.labels[index])) for index in known], dtype=np.int64)
    for score in options.scores:
        evidence = gather(score, labelled, held_out, queries.vectors[known], truth, strangers)
        calibration = find_policy(
            *(backbone, category, score, options.aims, options.guard, evidence),
            strangers=len(model.hashes),
            force=options.force,
        )
        yield (
            calibration,
            {
                "every": options.every,
                "strangers": list(model.hashes) if score == Score.LDA else [],
                "stream": stream_samples(evidence, calibration.known_method),
                "sets": set_samples(calibration.known, calibration.against, labelled.names).as_json(),
            },
        )


def _keep(store: Store, backbone: BackboneRow, calibration: Calibration, digest: str, more: dict[str, Any]) -> None:
    facts_json = json.dumps(calibration.facts() | more | {"fingerprint": backbone.fingerprint})
    policy = calibration.policy
    row = CalibrationRow(
        backbone.id,
        calibration.category,
        calibration.score.value,
        policy.threshold,
        policy.margin_floor,
        facts_json,
        digest,
        utc_now(),
    )
    with store.writing() as editor:
        put_calibration(editor, row)
