"""A backbone that was asked for, matched with its weights on this machine and with what a store remembers of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nearshot.backbones.compiled import CompiledCache, CompiledError, compiled_cache
from nearshot.backbones.device import encodes_on_cpu
from nearshot.backbones.loading import load_backbone
from nearshot.backbones.protocol import Backbone
from nearshot.backbones.runtime import Compiling, compiled_from, load_compiled
from nearshot.backbones.spec import Library, Spec
from nearshot.backbones.weights import Location, locate, signature
from nearshot.schema.catalog import BackboneRow
from nearshot.schema.vocabulary import Precision


@dataclass(frozen=True, slots=True)
class Resolved:
    """A backbone whose weights were found, not loaded yet. Equal signatures load to equal fingerprints."""

    spec: Spec
    location: Location | None
    precision: Precision
    signature: str

    @property
    def can_be_compiled(self) -> bool:
        """Tell whether it has weights, in float32; what else stands in the way is found out by compiling."""
        return self.location is not None and self.precision == Precision.FP32

    def load(self, device: str = "auto", *, compiling: Compiling | None = None) -> Backbone:
        """Load it; WeightsError where its library cannot use the weights.

        On a CPU what was compiled is taken, without torch. With `compiling`, which is told its name before, it is compiled
        where it has not been.
        """
        cache = self._cache(device)
        if cache and (compiled := load_compiled(self.spec, self.signature, cache)):
            return compiled
        backbone = load_backbone(self.spec, self.location, device=device, precision=self.precision)
        if cache and (compiled := compiled_from(self.spec, self.signature, backbone, cache, compiling)):
            return compiled
        return backbone

    @property
    def is_compiled(self) -> bool:
        """Tell, by the records alone, whether commands on a CPU can do without torch."""
        cache = self._cache("cpu")
        fingerprint = cache.fingerprint_of(self.signature) if cache else None
        try:
            compiled = cache.of(fingerprint) if cache and fingerprint else None
        except CompiledError:
            return False
        return compiled is not None and not compiled.refused

    def is_uncompiled(self, backbone: Backbone, device: str) -> bool:
        """Tell whether what was loaded could be compiled, and has never been tried."""
        cache = self._cache(device)
        return cache is not None and not cache.knows(backbone.description.fingerprint)

    def _cache(self, device: str) -> CompiledCache | None:
        """Where it may be compiled, if it can be for a device."""
        return compiled_cache() if self.can_be_compiled and encodes_on_cpu(device) else None


def resolve(
    spec: Spec, *, row: BackboneRow | None = None, weights: Path | None = None, precision: Precision | None = None
) -> Resolved:
    """Find a backbone's weights; what is not asked for is taken as the store's row has it, or else as the default.

    Raises WeightsError, saying where it looked and what to do, where the weights are not on this machine.
    """
    remembered = Path(row.location) if row and row.location else None
    location = locate(spec, weights, remembered=remembered)
    taken = precision or (Precision(row.precision) if row else Precision.FP32)
    if spec.library == Library.SCIKIT_IMAGE:
        taken = Precision.FP32  # it has no weights to cast
    return Resolved(spec, location, taken, signature(spec, location, taken))
