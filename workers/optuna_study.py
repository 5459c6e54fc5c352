"""What Optuna's samplers see of an arm.

Every trial as the record has it, up to a number beyond which looking costs more than it teaches.

It is an Optuna storage that holds one study and answers what samplers ask of a storage; nobody else writes to
it.
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
# Of a trial only the order of its number counts; its times are never looked at.
_SOME_TIME = datetime(2000, 1, 1)  # noqa: DTZ001 # Optuna keeps local times without a zone


class OptunaStudyView(InMemoryStorage):
    """The trials of one arm in Optuna's terms, numbered as in the arm.

    Beyond `most` trials with a value, samplers are shown the best tenth of `most` and a sample of all that
    fills up the rest: TPE never takes more than its 25 best for good, and what is bad it learns from a sample
    as well. Which trials are in the sample depends on their numbers alone, so a run that takes over sees the
    same. What can never be shown again is forgotten.
    """

    def __init__(self, direction: Direction, *, most: int | None) -> None:
        """Begin with nothing seen; `most` None shows everything."""
        super().__init__()
        self._sign = -float(sign(direction))
        self._most = most
        self._open: dict[int, FrozenTrial] = {}
        self._ended: dict[int, FrozenTrial] = {}
        self._shown: list[FrozenTrial] | None = []
        # Of those with a value; proposals asked one after the other change the others only.
        self._selected: list[FrozenTrial] | None = []
        self.create_new_study(
            [StudyDirection.MAXIMIZE if direction == "maximize" else StudyDirection.MINIMIZE], _NAME
        )

    def study(self) -> optuna.Study:
        """Return the study as it now stands; what it has read once it does not read again."""
        return optuna.load_study(study_name=_NAME, storage=self)

    def begin(
        self, number: int, params: Mapping[str, Scalar], distributions: Mapping[str, BaseDistribution]
    ) -> FrozenTrial:
        """Add a trial that has no value yet and return it."""
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

    def drop(self, number: int) -> None:
        """Forget a trial that has no end yet; a number that is not here is passed over."""
        trial = self._open.pop(number, None)
        self._changed(has_value=trial is not None and trial.state is not TrialState.RUNNING)

    def reach(self, number: int, values: Mapping[int, float]) -> None:
        """Note the values at the rungs that a trial has reached, by epoch.

        As long as it has not ended it counts as pruned at the last of them.
        """
        trial = self._open.get(number)
        if trial is not None:
            trial.intermediate_values = dict(values)
            trial.state = TrialState.PRUNED if values else TrialState.RUNNING
            self._changed(has_value=True)

    def end(self, number: int, state: TrialState, value: float | None) -> None:
        """Note how a trial ended."""
        trial = self._open.pop(number, None)
        if trial is not None:
            trial.state = state
            trial.value = value
            trial.datetime_complete = _SOME_TIME
            self._ended[number] = trial
            self._changed(has_value=True)

    # Optuna's signature; samplers take no copies.
    def get_all_trials(
        self,
        study_id: int,  # noqa: ARG002
        deepcopy: bool = True,  # noqa: ARG002, FBT001, FBT002
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        """Return the trials to be shown, in the order of their numbers."""
        if self._shown is None:
            self._selected = self._select() if self._selected is None else self._selected
            running = (trial for trial in self._open.values() if trial.state is TrialState.RUNNING)
            self._shown = sorted([*self._selected, *running], key=lambda trial: trial.number)
        return [trial for trial in self._shown if states is None or trial.state in states]

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Keep what a sampler notes on a trial it is asked for."""
        self._open[trial_id].system_attrs[key] = value

    def _changed(self, *, has_value: bool) -> None:
        self._shown = None
        self._selected = None if has_value else self._selected

    def _select(self) -> list[FrozenTrial]:
        """Return the trials with a value that are to be shown, and forget those that never will be."""
        valued = [
            *self._ended.values(),
            *(trial for trial in self._open.values() if trial.state is not TrialState.RUNNING),
        ]
        if self._most is not None and len(valued) > self._most:
            tenth = self._most // 10
            ranked = sorted(valued, key=self._rank)
            sample = sorted(valued, key=_lot)[: self._most - tenth]
            # Trials that diverge or fail leave the best: the next ones are kept for that.
            kept = _numbers(ranked[: 2 * tenth]) | _numbers(sample)
            self._ended = {number: trial for number, trial in self._ended.items() if number in kept}
            shown = _numbers(ranked[:tenth]) | _numbers(sample)
            valued = [trial for trial in valued if trial.number in shown]
        return valued

    def _rank(self, trial: FrozenTrial) -> tuple[float, float, float]:
        """Return a key that sorts as TPE does.

        Completed ones first, then those pruned latest, each by value.
        """
        if trial.state is TrialState.COMPLETE and trial.value is not None:
            return 0, 0, self._sign * trial.value
        if trial.intermediate_values:
            step = max(trial.intermediate_values)
            return 1, -step, self._sign * trial.intermediate_values[step]
        return 2, 0, 0


def _lot(trial: FrozenTrial) -> int:
    return zlib.crc32(trial.number.to_bytes(8))


def _numbers(trials: Iterable[FrozenTrial]) -> set[int]:
    return {trial.number for trial in trials}
