"""Jobs: what a run of the service does in the background."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from nearshot.backbones.protocol import Backbone
from nearshot.indexer.options import IndexOptions
from nearshot.indexer.run import IndexRun
from nearshot.schema.paths import AnyPath
from nearshot.schema.store import Store
from nearshot.service.runs import Job, RunState


def indexing(store: Store, roots: Sequence[AnyPath], options: IndexOptions, ready: Mapping[str, Backbone]) -> Job:
    """Index data directories one after another; the reports are those of `nearshot index --json`, by directory."""

    def index(run: RunState, should_stop: Callable[[], bool]) -> bool:
        for root in roots:
            if should_stop():
                return False
            with run.part(str(root)):
                own = IndexRun(store, root, options, should_stop=should_stop, ready=ready)
                done, total, failed = run.done, run.total, run.failed
                for progress in own:
                    run.total, run.done = total + progress.total, done + progress.done
                    run.failed = failed + progress.failed
                run.reports[str(root)] = own.report.as_json()
                if own.report.interrupted:
                    return False
        return True

    return index


def calibrating(store: Store, *, backbones: Sequence[str], categories: Sequence[str], false_accept: float) -> Job:
    """Calibrate; the reports are those of `nearshot calibrate --json`, by category, backbone and score."""

    def calibrate(run: RunState, should_stop: Callable[[], bool]) -> bool:
        from nearshot.retriever.calibrate import CalibrationOptions, calibrate_all  # which takes SciPy a while
        from nearshot.retriever.choose_backbone import choose_rows, choose_supported
        from nearshot.retriever.conformal import Aim, Aims
        from nearshot.retriever.find_policy import FusionTried

        aims = Aims({Aim.FALSE_ACCEPT: false_accept})
        options = CalibrationOptions(aims=aims, backbones=tuple(backbones), categories=tuple(categories))
        with store.reading() as catalog:
            rows = choose_rows(catalog, options.backbones)
            wanted = choose_supported(catalog, options.categories)
        run.total = len(rows) * len(wanted) * len(options.scores)
        for outcome in calibrate_all(store, options):
            tried = outcome.fused if isinstance(outcome, FusionTried) else outcome
            name = f"{tried.category}, {tried.backbone} by {tried.score}"
            run.reports[f"{name}, tried" if isinstance(outcome, FusionTried) else name] = outcome.as_json()
            run.done = min(run.done + 1, run.total)
            if should_stop():
                return False
        return True

    return calibrate


def linting(store: Store, roots: Sequence[AnyPath], backbone: str | None) -> Job:
    """Find faults; the reports are those of `nearshot lint --json`, by data directory."""

    def lint(run: RunState, should_stop: Callable[[], bool]) -> bool:
        from nearshot.evaluation.lint import as_json
        from nearshot.evaluation.lint import lint as find

        for root in roots:
            if should_stop():
                return False
            with run.part(str(root)):
                run.done = run.total = 0

                def told(done: int, total: int) -> None:
                    run.done, run.total = done, total

                run.reports[str(root)] = as_json(*find(store, root, backbone, told=told))
        return True

    return lint
