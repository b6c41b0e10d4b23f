"""Answers and results as HTML for notebooks: the image beside the shots that won, with threshold and margin drawn."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from nearshot.backbones.decode import upright
from nearshot.backbones.thumbnail import thumbnail
from nearshot.schema.errors import ImageError
from nearshot.schema.paths import path_of, read_file

if TYPE_CHECKING:
    from nearshot.retriever.answer import Answer
    from nearshot.retriever.rank import Hit
    from nearshot.retriever.search import Results

SIDE, MOST = 160, 12
"""Pixels of a thumbnail's longest side, and how many hits or results are shown."""

COLOURS = {"match": "#00684a", "ambiguous": "#7a5600", "unknown": "#a33a00", "no_support": "#a33a00"}


def answer_html(answer: Answer) -> str:
    """The verdict, the image asked about, the scale of scores, and the hits."""
    decision = answer.decision
    verdict = decision.verdict.value
    said = f"{verdict}: {decision.label}" if decision.label else verdict
    why = f" ({decision.reason})" if decision.reason else ""
    asked = _figure(_bytes(answer.picture), answer.path)
    hits = Markup("").join(_hit(hit) for hit in answer.hits[:MOST])
    return Markup(
        '<div style="font-family:sans-serif"><p><b style="color:{colour};font-size:1.2em">{said}</b>{why} '
        "by {backbone}, {score}</p>{scale}<div style='display:flex;flex-wrap:wrap;gap:8px'>{asked}{hits}</div></div>"
    ).format(
        colour=COLOURS[verdict],
        said=said,
        why=why,
        backbone=answer.backbone,
        score=answer.score_by.value,
        scale=_scale(answer),
        asked=asked,
        hits=hits,
    )


def results_html(results: Results) -> str:
    """The images found, best first, with their captions."""
    figures: list[Markup] = [
        _figure(_bytes(result.path), f"{result.rank}. {_name(result.image)}", result.snippet or result.caption)
        for result in results.found[:MOST]
    ]
    more = f" of {len(results.found)}" if len(results.found) > MOST else ""
    return Markup(
        '<div style="font-family:sans-serif"><p>{count}{more} by {mode}</p>'
        "<div style='display:flex;flex-wrap:wrap;gap:8px'>{figures}</div></div>"
    ).format(count=len(figures), more=more, mode=results.mode.value, figures=Markup("").join(figures))


def _hit(hit: Hit) -> Markup:
    return _figure(_bytes(hit.image.path), f"{hit.score:.3f} {_name(hit.image)}")


def _name(image: Any) -> str:
    return "/".join(part for part in (image.category, image.label, image.shot) if part)


def _figure(data: bytes | None, *lines: str | None) -> Markup:
    """A thumbnail with lines under it; a note in its place where the image cannot be shown."""
    shown = Markup("<div style='width:160px;height:120px;background:#8883'>not shown</div>")
    if data is not None:
        try:
            small = base64.b64encode(thumbnail(data, SIDE)).decode()
            shown = Markup('<img src="data:image/jpeg;base64,{}" style="width:160px">').format(small)
        except ImageError:
            pass
    captions = Markup("").join(Markup("<div>{}</div>").format(line) for line in lines if line)
    return Markup('<figure style="margin:0;width:160px;font-size:.8em;overflow-wrap:anywhere">{}{}</figure>').format(
        shown, captions
    )


def _bytes(picture: Any) -> bytes | None:
    """An image's encoded bytes; None where they are gone."""
    if isinstance(picture, bytes):
        return picture
    try:
        if isinstance(picture, str | os.PathLike):
            return read_file(path_of(picture))
        if isinstance(picture, np.ndarray):
            picture = Image.fromarray(picture)
        if isinstance(picture, Image.Image):
            written = io.BytesIO()
            upright(picture).save(written, "PNG")
            return written.getvalue()
    except (OSError, ImageError):
        pass
    return None


def _scale(answer: Answer) -> Markup:
    """The scores of the nearest label and the runner-up on a line, with the threshold and the margin that is asked for."""
    decision = answer.decision
    if decision.nearest is None:
        return Markup("")
    policy, score = decision.policy, decision.nearest.score
    others = [decision.runner_up.score] if decision.runner_up else []
    low = min(score, policy.threshold, *others) - 0.05
    width = 480

    def x(value: float) -> float:
        return round(10 + (width - 20) * (value - low) / (1 - low), 1) if low < 1 else 10.0

    marks: Sequence[Markup] = [
        Markup('<line x1="10" x2="{}" y1="30" y2="30" stroke="#888"/>').format(width - 10),
        Markup('<rect x="{}" y="26" width="{}" height="8" fill="#005a8f" opacity=".25"/>').format(
            x(max(score - policy.margin_floor, low)), round(x(score) - x(max(score - policy.margin_floor, low)), 1)
        ),
        Markup('<line x1="{0}" x2="{0}" y1="16" y2="44" stroke="currentColor" stroke-dasharray="4 3"/>').format(
            x(policy.threshold)
        ),
        Markup(
            '<text x="{}" y="56" text-anchor="middle" font-size="11" fill="currentColor">threshold {:.3f}</text>'
        ).format(x(policy.threshold), policy.threshold),
        *(
            Markup('<circle cx="{}" cy="30" r="{}" fill="{}"/>').format(x(value), radius, colour)
            for value, radius, colour in [
                *((other, 4, "#888") for other in others),
                (score, 6, COLOURS[decision.verdict.value]),
            ]
        ),
        Markup('<text x="{}" y="14" text-anchor="middle" font-size="11" fill="currentColor">{} {:.3f}</text>').format(
            x(score), decision.nearest.label, score
        ),
    ]
    return Markup('<svg width="{}" height="62" role="img">{}</svg>').format(width, Markup("").join(marks))
