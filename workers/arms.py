"""One arm while its study runs: which of its trials are at hand, which wait at a rung, and what its sampler knows of them. No SQL, no Ray."""

__all__ = ["Arm", "Group"]

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from studies.promotion import Ladder, planned_epochs
from studies.resolve import ResolvedArm, ResolvedStudy
from studies.seeds import trial_seed
from studies.spec import StudySpec
from studies.states import FINISHED_TRIAL_STATES, TrialState
from studies.store import NewTrial, PendingTrial
from studies.views import TrialView
from workers.sampling import ArmSampler


@dataclass(frozen=True)
class Group:
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


class Arm:
    """The trials of one arm between the record and the workers."""

    def __init__(self, plan: ResolvedArm, *, spec: StudySpec, study: ResolvedStudy) -> None:
        """Make an arm without trials; `take_up` adds those on record."""
        self.plan = plan
        self._is_best = spec.objective.at == "best"
        self._is_maximized = study.workload.direction == "maximize"
        self._epochs = study.epochs
        self._seed = trial_seed(spec.seed, 0)
        self._sampler = ArmSampler(plan, sampler=spec.sampler, direction=study.workload.direction, seed=spec.seed)
        self._ladder = Ladder(spec.pruner, epochs=study.epochs, trials=plan.trials, maximize=self._is_maximized)
        self._planned = planned_epochs(spec.pruner, study.epochs, trials=plan.trials)
        self._begun = 0
        self._handed_epochs = 0
        self._is_exhausted = False
        self._at_hand: dict[Group, deque[PendingTrial]] = {}
        self._waiting: dict[int, PendingTrial] = {}
        # Of trials without an end only: the objective at the rungs reached, by epoch, and the best value since the last of them.
        self._rung_values: dict[int, dict[int, float]] = {}
        self._best: dict[int, float] = {}
        # Numbers of trials from which the sampler has not learned anything yet.
        self._unanswered: set[int] = set()

    @property
    def share(self) -> float:
        """The share of its trials that the arm has begun."""
        return self._begun / self.plan.trials

    @property
    def epochs_ahead(self) -> int:
        """Epochs that its trials will still be given to workers for, if none of them diverges or fails."""
        return max(0, self._planned - self._handed_epochs)

    @property
    def queued(self) -> int:
        """How many trials are at hand."""
        return sum(len(trials) for trials in self._at_hand.values())

    @property
    def drawable(self) -> int:
        """How many new trials may be made now: those left, as far as proposals that cannot learn from each other are worth it."""
        if self._is_exhausted:
            return 0
        fresh = sum(len(trials) for group, trials in self._at_hand.items() if group.is_new)
        worth = self._sampler.at_once(self._begun, unanswered=len(self._unanswered), at_hand=fresh)
        return min(self.plan.trials - self._begun, worth)

    @property
    def is_spent(self) -> bool:
        """Whether no trial is at hand or can be made; some may be in flight."""
        return not self._at_hand and (self._is_exhausted or self._begun >= self.plan.trials)

    def take_up(self, trial: TrialView, pending: PendingTrial | None, rung_values: Mapping[int, float | None], *, is_alone: bool = False) -> None:
        """Take up a trial from the record, in the order of numbers.

        Args:
            trial: as it stands; none is running.
            pending: the same as one that is queued; None where it has ended.
            rung_values: its objective at the rungs that it has reached, by epoch; None where it is not finite.
            is_alone: whether it is to be packed alone.
        """
        self._begun += 1
        self._handed_epochs += trial.epochs_done
        finite = {epoch: value for epoch, value in rung_values.items() if value is not None}
        self._sampler.remember(trial.number, trial.parameters, trial.state, trial.value, rung_values=finite)
        self._ladder.take_up(trial.number, trial.state, epochs_done=trial.epochs_done, to_epoch=trial.to_epoch, values=rung_values)
        if pending is None:
            return
        self._keep_values(trial.number, finite)
        if not rung_values:
            self._unanswered.add(trial.number)
        if pending.is_waiting:
            self._waiting[trial.number] = pending
        else:
            self.enqueue([pending], is_alone=is_alone)

    def draw(self, size: int) -> list[NewTrial]:
        """Return new trials, to be recorded and then enqueued: as many as make a pack of `size` with those at hand, or as may be made now."""
        sizes = Counter[int | None]({group.to_epoch: len(trials) for group, trials in self._at_hand.items() if group.is_new})
        new: list[NewTrial] = []
        allowed = self.drawable
        while len(new) < allowed and max(sizes.values(), default=0) < size and (trial := self._new_trial()) is not None:
            sizes[trial.to_epoch] += 1
            new.append(trial)
        return new

    def enqueue(self, trials: Iterable[PendingTrial], *, is_alone: bool = False) -> None:
        """Let trials be handed out: new, promoted, or given back by a worker that was lost."""
        for trial in trials:
            group = Group(trial.epochs_done, trial.to_epoch, trial.epochs_done == 0 and trial.attempt == 1, trial.number if is_alone else None)
            self._at_hand.setdefault(group, deque()).append(trial)

    def first_group(self) -> Group | None:
        """Return the group that is to be handed out first: what has come furthest, of equals what was lost, alone or not, then the fullest."""
        return max(self._at_hand, key=lambda g: (g.from_epoch, not g.is_new, g.alone is not None, len(self._at_hand[g])), default=None)

    def hand_out(self, group: Group, count: int) -> tuple[PendingTrial, ...]:
        """Return at most so many trials of a group, which are at hand no more."""
        trials = self._at_hand[group]
        taken = tuple(trials.popleft() for _ in range(min(count, len(trials))))
        if not trials:
            del self._at_hand[group]
        self._handed_epochs += len(taken) * (group.to_epoch - group.from_epoch)
        return taken

    def taken_back(self, trial: PendingTrial) -> None:
        """Note that a trial did not come to the epoch that it was handed out for."""
        self._handed_epochs -= trial.to_epoch - trial.epochs_done
        self._best.pop(trial.number, None)
        self._keep_values(trial.number, self._rung_values.get(trial.number, {}))

    def restarted(self, trial: PendingTrial) -> None:
        """Note that a trial has lost its checkpoint and begins again; what is known of it is forgotten."""
        self._forget_values(trial.number)
        self._unanswered.add(trial.number)
        self._sampler.reach(trial.number, {})

    def measured(self, trial: PendingTrial, epoch: int, metric: float | None) -> bool:
        """Note a trial's validation value; return whether it has come to its rung, where it waits from now on."""
        if metric is not None and self._is_best:
            before = self._best.get(trial.number, metric)
            self._best[trial.number] = max(before, metric) if self._is_maximized else min(before, metric)
        return epoch == trial.to_epoch < self._epochs

    def rested(self, trial: PendingTrial, metric: float | None) -> None:
        """Note that a trial has come to its rung.

        Args:
            trial: as it is queued now.
            metric: its validation value there.
        """
        value = self._best.get(trial.number, metric) if self._is_best else metric
        self._unanswered.discard(trial.number)
        reached = self._rung_values.setdefault(trial.number, {})
        if value is not None:
            reached[trial.to_epoch] = value
            self._sampler.reach(trial.number, reached)
        self._ladder.wait(trial.number, value)
        self._waiting[trial.number] = trial

    def ended(self, trial: PendingTrial, state: TrialState, value: float | None) -> None:
        """Note how a trial that was at hand or in flight ended."""
        self._ladder.end(trial.number, completed=state is TrialState.COMPLETED)
        self._told(trial, state, value)

    def settle(self) -> tuple[list[tuple[PendingTrial, int]], list[PendingTrial]]:
        """Return the waiting trials that go on, each with the epoch it goes on to, and those that are pruned; they wait no more."""
        decision = self._ladder.settle()
        promoted = [(self._waiting.pop(number), to_epoch) for number, to_epoch in decision.promoted]
        pruned = [self._waiting.pop(number) for number in decision.pruned]
        for trial in pruned:
            self._told(trial, TrialState.PRUNED, None)
        return promoted, pruned

    def _new_trial(self) -> NewTrial | None:
        """Return the arm's next trial, or None when its space holds no other configuration."""
        number = self._begun
        parameters = self.plan.defaults if number == 0 else self._sampler.propose(number)
        if parameters is None:
            self._is_exhausted = True
            self._ladder.end_of_trials()
            return None
        if number == 0:
            self._sampler.remember(0, parameters, TrialState.RUNNING, None)
        self._begun += 1
        self._unanswered.add(number)
        self._ladder.begin(number)
        return NewTrial(
            arm=self.plan.name,
            number=number,
            origin="default" if number == 0 else "sampled",
            parameters=parameters,
            seed=self._seed,
            to_epoch=self._ladder.first_stop(number),
            bracket=self._ladder.bracket(number),
        )

    def _told(self, trial: PendingTrial, state: TrialState, value: float | None) -> None:
        assert state in FINISHED_TRIAL_STATES, "only an end is told"
        self._unanswered.discard(trial.number)
        self._forget_values(trial.number)
        self._sampler.tell(trial.number, state, value)

    def _keep_values(self, number: int, rung_values: Mapping[int, float]) -> None:
        """Keep what a trial without an end goes on from."""
        if rung_values:
            self._rung_values[number] = dict(rung_values)
            if self._is_best:
                self._best[number] = rung_values[max(rung_values)]

    def _forget_values(self, number: int) -> None:
        self._rung_values.pop(number, None)
        self._best.pop(number, None)
