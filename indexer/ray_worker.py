"""What a Ray actor does for an index run: it loads a batch of files, encodes what they lack, and returns both.

Ray starts it on any node; it opens no store, so that no node needs to reach one, nor its password.
"""

from __future__ import annotations

import pickle
import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearshot.backbones.decode import decoder_version
from nearshot.backbones.in_order import in_order
from nearshot.backbones.memory_budget import allow
from nearshot.backbones.preparation import prepare_safely
from nearshot.backbones.protocol import Backbone
from nearshot.backbones.resolve import resolve
from nearshot.backbones.spec import parse_spec
from nearshot.indexer.embed import Embedded, encode
from nearshot.indexer.load import Listed, Loaded, Loader, Skipped, Source
from nearshot.schema.catalog import BackboneRow
from nearshot.schema.errors import NearshotError, WeightsError
from nearshot.schema.paths import AT_ONCE
from nearshot.schema.vocabulary import Precision

MOST_TRIES = 3
"""How often a batch is begun: its files may be what ends the processes that read them."""


def software() -> str:
    """The versions that must be the same on all nodes: what decodes and what the code is."""
    return f"nearshot {version('nearshot')}, {decoder_version()}"


@dataclass(frozen=True, slots=True)
class Setup:
    """What an actor works for: backbones in use, where weights are and on which device they run, and with which software.

    Encoding takes as many `threads` as where the run was begun: the last bits of a vector hang on how sums are split.
    `known` has, of each backbone by name, the contents that it has dealt with: the first 64 bits of their SHA-256, sorted.
    """

    rows: tuple[BackboneRow, ...]
    weights: Path | None
    precision: Precision | None
    device: str
    threads: int
    loading_threads: int
    max_pixels: int
    software: str
    known: Mapping[str, NDArray[np.uint64]]


@dataclass(frozen=True, slots=True)
class Refused:
    """Why an actor does nothing."""

    reason: str


Answer = tuple[list[Loaded | Skipped], Embedded]


class RayWorker:
    """Embeds batches; what it needs is loaded with the first. `tries` tells how often a batch, by its number, was begun."""

    def __init__(self, setup: Setup, tries: Callable[[int], int]) -> None:
        self._setup, self._tries = setup, tries
        self._backbones: dict[str, Backbone] | None = None

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A row with a batch's number and its pickled files becomes one with the pickled answer: an `Answer`, or `Refused`."""
        number = int(row["number"])
        files: list[Source] = pickle.loads(row["files"])
        answer: Answer | Refused
        try:
            if self._tries(number) > MOST_TRIES:
                some = ", ".join(str(each.path if isinstance(each, Listed) else each) for each in files[:3])
                raise NearshotError(f"the process that reads {len(files)} files ({some}, ...) ended {MOST_TRIES} times")
            answer = self._answer(files)
        except NearshotError as error:
            answer = Refused(f"{platform.node()}: {error}")
        except Exception as error:  # Ray would try it again and again, and lose the words
            answer = Refused(f"{platform.node()}: {type(error).__name__}: {error}")
        return {"number": number, "answer": pickle.dumps(answer)}

    def _answer(self, files: list[Source]) -> Answer:
        setup = self._setup
        if self._backbones is None:
            self._backbones = self._load()
        backbones = self._backbones
        loader = Loader(lambda name, image: prepare_safely(backbones[name], image), self._lacking, setup.max_pixels)
        fetches = any(isinstance(file, Listed) for file in files)
        workers = max(setup.loading_threads, AT_ONCE if fetches else 1)
        loaded = in_order(loader.load, files, workers=workers, ahead=len(files))
        results = [result for _, result in loaded]
        pictures = {each.sha256: each.picture for each in results if isinstance(each, Loaded) and each.picture}
        prepared = {
            name: {sha256: picture.prepared[name] for sha256, picture in pictures.items() if name in picture.prepared}
            for name in backbones
        }
        return [_without_pixels(result) for result in results], encode(prepared, backbones.__getitem__)

    def _lacking(self, sha256: str) -> list[str]:
        key = key_of(sha256)
        return [name for name, keys in self._setup.known.items() if not _has(keys, key)]

    def _load(self) -> dict[str, Backbone]:
        setup = self._setup
        if setup.software != software():
            raise NearshotError(f"this node has {software()}, and the run {setup.software}; install the same on all")
        allow(setup.max_pixels)
        backbones = {}
        for row in setup.rows:
            choice = resolve(parse_spec(row.name), row=row, weights=setup.weights, precision=setup.precision)
            backbones[row.name] = backbone = choice.load(setup.device)
            if backbone.description.fingerprint != row.fingerprint:
                raise WeightsError(f"{row.name}: the weights on this node are others than the run's")
        if "torch" in sys.modules:  # which takes seconds to import, and not every backbone needs it
            sys.modules["torch"].set_num_threads(setup.threads)
        return backbones


def key_of(sha256: str) -> np.uint64:
    """What stands for a content among those that are known."""
    return np.uint64(int(sha256[:16], 16))


def _has(keys: NDArray[np.uint64], key: np.uint64) -> bool:
    at = int(np.searchsorted(keys, key))
    return at < len(keys) and bool(keys[at] == key)


def _without_pixels(result: Loaded | Skipped) -> Loaded | Skipped:
    if isinstance(result, Skipped) or result.picture is None:
        return result
    return replace(result, picture=replace(result.picture, prepared={}))
