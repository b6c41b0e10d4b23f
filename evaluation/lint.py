"""Lint: what is wrong with a support set, from the store's rows and vectors and the names on disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from nearshot.evaluation.misplaced import misplaced
from nearshot.evaluation.near_duplicates import near_duplicates
from nearshot.evaluation.samples import NEAR_DUPLICATE, find_leaks
from nearshot.indexer.discover import Discovery
from nearshot.retriever.choose_backbone import choose_row
from nearshot.schema.catalog import BackboneRow, Catalog
from nearshot.schema.contract import SUPPORT_DIRECTORY, nothing_in
from nearshot.schema.errors import UsageError
from nearshot.schema.labelled import LabelledVectors, labelled_vectors, small_images
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Role

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
    LEAK = "a query that is a copy of a shot"
    NEAR_DUPLICATES = "shots of one label that are copies of each other: they count as one"
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


def lint(store: Store, root: Path, backbone: str | None = None) -> tuple[str, list[LintFinding]]:
    """All faults of a data directory's support sets, worst first, and the backbone that judged them.

    Raises UsageError where the directory is not indexed.
    """
    discovery = Discovery(root, follow_links=True)
    images = sum(1 for _ in discovery)  # walk, for what lies outside the contract, too
    findings = [LintFinding(None, Rule.OUTSIDE, (breach.path,), breach.rule) for breach in discovery.breaches]
    resolved = str(root.resolve())
    with store.reading() as catalog:
        root_id = catalog.root_id(resolved)
        if root_id is None or not catalog.has_images(root_id):
            if not images:
                raise UsageError(nothing_in(root))
            raise UsageError(f"{root} is not indexed; run `nearshot index {root}`")
        row, _ = choose_row(catalog, backbone, discovery.categories)
        hog = next((backbone_row for backbone_row in catalog.backbones() if backbone_row.name == "hog"), None)
        for path, reason in catalog.failures():
            if path.startswith(f"{resolved}/") and f"/{SUPPORT_DIRECTORY}/" in path:
                inside = path.removeprefix(f"{resolved}/")
                findings.append(LintFinding(inside.split("/")[0], Rule.UNUSABLE, (inside,), reason))
        for category in discovery.categories:
            findings += _lint_category(catalog, row, hog, category)
    order = list(Rule)
    return row.name, sorted(
        findings, key=lambda finding: (order.index(finding.rule), finding.category or "", finding.files)
    )


def _lint_category(catalog: Catalog, row: BackboneRow, hog: BackboneRow | None, category: str) -> Iterator[LintFinding]:
    support = labelled_vectors(catalog, row, category, Role.SUPPORT)
    on_hog = support if hog is not None and hog.id == row.id else None
    if hog is not None and on_hog is None:
        on_hog = labelled_vectors(catalog, hog, category, Role.SUPPORT)
    yield from _copies(category, support, on_hog)
    del on_hog
    yield from _misplaced(category, support)
    yield from _counts(category, support)
    del support  # what is looked at next is read for itself
    for leak in find_leaks(catalog, [row], hog, category).values():
        yield LintFinding(category, Rule.LEAK, (leak.query, leak.shot), leak.reason)
    for path, width, height in small_images(catalog, category, LEAST_SIDE):
        yield LintFinding(category, Rule.SMALL, (path,), f"{width} x {height}")


def _copies(category: str, support: LabelledVectors, on_hog: LabelledVectors | None) -> Iterator[LintFinding]:
    """The same bytes anywhere; nearly the same picture, as hog sees it, within a label."""
    often = {sha256 for sha256, count in Counter(support.hashes).items() if count > 1}
    same: dict[str, list[int]] = {}
    for index, sha256 in enumerate(support.hashes):
        if sha256 in often:
            same.setdefault(sha256, []).append(index)
    for indexes in same.values():
        labels = sorted({str(support.labels[index]) for index in indexes})
        files = tuple(support.paths[index] for index in indexes)
        if len(labels) > 1:
            yield LintFinding(category, Rule.TWO_LABELS, files, ", ".join(labels))
        elif len({support.shots[index] for index in indexes}) > 1:
            yield LintFinding(category, Rule.NEAR_DUPLICATES, files, "the same bytes")
    if on_hog is None:
        return
    for first, others, scores in near_duplicates(on_hog.vectors, on_hog.vectors, NEAR_DUPLICATE):
        for second, score in zip(others.tolist(), scores.tolist(), strict=True):
            if (
                second > first
                and on_hog.labels[first] == on_hog.labels[second]
                and on_hog.shots[first] != on_hog.shots[second]
                and on_hog.hashes[first] != on_hog.hashes[second]
            ):
                files = (on_hog.paths[first], on_hog.paths[second])
                yield LintFinding(category, Rule.NEAR_DUPLICATES, files, f"cosine {score:.4f} on hog")


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
