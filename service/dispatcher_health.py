"""Which dispatchers are alive, and why none of them can run studies."""

__all__ = ["DispatcherHealth"]

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from studies.formatting import duration
from studies.store.catalog import HEARTBEAT_WITHIN, Heartbeat

_ADVICE = "start one with `tangent up` or `python -m workers`"


@dataclass(frozen=True)
class DispatcherHealth:
    """The state of all dispatchers on one database, without their names, which are names of machines.

    Attributes:
        alive: how many had a heartbeat in the last 30 seconds.
        able: how many of those can start runs.
        problems: why the others cannot, each reason once.
        seen_at: the last heartbeat of any dispatcher; None if none has started.
    """

    alive: int
    able: int
    problems: tuple[str, ...]
    seen_at: datetime | None

    @classmethod
    def of(cls, heartbeats: Mapping[str, Heartbeat], *, now: datetime | None = None) -> Self:
        """Return the state that the heartbeats show; by default at the current time."""
        moment = now or datetime.now(UTC)
        alive = [beat for beat in heartbeats.values() if moment - beat.at < HEARTBEAT_WITHIN]
        problems = [beat.problem for beat in alive if beat.problem is not None]
        return cls(
            alive=len(alive),
            able=len(alive) - len(problems),
            problems=tuple(sorted(set(problems))),
            seen_at=max((beat.at for beat in heartbeats.values()), default=None),
        )

    @property
    def missing(self) -> str | None:
        """What is missing for studies to run, and what to do; None if a dispatcher can run them."""
        if self.able:
            return None
        if self.problems:
            return f"a dispatcher that can start runs: {'; '.join(self.problems)}"
        if self.seen_at is None:
            return f"a dispatcher: none has started; {_ADVICE}"
        ago = duration((datetime.now(UTC) - self.seen_at).total_seconds()).replace("\N{NO-BREAK SPACE}", " ")
        return f"a dispatcher: the last heartbeat was {ago} ago; {_ADVICE}"

    @property
    def outage(self) -> str | None:
        """Why no study can start, in sentences for the dashboard; None if a dispatcher can run studies."""
        if self.able:
            return None
        if self.problems:
            return f"No study can start at the moment: {'; '.join(self.problems)}."
        return "No dispatcher is running. Start one with `tangent up` or `python -m workers`."
