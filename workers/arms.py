"""One arm of a running study: its searches, one per replicate, and their confirmation. No SQL, no Ray."""

__all__ = ["Arm"]

from collections.abc import Mapping

from studies.resolve import ResolvedArm, ResolvedStudy
from studies.spec import StudySpec
from studies.trials import PendingTrial
from studies.views import TrialView
from workers.confirmation import ConfirmationQueue
from workers.search import Search
from workers.trial_queue import TrialQueue


class Arm:
    """The queues that hold an arm's trials.

    Attributes:
        searches: one per replicate, in order.
        confirmation: of what the searches find.
    """

    def __init__(self, plan: ResolvedArm, *, spec: StudySpec, study: ResolvedStudy) -> None:
        """Make an arm without trials; `load` adds stored ones."""
        # Search trials and confirmation trials are numbered separately.
        self._numbers, self._confirmation_numbers = _Numbers(), _Numbers()
        self.searches = tuple(
            Search(plan, spec=spec, study=study, replicate=replicate, next_number=self._numbers.next)
            for replicate in range(spec.budget.replicates)
        )
        self.confirmation = ConfirmationQueue(
            plan, spec=spec, study=study, searches=self.searches, next_number=self._confirmation_numbers.next
        )

    @property
    def queues(self) -> tuple[TrialQueue, ...]:
        """All its queues, the searches first."""
        return *self.searches, self.confirmation

    @property
    def created_fraction(self) -> float:
        """The fraction of its search trials that have been created, over all replicates."""
        return sum(search.created_fraction for search in self.searches) / len(self.searches)

    @property
    def is_exhausted(self) -> bool:
        """Whether no trial is queued and none can be created; some may be in flight."""
        return all(queue.is_exhausted for queue in self.queues)

    def epochs_ahead(self, queue: TrialQueue) -> int:
        """Return the epochs that remain to be dispatched in the phase of `queue`, over all replicates."""
        return sum(each.epochs_ahead for each in self.queues if each.is_confirmation == queue.is_confirmation)

    def queue_of(self, trial: TrialView | PendingTrial) -> TrialQueue:
        """Return the queue that a trial belongs to."""
        return self.confirmation if trial.phase == "confirmation" else self.searches[trial.replicate]

    def load(
        self,
        trial: TrialView,
        pending: PendingTrial | None,
        rung_values: Mapping[int, float | None],
        *,
        is_alone: bool = False,
    ) -> None:
        """Add a stored trial. Call this in the order of numbers.

        Args:
            trial: its state in the database; it is not running.
            pending: the trial as a queued one; None if it has ended.
            rung_values: its objective at each rung that it has reached, by epoch; None stands for a value
                that is not finite.
            is_alone: whether it must be packed alone.
        """
        if trial.phase == "confirmation":
            self._confirmation_numbers.skip(trial.number)
            self.confirmation.load(trial, pending, is_alone=is_alone)
        else:
            self._numbers.skip(trial.number)
            self.searches[trial.replicate].load(trial, pending, rung_values, is_alone=is_alone)


class _Numbers:
    """A sequence from 0 that continues after the numbers in use."""

    def __init__(self) -> None:
        self._next = 0

    def next(self) -> int:
        self._next += 1
        return self._next - 1

    def skip(self, used: int) -> None:
        self._next = max(self._next, used + 1)
