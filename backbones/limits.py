"""The limits on what is read into memory; apart from the decoder, so that the command line need not import Pillow."""

MAX_PIXELS = 178_956_970
"""The default cap on width x height: 512 MiB of RGB, where Pillow itself speaks of a decompression bomb."""

MAX_BYTES = 1 << 30
"""No file larger than this is read."""

MAX_ASPECT = 50
"""The longest side over the shortest. Resizing the shortest to 224 would blow a longer strip up beyond all bounds."""


def most_bytes(max_pixels: int) -> int:
    """The bytes that decoding may take, of one image and of all at once: 3 for each pixel of the cap, and 64 MiB."""
    return 3 * max_pixels + (64 << 20)
