"""When an arm has no usable value: the rule by which a study gives up, and by which its page says why.

A value is usable if a trial completed with it. A trial that reached a rung shows that its arm may get one.
"""

__all__ = ["ENOUGH_ENDED", "ENOUGH_FAILED", "ArmTally"]

from dataclasses import dataclass

from studies.formatting import count, plural
from studies.states import TrialState

ENOUGH_FAILED = 10
"""After this many failed trials and no other outcome, the workload fails in every configuration."""

ENOUGH_ENDED = 60
"""After this many trials without a usable value, fewer than 5 % of the configurations have one.

That is the upper 95 % limit for no success in n independent trials, 3 / n: the "rule of three" (Hanley and
Lippman-Hand 1983).
"""


@dataclass
class ArmTally:
    """How the trials of an arm's search have ended.

    Attributes:
        completed: trials that completed with a value.
        reached_rung: trials that have reached a rung, pruned ones too.
        last_reason: why the last trial without a value has none.
    """

    completed: int = 0
    reached_rung: int = 0
    diverged: int = 0
    failed: int = 0
    cancelled: int = 0
    last_reason: str | None = None

    def add(self, state: TrialState, *, reason: str | None) -> None:
        """Count a trial that has ended; one that was completed must have a value."""
        match state:
            case TrialState.COMPLETED:
                self.completed += 1
            case TrialState.PRUNED:
                self.reached_rung += 1
            case TrialState.DIVERGED:
                self.diverged += 1
            case TrialState.FAILED:
                self.failed += 1
            case _:
                self.cancelled += 1
        if state in {TrialState.DIVERGED, TrialState.FAILED}:
            self.last_reason = reason or self.last_reason

    def is_unusable(self, *, is_over: bool) -> bool:
        """Return whether the arm has no usable value, and more trials would not change that.

        Args:
            is_over: whether all trials of its search have ended.
        """
        if self.completed or not self.diverged + self.failed:
            return False
        if is_over and not self.cancelled:
            return True
        return not self.reached_rung and (
            (self.failed >= ENOUGH_FAILED and not self.diverged)
            or self.diverged + self.failed >= ENOUGH_ENDED
        )

    def describe(self) -> str:
        """Return how its trials ended without a value, e.g. `8 trials diverged and 2 failed; the last: …`."""
        kinds = [(n, word) for n, word in ((self.diverged, "diverged"), (self.failed, "failed")) if n]
        (first, word), *others = kinds
        ended = f"{plural(first, 'trial')} {word}" + "".join(f" and {count(n)} {word}" for n, word in others)
        reason = (self.last_reason or "").rstrip(".")
        which = "" if first == 1 and not others else "the last: "
        return f"{ended}; {which}{reason}" if reason else ended
