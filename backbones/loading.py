"""From a spec to a backbone that is ready to encode."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nearshot.backbones.hog import HogBackbone
from nearshot.backbones.no_code import reason_of
from nearshot.backbones.protocol import Backbone
from nearshot.backbones.spec import FLORENCE2, Library, Spec
from nearshot.backbones.weights import Location, locate
from nearshot.schema.errors import NearshotError, WeightsError
from nearshot.schema.vocabulary import Precision

if TYPE_CHECKING:
    from nearshot.backbones.florence2 import Florence2


def load_backbone(spec: Spec, location: Location | None, *, device: str = "auto", precision: Precision) -> Backbone:
    """Load a backbone whose weights were located; WeightsError where the library cannot use them. Never random weights."""
    if spec.library == Library.SCIKIT_IMAGE or location is None:
        return HogBackbone()
    with one_clear_error(spec, location):
        from nearshot.backbones.device import choose_device, dtype_of

        chosen_device = choose_device(device)
        dtype_of(precision, chosen_device)
        if spec.library == Library.OPEN_CLIP:
            from nearshot.backbones.openclip import load as load_open_clip

            return load_open_clip(spec, location, device=chosen_device, precision=precision)
        if spec.library == Library.TORCHVISION:
            from nearshot.backbones.torchvision_models import load
        elif spec.library == Library.TIMM:
            from nearshot.backbones.timm_models import load
        else:
            from nearshot.backbones.huggingface import load
        return load(spec, location, device=chosen_device, precision=precision)


def load_captioner(
    weights: Path | None, *, device: str = "auto", precision: Precision, remembered: Path | None = None
) -> Florence2:
    """Find and load Florence-2; WeightsError where its weights are not on this machine or cannot be used."""
    location = locate(FLORENCE2, weights, remembered=remembered)
    assert location is not None
    with one_clear_error(FLORENCE2, location):
        from nearshot.backbones.device import choose_device
        from nearshot.backbones.florence2 import Florence2

        return Florence2(location, device=choose_device(device), precision=precision)


@contextmanager
def one_clear_error(spec: Spec, location: Location) -> Iterator[None]:
    """Turn whatever a library raises over weights that it cannot use into one WeightsError, and keep its notes to itself."""
    try:
        with _quiet_libraries(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="IProgress not found")  # tqdm's, in notebooks without widgets
            yield
    except NearshotError:
        raise
    except Exception as error:  # each library has its own exceptions for weights that do not fit
        raise WeightsError(
            f"{spec.name}: the weights at {location.path} cannot be used: {reason_of(error)}; replace them, "
            f"or fetch them anew with `nearshot backbones pull {spec.name}`"
        ) from error


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Keep the libraries' notes on loading (progress bars, log lines) away from standard error, their errors not."""
    import os

    loud = [logging.getLogger(name) for name in ("transformers", "open_clip", "timm", "root")]
    before = [(logger, logger.level) for logger in loud]
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    for logger in loud:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in before:
            logger.setLevel(level)
