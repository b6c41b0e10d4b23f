"""The options of cropping are the same in the library, from Python and on the command line."""

from __future__ import annotations

import inspect
from dataclasses import fields

from nearshot.commands.crop import crop_command
from nearshot.detectors.cutting import Cutting
from nearshot.detectors.selection import Selection
from nearshot.index import Index
from nearshot.indexer.crop_options import CropOptions

LIBRARY = {
    field.name: field.default
    for kind in (CropOptions, Selection, Cutting)
    for field in fields(kind)
    if field.name not in ("selection", "cutting")
}


def test_the_command_line_takes_them_all_with_the_same_defaults() -> None:
    context = crop_command.make_context("crop", ["data"], resilient_parsing=True)
    shown = {parameter.name: parameter for parameter in crop_command.params}
    assert set(LIBRARY) <= set(shown)
    for name, default in LIBRARY.items():
        if default is not None and not shown[name].multiple:
            assert str(shown[name].get_default(context) or False) == str(default), name


def test_python_takes_them_all_with_the_same_defaults() -> None:
    takes = {name: each.default for name, each in inspect.signature(Index.crop).parameters.items()}
    assert set(LIBRARY) - {"role", "weights", "device"} <= set(takes)
    assert takes["to"] == LIBRARY["role"]
    for name, default in LIBRARY.items():
        if name in takes and default is not None:
            assert str(takes[name]) == str(default) or not takes[name], name
