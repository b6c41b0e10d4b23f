"""The lowest versions that pyproject.toml admits for users, as constraints for pip; what only the tests need is free."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

_BOUND = re.compile(r"(?P<name>[\w.-]+)(?:\[[^\]]*\])?>=(?P<version>[\w.]+)")


def lowest(pyproject: Path) -> Iterator[str]:
    """Every direct requirement, those of the extras but `dev` included, at its lower bound; one without a bound is an error."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    extras = [needs for extra, needs in project["optional-dependencies"].items() if extra != "dev"]
    for requirement in [*project["dependencies"], *chain(*extras)]:
        bound = _BOUND.match(requirement)
        if bound is None:
            raise SystemExit(f"{requirement} has no lower bound")
        yield f"{bound['name']}=={bound['version']}"


if __name__ == "__main__":
    sys.stdout.write("\n".join(lowest(Path(__file__).parents[1] / "pyproject.toml")) + "\n")
