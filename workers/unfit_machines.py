"""Trials whose machine lacks a file or a package, each of which is tried on another machine once."""

__all__ = ["HOLD_S", "UnfitMachines"]

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

HOLD_S: Final = 5.0
"""Seconds for which a worker of such a machine keeps such a trial before it hands it back."""
_GIVE_UP_AFTER_S: Final = 60.0


@dataclass(frozen=True)
class _Try:
    host: str
    reason: str
    at: float


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

    def is_worth_a_try(self, trial_ids: Iterable[str], *, host: str, reason: str) -> bool:
        """Note trials whose machine lacks something; return whether to try them on another."""
        ids = list(trial_ids)
        if any(trial_id in self._tries for trial_id in ids) or self._count_machines() < 2:
            return False
        self._tries |= {trial_id: _Try(host, reason, self._clock()) for trial_id in ids}
        return True

    def hosts(self, trial_ids: Iterable[str]) -> tuple[str, ...]:
        """Return the machines that lack what these trials need."""
        return tuple(sorted({self._tries[each].host for each in trial_ids if each in self._tries}))

    def failure(self, trial_ids: Iterable[str]) -> str | None:
        """Return why trials that were handed back fail; None if they go on waiting for another machine."""
        for tried in (self._tries[each] for each in trial_ids if each in self._tries):
            if self._clock() - tried.at > _GIVE_UP_AFTER_S or self._count_machines() < 2:
                return f"{tried.reason}; no other machine took it"
        return None

    def release(self, trial_id: str) -> None:
        """Forget a trial that has ended, or that has trained elsewhere."""
        self._tries.pop(trial_id, None)
