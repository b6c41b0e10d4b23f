"""Write scikit-learn's handwritten digits in nearshot's directory contract: eight labels to know, two to refuse.

    python examples/make_digits.py DIRECTORY [SHOTS] [QUERIES]

The digits 0 to 7 are labels with the first SHOTS (5) images of each as shots and the next QUERIES (40) as labelled queries;
twice as many images of each of 8 and 9 are queries that show none. Each is 8 x 8 pixels, enlarged to 64 x 64.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

KNOWN = range(8)
SIDE = 64


def main(directory: Path, shots: int = 5, queries: int = 40) -> None:
    """Write the data set."""
    digits = load_digits()
    category = directory / "digits"
    written = 0
    for digit in range(10):
        images = digits.images[digits.target == digit]
        known = digit in KNOWN
        for index in range(shots + queries if known else 2 * queries):
            if known and index < shots:
                path = category / f"2.support-set/{digit}/shot{index + 1}.png"
            else:
                path = category / f"6.preprocessed/{digit if known else 'Unknown'}/{digit}-{index:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            levels = np.round(images[index] * (255 / 16)).astype(np.uint8)
            Image.fromarray(levels).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(path)
            written += 1
    print(f"wrote {written} images of digits to {directory}")


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 4:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
