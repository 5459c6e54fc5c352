"""The values of a cache with their age, and the processor time that may be spent on renewing each."""

__all__ = [
    "Aged",
    "Computed",
    "Entry",
    "Job",
    "Key",
    "RefreshBudget",
    "Stamps",
    "age_headers",
    "estimated_bytes",
]

import math
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic_core import to_json

_T = TypeVar("_T")
Stamps = tuple[tuple[int, int, bool], ...]
"""Version, last event and whether it was closed, of each study that a value depends on."""

Key = tuple[str, ...]
"""Identifies a value."""

Job = Future[Exception | None]
"""A computation of a value; its result is the error of a failure."""

# A key, a lock and the bookkeeping of an entry.
_ENTRY_BYTES = 2048
# Measured: an analysis takes twelve times the bytes of its JSON, a page with its charts five times.
_OBJECT_OVERHEAD = 12


@dataclass(frozen=True)
class RefreshBudget:
    """The processor time that may be spent on keeping analyses of running studies up to date.

    Attributes:
        seconds: that an entry may spend at once.
        share: of a core, sustained, of all entries together; each gets an equal part. An analysis that
            takes 0.2 s is at most `0.2 / share` seconds old if it is the only one, and `2 / share` if there
            are ten.
    """

    seconds: float = 0.5
    share: float = 0.15


@dataclass(frozen=True)
class Aged(Generic[_T]):
    """A value with its age.

    Attributes:
        value: the value.
        age_s: seconds since its studies were read; 0 if they have not changed since.
    """

    value: _T
    age_s: float


@dataclass(frozen=True)
class Computed:
    """A value and what it was computed from.

    Attributes:
        value: the value.
        stamps: version, last event and whether it was closed, of each study.
        read_at: when that was so.
        size: the value's estimated bytes.
    """

    value: Any
    stamps: Stamps
    read_at: float
    size: int

    def lacks_closed(self, stamps: Stamps) -> bool:
        """Return whether a study is closed now and has changed since: then the value must not be shown."""
        return any(now[2] and now != then for then, now in zip(self.stamps, stamps, strict=True))

    def has_other_state(self, stamps: Stamps) -> bool:
        """Return whether a study has changed its state since."""
        return [version for version, *_ in self.stamps] != [version for version, *_ in stamps]


@dataclass
class Entry:
    """The last value of a key.

    Attributes:
        lock: held while the value is computed.
        users: how many threads and jobs use the entry; guarded by the cache's lock.
        last: the last value.
        job: the job that computes a new one; guarded by the cache's lock.
        is_refreshed: whether it was computed again after a change.
        budget_left_s: what is left of its budget.
        budget_at_s: when that was so.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0
    last: Computed | None = None
    job: Job | None = None
    is_refreshed: bool = False
    budget_left_s: float = 0.0
    budget_at_s: float = 0.0

    def is_due(self, stamps: Stamps, budget: RefreshBudget) -> bool:
        """Return whether a value that is behind is computed again now.

        It is after a change of a study's state, and otherwise as long as the budget lasts.
        """
        left_s = self.budget_left_s + budget.share * (time.monotonic() - self.budget_at_s)
        return self.last is None or self.last.has_other_state(stamps) or left_s > 0

    def spend(self, seconds: float, budget: RefreshBudget) -> None:
        """Subtract the time of one computation from the budget."""
        now = time.monotonic()
        self.is_refreshed = self.last is not None
        left_s = (
            min(budget.seconds, self.budget_left_s + budget.share * (now - self.budget_at_s))
            if self.is_refreshed
            else budget.seconds
        )
        self.budget_left_s, self.budget_at_s = left_s - seconds, now


def age_headers(age_s: float) -> dict[str, str]:
    """Return the `Age` header of a response that shows a value of this age; none if the value is current.

    Source: RFC 9111, section 5.1.
    """
    return {"age": str(math.ceil(age_s))} if age_s else {}


def estimated_bytes(value: object) -> int:
    """Return about how much memory a value takes: `_OBJECT_OVERHEAD` times its size as JSON."""
    return _ENTRY_BYTES + _OBJECT_OVERHEAD * len(to_json(value, fallback=str, inf_nan_mode="strings"))
