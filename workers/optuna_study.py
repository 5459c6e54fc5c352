"""An arm's trials as Optuna's samplers see them: an in-memory Optuna storage with one study.

Beyond a certain number of trials it shows a selection, because looking at more costs more than it teaches.
"""

__all__ = ["OptunaStudyView"]

import zlib
from collections.abc import Container, Iterable, Mapping
from datetime import datetime
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from studies.direction import Direction, sign
from studies.space import Scalar

_NAME = "arm"
# Samplers use the order of numbers, never a trial's times.
_SOME_TIME = datetime(2000, 1, 1)  # noqa: DTZ001 # Optuna keeps local times without a zone


class OptunaStudyView(InMemoryStorage):
    """The trials of one search as Optuna trials, with the search's numbers.

    Beyond `max_shown` trials with a value, samplers see the best tenth of `max_shown`, and a sample of all
    trials as the rest: TPE treats at most its 25 best as good, and a sample is enough to learn what is bad.
    The sample depends only on trial numbers, so a run that takes over sees the same one. Trials that can
    never be shown again are forgotten.
    """

    def __init__(self, direction: Direction, *, max_shown: int | None) -> None:
        """Start without trials; with `max_shown` None all are shown."""
        super().__init__()
        self._sign = -float(sign(direction))
        self._max_shown = max_shown
        self._open: dict[int, FrozenTrial] = {}
        self._ended: dict[int, FrozenTrial] = {}
        self._shown: list[FrozenTrial] | None = []
        # Among trials with a value. Successive proposals only add trials without one.
        self._selected: list[FrozenTrial] | None = []
        self.create_new_study(
            [StudyDirection.MAXIMIZE if direction == "maximize" else StudyDirection.MINIMIZE], _NAME
        )

    def study(self) -> optuna.Study:
        """Return the current study, which caches what it has read."""
        return optuna.load_study(study_name=_NAME, storage=self)

    def add(
        self, number: int, params: Mapping[str, Scalar], distributions: Mapping[str, BaseDistribution]
    ) -> FrozenTrial:
        """Add and return a trial without a value."""
        trial = FrozenTrial(
            trial_id=number,
            number=number,
            state=TrialState.RUNNING,
            value=None,
            datetime_start=_SOME_TIME,
            datetime_complete=None,
            params=dict(params),
            distributions=dict(distributions),
            user_attrs={},
            system_attrs={},
            intermediate_values={},
        )
        self._open[number] = trial
        self._changed(has_value=False)
        return trial

    def remove(self, number: int) -> None:
        """Remove an open trial; unknown numbers are ignored."""
        trial = self._open.pop(number, None)
        self._changed(has_value=trial is not None and trial.state is not TrialState.RUNNING)

    def set_rung_values(self, number: int, values: Mapping[int, float]) -> None:
        """Set the values of an open trial at the rungs that it has reached, by epoch.

        Until it ends, it counts as pruned at the last of them.
        """
        trial = self._open.get(number)
        if trial is not None:
            trial.intermediate_values = dict(values)
            trial.state = TrialState.PRUNED if values else TrialState.RUNNING
            self._changed(has_value=True)

    def finish(self, number: int, state: TrialState, value: float | None) -> None:
        """Note how a trial ended."""
        trial = self._open.pop(number, None)
        if trial is not None:
            trial.state = state
            trial.value = value
            trial.datetime_complete = _SOME_TIME
            self._ended[number] = trial
            self._changed(has_value=True)

    # Optuna's signature; samplers need no copies.
    def get_all_trials(
        self,
        study_id: int,  # noqa: ARG002
        deepcopy: bool = True,  # noqa: ARG002, FBT001, FBT002
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        """Return the trials that samplers see, in the order of their numbers."""
        if self._shown is None:
            self._selected = self._select() if self._selected is None else self._selected
            running = (trial for trial in self._open.values() if trial.state is TrialState.RUNNING)
            self._shown = sorted([*self._selected, *running], key=lambda trial: trial.number)
        return [trial for trial in self._shown if states is None or trial.state in states]

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Store an attribute that a sampler sets on the trial that it proposes."""
        self._open[trial_id].system_attrs[key] = value

    def _changed(self, *, has_value: bool) -> None:
        self._shown = None
        self._selected = None if has_value else self._selected

    def _select(self) -> list[FrozenTrial]:
        """Select the trials with a value that are shown, and forget those that never will be."""
        valued = [
            *self._ended.values(),
            *(trial for trial in self._open.values() if trial.state is not TrialState.RUNNING),
        ]
        if self._max_shown is not None and len(valued) > self._max_shown:
            tenth = self._max_shown // 10
            ranked = sorted(valued, key=self._rank)
            sample = sorted(valued, key=_sample_key)[: self._max_shown - tenth]
            # Trials leave the best when they diverge or fail, so the next best are kept too.
            kept = _numbers(ranked[: 2 * tenth]) | _numbers(sample)
            self._ended = {number: trial for number, trial in self._ended.items() if number in kept}
            shown = _numbers(ranked[:tenth]) | _numbers(sample)
            valued = [trial for trial in valued if trial.number in shown]
        return valued

    def _rank(self, trial: FrozenTrial) -> tuple[float, float, float]:
        """Return a key that sorts as TPE does: completed, then latest pruned, each by value."""
        if trial.state is TrialState.COMPLETE and trial.value is not None:
            return 0, 0, self._sign * trial.value
        if trial.intermediate_values:
            step = max(trial.intermediate_values)
            return 1, -step, self._sign * trial.intermediate_values[step]
        return 2, 0, 0


def _sample_key(trial: FrozenTrial) -> int:
    return zlib.crc32(trial.number.to_bytes(8))


def _numbers(trials: Iterable[FrozenTrial]) -> set[int]:
    return {trial.number for trial in trials}
