"""The rule by which an arm has no usable value."""

import pytest

from studies.states import TrialState
from studies.usable_values import ENOUGH_ENDED, ENOUGH_FAILED, ArmTally

__all__: list[str] = []


@pytest.mark.parametrize(
    ("tally", "is_over", "is_unusable"),
    [
        (ArmTally(), True, False),
        (ArmTally(failed=1), False, False),
        (ArmTally(failed=1), True, True),
        (ArmTally(diverged=3, reached_rung=2), True, True),
        (ArmTally(diverged=3, completed=1), True, False),
        # Its owner ended the search, so nothing is known of the trials that did not run.
        (ArmTally(diverged=3, cancelled=1), True, False),
        (ArmTally(failed=ENOUGH_FAILED - 1), False, False),
        (ArmTally(failed=ENOUGH_FAILED), False, True),
        # Its configurations make a difference, so others may succeed.
        (ArmTally(failed=ENOUGH_FAILED, diverged=1), False, False),
        (ArmTally(failed=ENOUGH_FAILED, reached_rung=1), False, False),
        (ArmTally(diverged=ENOUGH_ENDED - 1), False, False),
        (ArmTally(diverged=ENOUGH_ENDED - 1, failed=1), False, True),
        (ArmTally(diverged=ENOUGH_ENDED, reached_rung=1), False, False),
    ],
)
def test_an_arm_is_given_up_when_more_trials_would_not_help(
    tally: ArmTally, is_over: bool, is_unusable: bool
) -> None:
    assert tally.is_unusable(is_over=is_over) is is_unusable


def test_a_tally_names_the_last_reason() -> None:
    tally = ArmTally()
    tally.add(TrialState.DIVERGED, reason="training loss became nan")
    tally.add(TrialState.FAILED, reason="validation metric is nan")
    assert tally.describe() == "1 trial diverged and 1 failed; the last: validation metric is nan"
