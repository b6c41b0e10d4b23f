"""What is lacking: counted by what changed, it is what counting all of it anew tells."""

from __future__ import annotations

import numpy as np
import pytest

from nearshot.schema.catalog import BackboneRow
from nearshot.schema.editor import Editor, Embedding, NewContent, SeenImage
from nearshot.schema.images import FileState, FoundImage
from nearshot.schema.lacking import Lacking, count_failed
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Role
from nearshot.vectors.normalise import normalise

pytestmark = pytest.mark.both_stores

CATEGORIES = ("birds", "things")
STATE = FileState(7, 1, 1)


def counts(lacking: Lacking, store: Store, row: BackboneRow) -> list[int]:
    """How many each category and role lacks, and with that how many it holds by the count of everything."""
    with store.reading() as catalog:
        told = [lacking.count(catalog, row, [category], [role]) for category in CATEGORIES for role in Role]
        counted = {(count.category, count.role): count for count in catalog.count_vectors_by_category(row.id)}
        keys = [(category, role) for category in CATEGORIES for role in Role]
        assert told == [counted[key].lacking if key in counted else 0 for key in keys]
        failed = [count_failed(catalog, row, [category], role) for category, role in keys]
        assert failed == [counted[key].failed if key in counted else 0 for key in keys]
    return told


def use(editor: Editor, name: str) -> BackboneRow:
    return editor.use_backbone(
        name=name, fingerprint=name, dimension=4, precision="float32", source="none", location="", signature=""
    )


def change(editor: Editor, root_id: int, rows: list[BackboneRow], chance: np.random.Generator, number: int) -> None:
    """A few images come or change, a few go, and some of what lacked a vector has one, or a reason, or loses it."""
    contents = {f"content{i}": 0 for i in range(number + 1)}
    contents |= editor.add_contents([NewContent(sha256, 7, 8, 8, "PNG") for sha256 in contents])
    found_images = {}
    for _ in range(int(chance.integers(1, 4))):
        category, role = str(chance.choice(CATEGORIES)), list(Role)[int(chance.integers(2))]
        path = f"{category}/{role}/{chance.integers(6)}.png"
        found_images[path] = FoundImage(path, category, role, "cat" if role == Role.SUPPORT else None, None, STATE)
    editor.put_images(
        root_id, [SeenImage(each, int(chance.choice([*contents.values()]))) for each in found_images.values()]
    )
    editor.remove_images(chance.integers(1, 12, size=2).tolist())
    for sha256, content in editor.contents([*contents][-4:]).items():
        for row in rows:
            if row.id in content.dealt_with:
                if chance.random() < 0.3:
                    editor.drop_embedding(content.id, row.id)
            elif chance.random() < 0.6:
                failed = chance.random() < 0.3
                vector = None if failed else normalise(chance.standard_normal((1, 4)))[0]
                editor.put_embeddings([Embedding(content.id, row.id, vector, f"{sha256} is black" if failed else None)])


@pytest.mark.parametrize("seed", range(4))
def test_what_is_lacking_is_known_from_what_changed(store: Store, seed: int) -> None:
    chance = np.random.default_rng(seed)
    with store.writing() as editor:
        root_id = editor.add_root("/data")
        rows = [use(editor, "hog"), use(editor, "lite0")]
    every = [Lacking() for _ in range(3)]
    seen = set()
    for number in range(25):
        with store.writing() as editor:
            change(editor, root_id, rows, chance, number)
        for row in rows:
            anew = counts(Lacking(), store, row)
            for often, lacking in enumerate(every, 1):  # asked after each change, after each second, after each third
                if number % often == 0:
                    assert counts(lacking, store, row) == anew
            seen.add(sum(anew))
    assert len(seen) > 3
    assert max(seen) > 1


def test_a_reader_of_an_older_state_is_told_of_that(store: Store) -> None:
    with store.writing() as editor:
        root_id = editor.add_root("/data")
        row = use(editor, "hog")
    lacking = Lacking()
    with store.reading() as older:
        assert lacking.count(older, row, ["things"], [Role.SUPPORT]) == 0
        with store.writing() as editor:
            [content] = editor.add_contents([NewContent("content", 7, 8, 8, "PNG")]).values()
            image = FoundImage("things/a.png", "things", Role.SUPPORT, "cat", None, STATE)
            editor.put_images(root_id, [SeenImage(image, content)])
        with store.reading() as newer:
            assert lacking.count(newer, row, ["things"], [Role.SUPPORT]) == 1
        assert lacking.count(older, row, ["things"], [Role.SUPPORT]) == 0
    with store.reading() as newer:
        assert lacking.count(newer, row, ["things", "birds"], list(Role)) == 1
