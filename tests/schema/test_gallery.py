"""The gallery: pages of images, whatever is looked at to find them."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from nearshot.schema.gallery import list_pictured
from nearshot.schema.image_filter import ImageFilter
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Role
from tests.conftest import run_index, save_crop

pytestmark = pytest.mark.both_stores


def test_pages_hold_what_comes_next(store: Store, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        save_crop(small / f"others/2.support-set/cat/shot{number}.png", f"coffee:{number}")
    run_index(store, small)
    filters = [
        ImageFilter(category=category, label=label, role=role)
        for category, label, role in product([None, "things", "others"], [None, "cat"], [None, Role.SUPPORT])
    ]
    with store.reading() as catalog:
        every = [each.image for each in list_pictured(catalog, ImageFilter(), after=0, limit=1000)]
        assert len(every) > 8
        for near, wanted, after in product([1, 3, 50_000], filters, [0, every[2].id]):
            monkeypatch.setattr("nearshot.schema.gallery.NEAR", near)
            expected = [
                image
                for image in every
                if image.id > after
                and all(getattr(image, name) == value for name, value in wanted.parameters().items())
            ]
            assert [each.image for each in list_pictured(catalog, wanted, after=after, limit=3)] == expected[:3]
