"""Backbones of a run: which it uses, each loaded when it is first needed and not before."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Mapping
from itertools import chain
from types import MappingProxyType

from nearshot.backbones.protocol import Backbone, Packable, PreparedElsewhere, Preparer
from nearshot.backbones.resolve import Resolved, resolve
from nearshot.backbones.spec import NAMED, parse_spec, parts_of
from nearshot.indexer.options import IndexOptions
from nearshot.schema.catalog import BackboneRow, Catalog
from nearshot.schema.errors import WeightsError
from nearshot.schema.store import Store


class RunBackbones:
    """The backbones of a run, and those that it goes without (`skipped`: name to reason).

    A backbone whose signature the store knows has a row, and need not be loaded to tell what it has dealt with. Of `ready`
    ones (by name), those of the same fingerprint are taken as they are.
    """

    def __init__(
        self,
        store: Store,
        device: str,
        choices: dict[str, Resolved],
        skipped: dict[str, str],
        ready: Mapping[str, Backbone],
    ) -> None:
        self.skipped = skipped
        self._ready = ready
        self.rows: dict[str, BackboneRow] = {}
        self._store, self._device, self._choices = store, device, choices
        self._loaded: dict[str, Backbone] = {}
        self._loading = threading.Lock()

    @property
    def names(self) -> list[str]:
        """The names of the backbones that the run uses."""
        return list(self._choices)

    def remember(self, catalog: Catalog) -> None:
        """Take the rows of the backbones whose signatures the store knows."""
        signatures = {name: choice.signature for name, choice in self._choices.items()}
        self.rows = {row.name: row for row in catalog.backbones() if signatures.get(row.name) == row.signature}

    def identify(self) -> None:
        """Load the backbones that have no row yet, to learn their fingerprints, and record them as the ones in use."""
        for name in self._choices:
            if name not in self.rows:
                self.backbone(name)

    def load(self) -> None:
        """Load every backbone now."""
        for name in self._choices:
            self.backbone(name)

    def backbone(self, name: str) -> Backbone:
        """A backbone, loaded at the first call. Safe from any thread; raises WeightsError."""
        with self._loading:
            if name not in self._loaded:
                self._loaded[name] = loaded = self._load(name)
                if isinstance(loaded, Packable):  # what is kept hangs on nothing but the image
                    loaded.pack()
            return self._loaded[name]

    def preparers(self) -> dict[str, Preparer] | None:
        """What prepares pictures for each backbone in any process; None where there is a backbone that can in this one only."""
        loaded = {name: self.backbone(name) for name in self._choices}
        preparers = {
            name: backbone.preparation for name, backbone in loaded.items() if isinstance(backbone, PreparedElsewhere)
        }
        try:
            pickle.dumps(preparers)
        except (pickle.PicklingError, TypeError, AttributeError):
            return None
        return preparers if len(preparers) == len(loaded) else None

    @property
    def encodes_on_a_gpu(self) -> bool:
        """Tell whether a backbone that is loaded is on another device than the CPU, which has nothing else to do then."""
        loaded = self._loaded.values()
        return any(isinstance(backbone, PreparedElsewhere) and backbone.is_on_gpu for backbone in loaded)

    @property
    def uncompiled(self) -> list[str]:
        """The names of the backbones that torch has loaded, and that were never compiled for this CPU."""
        return [
            name for name, backbone in self._loaded.items() if self._choices[name].is_uncompiled(backbone, self._device)
        ]

    @property
    def batch_size(self) -> int:
        """The largest batch that a loaded backbone takes with ease."""
        return max((backbone.batch_size for backbone in self._loaded.values()), default=16)

    def _load(self, name: str) -> Backbone:
        choice = self._choices[name]
        ready = self._ready.get(name)
        if ready and name in self.rows and ready.description.fingerprint == self.rows[name].fingerprint:
            return ready
        backbone = choice.load(self._device)
        described = backbone.description
        if name in self.rows:
            if self.rows[name].fingerprint != described.fingerprint:
                raise WeightsError(
                    f"{name}: its weights changed, but not their size and time; `touch` them and run again"
                )
            return backbone
        with self._store.writing() as editor:
            self.rows[name] = editor.use_backbone(
                name=name,
                fingerprint=described.fingerprint,
                dimension=described.dimension,
                precision=described.precision,
                source=choice.spec.source,
                location=str(choice.location.path.absolute()) if choice.location else None,
                signature=choice.signature,
            )
        return backbone


def select_backbones(
    store: Store, options: IndexOptions, ready: Mapping[str, Backbone] = MappingProxyType({})
) -> RunBackbones:
    """Take the backbones asked for (WeightsError where one is not available), or else every one whose weights are here."""
    with store.reading() as catalog:
        rows = {row.name: row for row in catalog.backbones()}
        choices, skipped = {}, {}
        wanted = chain.from_iterable(parts_of(name) for name in options.backbones or [*NAMED, *rows])
        for name in dict.fromkeys(wanted):
            try:
                choices[name] = resolve(
                    parse_spec(name), row=rows.get(name), weights=options.weights, precision=options.precision
                )
            except WeightsError as error:
                if options.backbones:
                    raise
                skipped[name] = str(error)
        selection = RunBackbones(store, options.device, choices, skipped, ready)
        selection.remember(catalog)
    return selection
