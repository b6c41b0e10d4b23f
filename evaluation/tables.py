"""Tables: an evaluation as CSV, Markdown and JSON. The same evaluation gives the same bytes."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nearshot.evaluation.evaluate import Evaluation
from nearshot.evaluation.outcomes import REFUSED, count_outcomes
from nearshot.evaluation.scores import SCORE_METRICS
from nearshot.evaluation.shots import METRICS
from nearshot.retriever.policy import Policy
from nearshot.schema.disk import written_whole
from nearshot.schema.spreadsheet import cell

Cell = str | int | float | None
DECIMALS = 4

OUTCOMES = ("correct", "wrong", "ambiguous", "correctly_unknown", "falsely_unknown", "falsely_accepted")


@dataclass(frozen=True, slots=True)
class Table:
    """A table with a name for files, a title, and rows of cells; None is an empty cell, a metric without a value."""

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    def as_csv(self) -> str:
        """A header, and one row per line."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(self.columns)
        for row in self.rows:
            writer.writerow("" if value is None else as_text(cell(value)) for value in row)
        return stream.getvalue()

    def as_markdown(self) -> str:
        """The title and a table in pipes."""
        lines = [
            f"## {self.title}",
            "",
            f"| {' | '.join(self.columns)} |",
            f"| {' | '.join('---' for _ in self.columns)} |",
        ]
        for row in self.rows:
            cells = ["" if cell is None else as_text(cell).replace("|", "\\|") for cell in row]
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines) + "\n"

    def as_objects(self) -> list[dict[str, Cell]]:
        """One object per row."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def outcomes_table(evaluation: Evaluation) -> Table:
    """Table 7: what became of the queries, by category and backbone, and a backbone's totals."""
    columns = (
        *("category", "backbone", "score", "queries", *OUTCOMES, "accuracy"),
        *("threshold", "margin_floor", "calibrated"),
    )
    rows: list[list[Cell]] = []
    for row in evaluation.outcomes:
        outcomes, policy = row.outcomes, row.policy
        applied: list[Cell] = [None] * 3
        if policy:
            applied = [_rounded(policy.threshold), _rounded(policy.margin_floor), _yes_or_no(policy)]
        counts = [getattr(outcomes, name) for name in OUTCOMES]
        score = row.score.value if row.score else None
        rows.append(
            [
                row.category or "all",
                row.backbone,
                score,
                outcomes.queries,
                *counts,
                _rounded(outcomes.accuracy),
                *applied,
            ]
        )
    return Table("table7", "Table 7: labelled queries by outcome", columns, rows)


def _yes_or_no(policy: Policy) -> str:
    return "by hand" if policy.by_hand else "yes" if policy.calibrated else "no"


def shots_table(evaluation: Evaluation) -> Table:
    """Table 8: a backbone's metrics by number of shots: mean and standard deviation over the draws, and the sampling error."""
    columns = ("backbone", "shots", *(f"{name}{part}" for name in METRICS for part in ("", "_sd", "_se")))
    rows: list[list[Cell]] = []
    for row in evaluation.shots:
        figures = [row.figures[name] for name in METRICS]
        cells = [_rounded(value) for figure in figures for value in (figure.mean, figure.deviation, figure.error)]
        rows.append([row.backbone, row.shots, *cells])
    draws = evaluation.options.seeds
    title = f"Table 8: by number of shots, mean ± standard deviation of {draws} draws (and what is due to the queries)"
    return Table("table8", title, columns, rows)


def scores_table(evaluation: Evaluation) -> Table:
    """Table 9: all scores on the same queries, per category and backbone."""
    columns = ("category", "backbone", "score", "queries", "strangers", "known_strangers", *SCORE_METRICS)
    rows: list[list[Cell]] = [
        [
            *(row.category, row.backbone, row.score.value, row.queries, row.strangers, row.known_strangers),
            *(_rounded(row.figures[name]) for name in SCORE_METRICS),
        ]
        for row in evaluation.scores
    ]
    return Table("table9", "Table 9: scores side by side, all shots, the same queries", columns, rows)


def pairs_table(evaluation: Evaluation) -> Table:
    """Table 10: every two backbones on the same queries."""
    columns = ("category", "backbone", "other", "lead", "better_in")
    rows: list[list[Cell]] = [
        [row.category, row.backbone, row.other, _rounded(row.lead), _rounded(row.better_in)] for row in evaluation.pairs
    ]
    return Table(
        "table10", "Table 10: backbones on the same queries: lead in accuracy, share of resamples", columns, rows
    )


def labels_table(evaluation: Evaluation) -> Table:
    """Table 11: Table 7 by label."""
    columns = ("category", "backbone", "label", "queries", *OUTCOMES)
    rows: list[list[Cell]] = []
    for judged in evaluation.judged:
        for number in (*range(len(judged.names)), REFUSED):
            mine = judged.truth == number
            if mine.any():
                counted = count_outcomes(judged.predicted[mine], judged.truth[mine])
                counts = [getattr(counted, name) for name in OUTCOMES]
                rows.append([judged.category, judged.backbone, judged.answer(number), counted.queries, *counts])
    return Table("table11", "Table 11: labelled queries by label and outcome", columns, rows)


def all_tables(evaluation: Evaluation) -> list[Table]:
    """All tables, in order."""
    makers = (outcomes_table, shots_table, scores_table, pairs_table, labels_table)
    return [make(evaluation) for make in makers]


def digest(tables: Sequence[Table]) -> str:
    """SHA-256 of the tables as CSV."""
    return hashlib.sha256("".join(table.as_csv() for table in tables).encode()).hexdigest()


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """Everything: the tables, the queries left out, options and digests."""
    tables = all_tables(evaluation)
    return {
        **{table.name: table.as_objects() for table in tables},
        "leaks": [asdict(leak) for leak in evaluation.leaks],
        "leaks_kept": evaluation.options.keep_leaks,
        "queries_seen_by_calibration": evaluation.seen,
        "strangers_known_to_models": evaluation.strangers,
        "options": asdict(evaluation.options),
        "inputs": evaluation.inputs,
        "tables": digest(tables),
    }


def write(evaluation: Evaluation, directory: Path, report: str) -> list[Path]:
    """Write the tables as CSV and Markdown, all of it as JSON, and the report; the files written."""
    directory.mkdir(parents=True, exist_ok=True)
    texts = {}
    for table in all_tables(evaluation):
        texts[f"{table.name}.csv"], texts[f"{table.name}.md"] = table.as_csv(), table.as_markdown()
    texts["evaluation.json"] = json.dumps(as_json(evaluation), indent=1, ensure_ascii=False) + "\n"
    texts["report.html"] = report
    for name, text in texts.items():
        with written_whole(directory / name) as aside:
            aside.write_text(text, encoding="utf-8")
    return [directory / name for name in texts]


def as_text(cell: str | int | float) -> str:
    """A cell as it is written in CSV and Markdown: fractions with four decimals."""
    return f"{cell:.{DECIMALS}f}" if isinstance(cell, float) else str(cell)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DECIMALS)
