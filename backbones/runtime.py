"""Runtimes: on a CPU a backbone encodes in ONNX Runtime where it was compiled, and in torch where it was not."""

from __future__ import annotations

import logging
from collections.abc import Callable

from nearshot.backbones.compiled import Compiled, CompiledCache, CompiledError, DamagedError
from nearshot.backbones.protocol import Backbone
from nearshot.backbones.spec import Spec

log = logging.getLogger(__name__)

Compiling = Callable[[str], None]
"""What is told the name of a backbone before it is compiled, which takes some ten seconds."""


def load_compiled(spec: Spec, signature: str, cache: CompiledCache) -> Backbone | None:
    """What was compiled of weights of a signature, ready to encode; None for nothing.

    What is damaged is deleted, and a warning says that torch takes its place.
    """
    fingerprint = cache.fingerprint_of(signature)
    return _ready(spec, fingerprint, cache) if fingerprint else None


def compiled_from(
    spec: Spec, signature: str, backbone: Backbone, cache: CompiledCache, compiling: Compiling | None
) -> Backbone | None:
    """What was compiled of a backbone that torch has loaded on the CPU, if need be now; None where it stays with torch.

    Without `compiling` nothing is compiled; with it what was refused is tried again. From now on weights of this signature are
    known by what was compiled.
    """
    from nearshot.backbones.torch_backbone import TorchBackbone

    if not isinstance(backbone, TorchBackbone):
        return None
    fingerprint = backbone.description.fingerprint
    try:
        if compiling is not None:
            with cache.held():
                known = _find(fingerprint, cache)
                if known is None or known.refused:
                    from nearshot.backbones.compiling import compile_backbone

                    compiling(spec.name)
                    compile_backbone(backbone, cache)
        ready = _ready(spec, fingerprint, cache)
        if ready is not None:
            cache.identify(signature, fingerprint)
    except OSError as error:
        log.warning("%s: the cache of compiled backbones cannot be written: %s", spec.name, error)
        return _ready(spec, fingerprint, cache)
    return ready


def _ready(spec: Spec, fingerprint: str, cache: CompiledCache) -> Backbone | None:
    compiled = _find(fingerprint, cache)
    if compiled is None or compiled.refused:
        return None
    from nearshot.backbones.onnx_backbone import OnnxBackbone, OnnxClip

    try:
        return (OnnxClip if compiled.encodes_text else OnnxBackbone)(spec.name, compiled)
    except CompiledError as error:
        _give_up(fingerprint, cache, error)
        return None


def _find(fingerprint: str, cache: CompiledCache) -> Compiled | None:
    try:
        return cache.of(fingerprint)
    except CompiledError as error:
        _give_up(fingerprint, cache, error)
        return None


def _give_up(fingerprint: str, cache: CompiledCache, error: CompiledError) -> None:
    if isinstance(error, DamagedError):
        log.warning("%s; torch encodes in its place, slower to start; `nearshot backbones compile` mends it", error)
        cache.remove(fingerprint)
    else:
        log.warning("%s; torch encodes in its place, slower to start", error)
