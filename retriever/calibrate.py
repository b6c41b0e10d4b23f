"""Calibrating: from a store's shots and labelled queries to policies that the store keeps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbones.decode import decode
from retriever.calibration import Aim, Aims
from retriever.choice import choose_rows, choose_supported, load_indexed
from retriever.embedding import embed_picture
from retriever.evidence import gather, set_samples, stream_samples
from retriever.find_policy import Calibration, Guard, find_policy
from retriever.held_out import HeldOut
from retriever.scores import Labelled, Score
from retriever.sources import read_queries
from retriever.strangers import is_for_calibration, model_strangers
from schema.calibrations import CalibrationRow, put_calibration
from schema.catalog import BackboneRow
from schema.errors import ImageError, UsageError
from schema.feedback import negatives as rejected_images
from schema.images import UNKNOWN, Role
from schema.labelled import LabelledVectors, labelled_vectors, support_digest
from schema.store import Store, utc_now


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationOptions:
    """Options of a calibration; empty backbones and categories mean all that are indexed.

    With `every`, all labelled queries count, and none are left for `evaluate`.
    """

    aims: Aims = field(default_factory=lambda: Aims({Aim.FALSE_ACCEPT: 0.05}))
    guard: Guard = Guard.AUTO
    every: bool = False
    backbones: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    scores: tuple[Score, ...] = tuple(Score)
    negatives: Path | None = None
    device: str = "auto"
    weights: Path | None = None


def calibrate_all(store: Store, options: CalibrationOptions) -> Iterator[Calibration]:
    """Calibrate every backbone, category and score that is asked for; UsageError for what is not indexed.

    Raises WeightsError where negatives are given and a backbone cannot be loaded, UsageError for one that cannot be read.
    """
    with store.reading() as catalog:
        rows = choose_rows(catalog, options.backbones)
        categories = choose_supported(catalog, options.categories)
    for row in rows:
        negatives = _embed_all(row, options) if options.negatives else {}
        for category in categories:
            yield from calibrate(store, row, category, options, negatives=negatives)


def _embed_all(row: BackboneRow, options: CalibrationOptions) -> dict[str, NDArray[np.float32]]:
    """The unit vectors of all images that --negatives names, by SHA-256, by the indexer's own functions."""
    backbone = load_indexed(row, weights=options.weights, device=options.device)
    vectors: dict[str, NDArray[np.float32]] = {}
    for name, data in read_queries([options.negatives] if options.negatives else []):
        if isinstance(data, OSError):
            raise UsageError(f"{name} cannot be read: {data.strerror or data}")
        try:
            vectors[hashlib.sha256(data).hexdigest()] = embed_picture(backbone, decode(data).picture)[0]
        except ImageError as error:
            raise UsageError(f"{name}: {error}") from error
    if not vectors:
        raise UsageError(f"no images in {options.negatives}")
    return vectors


def calibrate(
    store: Store,
    backbone: BackboneRow,
    category: str,
    options: CalibrationOptions,
    *,
    negatives: Mapping[str, NDArray[np.float32]] = MappingProxyType({}),
) -> Iterator[Calibration]:
    """Find a policy per score from what the store has, and keep it; where that is not enough, leave the store as it is.

    `negatives` are unit vectors (dimension,) of images that show no label, by SHA-256, for the threshold; those that are
    shots, rejected or labelled queries are left out. Labelled queries count half: those of which `is_for_calibration` holds,
    so that `evaluate` can judge by the others.
    """
    with store.reading() as catalog:
        support = labelled_vectors(catalog, backbone, category, Role.SUPPORT)
        queries = labelled_vectors(catalog, backbone, category, Role.QUERY)
        needed = options.aims.samples_needed(Aim.FALSE_ACCEPT) if Aim.FALSE_ACCEPT in options.aims.rates else 0
        model = model_strangers(catalog, backbone, category, needed=needed, every=options.every)
        rejected = rejected_images(catalog, backbone, category).hashes
        seen = support_digest(catalog, backbone, category)
    labelled = Labelled.of(support.labels, support.vectors, model.vectors)
    held_out = HeldOut.of(support, labelled.numbers)
    known, strange = _asked(support, queries, {*rejected, *model.hashes}, labelled, every=options.every)
    taken = {
        *support.hashes,
        *rejected,
        *(sha for sha, label in zip(queries.hashes, queries.labels, strict=True) if label),
    }
    outside = [vector for sha256, vector in negatives.items() if sha256 not in taken]
    strangers = np.concatenate(
        [queries.vectors[strange], np.array(outside, dtype=np.float32).reshape(-1, backbone.dimension)]
    )
    truth = np.array([labelled.names.index(str(queries.labels[index])) for index in known], dtype=np.int64)
    for score in options.scores:
        evidence = gather(score, labelled, held_out, queries.vectors[known], truth, strangers)
        made = find_policy(
            backbone.name, category, score, options.aims, options.guard, evidence, strangers=len(model.hashes)
        )
        if made.policy.calibrated:
            more: dict[str, Any] = {
                "every": options.every,
                "strangers": list(model.hashes) if score == Score.LDA else [],
                "stream": stream_samples(evidence, made.known_method),
                "sets": set_samples(made.known, made.against, labelled.names).as_json(),
            }
            _keep(store, backbone, made, seen, more)
        yield made


def _keep(store: Store, backbone: BackboneRow, made: Calibration, seen: str, more: dict[str, Any]) -> None:
    facts = json.dumps(made.facts() | more | {"fingerprint": backbone.fingerprint})
    policy = made.policy
    row = CalibrationRow(
        backbone.id, made.category, made.score.value, policy.threshold, policy.margin_floor, facts, seen, utc_now()
    )
    with store.writing() as editor:
        put_calibration(editor, row)


def _asked(
    support: LabelledVectors, queries: LabelledVectors, taken: set[str], labelled: Labelled, *, every: bool
) -> tuple[list[int], list[int]]:
    """The queries that calibration may ask with, by number: those that show a label, and strangers that are not in the model.

    Copies of shots are left out, and of a query's own copies the first counts.
    """
    known: list[int] = []
    strange: list[int] = []
    seen = set(support.hashes)
    for index, (label, sha256) in enumerate(zip(queries.labels, queries.hashes, strict=True)):
        if sha256 in seen or not (every or is_for_calibration(sha256)):
            continue
        if label == UNKNOWN and sha256 not in taken:
            strange.append(index)
        elif label in labelled.names:
            known.append(index)
        seen.add(sha256)
    return known, strange
