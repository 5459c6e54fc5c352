"""The trials that Optuna's samplers see: all if there are few, else the best and a fixed sample."""

import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from workers.optuna_study import OptunaStudyView

__all__: list[str] = []

X = {"x": FloatDistribution(0.0, 1.0)}


def filled(numbers: range, *, most: int | None = 100, best: int = 777) -> OptunaStudyView:
    seen = OptunaStudyView("minimize", max_shown=most)
    for number in numbers:
        seen.add(number, {"x": 0.5}, X)
        seen.finish(number, TrialState.COMPLETE, abs(number - best))
    return seen


def shown(seen: OptunaStudyView) -> list[int]:
    return [trial.number for trial in seen.study().get_trials(deepcopy=False)]


def test_few_trials_are_all_shown_in_order() -> None:
    assert shown(filled(range(100))) == list(range(100))


def test_of_many_trials_the_best_and_a_sample_are_shown() -> None:
    numbers = shown(filled(range(2000)))
    assert 90 <= len(numbers) <= 100
    assert set(range(773, 782)) <= set(numbers)
    assert numbers == sorted(numbers)
    assert max(numbers) - min(numbers) > 1500, "the sample does not cover all trials"


def test_the_selection_does_not_depend_on_when_it_is_read() -> None:
    at_the_end, repeatedly = filled(range(1500)), OptunaStudyView("minimize", max_shown=100)
    for number in range(1500):
        repeatedly.add(number, {"x": 0.5}, X)
        repeatedly.finish(number, TrialState.COMPLETE, abs(number - 777))
        shown(repeatedly)
    assert shown(at_the_end) == shown(repeatedly)


@pytest.mark.parametrize("most", [None, 100])
def test_trials_without_a_value_are_always_shown(most: int | None) -> None:
    seen = filled(range(300), most=most)
    for number in range(300, 340):
        seen.add(number, {"x": 0.5}, X)
    assert set(range(300, 340)) <= set(shown(seen))


def test_a_trial_at_a_rung_counts_as_pruned_there_until_it_ends() -> None:
    seen = OptunaStudyView("maximize", max_shown=None)
    seen.add(0, {"x": 0.5}, X)
    seen.set_rung_values(0, {1: 0.3, 3: 0.6})
    (trial,) = seen.study().get_trials(deepcopy=False)
    assert (trial.state, trial.intermediate_values) == (TrialState.PRUNED, {1: 0.3, 3: 0.6})
    seen.set_rung_values(0, {})
    assert [t.state for t in seen.study().get_trials(deepcopy=False)] == [TrialState.RUNNING]
    seen.finish(0, TrialState.COMPLETE, 0.7)
    assert [t.value for t in seen.study().get_trials(deepcopy=False)] == [0.7]
    seen.remove(0)
    assert shown(seen) == [0], "an ended trial cannot be removed"
