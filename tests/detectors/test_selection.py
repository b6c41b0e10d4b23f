"""Selection, cutting and tiles: coordinates are those of the upright picture, whatever a model gives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nearshot.detectors.cutting import Cutting, cut, outline
from nearshot.detectors.protocol import Box, Detection, enclosing
from nearshot.detectors.selection import Selection, select
from nearshot.detectors.tiles import detect_in_tiles, tiles_of
from nearshot.schema.vocabulary import Masked

SIZE = (200, 100)
ANY = Selection(min_size=1)


@pytest.mark.parametrize(
    "box",
    [
        (math.nan, 0, 10, 10),
        (0, 0, math.inf, 10),
        (50, 50, 50, 80),  # empty
        (60, 10, 20, 40),  # the left side right of the right one
        (10, 60, 40, 20),  # upside down
        (300, 10, 340, 40),  # outside
        (-50, -50, -1, -1),
    ],
)
def test_a_box_that_is_none_is_left_out(box: tuple[float, float, float, float]) -> None:
    good = Detection((10, 10, 60, 60))
    assert [each.detection for each in select([Detection(box), good], SIZE, ANY)] == [good]


def test_a_box_that_reaches_out_is_cut_at_the_edges() -> None:
    [selected] = select([Detection((-20.5, -3, 30.2, 400))], SIZE, ANY)
    assert selected.box == Box(0, 0, 31, 100)


@given(st.lists(st.floats(-500, 500), min_size=4, max_size=4))
def test_what_encloses_a_box_lies_in_the_picture_and_touches_the_box(box: list[float]) -> None:
    whole = enclosing(box, SIZE)
    if whole is not None:
        assert 0 <= whole.left < whole.right <= SIZE[0]
        assert 0 <= whole.top < whole.bottom <= SIZE[1]
        assert whole.left < box[2]
        assert whole.right > box[0]


def test_the_lesser_of_two_boxes_that_overlap_is_suppressed_unless_it_is_called_otherwise() -> None:
    best, same, other = (
        Detection((10, 10, 60, 60), "cup", 0.9),
        Detection((12, 10, 60, 62), "cup", 0.5),
        Detection((12, 12, 60, 60), "plate", 0.7),
    )
    assert [each.detection for each in select([same, best, other], SIZE, ANY)] == [best, other]
    without_scores = [Detection((10, 10, 60, 60), "cup"), Detection((12, 10, 60, 62), "cup")]
    assert [each.detection for each in select(without_scores, SIZE, ANY)] == without_scores[:1]


def test_small_and_doubtful_ones_are_left_out_and_no_more_are_taken_than_asked_for() -> None:
    detections = [Detection((x, 10, x + 40, 50), None, score) for x, score in ((0, 0.2), (60, 0.9), (120, 0.6))]
    detections.append(Detection((170, 10, 180, 20), None, 0.99))
    chosen = select(detections, SIZE, Selection(min_size=32), min_score=0.3)
    assert [each.detection.score for each in chosen] == [0.9, 0.6]
    assert [each.detection.score for each in select(detections, SIZE, Selection(most=1), min_score=0.3)] == [0.9]


def test_padding_is_a_share_of_the_longer_side_and_ends_at_the_edges() -> None:
    assert outline(Box(50, 20, 90, 40), SIZE, Cutting(padding=0.1)) == Box(46, 16, 94, 44)
    assert outline(Box(0, 20, 40, 40), SIZE, Cutting(padding=0.1)) == Box(0, 16, 44, 44)


@given(
    st.integers(0, 199), st.integers(0, 99), st.integers(1, 200), st.integers(1, 100), st.floats(0, 1), st.booleans()
)
def test_an_outline_lies_in_the_picture_around_the_box(
    left: int, top: int, width: int, height: int, padding: float, square: bool
) -> None:
    box = Box(left, top, min(200, left + width), min(100, top + height))
    shown = outline(box, SIZE, Cutting(padding=padding, square=square))
    assert shown.left <= box.left
    assert shown.top <= box.top
    assert shown.right >= box.right
    assert shown.bottom >= box.bottom
    assert 0 <= shown.left < shown.right <= 200
    assert 0 <= shown.top < shown.bottom <= 100
    crop = cut(Image.new("RGB", SIZE), box, None, Cutting(padding=padding, square=square))
    assert not square or crop.width == crop.height


def test_a_square_is_moved_into_the_picture_and_filled_with_white_where_that_is_too_small() -> None:
    assert outline(Box(0, 40, 60, 60), SIZE, Cutting(padding=0, square=True)) == Box(0, 20, 60, 80)
    assert outline(Box(100, 90, 160, 100), SIZE, Cutting(padding=0, square=True)) == Box(100, 40, 160, 100)
    wide = cut(Image.new("RGB", SIZE, "red"), Box(20, 0, 170, 100), None, Cutting(padding=0, square=True))
    assert wide.size == (150, 150)
    assert wide.getpixel((75, 5)) == (255, 255, 255)
    assert wide.getpixel((75, 75)) == (255, 0, 0)


def test_a_mask_leaves_what_was_detected_and_lays_white_or_a_blur_over_the_rest() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (100, 200, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    mask = np.zeros((20, 40), bool)
    mask[5:15, 10:30] = True
    box = Box(50, 20, 90, 40)
    white = np.asarray(cut(picture, box, mask, Cutting(padding=0.1, mask=Masked.WHITE)))
    np.testing.assert_array_equal(white[4:24, 4:44][mask], pixels[20:40, 50:90][mask])
    assert (white[4:24, 4:44][~mask] == 255).all()
    assert (white[:4] == 255).all()
    blurred = np.asarray(cut(picture, box, mask, Cutting(padding=0, mask=Masked.BLUR)))
    np.testing.assert_array_equal(blurred[mask], pixels[20:40, 50:90][mask])
    assert blurred[~mask].std() < pixels.std() / 2


class Bright:
    """A detector of the pixels that are white, without any model."""

    name, fingerprint, batch_size, usual_score = "bright", "0" * 64, 3, 0.0

    def check_words(self, words: Sequence[str]) -> None:
        """Take none."""

    def prepare(self, picture: Image.Image) -> None:
        """Prepare nothing."""

    def detect(
        self,
        pictures: Sequence[Image.Image],
        words: Sequence[str],
        *,
        masks: bool = False,
        prepared: Sequence[Any] | None = None,
    ) -> list[list[Detection]]:
        """The connected white areas that are smaller than half the picture, as a model sees what is large enough."""
        from skimage import measure

        detections = []
        for picture in pictures:
            regions = []
            for region in measure.regionprops(measure.label(np.asarray(picture)[..., 0] > 128)):
                top, left, bottom, right = region.bbox
                if min(bottom - top, right - left) * 12 >= min(picture.size):  # smaller things it overlooks
                    regions.append(Detection((left, top, right, bottom), None, 0.5))
            detections.append(regions)
        return detections


def test_tiles_cover_a_picture_and_overlap_by_a_quarter() -> None:
    tiles = tiles_of((1000, 700), 400)
    covered = np.zeros((700, 1000), bool)
    for tile in tiles:
        assert (tile.width, tile.height) == (400, 400)
        covered[tile.top : tile.bottom, tile.left : tile.right] = True
    assert covered.all()
    assert tiles_of((400, 300), 400) == []


def test_small_things_are_found_in_tiles_once_each_where_they_lie_and_large_ones_in_the_whole() -> None:
    picture = Image.new("RGB", (1200, 900))
    small = [(50, 50, 90, 90), (385, 300, 425, 340), (595, 440, 640, 480), (1140, 840, 1180, 880)]
    large = (700, 100, 1100, 500)
    for box in (*small, large):
        picture.paste("white", box)
    whole = select(Bright().detect([picture], [])[0], picture.size, ANY)
    assert [tuple(each.box) for each in whole] == [large]
    chosen = select(detect_in_tiles(Bright(), picture, [], side=400, masks=False), picture.size, ANY)
    assert {tuple(each.box) for each in chosen} >= {*small, large}
    inside = [each.box for each in chosen if each.box.left >= 700 and each.box.bottom <= 500 and each.box != large]
    assert inside == []  # no part of the large one
