"""A backbone that was asked for, matched with its weights on this machine and with what a store remembers of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nearshot.backbones.compiled import compiled_cache
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

    def load(self, device: str = "auto", *, compiling: Compiling | None = None) -> Backbone:
        """Load it; WeightsError where its library cannot use the weights.

        On a CPU what was compiled is taken, without torch. With `compiling`, which is told its name before, it is compiled
        where it has not been.
        """
        can_be_compiled = self.location is not None and self.precision == Precision.FP32 and encodes_on_cpu(device)
        cache = compiled_cache() if can_be_compiled else None
        if cache and (compiled := load_compiled(self.spec, self.signature, cache)):
            return compiled
        backbone = load_backbone(self.spec, self.location, device=device, precision=self.precision)
        if cache and (compiled := compiled_from(self.spec, self.signature, backbone, cache, compiling)):
            return compiled
        return backbone


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
