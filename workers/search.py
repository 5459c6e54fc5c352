"""The search of one replicate: it proposes trials, keeps those at rungs, and knows the best configuration.

No SQL, no Ray.
"""

__all__ = ["Search", "SearchedConfiguration"]

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from studies.direction import Direction, best_value, rank_key, sign
from studies.promotion import Ladder, brackets, planned_epochs, rungs
from studies.resolve import ResolvedArm, ResolvedStudy
from studies.seeds import paired_seed, trial_seed
from studies.space import Parameters
from studies.spec import StudySpec
from studies.states import FINISHED_TRIAL_STATES, RESULT_STATES, TrialState
from studies.trials import NewTrial, PendingTrial
from studies.views import TrialView
from workers.paired_draws import paired_configuration
from workers.sampling import ArmSampler
from workers.trial_queue import TrialGroup, TrialQueue

_MOST_PER_PACK = 4
"""At most this many times the size of a pack is created to fill it with trials that can share it."""


@dataclass(frozen=True)
class SearchedConfiguration:
    """A configuration from a search, and the number of the trial that used it."""

    number: int
    replicate: int
    origin: Literal["default", "sampled"]
    parameters: Parameters


class Search(TrialQueue):
    """The trials of one replicate of an arm's search: its defaults, the paired trials, then the sampler's.

    An arm numbers the trials of all its replicates in one sequence. The sampler identifies a trial by its
    rank within its own replicate, and learns from the paired trials too. The ladder identifies it by its
    position among the trials that are not paired, because paired trials are trained to their last epoch. So
    both decide as if there were no other replicate, and the ladder as if there were no paired trials.
    """

    def __init__(
        self,
        plan: ResolvedArm,
        *,
        spec: StudySpec,
        study: ResolvedStudy,
        replicate: int,
        next_number: Callable[[], int],
    ) -> None:
        """Make a search without trials; `load` adds stored ones.

        Args:
            plan: the arm.
            spec: the study as submitted.
            study: the study as resolved.
            replicate: index of this search among the arm's searches, from 0.
            next_number: returns the number of the arm's next trial.
        """
        super().__init__(plan)
        self._replicate = replicate
        self._next_number = next_number
        self._is_best_epoch = spec.objective.at == "best"
        self._direction: Direction = study.workload.direction
        self._epochs = study.epochs
        # By bracket.
        self._rungs = [
            frozenset(rungs(spec.pruner, study.epochs, bracket=bracket))
            for bracket in range(brackets(spec.pruner, study.epochs))
        ]
        self._study_seed = spec.seed
        self._seed = trial_seed(spec.seed, replicate)
        # Those that are to be created by now; a search until arms are decided adds more.
        self._pairs = spec.search.paired
        grows = spec.search.until is not None and spec.budget.trials_per_arm > self._pairs
        self._is_held = grows and study.adds_pairs and replicate < spec.search.replicates
        self._sampler = ArmSampler(
            plan,
            sampler=spec.sampler,
            direction=study.workload.direction,
            seed=spec.seed,
            replicate=replicate,
        )
        trials = (
            plan.trials_for(spec.budget.trials_per_arm, spec.sampler, paired=self._pairs)
            if grows
            else plan.trials
        )
        # A study that was stopped and then extended may have fewer trials than pairs.
        unpaired = max(1, trials - self._pairs)
        self._ladder = Ladder(
            spec.pruner, epochs=study.epochs, trials=unpaired, maximize=sign(self._direction) == 1
        )
        if grows and not study.adds_pairs and replicate < spec.search.replicates:
            # The pairs that were added before.
            self._pairs += max(0, plan.trials - trials)
            trials = plan.trials
        self._total = trials
        self._planned_epochs = planned_epochs(spec.pruner, study.epochs, trials=trials, paired=self._pairs)
        self._created = 0
        self._created_pairs = 0
        self._dispatched_epochs = 0
        self._is_space_exhausted = False
        # For open trials only, by number: rank; position in the ladder, unless paired; objective at each rung
        # reached, by epoch; best value since the last of these rungs.
        self._ranks: dict[int, int] = {}
        self._positions: dict[int, int] = {}
        self._rung_values: dict[int, dict[int, float]] = {}
        self._best_values: dict[int, float] = {}
        # The best value as of the last checkpoint.
        self._checkpointed_values: dict[int, float] = {}
        # By position.
        self._waiting: dict[int, PendingTrial] = {}
        # Numbers of trials from which the sampler has no result yet.
        self._without_result: set[int] = set()
        self._best: tuple[tuple[float, int], SearchedConfiguration] | None = None
        self.has_result = False

    @property
    def created_fraction(self) -> float:
        """The fraction of its trials that have been created."""
        return self._created / self._total

    @property
    def trials(self) -> int:
        """How many trials it will have in all, as far as is known."""
        return self._total

    @property
    def created_pairs(self) -> int:
        """How many of its pairs have been created."""
        return self._created_pairs

    @property
    def is_held(self) -> bool:
        """Whether its sampler waits until the arms are decided by their pairs."""
        return self._is_held

    @property
    def are_pairs_over(self) -> bool:
        """Whether all its pairs of now have been created and have ended."""
        return self._created_pairs >= self._pairs and not self._ranks.keys() - self._positions.keys()

    @property
    def epochs_ahead(self) -> int:
        """Epochs that remain to be dispatched, if no trial diverges or fails."""
        return max(0, self._planned_epochs - self._dispatched_epochs)

    @property
    def proposable(self) -> int:
        """How many new trials may be created now.

        At most the rest of the budget, and no more than the sampler recommends without further results.
        """
        if self._is_space_exhausted:
            return 0
        # Pairs that are added after an extension follow trials of the sampler.
        missing_pairs = max(0, self._pairs - self._created_pairs)
        number = min(self._created, 1 + self._created_pairs) if missing_pairs else self._created
        recommended = self._sampler.recommended(
            number, without_result=len(self._without_result), queued=self.queued_new, pairs=self._pairs
        )
        rest = missing_pairs + int(self._created == 0) if self._is_held else self._total - self._created
        return min(max(0, rest), recommended)

    @property
    def needs_results(self) -> bool:
        """Whether what it dispatches next may depend on results that are still to come."""
        return not self.is_exhausted and self._created_pairs >= self._pairs

    @property
    def is_exhausted(self) -> bool:
        """Whether no trial is queued and none can be created; some may be in flight."""
        is_created = self._is_space_exhausted or self._created >= self._total
        return not self._groups and is_created and not self._is_held

    @property
    def is_over(self) -> bool:
        """Whether all its trials have ended and none can be created."""
        return self.is_exhausted and not self._ranks

    @property
    def best(self) -> SearchedConfiguration | None:
        """The best configuration by validation among completed trials; the first of equals, None without one.

        A completed trial was trained to its last epoch.
        """
        return None if self._best is None else self._best[1]

    @property
    def best_place(self) -> tuple[float, int] | None:
        """How good its best configuration is, to compare searches of one arm; lower is better."""
        return None if self._best is None else self._best[0]

    def has_own_seeds(self, group: TrialGroup | None) -> bool:
        """Return whether the trials of a group differ in their seeds; see `TrialQueue.has_own_seeds`."""
        return super().has_own_seeds(group) or (group is None and self._created_pairs < self._pairs)

    def set_pairs(self, pairs: int, *, is_last: bool) -> None:
        """Set how many pairs it has in all, which are never fewer than before.

        Args:
            pairs: the number.
            is_last: whether no more will be added, so that the sampler may begin.
        """
        more = max(0, pairs - self._pairs)
        self._pairs += more
        self._total += more
        self._planned_epochs += more * self._epochs
        self._is_held = self._is_held and not is_last

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
            rung_values: its objective, by epoch, at the rungs that it has reached and, if the objective is
                the best epoch's value, at its checkpoint. None stands for a value that is not finite.
            is_alone: whether it must be packed alone.
        """
        is_paired = trial.pair_index is not None
        checkpoint_epoch, all_values = None if pending is None else pending.epochs_done, rung_values
        passed = frozenset[int]() if is_paired else self._rungs[trial.bracket]
        rung_values = {epoch: value for epoch, value in all_values.items() if epoch in passed}
        rank, position = self._created, self._created - self._created_pairs
        self._created += 1
        self._created_pairs += int(is_paired)
        self._dispatched_epochs += trial.epochs_done
        finite = {epoch: value for epoch, value in rung_values.items() if value is not None}
        self._sampler.load(rank, trial.parameters, trial.state, trial.value, rung_values=finite)
        if not is_paired:
            self._ladder.restore(
                position,
                trial.state,
                epochs_done=trial.epochs_done,
                to_epoch=trial.to_epoch,
                values=rung_values,
            )
        if pending is None:
            self._note_result(trial, trial.state, trial.value, origin=trial.origin)
            return
        self._ranks[trial.number] = rank
        if not is_paired:
            self._positions[trial.number] = position
        self._restore_values(trial.number, finite)
        if (
            self._is_best_epoch
            and checkpoint_epoch is not None
            and (best := all_values.get(checkpoint_epoch)) is not None
        ):
            self._best_values[trial.number] = self._checkpointed_values[trial.number] = best
        if not rung_values:
            self._without_result.add(trial.number)
        if pending.is_waiting:
            self._waiting[position] = pending
        else:
            self.enqueue([pending], is_alone=is_alone)

    def propose(self, size: int) -> list[NewTrial]:
        """Return new trials, to be stored and then enqueued.

        Enough to fill a pack of `size` together with those queued, but no more than may be created now.
        """
        sizes = Counter[object](
            {
                (group.to_epoch, group.shared): len(trials)
                for group, trials in self._groups.items()
                if group.is_new
            }
        )
        new: list[NewTrial] = []
        allowed = self.proposable
        if self.groups_of_values > 1:
            # Few of many groups of trials would ever fill a pack.
            allowed = min(allowed, _MOST_PER_PACK * size)
        while len(new) < allowed and max(sizes.values(), default=0) < size:
            trial = self._new_trial()
            if trial is None:
                break
            sizes[trial.to_epoch, self.shared_of(trial.parameters)] += 1
            new.append(trial)
        return new

    def dispatch(self, group: TrialGroup, count: int) -> tuple[PendingTrial, ...]:
        """Remove up to `count` trials of a group from the queue and return them."""
        dispatched = super().dispatch(group, count)
        self._dispatched_epochs += len(dispatched) * (group.to_epoch - group.from_epoch)
        return dispatched

    def checkpointed(self, trial: PendingTrial) -> None:
        """Note that a trial saved a checkpoint before the epoch it was dispatched for."""
        if trial.number in self._best_values:
            self._checkpointed_values[trial.number] = self._best_values[trial.number]

    def interrupted(self, trial: PendingTrial, *, epochs_done: int) -> None:
        """Note that a trial ended its attempt early, and with how many epochs its next attempt starts."""
        self._dispatched_epochs -= trial.to_epoch - epochs_done
        self._best_values.pop(trial.number, None)
        self._restore_values(trial.number, self._rung_values.get(trial.number, {}))
        if trial.number in self._checkpointed_values and epochs_done:
            self._best_values[trial.number] = self._checkpointed_values[trial.number]

    def restarted(self, trial: PendingTrial) -> None:
        """Forget the results of a trial that has lost its checkpoint and starts over."""
        self._forget_values(trial.number)
        self._without_result.add(trial.number)
        self._sampler.set_rung_values(self._ranks[trial.number], {})

    def measured(self, trial: PendingTrial, epoch: int, metric: float | None) -> bool:
        """Note a trial's validation value; return whether the trial has reached a rung and waits there."""
        if metric is not None and self._is_best_epoch:
            before = self._best_values.get(trial.number, metric)
            self._best_values[trial.number] = best_value((before, metric), self._direction)
        return epoch == trial.to_epoch < self._epochs

    def reached_rung(self, trial: PendingTrial, metric: float | None) -> None:
        """Note that a trial waits at a rung.

        Args:
            trial: its new state in the database.
            metric: its validation value at the rung.
        """
        rank, position = self._ranks[trial.number], self._positions[trial.number]
        value = self._best_values.get(trial.number, metric) if self._is_best_epoch else metric
        self._checkpointed_values.pop(trial.number, None)
        self._without_result.discard(trial.number)
        reached = self._rung_values.setdefault(trial.number, {})
        if value is not None:
            reached[trial.to_epoch] = value
            self._sampler.set_rung_values(rank, reached)
        self._ladder.wait(position, value)
        self._waiting[position] = trial

    def ended(self, trial: PendingTrial, state: TrialState, value: float | None) -> None:
        """Note how a queued or dispatched trial ended."""
        position = self._positions.get(trial.number)
        if position is not None:
            self._ladder.end(position, completed=state is TrialState.COMPLETED)
        self._finish(trial, state, value)

    def settle(self) -> tuple[list[tuple[PendingTrial, int]], list[PendingTrial]]:
        """Promote and prune waiting trials as far as results allow.

        Returns:
            The promoted trials, each with the epoch to train to next, and the pruned trials.
        """
        decision = self._ladder.settle()
        promoted = [(self._waiting.pop(position), to_epoch) for position, to_epoch in decision.promoted]
        pruned = [self._waiting.pop(position) for position in decision.pruned]
        for trial in pruned:
            self._finish(trial, TrialState.PRUNED, None)
        return promoted, pruned

    def _new_trial(self) -> NewTrial | None:
        """Return the next trial, or None if the space contains no other configuration."""
        rank = self._created
        pair_index = self._created_pairs if rank >= 1 and self._created_pairs < self._pairs else None
        parameters = self._next_parameters(rank, pair_index)
        if parameters is None:
            self._is_space_exhausted = True
            self._ladder.end_of_trials()
            return None
        number, position = self._next_number(), rank - self._created_pairs
        self._created += 1
        self._ranks[number] = rank
        self._without_result.add(number)
        trial = NewTrial(
            arm=self.plan.name,
            number=number,
            origin=_origin(rank),
            parameters=parameters,
            seed=self._seed,
            replicate=self._replicate,
            to_epoch=self._epochs,
        )
        if pair_index is not None:
            self._created_pairs += 1
            seed = paired_seed(self._study_seed, self._replicate, pair_index)
            return replace(trial, seed=seed, pair_index=pair_index)
        self._positions[number] = position
        self._ladder.begin(position)
        stop, bracket = self._ladder.first_stop(position), self._ladder.bracket(position)
        return replace(trial, to_epoch=stop, bracket=bracket)

    def _next_parameters(self, rank: int, pair_index: int | None) -> Parameters | None:
        """Return the configuration of the next trial; None if the space contains no other."""
        if pair_index is not None:
            parameters = paired_configuration(
                self.plan, seed=self._study_seed, replicate=self._replicate, pair_index=pair_index
            )
        elif rank == 0:
            parameters = self.plan.defaults
        else:
            return self._sampler.propose(rank)
        self._sampler.load(rank, parameters, TrialState.RUNNING, None)
        return parameters

    def _finish(self, trial: PendingTrial, state: TrialState, value: float | None) -> None:
        assert state in FINISHED_TRIAL_STATES, "the trial has ended"
        rank = self._ranks.pop(trial.number)
        self._positions.pop(trial.number, None)
        self._without_result.discard(trial.number)
        self._forget_values(trial.number)
        self._sampler.finish(rank, state, value)
        self._note_result(trial, state, value, origin=_origin(rank))

    def _note_result(
        self,
        trial: TrialView | PendingTrial,
        state: TrialState,
        value: float | None,
        *,
        origin: Literal["default", "sampled"],
    ) -> None:
        """Update `has_result` and `best` with a trial that has ended."""
        self.has_result |= state in RESULT_STATES
        if state is TrialState.COMPLETED and value is not None:
            place = rank_key(value, trial.number, self._direction)
            if self._best is None or place < self._best[0]:
                self._best = (
                    place,
                    SearchedConfiguration(trial.number, self._replicate, origin, trial.parameters),
                )

    def _restore_values(self, number: int, rung_values: Mapping[int, float]) -> None:
        """Set an open trial's values to those of its last rung."""
        if rung_values:
            self._rung_values[number] = dict(rung_values)
            if self._is_best_epoch:
                self._best_values[number] = rung_values[max(rung_values)]

    def _forget_values(self, number: int) -> None:
        self._rung_values.pop(number, None)
        self._best_values.pop(number, None)
        self._checkpointed_values.pop(number, None)


def _origin(rank: int) -> Literal["default", "sampled"]:
    return "default" if rank == 0 else "sampled"
