"""Trials without a result, grouped by their reason."""

__all__ = ["FailureGroup", "failure_groups"]

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from studies.formatting import NO_REASON, without_numbers
from studies.states import TrialState
from studies.views import ArmView, TrialView

_STATES: Final = (TrialState.FAILED, TrialState.DIVERGED, TrialState.CANCELLED)
_EXAMPLES: Final = 5
_MOST: Final = 30


@dataclass(frozen=True)
class FailureGroup:
    """Trials that ended for the same reason.

    Attributes:
        state: how they ended.
        reason: why, with "…" for numbers that differ between them.
        arms: each arm that they belong to, with its number of them, most first.
        examples: the latest of them, at most five.
    """

    state: TrialState
    reason: str
    arms: tuple[tuple[ArmView, int], ...]
    examples: tuple[TrialView, ...]

    @property
    def trials(self) -> int:
        """How many trials there are."""
        return sum(number for _, number in self.arms)


def failure_groups(trials: Iterable[TrialView], arms: Sequence[ArmView]) -> tuple[FailureGroup, ...]:
    """Return the trials that failed, diverged or were cancelled: failures first, then the largest groups."""
    by_name = {arm.name: arm for arm in arms}
    found: dict[tuple[TrialState, str], list[TrialView]] = {}
    for trial in trials:
        if trial.state in _STATES and trial.arm in by_name:
            reason = without_numbers(trial.reason or NO_REASON)
            found.setdefault((trial.state, reason), []).append(trial)
    groups = [
        FailureGroup(
            state=state,
            reason=members[0].reason or reason if len({t.reason for t in members}) == 1 else reason,
            arms=tuple((by_name[name], n) for name, n in Counter(t.arm for t in members).most_common()),
            examples=tuple(members[: -_EXAMPLES - 1 : -1]),
        )
        for (state, reason), members in found.items()
    ]
    return tuple(sorted(groups, key=lambda group: (_STATES.index(group.state), -group.trials)))[:_MOST]
