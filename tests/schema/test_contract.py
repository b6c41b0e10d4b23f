"""The directory contract, path by path."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from nearshot.schema import contract
from nearshot.schema.contract import (
    NOT_A_SECTION,
    NOT_A_SHOT,
    NOT_AN_IMAGE,
    NOT_IN_A_CATEGORY,
    RESERVED_LABEL,
    Place,
    is_ignored,
    place_file,
    true_label,
)
from nearshot.schema.vocabulary import Role

SUPPORT, QUERY = Role.SUPPORT, Role.QUERY


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("cats/2.support-set/shot1.jpg", Place("cats", SUPPORT, "cats", "shot1")),
        ("cats/2.support-set/shot12/left/a.png", Place("cats", SUPPORT, "cats", "shot12")),
        ("cats/2.support-set/Class_A/shot1.JPG", Place("cats", SUPPORT, "Class_A", "shot1")),
        ("cats/2.support-set/Class_A/shot1", Place("cats", SUPPORT, "Class_A", "shot1")),
        ("cats/2.support-set/Class_A/Shot2/deep/er/x.webp", Place("cats", SUPPORT, "Class_A", "Shot2")),
        ("cats/6.preprocessed/x.png", Place("cats", QUERY, None, None)),
        ("cats/6.preprocessed/any/where/x.heic", Place("cats", QUERY, None, None)),
        ("cats/6.preprocessed/0a1b2c", Place("cats", QUERY, None, None)),
        ("stray.png", NOT_IN_A_CATEGORY),
        ("cats/stray.png", NOT_A_SECTION),
        ("cats/1.raw/x.png", NOT_A_SECTION),
        ("cats/2.support-set/photo.png", NOT_A_SHOT),
        ("cats/2.support-set/shotA.png", NOT_A_SHOT),
        ("cats/2.support-set/Class_A/photo.png", NOT_A_SHOT),
        ("cats/2.support-set/Class_A/more/shot1.png", NOT_A_SHOT),
        ("cats/2.support-set/Class_A/shot1/notes.pdf", NOT_AN_IMAGE),
        ("cats/6.preprocessed/notes.pdf", NOT_AN_IMAGE),
        ("cats/2.support-set/Unknown/shot1.png", RESERVED_LABEL),
    ],
)
def test_every_path_has_a_place_or_breaks_a_rule(path: str, expected: Place | str) -> None:
    assert place_file(path.split("/")) == expected


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("cats/6.preprocessed/tabby/x.png", "tabby"),
        ("cats/6.preprocessed/batch-7/tabby/siamese/x.png", "tabby"),
        ("cats/6.preprocessed/Unknown/x.png", "Unknown"),
        ("cats/6.preprocessed/dog/x.png", None),
        ("cats/6.preprocessed/tabby", None),
    ],
)
def test_a_querys_true_label_is_the_first_directory_that_names_one(path: str, label: str | None) -> None:
    assert true_label(path.split("/"), ["siamese", "tabby"]) == label


def test_hidden_and_system_files_are_never_looked_at() -> None:
    assert [is_ignored(name) for name in (".DS_Store", "Thumbs.db", "shot1.png")] == [True, True, False]


@pytest.mark.parametrize("name", ["a.png", "a.tar.GZ", ".png", "..png", "a.", "a", "...", "a..png", ".a.b", "é.jpg"])
def test_names_are_split_as_paths_are(name: str) -> None:
    path = PurePosixPath(name)
    assert contract._split(name) == (path.stem, path.suffix) or name in {"a.", "..."}, (
        "versions of Python differ in these"
    )
