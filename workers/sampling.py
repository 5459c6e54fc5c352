"""Choosing configurations: one `ArmSampler` for each search of an arm.

It is repeatable to the last digit and after any restart.

A proposal depends on the study's seed, the arm's name, the replicate, the trial's number in it and what is on
record of it by then, and on nothing else: no random state is carried from one proposal to the next, so a run
that takes over goes on as the last one would have. The exception is `cmaes`: Optuna keeps its covariance
beside the trials in memory, and a run that takes over starts it anew from the record.

Trials whose value is not known yet count as bad (the constant liar), so proposals asked one after the other
differ; yet they learn nothing from each other, and `at_once` says how many of them are worth asking for.
"""

__all__ = ["ArmSampler"]

import math
import warnings
import zlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, TPESampler

from studies.direction import Direction
from studies.distributions import as_parameters, distributions
from studies.resolve import ResolvedArm
from studies.space import (
    AnyDimension,
    Choices,
    Condition,
    Fixed,
    Parameters,
    Range,
    Scalar,
    Space,
    configuration_key,
    every_point,
    is_active,
    size,
    without_inert,
)
from studies.spec import ADAPTIVE_SAMPLERS, SamplerName
from studies.states import FINISHED_TRIAL_STATES, TrialState
from workers.optuna_study import OptunaStudyView

# Proposals that repeat a configuration or break a constraint are asked anew, at most this often.
_MAX_REJECTED = 200
# A model that proposes the same again and again is no longer asked: from then on configurations are drawn at
# random.
_MAX_MODEL_REJECTED = 20
# TPE's time to propose grows with what it looks at; see `OptunaStudyView` for what it is shown beyond.
_MOST_OBSERVED = 500
_OPTUNA_STATES = {
    TrialState.COMPLETED: optuna.trial.TrialState.COMPLETE,
    TrialState.PRUNED: optuna.trial.TrialState.PRUNED,
    # Pruned without a value ranks last: the sampler learns to keep away, where a failed trial would teach it
    # nothing.
    TrialState.DIVERGED: optuna.trial.TrialState.PRUNED,
}


def _quantile(dimension: AnyDimension, u: float) -> Scalar:
    """Return the value below which a share `u` in [0, 1) of the dimension lies."""
    match dimension:
        case Choices():
            return dimension.choices[int(u * len(dimension.choices))]
        case Range(integer=True, log=False):
            return int(dimension.low) + int(u * (dimension.high - dimension.low + 1))
        case Range(log=True):
            low, high = (
                (dimension.low - 0.5, dimension.high + 0.5)
                if dimension.integer
                else (dimension.low, dimension.high)
            )
            value = math.exp(math.log(low) + u * (math.log(high) - math.log(low)))
            value = min(max(value, dimension.low), dimension.high)
            return round(value) if dimension.integer else value
        case Range():
            return dimension.low + u * (dimension.high - dimension.low)
        case _:
            return dimension.value


class ArmSampler:
    """Proposes configurations for one search of an arm, each different from all before.

    Trials are numbered from 0 within the search.
    """

    def __init__(
        self, arm: ResolvedArm, *, sampler: SamplerName, direction: Direction, seed: int, replicate: int = 0
    ) -> None:
        """Start with an empty record.

        Args:
            arm: whose space is searched.
            sampler: how.
            direction: `maximize` or `minimize`.
            seed: the study's.
            replicate: which of the arm's searches it is, from 0; each draws on its own.
        """
        self._arm = arm
        self._sampler: SamplerName = sampler
        self._is_model = sampler in ADAPTIVE_SAMPLERS
        # Of the first replicate only these two, so that asking for more leaves what it draws as it was.
        self._seed = (seed, zlib.crc32(arm.name.encode()), *([replicate] if replicate else []))
        self._distributions = distributions(arm.space)
        self._searched = {name: arm.space[name] for name in self._distributions}
        # Those with a condition last, so that what they depend on is known.
        self._names = sorted(self._distributions, key=lambda name: name in arm.card.conditions)
        self._together = self._proposed_together()
        # Hashes, for whole configurations of many thousand trials would be kept twice.
        self._seen: set[int] = set()
        self._order: np.ndarray | None = None
        self._unseen: Iterator[Parameters] | None = None
        # A generation of CMA-ES is made of the trials that it asked for itself; none of them may be missing.
        with _quietly():
            self._observations = OptunaStudyView(
                direction, most=None if sampler == "cmaes" else _MOST_OBSERVED
            )

    def at_once(self, number: int, *, unanswered: int, at_hand: int) -> int:
        """Return how many proposals from `number` on are worth asking for now.

        The random ones with which every model begins cost nothing. Of the later ones at most an eighth of the
        arm's trials should be without a value at a time, in whichever packs: so many cost a tenth of the
        trials, twice as many a third (docs/performance.md). But a worker that has nothing else to do may
        always have one.

        Args:
            number: of the next trial.
            unanswered: trials proposed already of which no value is known yet.
            at_hand: those of them that wait for a worker.
        """
        if not self._is_model:
            return self._arm.trials
        return max(self._startup() + 1 - number, self._arm.trials // 8 - unanswered, 1 - at_hand, 0)

    def remember(
        self,
        number: int,
        parameters: Parameters,
        state: TrialState,
        value: float | None,
        *,
        rung_values: Mapping[int, float] | None = None,
    ) -> None:
        """Take up a trial from the record, in the order of numbers; it must not have been proposed here.

        Args:
            number: its number in the search.
            parameters: its configuration.
            state: where it stands.
            value: its value, where it is completed.
            rung_values: its value at each rung it has reached, by epoch.
        """
        self._seen.add(_fingerprint(parameters))
        if not self._is_model or not self._arm.admits(parameters):
            return
        params = {
            name: parameters[name]
            for name in self._distributions
            if is_active(name, self._arm.card.conditions, parameters)
        }
        self._observations.begin(number, params, {name: self._distributions[name] for name in params})
        if rung_values:
            self._observations.reach(number, rung_values)
        if state in FINISHED_TRIAL_STATES:
            self.tell(number, state, value)

    def reach(self, number: int, rung_values: Mapping[int, float]) -> None:
        """Learn the values that a trial without an end has at the rungs it has reached, by epoch.

        Empty when it begins again.
        """
        self._observations.reach(number, rung_values)

    def tell(self, number: int, state: TrialState, value: float | None) -> None:
        """Learn how a trial ended.

        One that failed, or whose configuration lies outside the space, teaches nothing.
        """
        told = _OPTUNA_STATES.get(state)
        if told is None:
            self._observations.drop(number)
        else:
            if state is TrialState.DIVERGED:
                # However good it was at a rung: it ranks last all the same.
                self._observations.reach(number, {})
            self._observations.end(number, told, value if state is TrialState.COMPLETED else None)

    def propose(self, number: int) -> Parameters | None:
        """Return a configuration for the search's trial `number`, or None when the space holds no other."""
        for attempt in range(_MAX_REJECTED):
            parameters = self._complete(self._choose(number, attempt))
            if self._take(parameters):
                if self._is_model and attempt >= _MAX_MODEL_REJECTED:
                    self._observe(number, parameters)
                return parameters
            self._observations.drop(number)
        parameters = self._first_unseen()
        if parameters is not None and self._is_model:
            self._observe(number, parameters)
        return parameters

    def _choose(self, number: int, attempt: int) -> Mapping[str, Scalar]:
        """Return values for the searched dimensions that are active.

        A model notes its trial among the observations.
        """
        match self._sampler:
            case "random":
                return self._random(number, attempt)
            case "qmc":
                return self._quasi_random(number, attempt)
            case "grid":
                return self._grid(number, attempt)
            case _:
                return (
                    self._ask(number, attempt)
                    if attempt < _MAX_MODEL_REJECTED
                    else self._random(number, attempt)
                )

    def _random(self, number: int, attempt: int) -> dict[str, Scalar]:
        rng = np.random.default_rng([*self._seed, number, attempt])
        return self._at(rng.random(len(self._searched)))

    def _quasi_random(self, number: int, attempt: int) -> dict[str, Scalar]:
        # Three quarters of a second to import, and only this sampler needs it.
        from scipy.stats import qmc  # pyright: ignore[reportMissingTypeStubs] # scipy has none

        if not self._searched:
            return {}
        sobol = qmc.Sobol(len(self._searched), scramble=True, rng=np.random.default_rng(self._seed))
        sobol.fast_forward(number + attempt)
        return self._at(sobol.random(1)[0])

    def _grid(self, number: int, attempt: int) -> dict[str, Scalar]:
        if self._order is None:
            self._order = np.random.default_rng(self._seed).permutation(int(size(self._searched)))
        return _point(self._searched, int(self._order[(number + attempt) % len(self._order)]))

    def _ask(self, number: int, attempt: int) -> dict[str, Scalar]:
        with _quietly():
            sampler = self._optuna_sampler(
                int(np.random.SeedSequence([*self._seed, number, attempt]).generate_state(1)[0])
            )
            study = self._observations.study()
            trial = self._observations.begin(number, {}, {})
            sampler.before_trial(study, trial)
            together = sampler.sample_relative(study, trial, self._together)
            for name in self._names:
                so_far = as_parameters(self._arm.space, self._arm.defaults, trial.params)
                if is_active(name, self._arm.card.conditions, so_far):
                    distribution = self._distributions[name]
                    value = (
                        together[name]
                        if name in together
                        else sampler.sample_independent(study, trial, name, distribution)
                    )
                    trial.params = {**trial.params, name: _plain(value, distribution)}
                    trial.distributions = {**trial.distributions, name: distribution}
        return trial.params

    def _optuna_sampler(self, seed: int) -> BaseSampler:
        match self._sampler:
            case "gp":
                return GPSampler(seed=seed, n_startup_trials=self._startup(), warn_independent_sampling=False)
            case "cmaes":
                return CmaEsSampler(seed=seed, n_startup_trials=1, warn_independent_sampling=False)
            case _:
                return TPESampler(seed=seed, n_startup_trials=self._startup())

    def _proposed_together(self) -> dict[str, BaseDistribution]:
        """Return the dimensions that are active in every configuration, by name.

        They are proposed as one vector; CMA-ES takes numbers only.
        """
        conditions = self._arm.card.conditions
        found = {
            name: distribution
            for name, distribution in self._distributions.items()
            if not distribution.single()
            and (name not in conditions or _always(conditions[name], self._arm.space))
            and not (self._sampler == "cmaes" and isinstance(distribution, CategoricalDistribution))
        }
        return dict(sorted(found.items()))

    def _take(self, parameters: Parameters) -> bool:
        """Return whether a configuration is new and keeps the constraints; it is known from then on."""
        key = _fingerprint(parameters)
        if key in self._seen or not all(c.holds(parameters) for c in self._arm.card.constraints):
            return False
        self._seen.add(key)
        return True

    def _observe(self, number: int, parameters: Parameters) -> None:
        """Note a configuration that no model has proposed."""
        params = {
            name: parameters[name]
            for name in self._distributions
            if is_active(name, self._arm.card.conditions, parameters)
        }
        self._observations.begin(number, params, {name: self._distributions[name] for name in params})

    def _complete(self, chosen: Mapping[str, Scalar]) -> Parameters:
        """Return the whole configuration of what was chosen, whatever has no effect in it at its default."""
        whole = as_parameters(self._arm.space, self._arm.defaults, dict(chosen))
        return without_inert(whole, self._arm.card.conditions, self._arm.defaults)

    def _startup(self) -> int:
        """Return how many random trials come first.

        A quarter of the budget, at least 4 and at most Optuna's own 10.
        """
        return min(10, max(4, self._arm.trials // 4))

    def _at(self, point: np.ndarray) -> dict[str, Scalar]:
        """Return the searched dimensions at a point of the unit cube [D]."""
        return {
            name: _quantile(dimension, float(u))
            for (name, dimension), u in zip(self._searched.items(), point, strict=True)
        }

    def _first_unseen(self) -> Parameters | None:
        """Return the first configuration of a finite space that is left.

        What was passed over once is never looked at again.
        """
        if math.isinf(size(self._searched)):
            return None
        if self._unseen is None:
            self._unseen = (self._complete(point) for point in every_point(self._searched))
        return next((parameters for parameters in self._unseen if self._take(parameters)), None)


def _always(condition: Condition, space: Space) -> bool:
    """Return whether a condition is met everywhere in a space."""
    match space[condition.parameter]:
        case Range() as dimension:
            return condition.holds({condition.parameter: dimension.low})
        case Choices() as dimension:
            return all(condition.holds({condition.parameter: choice}) for choice in dimension.choices)
        case Fixed() as dimension:
            return condition.holds({condition.parameter: dimension.value})


def _point(space: Space, index: int) -> dict[str, Scalar]:
    """Return the point of a finite space at a place in the order of `every_point`."""
    found: dict[str, Scalar] = {}
    for name, dimension in reversed(space.items()):
        match dimension:
            case Choices():
                values: Sequence[Scalar] = dimension.choices
            case Range():
                values = range(int(dimension.low), int(dimension.high) + 1)
            case Fixed():
                values = (dimension.value,)
        index, place = divmod(index, len(values))
        found[name] = values[place]
    return dict(reversed(found.items()))


def _plain(value: Any, distribution: BaseDistribution) -> Scalar:
    """Return a sampler's value as Python's own number."""
    match distribution:
        case IntDistribution():
            return int(value)
        case FloatDistribution():
            return float(value)
        case _:
            return cast("Scalar", value)


def _fingerprint(parameters: Parameters) -> int:
    # Python has one hash for -1 and -2.
    return hash((configuration_key(parameters), tuple(name for name in parameters if parameters[name] == -1)))


@contextmanager
def _quietly() -> Generator[None]:
    """Keep Optuna's notes on experimental samplers, and its log of every study, out of the run's log."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        yield
