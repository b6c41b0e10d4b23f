"""CLIP's tokenizer without its library: the same tokens, whatever is written."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import open_clip
import pytest

from nearshot.backbones.clip_words import ClipWords

AWKWARD = (
    "",
    "a photo of a cat",
    "  A   DOG's   tail!! isn't 12345 &amp;amp; x",
    "日本語の写真 кошка ñandú",
    "<start_of_text> hi <END_OF_TEXT>",
    "😀😀 :-) -- __ '''s",
    "word " * 200,
    "a" * 300,
    "l\u2019été â€œquoteâ€\x9d",
    "\x00\x01 \u200b\ufeff x",
    "İstanbul \u017f ß ẞ ΑΣ",
    "1/2 ½ ² ٣٤",
    "\n\t x",
)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> ClipWords:
    path: Path = tmp_path_factory.mktemp("words") / "words.json"
    ClipWords.of(open_clip.get_tokenizer("ViT-B-32-quickgelu")).write(path)
    return ClipWords.read(path)


def test_the_tokens_are_the_librarys_own(words: ClipWords) -> None:
    chance = random.Random(0)
    blocks = ((32, 127), (160, 0x3000), (0x3000, 0xD000), (0x1F300, 0x1F700))
    drawn = [
        "".join(chr(chance.randrange(*chance.choice(blocks))) for _ in range(chance.randrange(40))) for _ in range(500)
    ]
    texts = [*AWKWARD, *drawn]
    np.testing.assert_array_equal(words.tokens(texts), open_clip.get_tokenizer("ViT-B-32-quickgelu")(texts).numpy())
