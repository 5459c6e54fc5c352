"""The queue of one search or one confirmation: its trials, grouped by what can be packed together.

No SQL, no Ray.
"""

__all__ = ["TrialGroup", "TrialQueue"]

from abc import ABC, abstractmethod
from bisect import insort
from collections.abc import Iterable
from dataclasses import dataclass

from studies.artifacts import WeightsOf
from studies.resolve import ResolvedArm
from studies.searchable import must_share
from studies.space import Parameters, Scalar, Space, configuration_key, size
from studies.states import TrialState
from studies.trials import NewTrial, PendingTrial


@dataclass(frozen=True)
class TrialGroup:
    """What trials must have in common to share a pack.

    Attributes:
        from_epoch: epochs already done.
        to_epoch: the epoch to train to next.
        is_new: whether they have never been dispatched.
        alone: number of a trial that must be packed alone; None for all others.
        shared: what their configurations have in common: the values that a stack has only one of, by name.
    """

    from_epoch: int
    to_epoch: int
    is_new: bool
    alone: int | None = None
    shared: tuple[tuple[str, Scalar], ...] = ()


class TrialQueue(ABC):
    """Trials of one arm that share an origin, between the database and the workers.

    Only trials of one queue are packed together. The methods that report a trial's progress do nothing here:
    they are for queues that learn from results or have rungs.

    Attributes:
        plan: the arm.
        is_confirmation: whether its trials confirm what a search has found.
    """

    is_confirmation = False

    def __init__(self, plan: ResolvedArm) -> None:
        """Make an empty queue."""
        self.plan = plan
        self._shared_space: Space = {name: plan.space[name] for name in must_share(plan.defaults)}
        # By number: a run that takes over dispatches the same, in whatever order they were queued here.
        self._groups: dict[TrialGroup, list[PendingTrial]] = {}

    @property
    @abstractmethod
    def created_fraction(self) -> float:
        """The fraction of its trials that have been created."""

    @property
    @abstractmethod
    def epochs_ahead(self) -> int:
        """Epochs that remain to be dispatched, if no trial diverges or fails."""

    @property
    @abstractmethod
    def proposable(self) -> int:
        """How many new trials may be created now."""

    @property
    @abstractmethod
    def is_exhausted(self) -> bool:
        """Whether no trial is queued and none can be created; some may be in flight."""

    @property
    def groups_of_values(self) -> float:
        """How many combinations there are of the values that a pack's members share; inf if any number."""
        return size(self._shared_space)

    def shared_of(self, parameters: Parameters) -> tuple[tuple[str, Scalar], ...]:
        """Return the values of a configuration that the members of its pack share, by name."""
        return tuple((name, parameters[name]) for name in self._shared_space)

    def has_own_seeds(self, group: TrialGroup | None) -> bool:
        """Return whether the trials of a group differ in their seeds.

        Args:
            group: what the trials have in common; None if they are still to be created.
        """
        trials = () if group is None else self._groups.get(group, ())
        return self.is_confirmation or any(trial.pair_index is not None for trial in trials)

    @property
    def queued(self) -> int:
        """How many trials are queued."""
        return sum(len(trials) for trials in self._groups.values())

    @property
    def queued_new(self) -> int:
        """How many queued trials have never been dispatched."""
        return sum(len(trials) for group, trials in self._groups.items() if group.is_new)

    @abstractmethod
    def propose(self, size: int) -> list[NewTrial]:
        """Return new trials, to be stored and then enqueued.

        Enough to fill a pack of `size` together with those queued, but no more than may be created now.
        """

    def enqueue(self, trials: Iterable[PendingTrial], *, is_alone: bool = False) -> None:
        """Queue trials for dispatch: new, promoted, or requeued after their worker failed."""
        for trial in trials:
            group = TrialGroup(
                trial.epochs_done,
                trial.to_epoch,
                trial.epochs_done == 0 and trial.attempt == 1,
                trial.number if is_alone else None,
                self.shared_of(trial.parameters),
            )
            insort(self._groups.setdefault(group, []), trial, key=lambda queued: queued.number)

    def next_group(self) -> TrialGroup | None:
        """Return the group to dispatch next; None if the queue is empty.

        The most advanced group goes first; then requeued trials before new ones, trials that run alone before
        others, and fuller groups before emptier ones.
        """
        return max(
            self._groups,
            key=lambda g: (g.from_epoch, not g.is_new, g.alone is not None, len(self._groups[g])),
            default=None,
        )

    def dispatch(self, group: TrialGroup, count: int) -> tuple[PendingTrial, ...]:
        """Remove up to `count` trials of a group from the queue and return them."""
        trials = self._groups[group]
        dispatched = tuple(trials[:count])
        del trials[:count]
        if not trials:
            del self._groups[group]
        return dispatched

    def weights_of(self, trial: PendingTrial) -> WeightsOf | None:
        """Return which configuration's weights a trial must keep at its end; None for none."""
        del trial

    def measures_layers(self, trial: PendingTrial) -> bool:
        """Return whether a trial's probes are reported for each layer: of a confirmation or the defaults."""
        return self.is_confirmation or configuration_key(trial.parameters) == configuration_key(
            self.plan.defaults
        )

    def checkpointed(self, trial: PendingTrial) -> None:
        """Note that a trial saved a checkpoint before the epoch it was dispatched for."""
        del trial

    def interrupted(self, trial: PendingTrial, *, epochs_done: int) -> None:
        """Note that a trial ended its attempt early, and with how many epochs its next attempt starts."""
        del trial, epochs_done

    def restarted(self, trial: PendingTrial) -> None:
        """Forget the results of a trial that has lost its checkpoint and starts over."""
        del trial

    def measured(self, trial: PendingTrial, epoch: int, metric: float | None) -> bool:
        """Note a trial's validation value; return whether the trial has reached a rung and waits there."""
        del trial, epoch, metric
        return False

    def reached_rung(self, trial: PendingTrial, metric: float | None) -> None:
        """Note that a trial waits at a rung.

        Args:
            trial: its new state in the database.
            metric: its validation value at the rung.
        """
        del trial, metric

    def ended(self, trial: PendingTrial, state: TrialState, value: float | None) -> None:
        """Note how a queued or dispatched trial ended."""
        del trial, state, value

    def settle(self) -> tuple[list[tuple[PendingTrial, int]], list[PendingTrial]]:
        """Promote and prune waiting trials as far as results allow.

        Returns:
            The promoted trials, each with the epoch to train to next, and the pruned trials.
        """
        return [], []
