"""The promises of calibration, held by resampling: calibrate again and again, and look at what new images are told.

    python -m tests.promises [DRAWS]

Every draw takes shots, labelled queries and known strangers from a population, calibrates, and counts what the policy would
do to the whole population. Two kinds of population: images drawn from a distribution (synthetic: tight, spread and multi-modal
labels), and scikit-learn's digits, drawn with replacement, so that the rate in the population is the true one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from nearshot.retriever.conformal import Aim, Aims
from nearshot.retriever.evidence import gather, set_samples
from nearshot.retriever.find_policy import find_policy
from nearshot.retriever.held_out import HeldOut
from nearshot.retriever.prediction_set import prediction_set
from nearshot.retriever.scores import Labelled, cosines, fit
from nearshot.retriever.stopping import MarkedList, find_stop
from nearshot.schema.labelled import LabelledVectors
from nearshot.schema.vocabulary import Guard, Score
from nearshot.vectors.normalise import normalise

Vectors = NDArray[np.float32]
LABELS = 6


@dataclass(frozen=True)
class Population:
    """Where images come from: of each label, of the strangers, and of strangers of another kind."""

    name: str
    draw_label: Callable[[np.random.Generator, int, int], Vectors]
    draw_strangers: Callable[[np.random.Generator, int], Vectors]
    draw_others: Callable[[np.random.Generator, int], Vectors]


def synthetic(name: str, *, noise: float, modes: int, seed: int = 0, dimension: int = 24) -> Population:
    """Labels of some modes each; strangers are four labels more, the others lie elsewhere."""
    chance = np.random.default_rng(seed)
    centres = chance.normal(size=(LABELS + 8, modes, dimension))

    def around(draw: np.random.Generator, groups: NDArray[np.int64]) -> Vectors:
        chosen = centres[groups, draw.integers(0, modes, len(groups))]
        return normalise(chosen + noise * draw.normal(size=(len(groups), dimension)))

    return Population(
        name,
        lambda draw, label, count: around(draw, np.full(count, label)),
        lambda draw, count: around(draw, draw.integers(LABELS, LABELS + 4, count)),
        lambda draw, count: around(draw, draw.integers(LABELS + 4, LABELS + 8, count)),
    )


def digits() -> Population:
    """0 to 5 are labels, 6 and 7 strangers, 8 and 9 strangers of another kind; 8 x 8 pixels as vectors."""
    loaded = load_digits()
    vectors = normalise(loaded.images.reshape(len(loaded.images), -1))

    def some(draw: np.random.Generator, kinds: list[int], count: int) -> Vectors:
        mine = vectors[np.isin(loaded.target, kinds)]
        return mine if count < 0 else mine[draw.integers(0, len(mine), count)]

    return Population(
        "digits",
        lambda draw, label, count: some(draw, [label], count),
        lambda draw, count: some(draw, [6, 7], count),
        lambda draw, count: some(draw, [8, 9], count),
    )


def populations() -> list[Population]:
    """All of them."""
    return [
        synthetic("tight", noise=0.5, modes=1),
        synthetic("spread", noise=1.1, modes=1),
        synthetic("multi-modal", noise=0.5, modes=3),
        digits(),
    ]


@dataclass(frozen=True)
class Setting:
    """What one line of the table is about. Without `strangers` the threshold rests on the labels alone."""

    population: Population
    score: Score
    shots: int
    strangers: int
    confidence: float | None
    guard: Guard = Guard.KNOWN
    rate: float = 0.05
    queries: int = 25


@dataclass(frozen=True)
class Kept:
    """What became of a promise over all draws that could make it: true rates (draws,), by error; coverage and size of sets."""

    setting: Setting
    draws: int
    accepted: NDArray[np.float64]
    others: NDArray[np.float64]
    wrong: NDArray[np.float64]
    right: NDArray[np.float64]
    covered: NDArray[np.float64]


def keep(setting: Setting, draws: int) -> Kept:
    """Calibrate as often as that, and look at the population each time."""
    rows = [row for seed in range(draws) if (row := _once(setting, seed)) is not None]
    columns = np.array(rows, dtype=np.float64).reshape(-1, 5).T
    return Kept(setting, draws, *columns)


def support_of(shots: Vectors, numbers: NDArray[np.int64], names: Sequence[str]) -> LabelledVectors:
    """A support set of one image per shot."""
    rows = range(len(shots))
    labels, hashes = tuple(names[number] for number in numbers), tuple(f"{row:064}" for row in rows)
    return LabelledVectors(tuple(map(str, rows)), labels, tuple(f"shot{row}" for row in rows), hashes, shots)


FRESH = 300
"""New images of each label; ten times as many strangers."""


def _once(setting: Setting, seed: int) -> tuple[float, float, float, float, float] | None:
    draw, population = np.random.default_rng(seed), setting.population
    whole = -1 if population.name == "digits" else FRESH
    shots = np.concatenate([population.draw_label(draw, label, setting.shots) for label in range(LABELS)])
    numbers = np.repeat(np.arange(LABELS), setting.shots)
    names = tuple(str(label) for label in range(LABELS))
    in_model = population.draw_strangers(draw, setting.strangers)
    for_threshold = population.draw_strangers(draw, setting.strangers)
    support = support_of(shots, numbers, names)
    labelled = Labelled(names, numbers, shots, in_model)
    queries = np.concatenate([population.draw_label(draw, label, setting.queries) for label in range(LABELS)])
    truth = np.repeat(np.arange(LABELS), setting.queries)
    evidence = gather(setting.score, labelled, HeldOut.of(support, numbers), queries, truth, for_threshold)
    rates = {Aim.FALSE_ACCEPT: setting.rate}
    if setting.strangers:
        rates[Aim.WRONG] = 2 * setting.rate
    aims = Aims(rates, setting.confidence)
    calibration = find_policy("none", "c", setting.score, aims, setting.guard, evidence, strangers=len(in_model))
    if not calibration.policy.calibrated:
        return None
    scorer = fit(setting.score, labelled)
    known = [population.draw_label(draw, label, whole) for label in range(LABELS)]
    fresh, fresh_truth = np.concatenate(known), np.repeat(np.arange(LABELS), [len(images) for images in known])

    def matched(scores: NDArray[np.float64]) -> NDArray[np.bool_]:
        second, best = np.partition(scores, -2, axis=1)[:, -2:].T
        lead = np.round(best - second, 6)
        kept: NDArray[np.bool_] = (best >= calibration.policy.threshold) & (lead >= calibration.policy.margin_floor)
        return kept

    scores = scorer.scores(fresh)
    match, best = matched(scores), scores.argmax(axis=1) == fresh_truth
    strange, others = (
        float(matched(scorer.scores(drawn(draw, whole if whole < 0 else 10 * FRESH))).mean())
        for drawn in (population.draw_strangers, population.draw_others)
    )
    samples = set_samples(calibration.known, calibration.against, names)
    some = draw.integers(0, len(fresh), 60)
    held = [
        names[fresh_truth[row]]
        in prediction_set(dict(zip(names, scores[row].tolist(), strict=True)), samples, 0.9).labels
        for row in some
    ]
    wrong = float((match & ~best).sum() / max(int(match.sum()), 1))
    return strange, others, wrong, float((match & best).mean()), float(np.mean(held))


def settings() -> Iterator[Setting]:
    """Every line of the table."""
    for population in populations():
        for score in Score:
            for shots in (5, 20):
                yield Setting(population, score, shots, 0, None)
                for confidence in (None, 0.95):
                    yield Setting(population, score, shots, 100, confidence)


def broken(kept: Kept) -> list[str]:
    """The promises that did not hold, within 3 standard errors."""
    problems = []
    count, rate = len(kept.accepted), kept.setting.rate
    if not count:
        return []
    if kept.setting.strangers:
        for name, values, bound in (("strangers accepted", kept.accepted, rate), ("wrong", kept.wrong, 2 * rate)):
            if kept.setting.confidence is None:
                error = float(np.std(values) / np.sqrt(count))
                if values.mean() > bound + 3 * error:
                    problems.append(f"{name} {values.mean():.4f} on average, promised {bound:g}")
            else:
                share = float(np.sum(values > bound)) / kept.draws
                risk = 1 - kept.setting.confidence
                if share > risk + 3 * np.sqrt(risk * (1 - risk) / kept.draws):
                    problems.append(f"{name} above {bound:g} in {share:.3f} of the calibrations, promised {risk:.2f}")
    error = float(np.std(kept.covered) / np.sqrt(count))
    if kept.setting.strangers and kept.covered.mean() < 0.9 - 3 * error:
        problems.append(f"sets cover {kept.covered.mean():.4f}, promised 0.9")
    return problems


@dataclass(frozen=True)
class StopSetting:
    """What one line of the table of lists is about: so many marked queries, one in seven of them a stranger."""

    population: Population
    rate: float
    queries: int


def stop_settings() -> Iterator[StopSetting]:
    """Every line of that table."""
    for population in populations():
        for rate in (0.1, 0.3):
            for queries in (21, 105):
                yield StopSetting(population, rate, queries)


def keep_stop(setting: StopSetting, draws: int) -> NDArray[np.float64]:
    """Of new queries' lists of hits, on average over each draw: the share of false hits, and how many are listed (draws, 2)."""
    return np.array([_stop_once(setting, seed) for seed in range(draws)])


def _stop_once(setting: StopSetting, seed: int) -> tuple[float, float]:
    draw, population = np.random.default_rng(seed), setting.population
    shots = np.concatenate([population.draw_label(draw, label, 20) for label in range(LABELS)])
    labels = np.repeat(np.arange(LABELS), 20)

    def lists(count: int) -> list[MarkedList]:
        kinds = draw.integers(0, LABELS + 1, count)
        marked_lists = []
        for kind in kinds:
            query = population.draw_label(draw, int(kind), 1) if kind < LABELS else population.draw_strangers(draw, 1)
            near = cosines(query, shots)[0]
            order = np.argsort(-near, kind="stable")[:20]
            marked_lists.append(MarkedList(near[order], labels[order] == kind))
        return marked_lists

    stop = find_stop(lists(setting.queries), setting.rate, 20)
    assert stop.least is not None
    listed = [(marked_list.scores >= stop.least, marked_list.right) for marked_list in lists(60)]
    shares = [float(np.mean(~right[kept])) if kept.any() else 0.0 for kept, right in listed]
    return float(np.mean(shares)), float(np.mean([kept.sum() for kept, _ in listed]))


def broken_stop(setting: StopSetting, kept: NDArray[np.float64]) -> list[str]:
    """Whether more hits were false than was promised, by more than 3 standard errors."""
    mean, error = kept[:, 0].mean(), kept[:, 0].std() / np.sqrt(len(kept))
    if mean <= setting.rate + 3 * error:
        return []
    return [
        f"{setting.population.name}, {setting.queries} marked: {mean:.4f} of the hits false, promised {setting.rate:g}"
    ]


def main(draws: int) -> int:
    """Print the table; the number of promises that were broken."""
    header = (
        *("population", "score", "shots", "strangers", "promise", "made", "strangers accepted", "above 0.05"),
        *("other kinds accepted", "wrong", "above 0.10", "known right", "sets cover"),
    )
    print("| " + " | ".join(header) + " |")
    print("|" + " --- |" * len(header))
    failures = []
    for setting in settings():
        kept = keep(setting, draws)
        if len(kept.accepted):
            figures = [
                f"{kept.accepted.mean():.3f}",
                f"{np.sum(kept.accepted > setting.rate) / draws:.3f}",
                f"{kept.others.mean():.3f}",
                f"{kept.wrong.mean():.3f}",
                f"{np.sum(kept.wrong > 2 * setting.rate) / draws:.3f}",
                f"{kept.right.mean():.3f}",
                f"{kept.covered.mean():.3f}",
            ]
        else:
            figures = ["-"] * 7
        sure = "on average" if setting.confidence is None else f"{setting.confidence:g}"
        cells = (
            setting.population.name,
            setting.score.value,
            setting.shots,
            setting.strangers or "none",
            sure,
            len(kept.accepted),
        )
        print("| " + " | ".join([*map(str, cells), *figures]) + " |", flush=True)
        failures += [
            f"{setting.population.name}, {setting.score}, {setting.shots} shots: {line}" for line in broken(kept)
        ]
    print("\n| population | marked queries | false at most | false | hits listed, of 20 |")
    print("|" + " --- |" * 5)
    for line in stop_settings():
        ended = keep_stop(line, draws)
        false, listed = ended.mean(axis=0)
        print(f"| {line.population.name} | {line.queries} | {line.rate:g} | {false:.3f} | {listed:.1f} |", flush=True)
        failures += broken_stop(line, ended)
    print()
    print("\n".join(failures) or "every promise held")
    return len(failures)


if __name__ == "__main__":
    sys.exit(1 if main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000) else 0)
