"""The options of a query are the same in the library, from Python, on the command line and over HTTP."""

from __future__ import annotations

from dataclasses import fields

from nearshot.commands.query import query_command
from nearshot.index import Choices
from nearshot.retriever.options import QueryOptions
from nearshot.service.client import _parameters
from nearshot.service.models import QueryParameters

LIBRARY = {field.name: field.default for field in fields(QueryOptions)}
HERE = {"device", "weights"}
"""What concerns the machine that answers, and no query."""

HTTP = {"score": "score_by", "captions": "caption", "box": "boxes"}
"""The names that the API has for them, where these are others."""

FORMER = {"score", "margin"}


def test_python_takes_them_all_but_what_concerns_the_machine() -> None:
    assert set(Choices.__annotations__) == set(LIBRARY) - HERE


def test_the_command_line_takes_them_all_with_the_same_defaults() -> None:
    shown = {parameter.name: parameter.default for parameter in query_command.params}
    assert set(LIBRARY) <= set(shown)
    for name in ("top_k", "text_weight", "max_pixels", "against"):
        assert shown[name] == LIBRARY[name]


def test_http_takes_them_all_but_what_a_service_decides_with_the_same_defaults() -> None:
    told = {name: field.default for name, field in QueryParameters.model_fields.items()}
    expected = {HTTP.get(name, name): default for name, default in LIBRARY.items() if name not in {*HERE, "max_pixels"}}
    assert {name: default for name, default in told.items() if name not in FORMER} == expected


def test_a_client_passes_every_one_of_them_on() -> None:
    numbers = {"threshold": 0.5, "margin_floor": 0.1, "coverage": 0.9, "false": 0.1}
    chosen = QueryOptions(
        backbone="hog",
        category="c",
        text="red",
        captions=True,
        exact=True,
        find=("a mug",),
        objects=True,
        detector="florence2",
        **numbers,  # type: ignore[arg-type]
    )
    passed = _parameters(chosen)
    assert set(passed) == set(QueryParameters.model_fields) - FORMER - {"score_by", "boxes"}
    assert QueryParameters(**passed).threshold == 0.5
    assert QueryParameters(**_parameters(QueryOptions(box=((1, 2, 3, 4),)))).boxes == ("1,2,3,4",)
