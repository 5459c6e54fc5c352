"""Choosing configurations: one `ArmSampler` for each arm, repeatable to the last digit and after any restart.

A proposal depends on the study's seed, the arm's name, the trial's number and what is on record by then, and on nothing else: no random state is
carried from one proposal to the next, so a run that takes over goes on as the last one would have. The exception is `cmaes`: Optuna keeps its
covariance beside the trials in memory, and a run that takes over starts it anew from the record.
"""

__all__ = ["ArmSampler"]

import math
import warnings
import zlib
from collections.abc import Callable, Generator
from contextlib import contextmanager

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, TPESampler
from optuna.trial import create_trial

from studies.catalog import Direction
from studies.distributions import as_parameters, distributions, searched
from studies.resolve import ResolvedArm
from studies.space import AnyDimension, Choices, Parameters, Range, Scalar, active, every_point, size, without_inert
from studies.spec import SamplerName
from studies.states import TrialState

# Proposals that repeat a configuration or break a constraint are asked anew, at most this often beyond those already known.
_MAX_REJECTED = 200
_OPTUNA_STATES = {
    TrialState.COMPLETED: optuna.trial.TrialState.COMPLETE,
    TrialState.PRUNED: optuna.trial.TrialState.PRUNED,
    # Pruned without a value ranks last: the sampler learns to keep away, where a failed trial would teach it nothing.
    TrialState.DIVERGED: optuna.trial.TrialState.PRUNED,
    TrialState.QUEUED: optuna.trial.TrialState.RUNNING,
    TrialState.RUNNING: optuna.trial.TrialState.RUNNING,
}


def _quantile(dimension: AnyDimension, u: float) -> Scalar:
    """Return the value below which a share `u` in [0, 1) of the dimension lies."""
    match dimension:
        case Choices():
            return dimension.choices[int(u * len(dimension.choices))]
        case Range(integer=True, log=False):
            return int(dimension.low) + int(u * (dimension.high - dimension.low + 1))
        case Range(log=True):
            low, high = (dimension.low - 0.5, dimension.high + 0.5) if dimension.integer else (dimension.low, dimension.high)
            value = math.exp(math.log(low) + u * (math.log(high) - math.log(low)))
            value = min(max(value, dimension.low), dimension.high)
            return round(value) if dimension.integer else value
        case Range():
            return dimension.low + u * (dimension.high - dimension.low)
        case _:
            return dimension.value


class ArmSampler:
    """Proposes configurations of one arm, each different from all before."""

    def __init__(self, arm: ResolvedArm, *, sampler: SamplerName, direction: Direction, seed: int) -> None:
        """Start with an empty record.

        Args:
            arm: whose space is searched.
            sampler: how.
            direction: `maximize` or `minimize`.
            seed: the study's.
        """
        self._arm = arm
        self._sampler: SamplerName = sampler
        self._seed = (seed, zlib.crc32(arm.name.encode()))
        self._searched = {name: arm.space[name] for name in distributions(arm.space)}
        self._seen: set[tuple[tuple[str, Scalar], ...]] = set()
        self._numbers: dict[int, int] = {}
        with _quietly():
            self._study = optuna.create_study(direction=direction)

    def remember(self, number: int, parameters: Parameters, state: TrialState, value: float | None) -> None:
        """Take up a trial from the record, in the order of numbers; it must not have been proposed here."""
        self._seen.add(_key(parameters))
        if state in _OPTUNA_STATES and self._arm.admits(parameters):
            self._numbers[number] = len(self._study.get_trials(deepcopy=False))
            params = searched(self._arm.space, self._arm.card.conditions, parameters)
            known = distributions(self._arm.space)
            self._study.add_trial(
                create_trial(
                    state=_OPTUNA_STATES[state],
                    value=value if state is TrialState.COMPLETED else None,
                    params=dict(params),
                    distributions={name: known[name] for name in params},
                )
            )

    def tell(self, number: int, state: TrialState, value: float | None) -> None:
        """Learn how a trial ended; one whose configuration lies outside the space teaches nothing."""
        inner = self._numbers.get(number)
        if inner is None:
            return
        told = _OPTUNA_STATES.get(state, optuna.trial.TrialState.FAIL)
        self._study.tell(inner, value if state is TrialState.COMPLETED else None, state=told)

    def propose(self, number: int) -> Parameters | None:
        """Return a configuration for the arm's trial `number`, or None when the space holds no other."""
        choose: Callable[[int, int], tuple[dict[str, Scalar], int | None]]
        match self._sampler:
            case "random":
                choose = self._random
            case "qmc":
                choose = self._quasi_random
            case "grid":
                choose = self._grid
            case _:
                choose = self._ask
        for attempt in range(_MAX_REJECTED + len(self._seen)):
            chosen, inner = choose(number, attempt)
            parameters = self._complete(chosen)
            if _key(parameters) not in self._seen and all(c.holds(parameters) for c in self._arm.card.constraints):
                self._seen.add(_key(parameters))
                if inner is not None:
                    self._numbers[number] = inner
                return parameters
            if inner is not None:
                self._study.tell(inner, state=optuna.trial.TrialState.FAIL)
        return self._first_unseen()

    def _random(self, number: int, attempt: int) -> tuple[dict[str, Scalar], None]:
        rng = np.random.default_rng([*self._seed, number, attempt])
        return self._at(rng.random(len(self._searched))), None

    def _quasi_random(self, number: int, attempt: int) -> tuple[dict[str, Scalar], None]:
        # Three quarters of a second to import, and only this sampler needs it.
        from scipy.stats import qmc  # pyright: ignore[reportMissingTypeStubs] # scipy has none

        if not self._searched:
            return {}, None
        sobol = qmc.Sobol(len(self._searched), scramble=True, rng=np.random.default_rng(self._seed))
        sobol.fast_forward(number + attempt)
        return self._at(sobol.random(1)[0]), None

    def _grid(self, number: int, attempt: int) -> tuple[dict[str, Scalar], None]:
        points = list(every_point(self._searched))
        order = np.random.default_rng(self._seed).permutation(len(points))
        return points[int(order[(number + attempt) % len(points)])], None

    def _ask(self, number: int, attempt: int) -> tuple[dict[str, Scalar], int | None]:
        with _quietly():
            self._study.sampler = self._optuna_sampler(int(np.random.SeedSequence([*self._seed, number, attempt]).generate_state(1)[0]))
            trial = self._study.ask()
            chosen: dict[str, Scalar] = {}
            for name in _dependencies_first(self._arm):
                so_far = as_parameters(self._arm.space, self._arm.defaults, chosen)
                if active(name, self._arm.card.conditions, so_far):
                    chosen[name] = _suggest(trial, name, self._arm.space[name])
        return chosen, trial.number

    def _optuna_sampler(self, seed: int) -> BaseSampler:
        match self._sampler:
            case "gp":
                return GPSampler(seed=seed, n_startup_trials=self._startup(), warn_independent_sampling=False)
            case "cmaes":
                return CmaEsSampler(seed=seed, n_startup_trials=1, warn_independent_sampling=False)
            case _:
                return TPESampler(seed=seed, n_startup_trials=self._startup())

    def _complete(self, chosen: dict[str, Scalar]) -> Parameters:
        """Return the whole configuration of what was chosen, whatever has no effect in it at its default."""
        whole = as_parameters(self._arm.space, self._arm.defaults, chosen)
        return without_inert(whole, self._arm.card.conditions, self._arm.defaults)

    def _startup(self) -> int:
        """Return how many random trials come first: a quarter of the budget, at least 4 and at most Optuna's own 10."""
        return min(10, max(4, self._arm.trials // 4))

    def _at(self, point: np.ndarray) -> dict[str, Scalar]:
        """Return the searched dimensions at a point of the unit cube [D]."""
        return {name: _quantile(dimension, float(u)) for (name, dimension), u in zip(self._searched.items(), point, strict=True)}

    def _first_unseen(self) -> Parameters | None:
        if math.isinf(size(self._searched)):
            return None
        candidates = (self._complete(point) for point in every_point(self._searched))
        fits = (p for p in candidates if _key(p) not in self._seen and all(c.holds(p) for c in self._arm.card.constraints))
        found = next(fits, None)
        if found is not None:
            self._seen.add(_key(found))
        return found


def _suggest(trial: optuna.Trial, name: str, dimension: AnyDimension) -> Scalar:
    match dimension:
        case Choices():
            choice = trial.suggest_categorical(name, dimension.choices)
            assert choice is not None, "no scalar is None"
            return choice
        case Range(integer=True):
            return trial.suggest_int(name, int(dimension.low), int(dimension.high), log=dimension.log)
        case Range():
            return trial.suggest_float(name, dimension.low, dimension.high, log=dimension.log)
        case _:
            return dimension.value


def _dependencies_first(arm: ResolvedArm) -> list[str]:
    """Return the searched names, those with a condition last, so that what they depend on is known."""
    names = list(distributions(arm.space))
    return sorted(names, key=lambda name: name in arm.card.conditions)


def _key(parameters: Parameters) -> tuple[tuple[str, Scalar], ...]:
    return tuple(sorted(parameters.items()))


@contextmanager
def _quietly() -> Generator[None]:
    """Keep Optuna's notes on experimental samplers, and its log of every study, out of the run's log."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        yield
