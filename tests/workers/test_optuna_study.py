"""What Optuna's samplers are shown of an arm.

All of it while it is short, the best and a fixed sample of it when it is long.
"""

import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from workers.optuna_study import OptunaStudyView

__all__: list[str] = []

X = {"x": FloatDistribution(0.0, 1.0)}


def filled(numbers: range, *, most: int | None = 100, best: int = 777) -> OptunaStudyView:
    seen = OptunaStudyView("minimize", most=most)
    for number in numbers:
        seen.begin(number, {"x": 0.5}, X)
        seen.end(number, TrialState.COMPLETE, abs(number - best))
    return seen


def shown(seen: OptunaStudyView) -> list[int]:
    return [trial.number for trial in seen.study().get_trials(deepcopy=False)]


def test_a_short_record_is_shown_whole_and_in_order() -> None:
    assert shown(filled(range(100))) == list(range(100))


def test_a_long_record_is_shown_by_its_best_and_a_sample_of_all() -> None:
    numbers = shown(filled(range(2000)))
    assert 90 <= len(numbers) <= 100
    assert set(range(773, 782)) <= set(numbers)
    assert numbers == sorted(numbers)
    assert max(numbers) - min(numbers) > 1500, "the sample is spread over the whole record"


def test_what_is_shown_hangs_on_the_record_and_not_on_when_it_was_looked_at() -> None:
    at_once, on_and_on = filled(range(1500)), OptunaStudyView("minimize", most=100)
    for number in range(1500):
        on_and_on.begin(number, {"x": 0.5}, X)
        on_and_on.end(number, TrialState.COMPLETE, abs(number - 777))
        shown(on_and_on)
    assert shown(at_once) == shown(on_and_on)


@pytest.mark.parametrize("most", [None, 100])
def test_trials_without_a_value_are_always_shown(most: int | None) -> None:
    seen = filled(range(300), most=most)
    for number in range(300, 340):
        seen.begin(number, {"x": 0.5}, X)
    assert set(range(300, 340)) <= set(shown(seen))


def test_a_trial_at_a_rung_counts_as_pruned_there_until_it_ends() -> None:
    seen = OptunaStudyView("maximize", most=None)
    seen.begin(0, {"x": 0.5}, X)
    seen.reach(0, {1: 0.3, 3: 0.6})
    (trial,) = seen.study().get_trials(deepcopy=False)
    assert (trial.state, trial.intermediate_values) == (TrialState.PRUNED, {1: 0.3, 3: 0.6})
    seen.reach(0, {})
    assert [t.state for t in seen.study().get_trials(deepcopy=False)] == [TrialState.RUNNING], (
        "it began again"
    )
    seen.end(0, TrialState.COMPLETE, 0.7)
    assert [t.value for t in seen.study().get_trials(deepcopy=False)] == [0.7]
    seen.drop(0)
    assert shown(seen) == [0], "an end is an end"
