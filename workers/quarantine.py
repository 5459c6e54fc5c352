"""The trials that may have caused their packs to fail, so that one bad trial does not take others with it."""

__all__ = ["Quarantine"]

from collections import Counter
from collections.abc import Iterable

# A trial whose worker failed this often may be the cause.
_SUSPECT_AFTER = 2


class Quarantine:
    """Counts the failed packs of each trial until the trial reaches a rung or ends."""

    def __init__(self, *, max_retries: int) -> None:
        """Start empty; `max_retries` is how often a trial is retried after its worker failed."""
        self._max_retries = max_retries
        self._failures: Counter[str] = Counter()
        self._suspects: set[str] = set()

    def add_failures(self, trial_ids: Iterable[str], *, count: int = 1, is_own_fault: bool = False) -> None:
        """Count worker failures for each of these trials.

        `is_own_fault` if one of the trials is known to be the cause.
        """
        for trial_id in trial_ids:
            self._failures[trial_id] += count
            if is_own_fault:
                self._suspects.add(trial_id)

    def add_error(self, trial_ids: Iterable[str]) -> None:
        """Quarantine the members of a pack that ended with a Python error."""
        self._suspects.update(trial_ids)

    def release(self, trial_id: str) -> None:
        """Forget a trial that has ended, or that has reached a rung and so is not the cause."""
        self._failures.pop(trial_id, None)
        self._suspects.discard(trial_id)

    def contains(self, trial_id: str) -> bool:
        """Return whether a trial must be packed alone.

        That is after a Python error, after a pack that hung or ran out of memory, after two worker failures,
        and for its last attempt.
        """
        failures = self._failures.get(trial_id, 0)
        return trial_id in self._suspects or (
            failures > 0 and failures >= min(_SUSPECT_AFTER, self._max_retries)
        )
