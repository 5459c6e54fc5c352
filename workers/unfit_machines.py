"""Trials whose machine lacks a file or a package, each of which is tried on another machine once."""

__all__ = ["HOLD_S", "UnfitMachines"]

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

HOLD_S: Final = 5.0
"""Seconds for which a worker of such a machine keeps such a trial before it hands it back."""
_GIVE_UP_AFTER_S: Final = 60.0


@dataclass(frozen=True)
class _Try:
    host: str
    reason: str
    # The last epoch that the trial had reported when its machine lacked something.
    epoch: int
    waits_since: float


class UnfitMachines:
    """Notes which trials are to be tried on another machine, and for how long.

    Ray chooses the machine of a pack. A machine that lacks what the pack needs holds it for a few seconds, so
    that others may free a worker, and hands it back.
    """

    def __init__(
        self, *, count_machines: Callable[[], int], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Note none; `count_machines` returns how many machines train."""
        self._count_machines, self._clock = count_machines, clock
        self._tries: dict[str, _Try] = {}

    def worth_a_try(self, trial_ids: Iterable[str], *, host: str, reason: str, epoch: int) -> frozenset[str]:
        """Note trials of a pack whose machine lacks something.

        Args:
            trial_ids: the trials.
            host: the machine.
            reason: what it lacks.
            epoch: the last epoch that the pack has reported; 0 if none.

        Returns:
            The trials to try on another machine: those that have not been.
        """
        if self._count_machines() < 2:
            return frozenset()
        found = frozenset(trial_ids) - self._tries.keys()
        self._tries |= {trial_id: _Try(host, reason, epoch, self._clock()) for trial_id in found}
        return found

    def hosts(self, trial_ids: Iterable[str]) -> tuple[str, ...]:
        """Return the machines that lack what these trials need."""
        return tuple(sorted({self._tries[each].host for each in trial_ids if each in self._tries}))

    def handed_back(self, trial_ids: Iterable[str], *, is_training: bool) -> dict[str, str]:
        """Note that trials of a pack were handed back.

        Args:
            trial_ids: the trials.
            is_training: whether the study trains another pack. The others' machine may then be busy, so the
                time that a trial waits starts anew.

        Returns:
            Why trials fail, by trial; the others go on waiting for another machine.
        """
        failures: dict[str, str] = {}
        for trial_id in trial_ids:
            tried = self._tries.get(trial_id)
            if tried is None:
                continue
            if is_training:
                self._tries[trial_id] = tried = replace(tried, waits_since=self._clock())
            if self._clock() - tried.waits_since > _GIVE_UP_AFTER_S or self._count_machines() < 2:
                failures[trial_id] = f"{tried.reason}; no other machine took it"
        return failures

    def reported(self, trial_id: str, *, epoch: int) -> None:
        """Forget a trial that has trained further than where its machine lacked something.

        A trial that lacks the same after the same epoch on every machine is not tried again.
        """
        tried = self._tries.get(trial_id)
        if tried is not None and epoch > tried.epoch:
            self.release(trial_id)

    def release(self, trial_id: str) -> None:
        """Forget a trial that has ended."""
        self._tries.pop(trial_id, None)
