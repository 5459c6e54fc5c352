"""One arm while its study runs.

The searches that are its replicates, and the confirmation of what they found. No SQL, no Ray.
"""

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
    """The sources that an arm's trials come from.

    Attributes:
        searches: in the order of replicates.
        confirmation: of what the searches found.
    """

    def __init__(self, plan: ResolvedArm, *, spec: StudySpec, study: ResolvedStudy) -> None:
        """Make an arm without trials; `take_up` adds those on record."""
        # Trials of the search and of the confirmation are numbered apart.
        self._numbers, self._confirmation_numbers = _Numbers(), _Numbers()
        self.searches = tuple(
            Search(plan, spec=spec, study=study, replicate=replicate, next_number=self._numbers.next)
            for replicate in range(spec.budget.replicates)
        )
        self.confirmation = ConfirmationQueue(
            plan, spec=spec, study=study, searches=self.searches, next_number=self._confirmation_numbers.next
        )

    @property
    def sources(self) -> tuple[TrialQueue, ...]:
        """All its sources, the searches first."""
        return *self.searches, self.confirmation

    @property
    def share(self) -> float:
        """The share of its search's trials that it has begun, all replicates together."""
        return sum(search.share for search in self.searches) / len(self.searches)

    @property
    def is_spent(self) -> bool:
        """Whether no trial is at hand or can be made; some may be in flight."""
        return all(source.is_spent for source in self.sources)

    def epochs_ahead(self, source: TrialQueue) -> int:
        """Return the epochs that will still be given to workers for trials such as those of a source.

        Of all replicates, or confirming.
        """
        return sum(
            each.epochs_ahead for each in self.sources if each.is_confirmation == source.is_confirmation
        )

    def source(self, trial: TrialView | PendingTrial) -> TrialQueue:
        """Return the source of a trial."""
        return self.confirmation if trial.phase == "confirmation" else self.searches[trial.replicate]

    def take_up(
        self,
        trial: TrialView,
        pending: PendingTrial | None,
        rung_values: Mapping[int, float | None],
        *,
        is_alone: bool = False,
    ) -> None:
        """Take up a trial from the record, in the order of numbers.

        Args:
            trial: as it stands; none is running.
            pending: the same as one that is queued; None where it has ended.
            rung_values: its objective at the rungs that it has reached, by epoch; None where it is not
                finite.
            is_alone: whether it is to be packed alone.
        """
        if trial.phase == "confirmation":
            self._confirmation_numbers.pass_over(trial.number)
            self.confirmation.take_up(trial, pending, is_alone=is_alone)
        else:
            self._numbers.pass_over(trial.number)
            self.searches[trial.replicate].take_up(trial, pending, rung_values, is_alone=is_alone)


class _Numbers:
    """A sequence of numbers from 0 that goes on after those that are taken already."""

    def __init__(self) -> None:
        self._next = 0

    def next(self) -> int:
        self._next += 1
        return self._next - 1

    def pass_over(self, taken: int) -> None:
        self._next = max(self._next, taken + 1)
