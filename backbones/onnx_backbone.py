"""Backbones in ONNX Runtime: what was compiled encodes on the CPU, and neither torch nor the model's library is imported."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

from nearshot.backbones.compiled import Compiled, CompiledError
from nearshot.backbones.cores import all_cores_taken, number_of_cores, wait_for_cores
from nearshot.backbones.protocol import Prepared

FEW = 4
"""Images: batches of up to so many are encoded without packing the weights first, which takes longer than encoding them."""

FEW_IN_ALL = 32


class OnnxBackbone:
    """A compiled backbone, on the CPU, in float32."""

    def __init__(self, name: str, compiled: Compiled) -> None:
        """Check and open the files; raises CompiledError."""
        self.description = compiled.description(name)
        self.preparation = compiled.preparation
        self._path = compiled.checked("image.onnx", "image.bin")[0]
        self._session, self._packed, self._encoded = open_session(self._path, packed=False), False, 0

    @property
    def batch_size(self) -> int:
        """16: larger batches gain nothing on a CPU."""
        return 16

    @property
    def is_on_gpu(self) -> bool:
        """Never: a GPU is torch's affair."""
        return False

    def prepare(self, picture: Image.Image) -> Prepared:
        """The picture by the library's own preprocessing: uint8 (H, W, 3)."""
        wait_for_cores()
        return self.preparation(picture)

    def encode(self, batch: Sequence[Prepared]) -> NDArray[np.float32]:
        """The vectors (n, dimension) of n prepared pictures."""
        self._encoded += len(batch)
        if len(batch) > FEW or self._encoded > FEW_IN_ALL:
            self.pack()
        return run(self._session, np.stack([self.preparation.values(prepared) for prepared in batch]))

    def pack(self) -> None:
        """Have ONNX Runtime arrange the weights for speed, which takes half a second for 350 MB.

        Its passes give an image the same bits, whatever else is in the batch; those before, by other kernels, other bits.
        """
        if not self._packed:
            self._packed = True
            with suppress(CompiledError):  # deleted or replaced meanwhile: what is open goes on as it is
                self._session = open_session(self._path, packed=True)


class OnnxClip(OnnxBackbone):
    """A compiled model of two towers, for images and for words."""

    def __init__(self, name: str, compiled: Compiled) -> None:
        """Check and open the files for images; those for words when the first are asked for. Raises CompiledError."""
        super().__init__(name, compiled)
        self._compiled = compiled
        self._text: tuple[Any, Any] | None = None

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vectors (n, dimension), not normalised, of n >= 1 texts; raises CompiledError."""
        if self._text is None:
            from nearshot.backbones.clip_words import ClipWords

            model, _, vocabulary = self._compiled.checked("text.onnx", "text.bin", "words.json")
            self._text = ClipWords.read(vocabulary), open_session(model, packed=False)
        words, session = self._text
        return run(session, words.tokens(texts))


def open_session(model: Path, *, packed: bool) -> Any:
    """An ONNX Runtime session on all cores; CompiledError where it cannot read the model.

    `packed` has it arrange the weights for speed first, half a second for 350 MB; otherwise they are mapped as they lie.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = number_of_cores()
    options.add_session_config_entry("session.force_spinning_stop", "1")  # between passes the cores are for loading
    options.log_severity_level = 4  # what it says of a model that it cannot read is in what it raises
    if not packed:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.disable_prepacking", "1")
    try:
        return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no base of their own
        raise CompiledError(f"{model} cannot be opened: {error}") from error


def run(session: Any, given: NDArray[Any]) -> NDArray[np.float32]:
    """The one output of a model for its one input."""
    with all_cores_taken():
        vectors: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: given})[0]
    return vectors
