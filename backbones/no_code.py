"""No code: nothing that comes with weights is ever run, and nobody is ever asked whether it may be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from nearshot.schema.errors import WeightsError

NEVER_RUN = (
    "it comes with code of its own, which nearshot never runs; take a checkpoint that its library loads by itself"
)
NOT_ONLY_TENSORS = "it holds more than tensors, which nearshot never unpickles; convert it to safetensors"

PLAIN_TOKENIZER_OPTIONS = frozenset({"clean", "strip_sep_token"})
"""What open_clip's own configurations tell their tokenizers."""


def forbid_remote_code() -> None:
    """Have transformers refuse remote code wherever it would ask: it asks only while its patience is above zero seconds."""
    from transformers import dynamic_module_utils

    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0


def refuse_foreign_models(name: str, config: Path) -> None:
    """Raise WeightsError where an open_clip configuration has other models or code loaded than open_clip knows by itself."""
    parsed: Any = json.loads(config.read_text(encoding="utf-8"))
    for key, value in _settings(parsed):
        if key == "hf_model_name" and value not in _known_text_models():
            raise WeightsError(
                f"{name}: {config} has the model '{value}' loaded, which open_clip does not know; remove it"
            )
        if key == "timm_model_name" and ":" in str(value):
            raise WeightsError(
                f"{name}: {config} has the model '{value}' loaded from elsewhere; name an architecture of timm"
            )
        if key == "tokenizer_kwargs" and not PLAIN_TOKENIZER_OPTIONS.issuperset(value or {}):
            unknown = ", ".join(sorted(set(value) - PLAIN_TOKENIZER_OPTIONS))
            raise WeightsError(f"{name}: {config} tells the tokenizer {unknown}, which may have code run; remove it")


def reason_of(error: Exception) -> str:
    """A library's reason for refusing weights on one line, without its advice on how to run them all the same."""
    reason = " ".join(str(error).split())
    if "trust_remote_code" in reason:
        return NEVER_RUN
    if "weights_only" in reason:
        return NOT_ONLY_TENSORS
    return reason[:300] or type(error).__name__


def _settings(node: Any) -> Iterator[tuple[str, Any]]:
    """Every key of a parsed JSON document with its value, at any depth."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield key, value
            yield from _settings(value)
    elif isinstance(node, list):
        for value in node:
            yield from _settings(value)


@cache
def _known_text_models() -> frozenset[str]:
    """The text models that open_clip's own configurations are built with."""
    import open_clip

    configs = [open_clip.get_model_config(name) or {} for name in open_clip.list_models()]
    return frozenset(value for config in configs for key, value in _settings(config) if key == "hf_model_name")
