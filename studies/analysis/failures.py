"""Trials without a result, grouped by their reason."""

__all__ = ["FailureGroup", "failure_groups"]

from collections import Counter
from collections.abc import Iterable
from typing import Final

from pydantic import Field

from studies.formatting import NO_REASON, without_numbers
from studies.frozen_model import FrozenModel
from studies.states import TrialState
from studies.views import TrialView

_STATES: Final = (TrialState.FAILED, TrialState.DIVERGED, TrialState.CANCELLED)
_EXAMPLES: Final = 5
_MOST: Final = 30


class FailureGroup(FrozenModel):
    """Trials that ended in one state for the same reason."""

    state: TrialState = Field(description="How they ended: failed, diverged or cancelled.")
    reason: str = Field(description='Why they did, with "…" for numbers that differ between them.')
    trials: int = Field(description="How many there are.")
    arms: dict[str, int] = Field(description="How many of each arm, most first.")
    examples: tuple[str, ...] = Field(description="Ids of the latest of them, at most five.")


def failure_groups(trials: Iterable[TrialView]) -> tuple[FailureGroup, ...]:
    """Return the trials that failed, diverged or were cancelled: failures first, then the largest groups.

    At most 30 groups.
    """
    found: dict[tuple[TrialState, str], list[TrialView]] = {}
    for trial in trials:
        if trial.state in _STATES:
            reason = without_numbers(trial.reason or NO_REASON)
            found.setdefault((trial.state, reason), []).append(trial)
    groups = [
        FailureGroup(
            state=state,
            reason=members[0].reason or reason if len({t.reason for t in members}) == 1 else reason,
            trials=len(members),
            arms=dict(Counter(t.arm for t in members).most_common()),
            examples=tuple(t.id for t in members[: -_EXAMPLES - 1 : -1]),
        )
        for (state, reason), members in found.items()
    ]
    return tuple(sorted(groups, key=lambda group: (_STATES.index(group.state), -group.trials)))[:_MOST]
