"""`import nearshot`: next to nothing is loaded, and all that is promised is there."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

import pytest

import nearshot
from nearshot.index import Index


def test_importing_loads_neither_torch_nor_numpy_nor_sqlalchemy() -> None:
    script = (
        "import sys, nearshot; dir(nearshot)\n"
        "print([name for name in ('torch', 'numpy', 'sqlalchemy', 'PIL', 'click') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_name_is_there_and_no_other() -> None:
    for name in nearshot.__all__:
        assert getattr(nearshot, name) is not None
    assert dir(nearshot) == sorted(nearshot.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        nearshot.nothing  # noqa: B018


def test_what_is_public_says_what_it_takes_gives_and_raises() -> None:
    """Google's sections, which the documentation is made of."""
    methods: list[Any] = [value for name, value in vars(Index).items() if inspect.isfunction(value) and name[0] != "_"]
    functions: list[Any] = [nearshot.open, *methods]
    for function in functions:
        text, signature = inspect.getdoc(function) or "", inspect.signature(function)
        taken = [name for name in signature.parameters if name not in ("self",)]
        assert text, function
        for name in taken:
            assert f"    {name}: " in text or f"**{name}: " in text, (
                f"{function.__qualname__} does not say what {name} is"
            )
        if taken:
            assert "Raises:" in text or function.__name__ in ("close", "images"), function.__qualname__
        if signature.return_annotation not in ("None", None) and taken:
            assert "Returns:" in text or "Yields:" in text, function.__qualname__
