"""Proposes configurations: one `ArmSampler` for each search of an arm, repeatable to the last digit.

A proposal depends only on the study's seed, the arm's name, the replicate, the trial's number in it and the
results stored by then. No random state is carried from one proposal to the next, so a run that takes over
continues as the last one would have. The exception is `cmaes`: Optuna keeps its covariance in memory, and a
run that takes over starts it anew from the stored trials.

A trial without a value yet counts as bad (the constant liar), so successive proposals differ. But they learn
nothing from each other, and `recommended` limits how many of them are worth creating.
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
from studies.searchable import broken_constraint
from studies.space import (
    Choices,
    Fixed,
    Parameters,
    Range,
    Scalar,
    Space,
    configuration_key,
    every_point,
    is_active,
    quantile,
    size,
    without_inert,
)
from studies.spec import ADAPTIVE_SAMPLERS, SamplerName
from studies.states import FINISHED_TRIAL_STATES, TrialState
from workers.optuna_study import OptunaStudyView

# A proposal that repeats a configuration or breaks a constraint is replaced, at most this often.
_MAX_REJECTED = 200
# After this many rejected proposals of a model, configurations are drawn at random instead.
_MAX_MODEL_REJECTED = 20
# This many trials without a value had no measurable cost, if they are at most a quarter of the arm's.
_FREE_PENDING = 8
# TPE's time per proposal grows with the trials that it sees. `OptunaStudyView` selects them beyond this
# number.
_MAX_OBSERVED = 500
_OPTUNA_STATES = {
    TrialState.COMPLETED: optuna.trial.TrialState.COMPLETE,
    TrialState.PRUNED: optuna.trial.TrialState.PRUNED,
    # A pruned trial without a value ranks last, so the sampler learns to avoid it. It ignores failed trials.
    TrialState.DIVERGED: optuna.trial.TrialState.PRUNED,
}


class ArmSampler:
    """Proposes configurations for one search of an arm, each different from all earlier ones.

    Trials are numbered from 0 within the search.
    """

    def __init__(
        self, arm: ResolvedArm, *, sampler: SamplerName, direction: Direction, seed: int, replicate: int = 0
    ) -> None:
        """Start without trials.

        Args:
            arm: the arm, with its search space.
            sampler: the method.
            direction: `maximize` or `minimize`.
            seed: the study's.
            replicate: index among the arm's searches, from 0; each draws its own numbers.
        """
        self._arm = arm
        self._sampler: SamplerName = sampler
        self._is_model = sampler in ADAPTIVE_SAMPLERS
        # Without an index for the first replicate, so that more replicates do not change its proposals.
        self._seed = (seed, zlib.crc32(arm.name.encode()), *([replicate] if replicate else []))
        self._distributions = distributions(arm.space)
        self._searched = {name: arm.space[name] for name in self._distributions}
        # Conditional dimensions come last, when the dimensions that they depend on are known.
        self._names = sorted(self._distributions, key=lambda name: name in arm.conditions)
        self._joint_distributions = self._jointly_proposed()
        # Hashes, because there may be many thousand configurations.
        self._seen: set[int] = set()
        self._order: np.ndarray | None = None
        self._unseen: Iterator[Parameters] | None = None
        # CMA-ES builds its generations from its own trials, so none of them may be hidden.
        with _quietly():
            self._observations = OptunaStudyView(
                direction, max_shown=None if sampler == "cmaes" else _MAX_OBSERVED
            )

    def recommended(self, number: int, *, without_result: int, queued: int, pairs: int = 0) -> int:
        """Return how many trials, from `number` on, are worth creating now.

        The paired trials and the random trials with which every model starts are free. Later, at most an
        eighth of the arm's trials should be without a value at any time, or up to 8 if they are at most a
        quarter: what this costs is within the noise, and more costs trials (docs/performance.md). But an idle
        worker may always have one, unless it could learn from paired trials by waiting for them.

        Args:
            number: the next trial's number.
            without_result: created trials that have no value yet.
            queued: those of them that wait for a worker.
            pairs: paired trials, which follow the first trial.
        """
        if not self._is_model:
            return self._arm.trials
        if pairs > 0 and number <= pairs:
            return pairs + 1 - number
        start = self._startup() + 1 - number
        if pairs > 0 and number - without_result < self._startup():
            return max(start, 0)
        trials = self._arm.trials
        pending = max(trials // 8, min(trials // 4, _FREE_PENDING))
        return max(start, pending - without_result, 1 - queued, 0)

    def load(
        self,
        number: int,
        parameters: Parameters,
        state: TrialState,
        value: float | None,
        *,
        rung_values: Mapping[int, float] | None = None,
    ) -> None:
        """Add a trial that was not proposed here. Call this in the order of numbers.

        Args:
            number: its number in the search.
            parameters: its configuration.
            state: its state.
            value: its value if it is completed.
            rung_values: its value at each rung that it has reached, by epoch.
        """
        self._seen.add(_fingerprint(parameters))
        # What has no effect is at its default, which may lie outside its range.
        if not self._is_model or not all(
            self._searched[name].contains(value) for name, value in self._active(parameters).items()
        ):
            return
        self._observe(number, parameters)
        if rung_values:
            self._observations.set_rung_values(number, rung_values)
        if state in FINISHED_TRIAL_STATES:
            self.finish(number, state, value)

    def set_rung_values(self, number: int, rung_values: Mapping[int, float]) -> None:
        """Set an open trial's value at each rung that it has reached, by epoch; empty if it starts over."""
        self._observations.set_rung_values(number, rung_values)

    def finish(self, number: int, state: TrialState, value: float | None) -> None:
        """Note how a trial ended; failed trials, and configurations outside the space, are ignored."""
        optuna_state = _OPTUNA_STATES.get(state)
        if optuna_state is None:
            self._observations.remove(number)
        else:
            if state is TrialState.DIVERGED:
                # It ranks last, however good it was at a rung.
                self._observations.set_rung_values(number, {})
            self._observations.finish(number, optuna_state, value if state is TrialState.COMPLETED else None)

    def propose(self, number: int) -> Parameters | None:
        """Return a configuration for trial `number`, or None if the space contains no other."""
        for attempt in range(_MAX_REJECTED):
            parameters = self._complete(self._choose(number, attempt))
            if self._accept(parameters):
                if self._is_model and attempt >= _MAX_MODEL_REJECTED:
                    self._observe(number, parameters)
                return parameters
            self._observations.remove(number)
        parameters = self._first_unseen()
        if parameters is not None and self._is_model:
            self._observe(number, parameters)
        return parameters

    def _choose(self, number: int, attempt: int) -> Mapping[str, Scalar]:
        """Return values for the active searched dimensions; a model also observes its trial."""
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
        # Its import takes three quarters of a second, and only this sampler needs it.
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
            trial = self._observations.add(number, {}, {})
            sampler.before_trial(study, trial)
            joint = sampler.sample_relative(study, trial, self._joint_distributions)
            for name in self._names:
                so_far = as_parameters(self._arm.space, self._arm.defaults, trial.params)
                if is_active(name, self._arm.conditions, so_far):
                    distribution = self._distributions[name]
                    value = (
                        joint[name]
                        if name in joint
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

    def _jointly_proposed(self) -> dict[str, BaseDistribution]:
        """Return the dimensions that are proposed as one vector, by name: those that are always active.

        For CMA-ES these are the numeric ones.
        """
        conditions = self._arm.conditions
        found = {
            name: distribution
            for name, distribution in self._distributions.items()
            if not distribution.single()
            and (
                name not in conditions
                or conditions[name].always_holds(self._arm.space[conditions[name].parameter])
            )
            and not (self._sampler == "cmaes" and isinstance(distribution, CategoricalDistribution))
        }
        return dict(sorted(found.items()))

    def _accept(self, parameters: Parameters) -> bool:
        """Return whether a configuration is new and meets the constraints, and remember it."""
        key = _fingerprint(parameters)
        if key in self._seen or broken_constraint(self._arm.card, parameters) is not None:
            return False
        self._seen.add(key)
        return True

    def _observe(self, number: int, parameters: Parameters) -> None:
        """Add a configuration that was not proposed by a model to the observations."""
        params = self._active(parameters)
        self._observations.add(number, params, {name: self._distributions[name] for name in params})

    def _active(self, parameters: Parameters) -> Parameters:
        """Return the searched values of a configuration that have an effect."""
        return {
            name: parameters[name]
            for name in self._distributions
            if is_active(name, self._arm.conditions, parameters)
        }

    def _complete(self, chosen: Mapping[str, Scalar]) -> Parameters:
        """Return the full configuration of chosen values, with inactive hyperparameters at their defaults."""
        whole = as_parameters(self._arm.space, self._arm.defaults, dict(chosen))
        return without_inert(whole, self._arm.conditions, self._arm.defaults)

    def _startup(self) -> int:
        """Return how many random trials come first: a quarter of the budget, but 4 to 10 (Optuna's own)."""
        return min(10, max(4, self._arm.trials // 4))

    def _at(self, point: np.ndarray) -> dict[str, Scalar]:
        """Return the searched dimensions at a point of the unit cube [D]."""
        return {
            name: quantile(dimension, float(u))
            for (name, dimension), u in zip(self._searched.items(), point, strict=True)
        }

    def _first_unseen(self) -> Parameters | None:
        """Return the first unused configuration of a finite space; each is examined only once."""
        if math.isinf(size(self._searched)):
            return None
        if self._unseen is None:
            self._unseen = (self._complete(point) for point in every_point(self._searched))
        return next((parameters for parameters in self._unseen if self._accept(parameters)), None)


def _point(space: Space, index: int) -> dict[str, Scalar]:
    """Return the point of a finite space at an index in the order of `every_point`."""
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
    """Return a sampler's value as a plain Python number."""
    match distribution:
        case IntDistribution():
            return int(value)
        case FloatDistribution():
            return float(value)
        case _:
            return cast("Scalar", value)


def _fingerprint(parameters: Parameters) -> int:
    # In Python, -1 and -2 have the same hash.
    return hash((configuration_key(parameters), tuple(name for name in parameters if parameters[name] == -1)))


@contextmanager
def _quietly() -> Generator[None]:
    """Silence Optuna's warnings about experimental samplers and its log of every study."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        yield
