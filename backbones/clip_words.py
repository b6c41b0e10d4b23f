"""Words as CLIP's own tokenizer has them, without the library that it belongs to."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ftfy
import numpy as np
import regex
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers

PIECES = regex.compile(
    r"<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+", regex.IGNORECASE
)
"""What CLIP's tokenizer takes for a piece of text (openai/CLIP, simple_tokenizer.py). The Unicode of the tokenizers library's
own patterns is another version, which makes a difference to newer characters."""


@dataclass(frozen=True, slots=True)
class ClipWords:
    """Byte-pair encoding of cleaned text in lower case, between a token for its start and one for its end."""

    tokenizer: Any

    @classmethod
    def of(cls, library: Any) -> ClipWords:
        """The same as open_clip's `SimpleTokenizer`, from its vocabulary, merges and length of context."""
        vocabulary = library.encoder
        merges = sorted(library.bpe_ranks, key=library.bpe_ranks.__getitem__)
        tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, end_of_word_suffix="</w>"))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        start, end = (token for token, id_ in vocabulary.items() if id_ in (library.sot_token_id, library.eot_token_id))
        tokenizer.add_special_tokens([start, end])
        tokenizer.enable_truncation(library.context_length - 2)
        return cls(tokenizer)

    @classmethod
    def read(cls, path: Path) -> ClipWords:
        """What `write` wrote."""
        return cls(Tokenizer.from_file(str(path)))

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        self.tokenizer.save(str(path), pretty=False)

    def tokens(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """The tokens (n, context) of n texts, zeros after the end; what is longer is cut off."""
        most = self.tokenizer.truncation["max_length"]
        specials = self.tokenizer.get_added_tokens_decoder()
        start, end = sorted(specials)
        tokens = np.zeros((len(texts), most + 2), dtype=np.int64)
        for row, text in zip(tokens, texts, strict=True):
            ids = self.tokenizer.encode(PIECES.findall(_clean(text)), is_pretokenized=True).ids
            row[: len(ids) + 2] = [start, *ids, end]
        return tokens


def _clean(text: str) -> str:
    """Text without what encodings and web pages did to it, its spaces single, in lower case."""
    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split()).lower()
