"""One search of an arm's space, a replicate.

What waits at a rung, what its sampler knows, which configuration is its best. No SQL, no Ray.
"""

__all__ = ["Search", "SearchedConfiguration"]

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from studies.direction import Direction, best_value, rank_key, sign
from studies.promotion import Ladder, brackets, planned_epochs, rungs
from studies.resolve import ResolvedArm, ResolvedStudy
from studies.seeds import trial_seed
from studies.space import Parameters
from studies.spec import StudySpec
from studies.states import FINISHED_TRIAL_STATES, RESULT_STATES, TrialState
from studies.trials import NewTrial, PendingTrial
from studies.views import TrialView
from workers.sampling import ArmSampler
from workers.trial_queue import TrialGroup, TrialQueue


@dataclass(frozen=True)
class SearchedConfiguration:
    """What a trial of a search was trained with, and which trial that was."""

    number: int
    replicate: int
    origin: Literal["default", "sampled"]
    parameters: Parameters


class Search(TrialQueue):
    """The trials of one replicate of an arm's search.

    An arm numbers the trials of all its replicates in one sequence. Sampler and ladder know a trial by its
    rank among those of its own replicate, and so decide as if there were no other.
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
        """Make a search without trials; `take_up` adds those on record.

        Args:
            plan: the arm.
            spec: the study as submitted.
            study: the same, resolved.
            replicate: which of the arm's searches this is, from 0.
            next_number: gives the arm's next trial its number.
        """
        super().__init__(plan)
        self._replicate = replicate
        self._next_number = next_number
        self._is_best = spec.objective.at == "best"
        self._direction: Direction = study.workload.direction
        self._epochs = study.epochs
        # By bracket.
        self._stops = [
            frozenset(rungs(spec.pruner, study.epochs, bracket=bracket))
            for bracket in range(brackets(spec.pruner, study.epochs))
        ]
        self._seed = trial_seed(spec.seed, replicate)
        self._sampler = ArmSampler(
            plan,
            sampler=spec.sampler,
            direction=study.workload.direction,
            seed=spec.seed,
            replicate=replicate,
        )
        self._ladder = Ladder(
            spec.pruner, epochs=study.epochs, trials=plan.trials, maximize=sign(self._direction) == 1
        )
        self._planned = planned_epochs(spec.pruner, study.epochs, trials=plan.trials)
        self._begun = 0
        self._handed_epochs = 0
        self._is_exhausted = False
        # Of trials without an end only, by number: the rank, the objective at the rungs reached, by epoch,
        # the best value since the last of them.
        self._ranks: dict[int, int] = {}
        self._rung_values: dict[int, dict[int, float]] = {}
        self._best_values: dict[int, float] = {}
        # The same at the last checkpoint.
        self._left_values: dict[int, float] = {}
        # By rank.
        self._waiting: dict[int, PendingTrial] = {}
        # Numbers of trials from which the sampler has not learned anything yet.
        self._unanswered: set[int] = set()
        self._best: tuple[tuple[float, int], SearchedConfiguration] | None = None
        self.has_result = False

    @property
    def share(self) -> float:
        """The share of its trials that it has begun."""
        return self._begun / self.plan.trials

    @property
    def epochs_ahead(self) -> int:
        """Epochs that its trials will still be given to workers for, if none of them diverges or fails."""
        return max(0, self._planned - self._handed_epochs)

    @property
    def drawable(self) -> int:
        """How many new trials may be made now.

        Those left, as far as proposals that cannot learn from each other are worth it.
        """
        if self._is_exhausted:
            return 0
        worth = self._sampler.at_once(self._begun, unanswered=len(self._unanswered), at_hand=self.fresh)
        return min(self.plan.trials - self._begun, worth)

    @property
    def is_spent(self) -> bool:
        """Whether no trial is at hand or can be made; some may be in flight."""
        return not self._at_hand and (self._is_exhausted or self._begun >= self.plan.trials)

    @property
    def is_over(self) -> bool:
        """Whether every trial that it has, or could have, has ended."""
        return self.is_spent and not self._ranks

    @property
    def best(self) -> SearchedConfiguration | None:
        """The best configuration by validation that was trained to its last epoch, of equals the first.

        None where there is none.
        """
        return None if self._best is None else self._best[1]

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
            rung_values: its objective at the rungs that it has reached and, where its best epoch counts, at
                its checkpoint, by epoch; None where it is not finite.
            is_alone: whether it is to be packed alone.
        """
        left_at, of_all = None if pending is None else pending.epochs_done, rung_values
        rung_values = {epoch: value for epoch, value in of_all.items() if epoch in self._stops[trial.bracket]}
        rank = self._begun
        self._begun += 1
        self._handed_epochs += trial.epochs_done
        finite = {epoch: value for epoch, value in rung_values.items() if value is not None}
        self._sampler.remember(rank, trial.parameters, trial.state, trial.value, rung_values=finite)
        self._ladder.take_up(
            rank, trial.state, epochs_done=trial.epochs_done, to_epoch=trial.to_epoch, values=rung_values
        )
        if pending is None:
            self._weigh(trial, trial.state, trial.value, origin=trial.origin)
            return
        self._ranks[trial.number] = rank
        self._keep_values(trial.number, finite)
        if left_at is not None and (best := of_all.get(left_at)) is not None and self._is_best:
            self._best_values[trial.number] = self._left_values[trial.number] = best
        if not rung_values:
            self._unanswered.add(trial.number)
        if pending.is_waiting:
            self._waiting[rank] = pending
        else:
            self.enqueue([pending], is_alone=is_alone)

    def draw(self, size: int) -> list[NewTrial]:
        """Return new trials, to be recorded and then enqueued.

        As many as make a pack of `size` with those at hand, or as may be made now.
        """
        sizes = Counter[int | None](
            {group.to_epoch: len(trials) for group, trials in self._at_hand.items() if group.is_new}
        )
        new: list[NewTrial] = []
        allowed = self.drawable
        while (
            len(new) < allowed
            and max(sizes.values(), default=0) < size
            and (trial := self._new_trial()) is not None
        ):
            sizes[trial.to_epoch] += 1
            new.append(trial)
        return new

    def hand_out(self, group: TrialGroup, count: int) -> tuple[PendingTrial, ...]:
        """Return at most so many trials of a group, which are at hand no more."""
        taken = super().hand_out(group, count)
        self._handed_epochs += len(taken) * (group.to_epoch - group.from_epoch)
        return taken

    def left(self, trial: PendingTrial) -> None:
        """Note that a trial has left a checkpoint on its way to the one it was handed out for."""
        if trial.number in self._best_values:
            self._left_values[trial.number] = self._best_values[trial.number]

    def taken_back(self, trial: PendingTrial, *, epochs_done: int) -> None:
        """Note that a trial did not come to the epoch that it was handed out for.

        Note also from which it goes on.
        """
        self._handed_epochs -= trial.to_epoch - epochs_done
        self._best_values.pop(trial.number, None)
        self._keep_values(trial.number, self._rung_values.get(trial.number, {}))
        if trial.number in self._left_values and epochs_done:
            self._best_values[trial.number] = self._left_values[trial.number]

    def restarted(self, trial: PendingTrial) -> None:
        """Note that a trial has lost its checkpoint and begins again; what is known of it is forgotten."""
        self._forget_values(trial.number)
        self._unanswered.add(trial.number)
        self._sampler.reach(self._ranks[trial.number], {})

    def measured(self, trial: PendingTrial, epoch: int, metric: float | None) -> bool:
        """Note a trial's validation value.

        Return whether it has come to its rung, where it waits from now on.
        """
        if metric is not None and self._is_best:
            before = self._best_values.get(trial.number, metric)
            self._best_values[trial.number] = best_value((before, metric), self._direction)
        return epoch == trial.to_epoch < self._epochs

    def rested(self, trial: PendingTrial, metric: float | None) -> None:
        """Note that a trial has come to its rung.

        Args:
            trial: as it is queued now.
            metric: its validation value there.
        """
        rank = self._ranks[trial.number]
        value = self._best_values.get(trial.number, metric) if self._is_best else metric
        self._left_values.pop(trial.number, None)
        self._unanswered.discard(trial.number)
        reached = self._rung_values.setdefault(trial.number, {})
        if value is not None:
            reached[trial.to_epoch] = value
            self._sampler.reach(rank, reached)
        self._ladder.wait(rank, value)
        self._waiting[rank] = trial

    def ended(self, trial: PendingTrial, state: TrialState, value: float | None) -> None:
        """Note how a trial that was at hand or in flight ended."""
        self._ladder.end(self._ranks[trial.number], completed=state is TrialState.COMPLETED)
        self._told(trial, state, value)

    def settle(self) -> tuple[list[tuple[PendingTrial, int]], list[PendingTrial]]:
        """Return the waiting trials that go on, each with the epoch it goes on to, and those that are pruned.

        They wait no more.
        """
        decision = self._ladder.settle()
        promoted = [(self._waiting.pop(rank), to_epoch) for rank, to_epoch in decision.promoted]
        pruned = [self._waiting.pop(rank) for rank in decision.pruned]
        for trial in pruned:
            self._told(trial, TrialState.PRUNED, None)
        return promoted, pruned

    def _new_trial(self) -> NewTrial | None:
        """Return the next trial, or None when the space holds no other configuration."""
        rank = self._begun
        parameters = self.plan.defaults if rank == 0 else self._sampler.propose(rank)
        if parameters is None:
            self._is_exhausted = True
            self._ladder.end_of_trials()
            return None
        if rank == 0:
            self._sampler.remember(0, parameters, TrialState.RUNNING, None)
        number = self._next_number()
        self._begun += 1
        self._ranks[number] = rank
        self._unanswered.add(number)
        self._ladder.begin(rank)
        return NewTrial(
            arm=self.plan.name,
            number=number,
            origin=_origin(rank),
            parameters=parameters,
            seed=self._seed,
            replicate=self._replicate,
            to_epoch=self._ladder.first_stop(rank),
            bracket=self._ladder.bracket(rank),
        )

    def _told(self, trial: PendingTrial, state: TrialState, value: float | None) -> None:
        assert state in FINISHED_TRIAL_STATES, "only an end is told"
        rank = self._ranks.pop(trial.number)
        self._unanswered.discard(trial.number)
        self._forget_values(trial.number)
        self._sampler.tell(rank, state, value)
        self._weigh(trial, state, value, origin=_origin(rank))

    def _weigh(
        self,
        trial: TrialView | PendingTrial,
        state: TrialState,
        value: float | None,
        *,
        origin: Literal["default", "sampled"],
    ) -> None:
        """Look whether a trial that has ended is the best so far."""
        self.has_result |= state in RESULT_STATES
        if state is TrialState.COMPLETED and value is not None:
            place = rank_key(value, trial.number, self._direction)
            if self._best is None or place < self._best[0]:
                self._best = (
                    place,
                    SearchedConfiguration(trial.number, self._replicate, origin, trial.parameters),
                )

    def _keep_values(self, number: int, rung_values: Mapping[int, float]) -> None:
        """Keep what a trial without an end goes on from."""
        if rung_values:
            self._rung_values[number] = dict(rung_values)
            if self._is_best:
                self._best_values[number] = rung_values[max(rung_values)]

    def _forget_values(self, number: int) -> None:
        self._rung_values.pop(number, None)
        self._best_values.pop(number, None)
        self._left_values.pop(number, None)


def _origin(rank: int) -> Literal["default", "sampled"]:
    return "default" if rank == 0 else "sampled"
