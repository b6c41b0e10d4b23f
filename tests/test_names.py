"""Names that say nothing are used nowhere: a variable or argument says what it holds."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
EMPTY = {"found", "one", "facts", "made", "place"}
PARTS: tuple[str, ...] = (
    "backbones",
    "benchmarks",
    "commands",
    "detectors",
    "evaluation",
    "examples",
    "indexer",
    "migrations",
    "nearshot",
    "retriever",
)
PARTS += ("schema", "service", "tests", "vectors")


def test_no_variable_has_a_name_that_says_nothing() -> None:
    files = [ROOT / "cli.py", *(file for part in PARTS for file in (ROOT / part).rglob("*.py"))]
    used = [
        f"{file.relative_to(ROOT)}:{line}: {name}"
        for file in sorted(files)
        for name, line in _bound(ast.parse(file.read_bytes()))
        if name in EMPTY
    ]
    assert not used, "\n".join(used)


def _bound(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """The names of variables and arguments, but not of fields: these are the API's and the database's."""
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    fields = [field.target for node in classes for field in node.body if isinstance(field, ast.AnnAssign)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node not in fields:
            yield node.id, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
