"""nearshot: recognise images from a few labelled shots, say Unknown when it should, find images by example or by words.

    import nearshot

    index = nearshot.open("mugs.nearshot", create=True)
    index.add("data/")
    answer = index.query("cup.jpg")
    answer.verdict, answer.label, answer.score, answer.hits[0].path

Importing it loads next to nothing: each name below is fetched when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nearshot.evaluation.evaluate import Evaluation
    from nearshot.index import Index, open
    from nearshot.indexer.report import Report
    from nearshot.retriever.answer import Answer, Unreadable
    from nearshot.retriever.decision import Decision
    from nearshot.retriever.find_policy import Calibration
    from nearshot.retriever.policy import Policy
    from nearshot.retriever.rank import Hit
    from nearshot.retriever.search import Found, Results
    from nearshot.schema.errors import (
        ImageError,
        IndexingError,
        NearshotError,
        StoreBusyError,
        StoreError,
        UsageError,
        WeightsError,
    )
    from nearshot.schema.vocabulary import Against, Mode, Role, Score, Verdict

_ERRORS = ("ImageError", "IndexingError", "NearshotError", "StoreBusyError", "StoreError", "UsageError", "WeightsError")
_HOMES = {
    "Against": "schema.vocabulary",
    "Answer": "retriever.answer",
    "Calibration": "retriever.find_policy",
    "Decision": "retriever.decision",
    "Evaluation": "evaluation.evaluate",
    "Found": "retriever.search",
    "Hit": "retriever.rank",
    "Index": "index",
    "Mode": "schema.vocabulary",
    "Policy": "retriever.policy",
    "Report": "indexer.report",
    "Results": "retriever.search",
    "Role": "schema.vocabulary",
    "Score": "schema.vocabulary",
    "Unreadable": "retriever.answer",
    "Verdict": "schema.vocabulary",
    "open": "index",
} | dict.fromkeys(_ERRORS, "schema.errors")

__all__ = [
    "Against",
    "Answer",
    "Calibration",
    "Decision",
    "Evaluation",
    "Found",
    "Hit",
    "ImageError",
    "Index",
    "IndexingError",
    "Mode",
    "NearshotError",
    "Policy",
    "Report",
    "Results",
    "Role",
    "Score",
    "StoreBusyError",
    "StoreError",
    "Unreadable",
    "UsageError",
    "Verdict",
    "WeightsError",
    "__version__",
    "open",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("nearshot")
    if name not in _HOMES:
        raise AttributeError(f"module 'nearshot' has no attribute '{name}'")
    value = getattr(import_module(f"nearshot.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
