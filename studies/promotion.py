"""Which trials are promoted from a rung and which are pruned: pure rules, no SQL and no training.

A rung is an epoch at which trials stop to be compared. A trial that reaches one waits there until it is
promoted (to the next rung or to its last epoch) or pruned. A `Ladder` follows the trials of one arm. Its
decisions depend only on the positions of the trials, so a ladder that is restored from the database decides
exactly as the one that was lost with its run.
"""

__all__ = ["Ladder", "PromotionDecision", "bracket_of", "brackets", "planned_epochs", "rungs"]

import bisect
import itertools
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from studies.pruner import Asha, Hyperband, Median, NoPruner, Pruner
from studies.states import TrialState

_Key = tuple[float, int]


@dataclass(frozen=True)
class PromotionDecision:
    """Decisions about waiting trials.

    Attributes:
        promoted: number of each promoted trial and the epoch at which it stops next; from the highest rung
            first, and within a rung the best first.
        pruned: numbers of the pruned trials.
    """

    promoted: tuple[tuple[int, int], ...] = ()
    pruned: tuple[int, ...] = ()


def rungs(pruner: Pruner, epochs: int, *, bracket: int = 0) -> tuple[int, ...]:
    """Return the epochs at which a bracket's trials stop to be compared, ascending, without the last."""
    match pruner:
        case NoPruner():
            return ()
        case Median():
            return tuple(range(pruner.min_epochs, epochs, pruner.every_epochs))
        case Asha() | Hyperband():
            found: list[int] = []
            epoch = pruner.min_epochs
            while epoch < epochs:
                found.append(epoch)
                epoch *= pruner.reduction_factor
            return tuple(found[bracket:])


def brackets(pruner: Pruner, epochs: int) -> int:
    """Return the number of brackets of an arm: one more than rungs with Hyperband, else one."""
    return len(rungs(pruner, epochs)) + 1 if isinstance(pruner, Hyperband) else 1


def _shares(pruner: Pruner, epochs: int) -> list[int]:
    """Return the proportions in which brackets get trials.

    `ceil(B / (s + 1) * eta**s)` with s rungs (Li et al. 2018, algorithm 1).
    """
    count = brackets(pruner, epochs)
    if not isinstance(pruner, Hyperband):
        return [1]
    # Integers, because eta**s soon exceeds the precision of a float.
    return [-(-count * pruner.reduction_factor**s // (s + 1)) for s in reversed(range(count))]


def _first(total: int, share: int, rest: int) -> int:
    """Return how many of `total` trials go to the first of two parts."""
    return -(-total * share // (share + rest))


def bracket_of(pruner: Pruner, epochs: int, *, number: int) -> int:
    """Return the bracket of a trial.

    Hyperband's proportions hold for the trials up to any number, to within two of each bracket.
    """
    shares = _shares(pruner, epochs)
    rest = sum(shares)
    for bracket, share in enumerate(shares):
        rest -= share
        before, after = _first(number, share, rest), _first(number + 1, share, rest)
        if after > before:
            return bracket
        number -= before
    raise AssertionError("the last bracket takes whatever the others leave")


def _trials_in(pruner: Pruner, epochs: int, *, trials: int) -> list[int]:
    """Return how many of an arm's trials each bracket gets."""
    shares = _shares(pruner, epochs)
    rest, counts = sum(shares), list[int]()
    for share in shares:
        rest -= share
        counts.append(_first(trials, share, rest))
        trials -= counts[-1]
    return counts


def planned_epochs(pruner: Pruner, epochs: int, *, trials: int, paired: int = 0) -> int:
    """Return the epochs that an arm trains in all if no trial diverges or fails; with `median` a maximum.

    Args:
        pruner: the study's pruner.
        epochs: epochs of a trial that is not pruned.
        trials: trials of the arm in one replicate.
        paired: how many of them are paired, and so never pruned.
    """
    if isinstance(pruner, NoPruner | Median):
        return trials * epochs
    unpaired = max(1, trials - paired)
    total = (trials - unpaired) * epochs
    for bracket, count in enumerate(_trials_in(pruner, epochs, trials=unpaired)):
        done, going = 0, count
        for rung in rungs(pruner, epochs, bracket=bracket):
            total += going * (rung - done)
            done, going = rung, max(1, going // pruner.reduction_factor) if going else 0
        total += going * (epochs - done)
    return total


@dataclass
class _Rung:
    """One rung of one bracket: its waiting trials, and how many have arrived and been promoted."""

    epoch: int
    next_stop: int
    arrived: int = 0
    promoted: int = 0
    # Best first.
    waiting: list[_Key] = field(default_factory=list[_Key])
    # Costs of all decided trials, ascending; only for the median.
    decided: list[float] = field(default_factory=list[float])


@dataclass
class _Bracket:
    # By epoch, ascending.
    rungs: dict[int, _Rung]
    expected: int
    begun: int = 0
    completed: int = 0
    # Number of trials in training, by the epoch at which they stop next.
    in_flight: Counter[int] = field(default_factory=Counter[int])


class Ladder:
    """The rungs of one arm.

    `asha`, and `hyperband` in each bracket: of the m trials that have reached a rung, the best floor(m /
    reduction_factor) are promoted as soon as that is known. A trial that diverged or failed on its way to a
    rung counts as the worst there. Equal values are ordered by the trials' numbers.

    Deviations from Li et al. 2020: never more than floor(m / reduction_factor) trials are promoted from a
    rung, even if one that was promoted early has fallen behind since, so that arms with equal trials train
    equal epochs. And if everything has stopped before any trial reached its last epoch, the best trial of the
    highest rung is promoted, so that every arm with a live trial has a completed one. Until one has
    completed, no trial is pruned; after that, a waiting trial is pruned as soon as enough better ones wait
    that it can never be promoted.

    `median`: a trial is pruned at a rung if it is worse than the median of all that reached it before, where
    those that diverged or failed on their way count as the worst; the first `min_trials` pass. Deviation from
    Golovin et al. 2017: they compare a trial's best value so far with the running averages of the others;
    here the study's objective at that epoch is compared. Trials that arrive together are judged in the order
    of their numbers.
    """

    def __init__(self, pruner: Pruner, *, epochs: int, trials: int, maximize: bool) -> None:
        """Make an empty ladder.

        Args:
            pruner: the rule.
            epochs: epochs of a whole trial.
            trials: how many trials the arm will have in all; call `end_of_trials` if there are fewer.
            maximize: whether larger values are better.
        """
        self._pruner = pruner
        self._epochs = epochs
        self._sign = -1.0 if maximize else 1.0
        self._stop: dict[int, int] = {}
        self._brackets: list[_Bracket] = []
        for bracket, expected in enumerate(_trials_in(pruner, epochs, trials=trials)):
            stops = (*rungs(pruner, epochs, bracket=bracket), epochs)
            steps = {epoch: _Rung(epoch, after) for epoch, after in itertools.pairwise(stops)}
            self._brackets.append(_Bracket(steps, expected))

    def bracket(self, number: int) -> int:
        """Return the bracket of a trial."""
        return bracket_of(self._pruner, self._epochs, number=number)

    def first_stop(self, number: int) -> int:
        """Return the epoch at which a new trial stops first: its first rung, else its last epoch."""
        return next(iter(self._brackets[self.bracket(number)].rungs), self._epochs)

    def begin(self, number: int) -> None:
        """Record a new trial on its way to its first stop."""
        self._enter(number, self.first_stop(number))

    def wait(self, number: int, value: float | None) -> None:
        """Record that a trial has reached its rung and waits there.

        Args:
            number: the trial.
            value: the study's objective at that epoch; None if it is not finite: worse than any number.
        """
        _, rung = self._leave(number)
        assert rung is not None, "the last epoch of a trial is not a rung"
        rung.arrived += 1
        bisect.insort(rung.waiting, (self._cost(value), number))

    def end(self, number: int, *, completed: bool) -> None:
        """Record that a trial in training completed, or else ended as the worst of its next rung."""
        bracket, rung = self._leave(number)
        del self._stop[number]
        bracket.completed += int(completed)
        if rung is not None:
            rung.arrived += 1
            self._judge(rung, math.inf)

    def end_of_trials(self) -> None:
        """Record that no further trial will begin, although more were planned."""
        for bracket in self._brackets:
            bracket.expected = bracket.begun

    def restore(
        self,
        number: int,
        state: TrialState,
        *,
        epochs_done: int,
        to_epoch: int,
        values: Mapping[int, float | None],
    ) -> None:
        """Record a stored trial; the next `settle` decides about it if it waits.

        Args:
            number: the trial; call once for each.
            state: its state.
            epochs_done: epochs that it has trained.
            to_epoch: the epoch at which it was to stop next.
            values: the study's objective by epoch, at the rungs that it has reached.
        """
        bracket = self._brackets[self.bracket(number)]
        self._enter(number, to_epoch)
        for rung in bracket.rungs.values():
            if rung.epoch < to_epoch:
                rung.arrived += 1
                rung.promoted += 1
                # The value is unknown while a trial that lost its checkpoint is trained again from the start;
                # it was good enough to be promoted.
                self._judge(rung, self._cost(values[rung.epoch]) if rung.epoch in values else -math.inf)
        if state is TrialState.PRUNED:
            _, rung = self._leave(number)
            del self._stop[number]
            if rung is not None:
                rung.arrived += 1
                self._judge(rung, self._cost(values.get(to_epoch)))
        elif state in {TrialState.COMPLETED, TrialState.DIVERGED, TrialState.FAILED, TrialState.CANCELLED}:
            self.end(number, completed=state is TrialState.COMPLETED)
        elif epochs_done == to_epoch < self._epochs:
            self.wait(number, values.get(to_epoch))

    def settle(self) -> PromotionDecision:
        """Decide about the waiting trials, and record the decisions as carried out.

        Call it after every report, and carry the decisions out.
        """
        promoted: list[tuple[int, int]] = []
        pruned: list[int] = []
        for bracket in self._brackets:
            if isinstance(self._pruner, Median):
                self._settle_by_median(bracket, self._pruner.min_trials, promoted, pruned)
            elif not isinstance(self._pruner, NoPruner):
                self._settle_by_rank(bracket, self._pruner.reduction_factor, promoted, pruned)
        for number in pruned:
            del self._stop[number]
        # The sort is stable, so trials of one rung stay in the order in which they were promoted.
        promoted.sort(key=lambda going: -going[1])
        return PromotionDecision(tuple(promoted), tuple(pruned))

    def _settle_by_rank(
        self, bracket: _Bracket, eta: int, promoted: list[tuple[int, int]], pruned: list[int]
    ) -> None:
        for rung in bracket.rungs.values():
            while rung.waiting and rung.promoted < rung.arrived // eta:
                promoted.append(self._promote(bracket, rung, rung.waiting.pop(0)[1]))
        has_stopped = bracket.begun == bracket.expected and not bracket.in_flight.total()
        if has_stopped and not bracket.completed:
            highest = next((rung for rung in reversed(bracket.rungs.values()) if rung.waiting), None)
            promoted += (
                [] if highest is None else [self._promote(bracket, highest, highest.waiting.pop(0)[1])]
            )
        if bracket.completed:
            # The most trials that may still reach each rung.
            coming = bracket.expected - bracket.begun
            for rung in bracket.rungs.values():
                coming += bracket.in_flight[rung.epoch]
                room = max(0, (rung.arrived + coming) // eta - rung.promoted)
                pruned += [number for _, number in rung.waiting[room:]]
                del rung.waiting[room:]
                coming = min(room, coming + len(rung.waiting))

    def _settle_by_median(
        self, bracket: _Bracket, min_trials: int, promoted: list[tuple[int, int]], pruned: list[int]
    ) -> None:
        for rung in bracket.rungs.values():
            for cost, number in sorted(rung.waiting, key=lambda key: key[1]):
                if len(rung.decided) >= min_trials and cost > _median(rung.decided):
                    pruned.append(number)
                else:
                    promoted.append(self._promote(bracket, rung, number))
                self._judge(rung, cost)
            rung.waiting.clear()

    def _promote(self, bracket: _Bracket, rung: _Rung, number: int) -> tuple[int, int]:
        rung.promoted += 1
        bracket.in_flight[rung.next_stop] += 1
        self._stop[number] = rung.next_stop
        return number, rung.next_stop

    def _enter(self, number: int, stop: int) -> None:
        bracket = self._brackets[self.bracket(number)]
        bracket.begun += 1
        bracket.in_flight[stop] += 1
        self._stop[number] = stop

    def _leave(self, number: int) -> tuple[_Bracket, _Rung | None]:
        """Return a trial's bracket and the rung that it has reached (None: its last epoch)."""
        bracket = self._brackets[self.bracket(number)]
        stop = self._stop[number]
        bracket.in_flight[stop] -= 1
        return bracket, bracket.rungs.get(stop)

    def _judge(self, rung: _Rung, cost: float) -> None:
        if isinstance(self._pruner, Median):
            bisect.insort(rung.decided, cost)

    def _cost(self, value: float | None) -> float:
        """Return the value as a cost, where lower is better."""
        return math.inf if value is None or not math.isfinite(value) else self._sign * value


def _median(ascending: list[float]) -> float:
    """Return the median of sorted numbers; for an even count, the mean of the middle two."""
    middle = len(ascending) // 2
    if len(ascending) % 2:
        return ascending[middle]
    return (ascending[middle - 1] + ascending[middle]) / 2
