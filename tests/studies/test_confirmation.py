"""The confirmation runs of a study, and which of them are missing."""

__all__: list[str] = []

import pytest

from studies.confirmation import confirms, missing_runs, most_runs
from studies.space import Parameters, configuration_key
from studies.states import TrialState

A: Parameters = {"lr": 0.1}
B: Parameters = {"lr": 0.2}
C: Parameters = {"lr": 1}


def test_every_distinct_configuration_runs_on_every_seed_seed_by_seed() -> None:
    found = list(missing_runs([A, B, None, A], [7, 8], ()))
    a, b = configuration_key(A), configuration_key(B)
    assert found == [(a, 7), (b, 7), (a, 8), (b, 8)]
    assert len(found) < most_runs(replicates=3, seeds=2) == 8


def test_a_run_that_exists_is_not_made_again() -> None:
    made = {(configuration_key(A), 7), (configuration_key({"lr": 1.0}), 8)}
    assert list(missing_runs([A, C], [7, 8], made)) == [(configuration_key(C), 7), (configuration_key(A), 8)]


@pytest.mark.parametrize("state", TrialState)
def test_an_arm_is_confirmed_only_after_a_result(state: TrialState) -> None:
    is_result = state in {TrialState.COMPLETED, TrialState.PRUNED, TrialState.DIVERGED}
    assert confirms([TrialState.FAILED, state]) is is_result
    assert not confirms([])
