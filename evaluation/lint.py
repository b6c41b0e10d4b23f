"""Lint: what is wrong with a support set, from the store's rows and vectors and the names on disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from typing import NamedTuple

import numpy as np

from nearshot.backbones.picture_hash import RULES, hash_bits, likeness
from nearshot.evaluation.misplaced import misplaced
from nearshot.evaluation.near_duplicates import near_duplicates
from nearshot.evaluation.samples import NEAR_DUPLICATE
from nearshot.indexer.discover import Discovery
from nearshot.indexer.picture_hashing import hash_pictures
from nearshot.retriever.choose_backbone import choose_row
from nearshot.schema.catalog import BackboneRow, Catalog
from nearshot.schema.contract import SUPPORT_DIRECTORY, nothing_in
from nearshot.schema.errors import UsageError
from nearshot.schema.labelled import LabelledVectors, labelled_vectors, small_images
from nearshot.schema.paths import AnyPath, named, resolved
from nearshot.schema.picture_hashes import picture_hashes
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Role
from nearshot.vectors.hamming import near_bits

SAME_BITS, SAME_PICTURE = 6, 0.99
"""Bits of 64 in which the hashes of one picture differ at most, and the least cosine of their frequencies.

Of copies of half the size and JPEG quality 60 these find 94 %, and take no two digits, nor a stereo pair, for one picture.
"""

LEAST_SIDE = 32
"""Pixels. Every backbone enlarges such an image at least seven times."""


class Severity(StrEnum):
    """Errors make answers wrong; warnings make them worse, or figures too good."""

    ERROR = "error"
    WARNING = "warning"


class Rule(StrEnum):
    """Kind of fault, in words."""

    UNUSABLE = "a shot that cannot be used"
    TWO_LABELS = "the same image under different labels"
    TWO_LABELS_NEARLY = "nearly the same picture under different labels"
    LEAK = "a query that is a copy of a shot"
    NEAR_DUPLICATES = "shots of one label that are copies of each other: they count as one"
    QUERIES_TWICE = "queries that are copies of each other: they count twice in an evaluation"
    NEARER_ELSEWHERE = "a shot nearer to another label than to its own"
    ONE_SHOT = "a label with one shot only: nothing tells how much its images vary"
    UNEQUAL = "labels with unequal numbers of shots: those with more are found more easily"
    SMALL = f"an image with a side of fewer than {LEAST_SIDE} pixels"
    OUTSIDE = "outside the directory contract"


ERRORS = frozenset({Rule.UNUSABLE, Rule.TWO_LABELS})


@dataclass(frozen=True, slots=True)
class LintFinding:
    """A fault, the files that show it (relative to the data directory), and what there is to say of them."""

    category: str | None
    rule: Rule
    files: tuple[str, ...]
    detail: str = ""

    @property
    def severity(self) -> Severity:
        """Severity of the fault."""
        return Severity.ERROR if self.rule in ERRORS else Severity.WARNING


def lint(
    store: Store,
    root: AnyPath,
    backbone: str | None = None,
    *,
    told: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[str, list[LintFinding]]:
    """All faults of a data directory's support sets, worst first, and the backbone that judged them.

    Pictures are hashed first, each once for all times, of which `told` is told (done, total). Raises UsageError where the
    directory is not indexed.
    """
    discovery = Discovery(root, follow_links=True)
    images = sum(1 for _ in discovery)  # walk, for what lies outside the contract, too
    findings = [LintFinding(None, Rule.OUTSIDE, (breach.path,), breach.rule) for breach in discovery.breaches]
    directory = named(resolved(root))
    with store.reading() as catalog:
        root_id = catalog.root_id(directory)
        if root_id is None or not catalog.has_images(root_id):
            if not images:
                raise UsageError(nothing_in(str(root)))
            raise UsageError(f"{root} is not indexed; run `nearshot index {root}`")
        row, _ = choose_row(catalog, backbone, discovery.categories)
        hog = next((backbone_row for backbone_row in catalog.backbones() if backbone_row.name == "hog"), None)
        for path, reason in catalog.failures():
            if path.startswith(f"{directory}/") and f"/{SUPPORT_DIRECTORY}/" in path:
                inside = path.removeprefix(f"{directory}/")
                findings.append(LintFinding(inside.split("/")[0], Rule.UNUSABLE, (inside,), reason))
    for done, total in hash_pictures(store, discovery.categories):
        told(done, total)
    with store.reading() as catalog:
        for category in discovery.categories:
            findings += _lint_category(catalog, row, hog, category)
    order = list(Rule)
    return row.name, sorted(
        findings, key=lambda finding: (order.index(finding.rule), finding.category or "", finding.files)
    )


def _lint_category(catalog: Catalog, row: BackboneRow, hog: BackboneRow | None, category: str) -> Iterator[LintFinding]:
    yield from _copies(catalog, row, hog, category)
    support = labelled_vectors(catalog, row, category, Role.SUPPORT)
    yield from _misplaced(category, support)
    yield from _counts(category, support)
    del support  # what is looked at next is read for itself
    for path, width, height in small_images(catalog, category, LEAST_SIDE):
        yield LintFinding(category, Rule.SMALL, (path,), f"{width} x {height}")


def _copies(catalog: Catalog, row: BackboneRow, hog: BackboneRow | None, category: str) -> Iterator[LintFinding]:
    """The same bytes, or nearly the same picture: as hog sees it, or by the hashes of pictures."""
    images = _Images(catalog, row, category)
    for same in images.copies():
        yield from _said(category, same, "the same bytes")
    told = set()
    for first, other, detail in chain(
        [] if hog is None else _near_on_hog(catalog, hog, category), _near_by_hash(catalog, category)
    ):
        both = [*images.of(first)[:1], *images.of(other)[:1]]
        if len(both) == 2 and (pair := frozenset((first, other))) not in told:
            told.add(pair)
            yield from _said(category, both, detail)


class _Image(NamedTuple):
    path: str
    label: str | None
    shot: str | None
    sha256: str
    role: Role


class _Images:
    """A category's images of both roles that a backbone has seen, shots first, to be found by SHA-256."""

    def __init__(self, catalog: Catalog, row: BackboneRow, category: str) -> None:
        self._images = [(role, labelled_vectors(catalog, row, category, role, with_vectors=False)) for role in Role]
        self._ends = np.cumsum([len(known.hashes) for _, known in self._images])
        hashes = (sha256.encode() for _, known in self._images for sha256 in known.hashes)
        in_order = np.fromiter(hashes, dtype="S64", count=int(self._ends[-1]))
        self._order = np.argsort(in_order, kind="stable")
        self._hashes = in_order[self._order]

    def of(self, sha256: str) -> list[_Image]:
        """Those of a content, the first of them first."""
        start, end = (int(np.searchsorted(self._hashes, sha256.encode(), side)) for side in ("left", "right"))
        return [self._image(int(position)) for position in self._order[start:end]]

    def copies(self) -> Iterator[list[_Image]]:
        """Those of each content that there are several of."""
        starts = np.flatnonzero(self._hashes[1:] == self._hashes[:-1])
        for sha256 in np.unique(self._hashes[starts]):
            yield self.of(sha256.decode())

    def _image(self, position: int) -> _Image:
        number = int(np.searchsorted(self._ends, position, side="right"))
        role, known = self._images[number]
        index = position - (int(self._ends[number - 1]) if number else 0)
        return _Image(known.paths[index], known.labels[index], known.shots[index], known.hashes[index], role)


def _said(category: str, same: Sequence[_Image], detail: str) -> Iterator[LintFinding]:
    """What is wrong with images of a category that show the same."""
    shots = [image for image in same if image.role == Role.SUPPORT]
    queries = [image for image in same if image.role == Role.QUERY]
    labels = sorted({str(image.label) for image in shots})
    files = tuple(image.path for image in shots)
    exact = len({image.sha256 for image in same}) == 1
    if len(labels) > 1:
        rule = Rule.TWO_LABELS if exact else Rule.TWO_LABELS_NEARLY
        yield LintFinding(category, rule, files, ", ".join(labels) if exact else f"{', '.join(labels)}; {detail}")
    elif len({image.shot for image in shots}) > 1:
        yield LintFinding(category, Rule.NEAR_DUPLICATES, files, detail)
    if shots:
        for query in queries:
            yield LintFinding(category, Rule.LEAK, (query.path, shots[0].path), detail)
    elif len(queries) > 1:
        yield LintFinding(category, Rule.QUERIES_TWICE, tuple(query.path for query in queries), detail)


def _near_on_hog(catalog: Catalog, hog: BackboneRow, category: str) -> Iterator[tuple[str, str, str]]:
    """Pairs of contents, by SHA-256, a shot first, that hog can hardly tell apart; and how near they are."""
    support = labelled_vectors(catalog, hog, category, Role.SUPPORT)
    for first, others, scores in near_duplicates(support.vectors, support.vectors, NEAR_DUPLICATE):
        for other, score in zip(others.tolist(), scores.tolist(), strict=True):
            if other > first and support.hashes[first] != support.hashes[other]:
                yield support.hashes[first], support.hashes[other], f"cosine {score:.4f} on hog"
    queries = labelled_vectors(catalog, hog, category, Role.QUERY)
    for number, shots, scores in near_duplicates(queries.vectors, support.vectors, NEAR_DUPLICATE):
        best = int(scores.argmax())
        if support.hashes[shots[best]] != queries.hashes[number]:
            yield support.hashes[shots[best]], queries.hashes[number], f"cosine {scores[best]:.4f} on hog"


def _near_by_hash(catalog: Catalog, category: str) -> Iterator[tuple[str, str, str]]:
    """Pairs of contents, by SHA-256, whose pictures' hashes are nearly the same; and how alike these are."""
    known, hashes = picture_hashes(catalog, category, RULES)
    for first, other, _ in near_bits(hash_bits(hashes), SAME_BITS):
        if (alike := likeness(hashes[first], hashes[other])) >= SAME_PICTURE:
            yield known[first], known[other], f"hashes of the pictures alike to {alike:.4f}"


def _misplaced(category: str, support: LabelledVectors) -> Iterator[LintFinding]:
    """Images whose nearest image of another label is nearer than any of their own label's other shots."""
    for image, other, score, own_score in misplaced(support):
        detail = f"{support.labels[other]} {score:.3f}, its own {own_score:.3f}"
        files = (support.paths[image], support.paths[other])
        yield LintFinding(category, Rule.NEARER_ELSEWHERE, files, detail)


def _counts(category: str, support: LabelledVectors) -> Iterator[LintFinding]:
    shots = {(str(label), shot): path for path, label, shot in zip(*support[:3], strict=True)}
    counts = Counter(label for label, _ in shots)
    for (label, _), path in shots.items():
        if counts[label] == 1:
            yield LintFinding(category, Rule.ONE_SHOT, (path,), label)
    if len(set(counts.values())) > 1:
        detail = ", ".join(f"{label} {count}" for label, count in sorted(counts.items()))
        yield LintFinding(category, Rule.UNEQUAL, (), detail)


def as_json(backbone: str, findings: Sequence[LintFinding]) -> dict[str, object]:
    """The object that `lint --json` prints."""
    severities = Counter(finding.severity for finding in findings)
    return {
        "backbone": backbone,
        "errors": severities[Severity.ERROR],
        "warnings": severities[Severity.WARNING],
        "findings": [
            {
                "severity": finding.severity.value,
                "rule": finding.rule.name.lower().replace("_", "-"),
                "meaning": finding.rule.value,
                "category": finding.category,
                "files": list(finding.files),
                "detail": finding.detail,
            }
            for finding in findings
        ],
    }
