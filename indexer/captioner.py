"""The captioner of a store: loaded from where its weights are, which the store remembers for the next time."""

from __future__ import annotations

from pathlib import Path

from nearshot.backbones.captioner import Captioner
from nearshot.backbones.loading import load_captioner
from nearshot.backbones.spec import FLORENCE2
from nearshot.backbones.weights import locate, signature
from nearshot.schema.crops import known_detectors, use_detector
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Precision

CAPTIONER = "captioner"
"""Name of the captioner among the models that the store remembers besides its backbones."""


def remembered_captioner(store: Store) -> Path | None:
    """Where Florence-2's weights lay when it last wrote captions, or else detected; None where it has not."""
    with store.reading() as catalog:
        rows = [*known_detectors(catalog, FLORENCE2.name), *known_detectors(catalog, CAPTIONER)]
    return next((Path(row.location) for row in reversed(rows) if row.location), None)


def load_remembered_captioner(store: Store, weights: Path | None, *, device: str, precision: Precision) -> Captioner:
    """Florence-2, from `weights`, or where it was, or from the cache. Raises WeightsError, StoreBusyError."""
    remembered = remembered_captioner(store)
    location = locate(FLORENCE2, weights, remembered=remembered)
    captioner = load_captioner(weights, device=device, precision=precision, remembered=remembered)
    if location is not None:
        with store.writing() as editor:
            use_detector(
                editor,
                name=CAPTIONER,
                fingerprint=captioner.fingerprint,
                signature=signature(FLORENCE2, location, precision),
                location=str(location.path),
            )
    return captioner
