"""Checking: a backbone's weights read whole, where commands go by a signature of their files; and what was compiled of them."""

from __future__ import annotations

from nearshot.backbones.compiled import CompiledCache, CompiledError
from nearshot.backbones.loading import load_backbone
from nearshot.backbones.resolve import Resolved
from nearshot.schema.catalog import BackboneRow
from nearshot.schema.disk import xxh3_of


def check_weights(choice: Resolved, row: BackboneRow | None, cache: CompiledCache | None) -> list[str]:
    """What is wrong with the weights of a backbone, as a store was indexed with it, and in a cache; nothing where all is well.

    What the cache has wrong is deleted, and is made again. WeightsError where the weights cannot be used at all.
    """
    whole = load_backbone(choice.spec, choice.location, device="cpu", precision=choice.precision)
    fingerprint = whole.description.fingerprint
    problems = []
    if row is not None and fingerprint != row.fingerprint:
        problems.append(
            "the weights, or how images are prepared for them, are not those that the store was indexed with; "
            f"bring those back, or run `nearshot index DATA --backbone {row.name}`"
        )
    if cache is None:
        return problems
    if cache.fingerprint_of(choice.signature) not in (None, fingerprint):
        cache.forget(choice.signature)
        problems.append("the cache took these weights for others, and takes them so no longer")
    if not _is_as_compiled(fingerprint, cache):
        cache.remove(fingerprint)
        problems.append(
            "what was compiled of them was damaged, and is deleted: the next `nearshot index` compiles it again"
        )
    return problems


def _is_as_compiled(fingerprint: str, cache: CompiledCache) -> bool:
    """Tell whether what was compiled of a fingerprint is as it was written; so it is where nothing was."""
    try:
        compiled = cache.of(fingerprint)
        files = {} if compiled is None else compiled.record["files"]
        return compiled is None or all(xxh3_of(compiled.directory / name) == digest for name, digest in files.items())
    except (CompiledError, OSError):
        return False
