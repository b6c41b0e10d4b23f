"""From a detector's name to a detector that is ready to look."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from nearshot.backbones.loading import load_captioner, one_clear_error
from nearshot.backbones.spec import FLORENCE2, Library, Spec, parse_spec
from nearshot.backbones.weights import locate, signature
from nearshot.detectors.protocol import Detector
from nearshot.detectors.regions import Regions
from nearshot.schema.errors import UsageError
from nearshot.schema.vocabulary import Precision

REGIONS = "regions"
NAMES = (REGIONS, FLORENCE2.name)


def default_detector(words: Sequence[str]) -> str:
    """The detector that is taken where none is asked for: florence2 where there are words to look for, else regions."""
    return FLORENCE2.name if words else REGIONS


def spec_of(name: str) -> Spec | None:
    """The spec of a detector by name, None for `regions`, which has no weights; UsageError for one that is none."""
    if name == REGIONS:
        return None
    if name in (FLORENCE2.name, FLORENCE2.source):
        return FLORENCE2
    if name.startswith(f"{Library.HUGGING_FACE}:"):
        return parse_spec(name)
    raise UsageError(f"no detector is called '{name}'; there are {', '.join(NAMES)} and hf:REPO_OR_DIR")


def signature_of(
    name: str, weights: Path | None, *, remembered: Path | None, precision: Precision
) -> tuple[str, Path | None]:
    """A cheap stand-in for a detector's fingerprint, and where its weights lie; UsageError, WeightsError."""
    spec = spec_of(name)
    if spec is None:
        return hashlib.sha256(f"{REGIONS} {Regions().fingerprint}".encode()).hexdigest(), None
    location = locate(spec, weights, remembered=remembered)
    return signature(spec, location, precision), location.path if location else None


def load_detector(
    name: str,
    weights: Path | None = None,
    *,
    device: str = "auto",
    precision: Precision = Precision.FP32,
    remembered: Path | None = None,
) -> Detector:
    """Find and load a detector; UsageError for a name that is none, WeightsError where weights are not here or of no use."""
    spec = spec_of(name)
    if spec is None:
        return Regions()
    if spec == FLORENCE2:
        from nearshot.detectors.florence2 import Florence2Detector

        return Florence2Detector(load_captioner(weights, device=device, precision=precision, remembered=remembered))
    location = locate(spec, weights, remembered=remembered)
    assert location is not None
    with one_clear_error(spec, location):
        from nearshot.backbones.device import choose_device
        from nearshot.detectors.huggingface import HuggingFaceDetector

        return HuggingFaceDetector(spec, location, device=choose_device(device), precision=precision)
