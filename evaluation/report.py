"""Report: an evaluation as one HTML page that needs nothing else, for people who look instead of read."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from nearshot.backbones.thumbnail import thumbnail
from nearshot.evaluation import plots
from nearshot.evaluation.evaluate import Evaluation
from nearshot.evaluation.judged import ImageFile, Judged, Mistake, worst_mistakes
from nearshot.evaluation.tables import all_tables, as_text, digest
from nearshot.schema.errors import ImageError
from nearshot.schema.files import files_of, read_content
from nearshot.schema.store import Store

SHOWN = 8
"""Number of mistakes shown of a backbone in a category."""
SIDE = 160
"""Pixels of a thumbnail's longer side."""


@dataclass(frozen=True, slots=True)
class Section:
    """Part of the page about one category."""

    category: str
    histograms: Markup
    risk: Markup
    confusions: Sequence[Markup]
    mistakes: Sequence[tuple[Judged, Sequence[Mistake]]]


def render_report(store: Store, evaluation: Evaluation) -> str:
    """The page. The same evaluation, with the same files on disk, gives the same bytes."""
    sections = list(_sections(evaluation.judged))
    tables = all_tables(evaluation)
    several = len({judgement.backbone for judgement in evaluation.judged}) > 1
    environment = Environment(
        loader=PackageLoader("nearshot.evaluation", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = lambda cell: "" if cell is None else as_text(cell)
    return environment.get_template("report.html.j2").render(
        evaluation=evaluation,
        tables=tables,
        digest=digest(tables),
        shots=Markup(plots.accuracy_by_shots(evaluation.shots)) if evaluation.shots else None,
        agreement=Markup(plots.agreement(evaluation.judged)) if several else None,
        sections=sections,
        pictures=_pictures(store, sections),
        most=SHOWN,
    )


def _sections(judged: Sequence[Judged]) -> Iterator[Section]:
    for category, group in groupby(sorted(judged, key=attrgetter("category")), key=attrgetter("category")):
        judgements = list(group)
        yield Section(
            category,
            Markup(plots.score_histograms(judgements)),
            Markup(plots.risk_coverages(judgements)),
            [Markup(plots.confusion(judgement)) for judgement in judgements],
            [(judgement, worst_mistakes(judgement, SHOWN)) for judgement in judgements],
        )


def _pictures(store: Store, sections: Sequence[Section]) -> dict[str, str | None]:
    """Thumbnails of all images shown, as data URLs by SHA-256; None for one whose file is no longer what it was."""
    shown: dict[str, ImageFile] = {
        image.sha256: image
        for section in sections
        for _, mistakes in section.mistakes
        for mistake in mistakes
        for image in (mistake.query, mistake.winner)
    }
    with store.reading() as catalog:
        files = files_of(catalog, shown)
    return {sha256: _data_url(read_content(files.get(sha256, ()), sha256)) for sha256 in shown}


def _data_url(data: bytes | None) -> str | None:
    if data is None:
        return None
    try:
        return f"data:image/jpeg;base64,{base64.b64encode(thumbnail(data, SIDE)).decode()}"
    except ImageError:
        return None
