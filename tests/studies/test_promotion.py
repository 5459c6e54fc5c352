"""Rungs: promotion and pruning, equal epochs for equal trials, and decisions of a restored ladder."""

import math
import random
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from studies.promotion import Ladder, PromotionDecision, bracket_of, brackets, planned_epochs, rungs
from studies.pruner import Asha, Hyperband, Median, NoPruner, Pruner
from studies.states import TrialState

__all__: list[str] = []

ASHA = Asha()
DEAD = frozenset({TrialState.DIVERGED, TrialState.FAILED})


@dataclass
class Trained:
    """One trial as stored."""

    state: TrialState
    to_epoch: int
    epochs_done: int = 0
    values: dict[int, float | None] = field(default_factory=dict[int, float | None])

    @property
    def is_waiting(self) -> bool:
        return self.state is TrialState.QUEUED and 0 < self.epochs_done == self.to_epoch


class Arm:
    """An arm whose trials arrive in any order; `values` and `dies` are the results of training them."""

    def __init__(
        self,
        pruner: Pruner,
        *,
        epochs: int,
        trials: int,
        values: Mapping[tuple[int, int], float | None] | None = None,
        dies: Mapping[int, int] | None = None,
        maximize: bool = True,
    ) -> None:
        self.pruner, self.epochs, self.trials, self.maximize = pruner, epochs, trials, maximize
        self.values = values or {}
        self.dies = dies or {}
        self.ladder = self.empty()
        self.record: dict[int, Trained] = {}
        self.decisions: list[PromotionDecision] = []

    def empty(self) -> Ladder:
        return Ladder(self.pruner, epochs=self.epochs, trials=self.trials, maximize=self.maximize)

    def begin(self) -> None:
        number = len(self.record)
        self.record[number] = Trained(TrialState.QUEUED, self.ladder.first_stop(number))
        self.ladder.begin(number)

    def arrive(self, number: int) -> None:
        """Train a trial to its next stop, or until it ends before that."""
        trial = self.record[number]
        dies = self.dies.get(number, math.inf)
        if dies <= trial.to_epoch:
            trial.state, trial.epochs_done = TrialState.DIVERGED, int(dies)
            self.ladder.end(number, completed=False)
        elif trial.to_epoch == self.epochs:
            trial.state, trial.epochs_done = TrialState.COMPLETED, self.epochs
            self.ladder.end(number, completed=True)
        else:
            trial.epochs_done = trial.to_epoch
            trial.values[trial.to_epoch] = self.values.get((number, trial.to_epoch), float(number))
            self.ladder.wait(number, trial.values[trial.to_epoch])

    def settle(self) -> PromotionDecision:
        decision = self.ladder.settle()
        for number, to_epoch in decision.promoted:
            assert self.record[number].is_waiting
            self.record[number].to_epoch = to_epoch
        for number in decision.pruned:
            assert self.record[number].is_waiting
            self.record[number].state = TrialState.PRUNED
        self.decisions.append(decision)
        return decision

    def restored(self) -> Ladder:
        """Return a new ladder restored from the stored trials."""
        ladder = self.empty()
        for number, trial in self.record.items():
            ladder.restore(
                number,
                trial.state,
                epochs_done=trial.epochs_done,
                to_epoch=trial.to_epoch,
                values=trial.values,
            )
        return ladder

    def in_flight(self) -> list[int]:
        return [
            number
            for number, trial in self.record.items()
            if trial.state is TrialState.QUEUED and not trial.is_waiting
        ]

    def run(self, seed: int, *, restarts: bool = False) -> None:
        """Start trials and let them arrive in a random order, until no trial can move."""
        draw = random.Random(seed)
        while True:
            flying = self.in_flight()
            can_begin = len(self.record) < self.trials
            if not flying and not can_begin:
                return
            if can_begin and (not flying or draw.random() < 0.5):
                self.begin()
                continue
            for number in draw.sample(flying, k=draw.randint(1, min(4, len(flying)))):
                self.arrive(number)
            if restarts:
                assert self.restored().settle() == self.settle()
            else:
                self.settle()

    @property
    def epochs_trained(self) -> int:
        return sum(trial.epochs_done for trial in self.record.values())

    def arrived(self, rung: int, *, bracket: int = 0) -> list[int]:
        """Return the trials of a bracket that reached a rung or ended on their way to it."""
        mine = [number for number in self.record if self.ladder.bracket(number) == bracket]
        return [
            n
            for n in mine
            if self.record[n].to_epoch > rung
            or (self.record[n].to_epoch == rung and n not in self.in_flight())
        ]

    def promoted(self, rung: int, *, bracket: int = 0) -> list[int]:
        return [
            number for number in self.arrived(rung, bracket=bracket) if self.record[number].to_epoch > rung
        ]


def states(arm: Arm) -> dict[TrialState, int]:
    return {
        state: [trial.state for trial in arm.record.values()].count(state)
        for state in {trial.state for trial in arm.record.values()}
    }


HALVING = st.builds(Asha, min_epochs=st.integers(1, 4), reduction_factor=st.integers(2, 4))
BRACKETED = st.builds(Hyperband, min_epochs=st.integers(1, 3), reduction_factor=st.integers(2, 4))
MEDIAN = st.builds(
    Median, min_epochs=st.integers(1, 3), min_trials=st.integers(1, 5), every_epochs=st.integers(1, 3)
)
EPOCHS = st.integers(2, 30)
TRIALS = st.integers(1, 40)
SEEDS = st.integers(0, 2**20)
VALUES = st.dictionaries(
    st.tuples(st.integers(0, 39), st.integers(1, 30)), st.none() | st.integers(0, 5).map(float), max_size=60
)
DEATHS = st.dictionaries(st.integers(0, 39), st.integers(1, 30), max_size=20)


@pytest.mark.parametrize(
    ("pruner", "epochs", "expected"),
    [
        (NoPruner(), 9, ()),
        (Asha(), 9, (1, 3)),
        (Asha(), 10, (1, 3, 9)),
        (Asha(), 1, ()),
        (Asha(min_epochs=2, reduction_factor=2), 9, (2, 4, 8)),
        (Asha(min_epochs=9), 9, ()),
        (Median(min_epochs=2, every_epochs=3), 9, (2, 5, 8)),
    ],
)
def test_rungs_are_before_the_last_epoch(pruner: Pruner, epochs: int, expected: tuple[int, ...]) -> None:
    assert rungs(pruner, epochs) == expected


def test_each_bracket_of_hyperband_starts_one_rung_later_and_the_last_has_none() -> None:
    pruner = Hyperband()
    assert [rungs(pruner, 10, bracket=b) for b in range(brackets(pruner, 10))] == [
        (1, 3, 9),
        (3, 9),
        (9,),
        (),
    ]
    assert [brackets(other, 10) for other in (NoPruner(), Asha(), Median())] == [1, 1, 1]


def test_hyperbands_proportions_are_those_of_the_paper() -> None:
    # Three brackets, eta = 3: ceil(3/3 * 9), ceil(3/2 * 3), ceil(3/1 * 1).
    drawn = [bracket_of(Hyperband(), 9, number=number) for number in range(170)]
    assert [drawn.count(b) for b in range(3)] == [90, 50, 30]
    assert [drawn[:17].count(b) for b in range(3)] == [9, 5, 3]


@given(BRACKETED, EPOCHS, st.integers(1, 300))
def test_hyperbands_proportions_hold_up_to_any_number(pruner: Hyperband, epochs: int, trials: int) -> None:
    count = brackets(pruner, epochs)
    shares = [math.ceil(count / (s + 1) * pruner.reduction_factor**s) for s in reversed(range(count))]
    drawn = [bracket_of(pruner, epochs, number=number) for number in range(trials)]
    for bracket, share in enumerate(shares):
        assert abs(drawn.count(bracket) - trials * share / sum(shares)) <= 2
    assert drawn[0] == 0


def test_the_best_of_three_is_promoted_at_once() -> None:
    arm = Arm(ASHA, epochs=9, trials=9, values={(0, 1): 0.2, (1, 1): 0.9, (2, 1): 0.5})
    for number in range(3):
        arm.begin()
        assert arm.settle() == PromotionDecision()
        arm.arrive(number)
    assert arm.settle() == PromotionDecision(promoted=((1, 3),))
    assert arm.settle() == PromotionDecision(), "each decision is returned once"


def test_the_smallest_value_is_promoted_when_minimizing() -> None:
    arm = Arm(ASHA, epochs=9, trials=9, values={(0, 1): 0.2, (1, 1): 0.9, (2, 1): 0.5}, maximize=False)
    for number in range(3):
        arm.begin()
        arm.arrive(number)
    assert arm.settle().promoted == ((0, 3),)


def test_of_equal_values_the_lowest_number_is_promoted() -> None:
    arm = Arm(ASHA, epochs=9, trials=6, values={(n, 1): 0.5 for n in range(6)})
    for _ in range(6):
        arm.begin()
    for number in (5, 4, 3, 2, 1, 0):
        arm.arrive(number)
    assert arm.settle().promoted == ((0, 3), (1, 3))


def test_a_value_that_is_not_finite_is_worse_than_any_number() -> None:
    arm = Arm(ASHA, epochs=9, trials=3, values={(0, 1): None, (1, 1): math.nan, (2, 1): -1e300})
    for number in range(3):
        arm.begin()
        arm.arrive(number)
    assert arm.settle().promoted == ((2, 3),)


def test_a_trial_that_ends_early_counts_as_the_worst_at_its_next_rung() -> None:
    arm = Arm(ASHA, epochs=9, trials=9, dies={0: 1, 1: 1})
    for number in range(3):
        arm.begin()
        arm.arrive(number)
    assert arm.settle().promoted == ((2, 3),)


def test_promotions_from_higher_rungs_come_first() -> None:
    arm = Arm(Asha(reduction_factor=2), epochs=4, trials=6)
    for number in range(4):
        arm.begin()
        arm.arrive(number)
    assert arm.settle().promoted == ((3, 2), (2, 2))
    arm.begin()
    arm.begin()
    for number in (2, 3, 4, 5):
        arm.arrive(number)
    assert arm.settle().promoted == ((3, 4), (5, 2))


def test_an_early_promotion_uses_the_place_of_a_better_trial_that_arrives_later() -> None:
    arm = Arm(Asha(reduction_factor=2), epochs=2, trials=4)
    for number in range(2):
        arm.begin()
        arm.arrive(number)
    assert arm.settle().promoted == ((1, 2),)
    for number in (2, 3):
        arm.begin()
        arm.arrive(number)
    assert arm.settle().promoted == ((3, 2),), (
        "at most floor(4 / 2) are promoted, although trial 2 is better than trial 1"
    )


def test_trials_without_a_chance_are_pruned_once_a_trial_has_completed() -> None:
    arm = Arm(Asha(reduction_factor=2), epochs=2, trials=6)
    for _ in range(4):
        arm.begin()
    for number in range(4):
        arm.arrive(number)
    assert arm.settle() == PromotionDecision(promoted=((3, 2), (2, 2)))
    arm.arrive(3)
    assert arm.settle() == PromotionDecision(pruned=(0,)), (
        "of six trials three are promoted: two already, and trial 1 still can be"
    )
    arm.begin()
    arm.arrive(4)
    assert arm.settle() == PromotionDecision(pruned=(1,))
    arm.begin()
    arm.arrive(5)
    assert arm.settle() == PromotionDecision(promoted=((5, 2),), pruned=(4,))


def test_the_next_best_is_promoted_when_all_promoted_trials_have_failed() -> None:
    arm = Arm(ASHA, epochs=9, trials=4, dies={3: 2, 2: 5})
    arm.run(0)
    assert [arm.record[n].state for n in range(4)] == [
        TrialState.PRUNED,
        TrialState.COMPLETED,
        TrialState.DIVERGED,
        TrialState.DIVERGED,
    ]


def test_an_arm_without_live_trials_ends() -> None:
    arm = Arm(ASHA, epochs=9, trials=5, dies=dict.fromkeys(range(5), 1))
    arm.run(0)
    assert states(arm) == {TrialState.DIVERGED: 5}


def test_an_arm_with_fewer_trials_than_planned_is_decided_with_those_it_has() -> None:
    arm = Arm(ASHA, epochs=9, trials=9)
    for number in range(2):
        arm.begin()
        arm.arrive(number)
    assert arm.settle() == PromotionDecision(), "seven more trials may arrive"
    arm.ladder.end_of_trials()
    assert arm.settle() == PromotionDecision(promoted=((1, 3),))


@given(HALVING | BRACKETED, EPOCHS, TRIALS, SEEDS, VALUES)
def test_equal_trials_train_equal_epochs_whatever_their_values_and_the_order_of_arrival(
    pruner: Pruner, epochs: int, trials: int, seed: int, values: dict[tuple[int, int], float | None]
) -> None:
    arm = Arm(pruner, epochs=epochs, trials=trials, values=values)
    arm.run(seed)
    assert arm.epochs_trained == planned_epochs(pruner, epochs, trials=trials)
    assert set(states(arm)) <= {TrialState.COMPLETED, TrialState.PRUNED}, "no trial may be left waiting"


@given(HALVING | BRACKETED, EPOCHS, TRIALS, SEEDS, VALUES, DEATHS)
def test_at_most_one_in_eta_is_promoted_from_a_rung_and_one_completes_if_any_lives(
    pruner: Asha | Hyperband,
    epochs: int,
    trials: int,
    seed: int,
    values: dict[tuple[int, int], float | None],
    deaths: dict[int, int],
) -> None:
    deaths = {number: min(epoch, epochs) for number, epoch in deaths.items()}
    arm = Arm(pruner, epochs=epochs, trials=trials, values=values, dies=deaths)
    arm.run(seed)
    assert set(states(arm)) <= {TrialState.COMPLETED, TrialState.PRUNED, *DEAD}, (
        "no trial may be left waiting"
    )
    for bracket in range(brackets(pruner, epochs)):
        mine = [number for number in arm.record if arm.ladder.bracket(number) == bracket]
        completed = [number for number in mine if arm.record[number].state is TrialState.COMPLETED]
        assert bool(completed) == any(number not in deaths for number in mine)
        dead = {number for number in mine if arm.record[number].state in DEAD}
        for rung in rungs(pruner, epochs, bracket=bracket):
            going = arm.promoted(rung, bracket=bracket)
            limit = len(arm.arrived(rung, bracket=bracket)) // pruner.reduction_factor
            # More than the limit only if all the others have ended.
            assert len(going) <= max(limit, 1 + len(dead & set(going)))


@given(HALVING | BRACKETED | MEDIAN, EPOCHS, TRIALS, SEEDS, VALUES, DEATHS)
def test_a_restored_ladder_makes_the_same_decisions(
    pruner: Pruner,
    epochs: int,
    trials: int,
    seed: int,
    values: dict[tuple[int, int], float | None],
    deaths: dict[int, int],
) -> None:
    arm = Arm(pruner, epochs=epochs, trials=trials, values=values, dies=deaths)
    arm.run(seed, restarts=True)


@given(HALVING | BRACKETED, EPOCHS, TRIALS, SEEDS, VALUES, DEATHS, st.integers(0, 60))
def test_a_study_continues_with_a_restored_ladder(
    pruner: Pruner,
    epochs: int,
    trials: int,
    seed: int,
    values: dict[tuple[int, int], float | None],
    deaths: dict[int, int],
    steps: int,
) -> None:
    arm = Arm(pruner, epochs=epochs, trials=trials, values=values, dies=deaths)
    draw = random.Random(seed)
    for _ in range(steps):
        flying = arm.in_flight()
        if len(arm.record) < trials and (not flying or draw.random() < 0.5):
            arm.begin()
        elif flying:
            arm.arrive(draw.choice(flying))
            arm.settle()
    assume(arm.in_flight())
    # The run is lost: trials in flight are requeued and count as before.
    arm.ladder = arm.restored()
    arm.run(seed)
    assert set(states(arm)) <= {TrialState.COMPLETED, TrialState.PRUNED, *DEAD}
    if not deaths:
        assert arm.epochs_trained == planned_epochs(pruner, epochs, trials=trials)


@given(MEDIAN, EPOCHS, TRIALS, SEEDS, VALUES, st.booleans())
def test_the_median_rule_follows_its_definition(
    pruner: Median,
    epochs: int,
    trials: int,
    seed: int,
    values: dict[tuple[int, int], float | None],
    maximize: bool,
) -> None:
    arm = Arm(pruner, epochs=epochs, trials=trials, values=values, maximize=maximize)
    draw = random.Random(seed)
    came: dict[int, list[float]] = {}
    while len(arm.record) < trials or arm.in_flight():
        if len(arm.record) < trials and (not arm.in_flight() or draw.random() < 0.5):
            arm.begin()
            continue
        number = draw.choice(arm.in_flight())
        rung = arm.record[number].to_epoch
        arm.arrive(number)
        decision = arm.settle()
        if rung == epochs:
            assert decision == PromotionDecision()
            continue
        value = arm.record[number].values[rung]
        cost = math.inf if value is None else -value if maximize else value
        before = came.setdefault(rung, [])
        is_pruned = len(before) >= pruner.min_trials and cost > statistics.median(before)
        assert (number in decision.pruned) == is_pruned
        assert (number in dict(decision.promoted)) == (not is_pruned)
        before.append(cost)


def test_the_median_includes_trials_that_ended_early() -> None:
    arm = Arm(Median(min_trials=2), epochs=3, trials=4, dies={0: 1, 1: 1}, values={(2, 1): 0.1, (3, 1): 0.05})
    for number in range(4):
        arm.begin()
        arm.arrive(number)
        arm.settle()
    assert arm.record[2].to_epoch == arm.record[3].to_epoch == 2


def test_without_a_pruner_every_trial_is_trained_to_its_last_epoch() -> None:
    arm = Arm(NoPruner(), epochs=9, trials=5)
    arm.run(0)
    assert states(arm) == {TrialState.COMPLETED: 5}
    assert not any(decision.promoted or decision.pruned for decision in arm.decisions)


def test_a_promoted_trial_that_lost_its_checkpoint_counts_as_promoted() -> None:
    ladder = Ladder(ASHA, epochs=9, trials=3, maximize=True)
    ladder.restore(0, TrialState.QUEUED, epochs_done=0, to_epoch=3, values={})
    for number in (1, 2):
        ladder.restore(number, TrialState.QUEUED, epochs_done=1, to_epoch=1, values={1: 0.9})
    assert ladder.settle() == PromotionDecision(), "one of three has already been promoted"
    ladder.wait(0, 0.1)
    assert ladder.settle() == PromotionDecision(promoted=((0, 9),))


@given(HALVING | BRACKETED | MEDIAN, EPOCHS, TRIALS)
def test_planned_epochs_lie_between_one_whole_trial_and_all(pruner: Pruner, epochs: int, trials: int) -> None:
    assert epochs <= planned_epochs(pruner, epochs, trials=trials) <= trials * epochs
    assert planned_epochs(NoPruner(), epochs, trials=trials) == trials * epochs
    paired = planned_epochs(pruner, epochs, trials=trials + 5, paired=5)
    assert paired == planned_epochs(pruner, epochs, trials=trials) + 5 * epochs


@pytest.mark.parametrize("pruner", [Asha(), Hyperband(), Median()], ids=lambda pruner: pruner.kind)
def test_a_ladder_of_ten_thousand_trials_is_fast(pruner: Pruner) -> None:
    trials, draw = 10_000, random.Random(0)
    ladder = Ladder(pruner, epochs=27, trials=trials, maximize=True)
    flying: dict[int, int] = {}
    begun = events = 0
    began_at = time.perf_counter()
    while begun < trials or flying:
        if begun < trials and len(flying) < 16:
            ladder.begin(begun)
            flying[begun] = ladder.first_stop(begun)
            begun += 1
            continue
        number, stop = next(iter(flying.items()))
        del flying[number]
        if stop == 27:
            ladder.end(number, completed=True)
        else:
            ladder.wait(number, draw.random())
        flying |= dict(ladder.settle().promoted)
        events += 1
    # Measured: 20 to 60 microseconds each; the limit leaves room for a shared machine.
    assert (time.perf_counter() - began_at) / events < 1e-3
