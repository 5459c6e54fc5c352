"""An arm's confirmation: its best configurations and its defaults on fresh seeds.

They are trained again once its search is over. No SQL, no Ray.

Nothing of it reaches a sampler or a rung: every run is trained to its last epoch.
"""

__all__ = ["ConfirmationQueue"]

from collections import deque
from collections.abc import Callable, Iterator, Sequence

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

    The best of each replicate and the defaults, each on the seeds that all arms share.

    A configuration that is several of these at once is trained once on each seed. Where no trial of the
    search came to a result there is nothing to confirm: whatever made them fail would fail these as well.
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
        """Make a confirmation without trials; `take_up` adds those on record.

        Args:
            plan: the arm.
            spec: the study as submitted.
            study: the same, resolved.
            searches: the arm's, in the order of replicates; what is confirmed is known when all of them are
                over.
            next_number: gives the next confirmation trial its number.
        """
        super().__init__(plan)
        self._searches = searches
        self._next_number = next_number
        self._epochs = study.epochs
        self._seeds = confirmation_seeds(spec.seed, spec.confirmation.seeds)
        # What trials on record confirm, and the seeds on which they do.
        self._confirmed: dict[ConfigurationKey, SearchedConfiguration] = {}
        self._made: set[tuple[ConfigurationKey, int]] = set()
        self._begun = 0
        # None until the search is over.
        self._left: deque[tuple[SearchedConfiguration, int]] | None = None

    @property
    def share(self) -> float:
        """The share of its trials that it has begun."""
        return self._begun / max(1, self._begun + self.drawable)

    @property
    def epochs_ahead(self) -> int:
        """Epochs that its trials will still be given to workers for, if none of them diverges or fails."""
        return (self.queued + self.drawable) * self._epochs

    @property
    def drawable(self) -> int:
        """How many new trials may be made now: none before the search is over, then all at once."""
        if self._left is None and all(search.is_over for search in self._searches):
            self._left = deque(self._missing())
        return len(self._left or ())

    @property
    def is_spent(self) -> bool:
        """Whether no trial is at hand or can be made; some may be in flight."""
        return not self._at_hand and not self.drawable

    def take_up(self, trial: TrialView, pending: PendingTrial | None, *, is_alone: bool = False) -> None:
        """Take up a trial from the record, in the order of numbers.

        Args:
            trial: as it stands; none is running.
            pending: the same as one that is queued; None where it has ended.
            is_alone: whether it is to be packed alone.
        """
        self._begun += 1
        # What a stop cut short has said nothing: a study that is extended later tries it again.
        if trial.confirms is not None and trial.state not in REPEATED_STATES:
            key = configuration_key(trial.parameters)
            self._confirmed.setdefault(
                key, SearchedConfiguration(trial.confirms, trial.replicate, trial.origin, trial.parameters)
            )
            self._made.add((key, trial.seed))
        if pending is not None:
            self.enqueue([pending], is_alone=is_alone)

    def draw(self, size: int) -> list[NewTrial]:
        """Return new trials, to be recorded and then enqueued.

        As many as make a pack of `size` with those at hand, or as are left.
        """
        count = min(self.drawable, size - self.fresh)
        new = [self._new_trial(*self._left.popleft()) for _ in range(count)] if self._left else []
        self._begun += len(new)
        return new

    def _missing(self) -> Iterator[tuple[SearchedConfiguration, int]]:
        """Yield the configurations that are still to be trained and on which seed; none without a result."""
        if not any(search.has_result for search in self._searches):
            return
        defaults = SearchedConfiguration(0, 0, "default", self.plan.defaults)
        to_confirm = [defaults, *(search.best for search in self._searches if search.best is not None)]
        # Of equal configurations the one that has runs already, so that all runs of one name the same trial.
        by_key = {configuration_key(each.parameters): each for each in reversed(to_confirm)} | self._confirmed
        parameters = [each.parameters for each in to_confirm]
        for key, seed in missing_runs(parameters, self._seeds, self._made):
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
