"""Where an arm's trials come from, a search or a confirmation.

What both do with those at hand, grouped as they may be packed. No SQL, no Ray.
"""

__all__ = ["TrialGroup", "TrialQueue"]

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from studies.resolve import ResolvedArm
from studies.states import TrialState
from studies.trials import NewTrial, PendingTrial


@dataclass(frozen=True)
class TrialGroup:
    """What trials must have in common to be packed together.

    Attributes:
        from_epoch: epochs they have done.
        to_epoch: the epoch they are to be trained to.
        is_new: whether no worker has had them yet.
        alone: number of a trial that is packed with no other; None for all others.
    """

    from_epoch: int
    to_epoch: int
    is_new: bool
    alone: int | None = None


class TrialQueue(ABC):
    """The trials of one arm that are chosen in one way, between the record and the workers.

    Only trials of one source are packed together.

    What it is told of them means nothing to a source that learns nothing and has no rungs, as here.

    Attributes:
        plan: the arm.
        is_confirmation: whether its trials confirm what a search has found.
    """

    is_confirmation = False

    def __init__(self, plan: ResolvedArm) -> None:
        """Make a source without trials."""
        self.plan = plan
        self._at_hand: dict[TrialGroup, deque[PendingTrial]] = {}

    @property
    @abstractmethod
    def share(self) -> float:
        """The share of its trials that it has begun."""

    @property
    @abstractmethod
    def epochs_ahead(self) -> int:
        """Epochs that its trials will still be given to workers for, if none of them diverges or fails."""

    @property
    @abstractmethod
    def drawable(self) -> int:
        """How many new trials may be made now."""

    @property
    @abstractmethod
    def is_spent(self) -> bool:
        """Whether no trial is at hand or can be made; some may be in flight."""

    @property
    def queued(self) -> int:
        """How many trials are at hand."""
        return sum(len(trials) for trials in self._at_hand.values())

    @property
    def fresh(self) -> int:
        """How many of the trials at hand no worker has had yet."""
        return sum(len(trials) for group, trials in self._at_hand.items() if group.is_new)

    @abstractmethod
    def draw(self, size: int) -> list[NewTrial]:
        """Return new trials, to be recorded and then enqueued.

        As many as make a pack of `size` with those at hand, or as may be made now.
        """

    def enqueue(self, trials: Iterable[PendingTrial], *, is_alone: bool = False) -> None:
        """Let trials be handed out: new, promoted, or given back by a worker that was lost."""
        for trial in trials:
            group = TrialGroup(
                trial.epochs_done,
                trial.to_epoch,
                trial.epochs_done == 0 and trial.attempt == 1,
                trial.number if is_alone else None,
            )
            self._at_hand.setdefault(group, deque()).append(trial)

    def first_group(self) -> TrialGroup | None:
        """Return the group that is to be handed out first.

        What has come furthest, of equals what was lost, alone or not, then the fullest.
        """
        return max(
            self._at_hand,
            key=lambda g: (g.from_epoch, not g.is_new, g.alone is not None, len(self._at_hand[g])),
            default=None,
        )

    def hand_out(self, group: TrialGroup, count: int) -> tuple[PendingTrial, ...]:
        """Return at most so many trials of a group, which are at hand no more."""
        trials = self._at_hand[group]
        taken = tuple(trials.popleft() for _ in range(min(count, len(trials))))
        if not trials:
            del self._at_hand[group]
        return taken

    def left(self, trial: PendingTrial) -> None:
        """Note that a trial has left a checkpoint on its way to the one it was handed out for."""
        del trial

    def taken_back(self, trial: PendingTrial, *, epochs_done: int) -> None:
        """Note that a trial did not come to the epoch that it was handed out for.

        Note also from which it goes on.
        """
        del trial, epochs_done

    def restarted(self, trial: PendingTrial) -> None:
        """Note that a trial has lost its checkpoint and begins again; what is known of it is forgotten."""
        del trial

    def measured(self, trial: PendingTrial, epoch: int, metric: float | None) -> bool:
        """Note a trial's validation value.

        Return whether it has come to its rung, where it waits from now on.
        """
        del trial, epoch, metric
        return False

    def rested(self, trial: PendingTrial, metric: float | None) -> None:
        """Note that a trial has come to its rung.

        Args:
            trial: as it is queued now.
            metric: its validation value there.
        """
        del trial, metric

    def ended(self, trial: PendingTrial, state: TrialState, value: float | None) -> None:
        """Note how a trial that was at hand or in flight ended."""
        del trial, state, value

    def settle(self) -> tuple[list[tuple[PendingTrial, int]], list[PendingTrial]]:
        """Return the waiting trials that go on, each with the epoch it goes on to, and those that are pruned.

        They wait no more.
        """
        return [], []
