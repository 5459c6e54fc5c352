"""Which trials go on from a rung, and which are pruned there.

Pure rules over one arm's trials, no SQL and no training.

A rung is an epoch at which trials stop to be compared. A trial that has reached one waits there until it is
promoted, to the next rung or to its last epoch, or pruned. A `Ladder` follows the trials of one arm. What it
decides hangs on which trials stand where and on nothing else, so that a ladder filled from the record decides
as the one that was lost with its run would have.
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
    """What becomes of waiting trials.

    Attributes:
        promoted: number of each trial that goes on, and the epoch it goes on to; those from the highest rung
            first, of a rung the best first.
        pruned: numbers of those that do not.
    """

    promoted: tuple[tuple[int, int], ...] = ()
    pruned: tuple[int, ...] = ()


def rungs(pruner: Pruner, epochs: int, *, bracket: int = 0) -> tuple[int, ...]:
    """Return the epochs at which trials of a bracket stop to be compared, ascending.

    The last epoch is none of them.
    """
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
    """Return how many brackets an arm's trials are divided into.

    One more than there are rungs with Hyperband, else one.
    """
    return len(rungs(pruner, epochs)) + 1 if isinstance(pruner, Hyperband) else 1


def _shares(pruner: Pruner, epochs: int) -> list[int]:
    """Return in which proportion brackets get trials.

    `ceil(B / (s + 1) * eta**s)` with s rungs (Li et al. 2018, algorithm 1).
    """
    count = brackets(pruner, epochs)
    if not isinstance(pruner, Hyperband):
        return [1]
    # Whole numbers: eta**s soon is more than a float can tell apart.
    return [-(-count * pruner.reduction_factor**s // (s + 1)) for s in reversed(range(count))]


def _first(total: int, share: int, rest: int) -> int:
    """Return how many of `total` trials fall to the first of two parties."""
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


def planned_epochs(pruner: Pruner, epochs: int, *, trials: int) -> int:
    """Return the epochs that an arm trains in all when none of its trials diverges or fails.

    With `median` the most that it can be.
    """
    if isinstance(pruner, NoPruner | Median):
        return trials * epochs
    total = 0
    for bracket, count in enumerate(_trials_in(pruner, epochs, trials=trials)):
        done, going = 0, count
        for rung in rungs(pruner, epochs, bracket=bracket):
            total += going * (rung - done)
            done, going = rung, max(1, going // pruner.reduction_factor) if going else 0
        total += going * (epochs - done)
    return total


@dataclass
class _Rung:
    """One rung of one bracket: who waits there, and how many have come and gone on."""

    epoch: int
    next_stop: int
    arrived: int = 0
    promoted: int = 0
    # Best first.
    waiting: list[_Key] = field(default_factory=list[_Key])
    # Values of all whose place is decided, ascending; for the median only.
    decided: list[float] = field(default_factory=list[float])


@dataclass
class _Bracket:
    # By epoch, ascending.
    rungs: dict[int, _Rung]
    expected: int
    begun: int = 0
    completed: int = 0
    # Trials on their way, by the epoch at which they stop next.
    flying: Counter[int] = field(default_factory=Counter[int])


class Ladder:
    """The rungs of one arm.

    `asha`, and `hyperband` in each bracket: of the m trials that have come to a rung the best floor(m /
    reduction_factor) go on, as soon as that is known; a trial that diverged or failed on its way there has
    come, as the worst. Equal values stand in the order of the trials' numbers.

    Deviations from Li et al. 2020: never more than floor(m / reduction_factor) go on from a rung, even where
    one that went on early has fallen behind since, so that arms with equal trials train equal epochs; and
    when everything has stopped without a single trial having reached its last epoch, the best of the highest
    rung goes on, so that every arm in which anything lives has a completed trial. Until one has, nobody is
    pruned; from then on a waiting trial is pruned as soon as so many better ones wait that it can never go
    on.

    `median`: a trial is pruned at a rung when it is worse than the median of all that came there before it,
    those diverged or failed on their way as the worst; the first `min_trials` pass. Deviation from Golovin et
    al. 2017: their trial is judged by its best value so far against the others' running averages; here by the
    study's objective at that epoch. Trials that arrive together are judged in the order of their numbers.
    """

    def __init__(self, pruner: Pruner, *, epochs: int, trials: int, maximize: bool) -> None:
        """Make an empty ladder.

        Args:
            pruner: the rule.
            epochs: epochs of a whole trial.
            trials: how many trials the arm will have in all; `end_of_trials` tells when there are fewer.
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
        """Return the epoch that a new trial is trained to.

        Its bracket's first rung, or its last epoch where there is none.
        """
        return next(iter(self._brackets[self.bracket(number)].rungs), self._epochs)

    def begin(self, number: int) -> None:
        """Note a new trial, on its way to its first stop."""
        self._enter(number, self.first_stop(number))

    def wait(self, number: int, value: float | None) -> None:
        """Note that a trial has come to its rung and waits there.

        Args:
            number: the trial.
            value: the study's objective at that epoch; None where it is not finite, which is worse than any
                number.
        """
        _, rung = self._leave(number)
        assert rung is not None, "a trial's last epoch is no rung"
        rung.arrived += 1
        bisect.insort(rung.waiting, (self._cost(value), number))

    def end(self, number: int, *, completed: bool) -> None:
        """Note that a trial on its way has ended.

        At its last epoch, or, diverged or failed, as the worst of the rung it was on its way to.
        """
        bracket, rung = self._leave(number)
        del self._stop[number]
        bracket.completed += int(completed)
        if rung is not None:
            rung.arrived += 1
            self._judge(rung, math.inf)

    def end_of_trials(self) -> None:
        """Note that no further trial will begin, though the arm was to have more."""
        for bracket in self._brackets:
            bracket.expected = bracket.begun

    def take_up(
        self,
        number: int,
        state: TrialState,
        *,
        epochs_done: int,
        to_epoch: int,
        values: Mapping[int, float | None],
    ) -> None:
        """Note a trial that stands on record; what is to be decided of it comes with the next `settle`.

        Args:
            number: the trial, each of them once.
            state: where it stands.
            epochs_done: epochs it has trained.
            to_epoch: the epoch that it was to be trained to.
            values: the study's objective by epoch, of the rungs it has reached.
        """
        bracket = self._brackets[self.bracket(number)]
        self._enter(number, to_epoch)
        for rung in bracket.rungs.values():
            if rung.epoch < to_epoch:
                rung.arrived += 1
                rung.promoted += 1
                # Its value is unknown while a trial that lost its checkpoint is trained anew; it was good
                # enough.
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
        """Return what becomes of the waiting trials by now, taken as done.

        Call it after every report, and carry it out.
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
        # From the sort's stability those of one rung stay in the order in which they were promoted.
        promoted.sort(key=lambda going: -going[1])
        return PromotionDecision(tuple(promoted), tuple(pruned))

    def _settle_by_rank(
        self, bracket: _Bracket, eta: int, promoted: list[tuple[int, int]], pruned: list[int]
    ) -> None:
        for rung in bracket.rungs.values():
            while rung.waiting and rung.promoted < rung.arrived // eta:
                promoted.append(self._promote(bracket, rung, rung.waiting.pop(0)[1]))
        has_stopped = bracket.begun == bracket.expected and not bracket.flying.total()
        if has_stopped and not bracket.completed:
            highest = next((rung for rung in reversed(bracket.rungs.values()) if rung.waiting), None)
            promoted += (
                [] if highest is None else [self._promote(bracket, highest, highest.waiting.pop(0)[1])]
            )
        if bracket.completed:
            # How many may still come to each rung, at most.
            coming = bracket.expected - bracket.begun
            for rung in bracket.rungs.values():
                coming += bracket.flying[rung.epoch]
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
        bracket.flying[rung.next_stop] += 1
        self._stop[number] = rung.next_stop
        return number, rung.next_stop

    def _enter(self, number: int, stop: int) -> None:
        bracket = self._brackets[self.bracket(number)]
        bracket.begun += 1
        bracket.flying[stop] += 1
        self._stop[number] = stop

    def _leave(self, number: int) -> tuple[_Bracket, _Rung | None]:
        """Return a trial's bracket and the rung it was on its way to, None for its last epoch.

        It is on its way no more.
        """
        bracket = self._brackets[self.bracket(number)]
        stop = self._stop[number]
        bracket.flying[stop] -= 1
        return bracket, bracket.rungs.get(stop)

    def _judge(self, rung: _Rung, cost: float) -> None:
        if isinstance(self._pruner, Median):
            bisect.insort(rung.decided, cost)

    def _cost(self, value: float | None) -> float:
        """Return a value such that less is better."""
        return math.inf if value is None or not math.isfinite(value) else self._sign * value


def _median(ascending: list[float]) -> float:
    """Return the median of sorted numbers, of an even count the mean of the middle two."""
    middle = len(ascending) // 2
    if len(ascending) % 2:
        return ascending[middle]
    return (ascending[middle - 1] + ascending[middle]) / 2
