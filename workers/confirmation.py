"""The confirmation of one arm: its best configurations and its defaults, retrained on fresh seeds.

It starts when the arm's search is over, and every run trains to its last epoch. No result reaches a sampler
or a rung. No SQL, no Ray.
"""

__all__ = ["ConfirmationQueue"]

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from studies.artifacts import WeightsOf
from studies.confirmation import REPEATED_STATES, missing_runs
from studies.resolve import ResolvedArm, ResolvedStudy
from studies.seeds import confirmation_seeds
from studies.space import ConfigurationKey, configuration_key
from studies.spec import StudySpec
from studies.trials import NewTrial, PendingTrial
from studies.views import TrialView
from workers.search import Search, SearchedConfiguration
from workers.trial_queue import TrialQueue


class ConfirmationQueue(TrialQueue):
    """The confirmation trials of one arm.

    They retrain the best configuration of each replicate and the defaults, on the seeds that all arms share.
    A configuration that is several of these is trained once on each seed. If no trial of the search has a
    result, there is nothing to confirm: whatever failed them would fail these too.
    """

    is_confirmation = True

    def __init__(
        self,
        plan: ResolvedArm,
        *,
        spec: StudySpec,
        study: ResolvedStudy,
        searches: Sequence[Search],
        next_number: Callable[[], int],
    ) -> None:
        """Make a confirmation without trials; `load` adds stored ones.

        Args:
            plan: the arm.
            spec: the study as submitted.
            study: the study as resolved.
            searches: the arm's searches, in the order of replicates. What to confirm is known when all of
                them are over.
            next_number: returns the number of the next confirmation trial.
        """
        super().__init__(plan)
        self._searches = searches
        self._next_number = next_number
        self._epochs = study.epochs
        self._seeds = confirmation_seeds(spec.seed, spec.confirmation.seeds)
        self._keep = spec.keep.weights
        # The configurations whose weights are kept already.
        self._kept: set[ConfigurationKey] = set()
        # What stored trials confirm, and on which seeds.
        self._confirmed: dict[ConfigurationKey, SearchedConfiguration] = {}
        self._existing: set[tuple[ConfigurationKey, int]] = set()
        self._created = 0
        # None until the search is over.
        self._remaining: deque[tuple[SearchedConfiguration, int]] | None = None

    @property
    def created_fraction(self) -> float:
        """The fraction of its trials that have been created."""
        return self._created / max(1, self._created + self.proposable)

    @property
    def epochs_ahead(self) -> int:
        """Epochs that remain to be dispatched, if no trial diverges or fails."""
        return (self.queued + self.proposable) * self._epochs

    @property
    def proposable(self) -> int:
        """How many new trials may be created now: none before the search is over, then all of them."""
        if self._remaining is None and all(search.is_over for search in self._searches):
            self._remaining = deque(self._missing())
        return len(self._remaining or ())

    @property
    def is_exhausted(self) -> bool:
        """Whether no trial is queued and none can be created; some may be in flight."""
        return not self._groups and not self.proposable

    def keeps(self, keys: Iterable[ConfigurationKey]) -> None:
        """Note that the weights of these configurations are kept; no other run of them keeps its own."""
        self._kept.update(keys)

    def weights_of(self, trial: PendingTrial) -> WeightsOf | None:
        """Return which configuration's weights a run must keep at its end; None for none.

        The best configuration is the best of all replicates. If it is the defaults, it counts as the best.
        """
        key = configuration_key(trial.parameters)
        if self._keep == "none" or key in self._kept:
            return None
        places = [
            (search.best_place, search.best)
            for search in self._searches
            if search.best is not None and search.best_place is not None
        ]
        best = min(places, key=lambda each: each[0])[1] if places else None
        if best is not None and key == configuration_key(best.parameters):
            return "best"
        is_default = key == configuration_key(self.plan.defaults)
        return "defaults" if is_default and self._keep == "best-and-defaults" else None

    def load(self, trial: TrialView, pending: PendingTrial | None, *, is_alone: bool = False) -> None:
        """Add a stored trial. Call this in the order of numbers.

        Args:
            trial: its state in the database; it is not running.
            pending: the trial as a queued one; None if it has ended.
            is_alone: whether it must be packed alone.
        """
        self._created += 1
        # A cancelled run has no result: a study that is extended later repeats it.
        if trial.confirms is not None and trial.state not in REPEATED_STATES:
            key = configuration_key(trial.parameters)
            self._confirmed.setdefault(
                key, SearchedConfiguration(trial.confirms, trial.replicate, trial.origin, trial.parameters)
            )
            self._existing.add((key, trial.seed))
        if pending is not None:
            self.enqueue([pending], is_alone=is_alone)

    def propose(self, size: int) -> list[NewTrial]:
        """Return new trials, to be stored and then enqueued.

        Enough to fill a pack of `size` together with those queued, but no more than remain.
        """
        count = min(self.proposable, size - self.queued_new)
        new = [self._new_trial(*self._remaining.popleft()) for _ in range(count)] if self._remaining else []
        self._created += len(new)
        return new

    def _missing(self) -> Iterator[tuple[SearchedConfiguration, int]]:
        """Yield each configuration that still needs a run, and on which seed; nothing without a result."""
        if not any(search.has_result for search in self._searches):
            return
        defaults = SearchedConfiguration(0, 0, "default", self.plan.defaults)
        to_confirm = [defaults, *(search.best for search in self._searches if search.best is not None)]
        # Of equal configurations, use the one that stored runs name, so that all runs of a configuration name
        # the same trial.
        by_key = {configuration_key(each.parameters): each for each in reversed(to_confirm)} | self._confirmed
        parameters = [each.parameters for each in to_confirm]
        for key, seed in missing_runs(parameters, self._seeds, self._existing):
            yield by_key[key], seed

    def _new_trial(self, configuration: SearchedConfiguration, seed: int) -> NewTrial:
        return NewTrial(
            arm=self.plan.name,
            number=self._next_number(),
            origin=configuration.origin,
            parameters=configuration.parameters,
            seed=seed,
            replicate=configuration.replicate,
            to_epoch=self._epochs,
            phase="confirmation",
            confirms=configuration.number,
        )
