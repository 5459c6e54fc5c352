"""The replay of one search on a table, without training.

`ArmSampler` proposes, `Ladder` decides, and packs are dispatched as in a study.
"""

__all__ = ["Search", "regret_with_pairs", "replay", "trials_for"]

import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np
from search_spaces import Problem

from studies.promotion import Ladder, planned_epochs
from studies.pruner import Median, Pruner
from studies.space import Parameters
from studies.spec import SamplerName
from studies.states import TrialState
from workers.sampling import ArmSampler


@dataclass
class Search:
    """The result of a search.

    Attributes:
        by_number: regret of each trial's configuration, by trial number.
        found: at each completion of a trial, the cost spent so far and the lowest regret of a completed
            trial.
        spent: total cost, in the problem's unit.
    """

    by_number: list[float] = field(default_factory=list[float])
    found: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    spent: float = 0.0

    def after_trials(self, trials: int) -> float:
        """Return the lowest regret among this number of first trials."""
        return min(self.by_number[:trials])

    def after_cost(self, cost: float) -> float:
        """Return the lowest regret of the trials completed within this cost.

        If there are none it is 1, the regret of the median configuration.
        """
        return min((regret for spent, regret in self.found if spent <= cost), default=1.0)

    def cost_to(self, regret: float) -> float:
        """Return the cost at which the first trial of at most this regret completed, or inf."""
        return min((spent for spent, reached in self.found if reached <= regret), default=math.inf)


def trials_for(pruner: Pruner, *, epochs: int, budget: int) -> int:
    """Return how many trials a rule can afford with the epochs of `budget` whole trials.

    For `median` this is an upper bound.
    """
    if isinstance(pruner, Median):
        # The number of stopped trials is not known in advance; results beyond the budget are ignored.
        return 3 * budget
    trials = budget
    while planned_epochs(pruner, epochs, trials=trials + 1) <= budget * epochs:
        trials += 1
    return trials


def replay(
    problem: Problem,
    *,
    sampler: SamplerName,
    pruner: Pruner,
    trials: int,
    batch: int,
    workers: int,
    seed: int,
    start: int = 0,
) -> Search:
    """Return a search with this number of trials.

    Args:
        problem: the table to search.
        sampler: how configurations are proposed.
        pruner: which trials continue.
        trials: number of trials started.
        batch: largest number of trials in a pack; those of a new pack are proposed together, before any of
            them has a value.
        workers: packs in flight at once; they end in the order in which they began.
        seed: the study's seed.
        start: the first trials, which are proposed together even if a pack has fewer.
    """
    chooser = ArmSampler(problem.arm(trials), sampler=sampler, direction="maximize", seed=seed)
    ladder = Ladder(pruner, epochs=problem.epochs, trials=trials, maximize=True)
    run = _Run(problem, chooser=chooser, ladder=ladder, trials=trials, batch=batch, start=start)
    flying: deque[_Pack] = deque()
    while True:
        while len(flying) < workers and (pack := run.next_pack()):
            flying.append(pack)
        if not flying:
            return run.search
        run.end(flying.popleft())


def regret_with_pairs(
    problem: Problem, *, sampler: SamplerName, trials: int, paired: int, seed: int
) -> float:
    """Return the regret of the configuration that a search chooses if its first trials are paired.

    After the middle of the table, as an arm's default configuration, `paired` trials are drawn at random, and
    the sampler learns from them. A trial's value is that of one seed of the table.

    Args:
        problem: one of HPOBench's tables.
        sampler: how the other trials are proposed.
        trials: number of trials, with the first one.
        paired: at most `trials` - 1.
        seed: the study's seed.
    """
    rng = np.random.default_rng([seed, 7])
    assert problem.runs is not None, "HPOBench's tables have the values of each seed"
    chooser = ArmSampler(problem.arm(trials), sampler=sampler, direction="maximize", seed=seed)
    points: list[int] = []
    values: list[float] = []
    for number in range(trials):
        parameters: Parameters | None
        if number <= paired:
            levels = (n // 2 if number == 0 else int(rng.integers(n)) for n in problem.axes.values())
            parameters = dict(zip(problem.axes, levels, strict=True))
            chooser.load(number, parameters, TrialState.QUEUED, None)
        else:
            parameters = chooser.propose(number)
            assert parameters is not None, f"{problem.name} has fewer than {trials} points"
        points.append(problem.point(parameters))
        values.append(float(rng.choice(problem.runs[points[-1]])))
        chooser.finish(number, TrialState.COMPLETED, values[-1])
    return float(problem.regrets[points[int(np.argmax(values))]])


# Each trial's number, and the epoch up to which it is trained.
_Pack = list[tuple[int, int]]


class _Run:
    """The study's part of a search: it chooses the next pack's trials and decides about the ended ones."""

    def __init__(
        self, problem: Problem, *, chooser: ArmSampler, ladder: Ladder, trials: int, batch: int, start: int
    ) -> None:
        self.search = Search()
        self._problem = problem
        self._chooser = chooser
        self._ladder = ladder
        self._trials = trials
        self._batch = batch
        self._start = start
        self._points: list[int] = []
        self._done: list[int] = []
        self._reached: dict[int, dict[int, float]] = {}
        # Promoted trials by the number of epochs they have completed.
        self._ready: dict[int, deque[tuple[int, int]]] = {}

    def next_pack(self) -> _Pack:
        """Return the next pack: promoted trials with the most epochs first, then new ones.

        It is empty if there is nothing to train now.
        """
        if not self._ready:
            return self._new()
        furthest = max(self._ready)
        group = self._ready[furthest]
        taken = [group.popleft() for _ in range(min(self._batch, len(group)))]
        if not group:
            del self._ready[furthest]
        return taken

    def end(self, pack: _Pack) -> None:
        """End a pack, and decide about the trials that wait at a rung."""
        for number, to_epoch in pack:
            self._end(number, to_epoch)
        decision = self._ladder.settle()
        for number, to_epoch in decision.promoted:
            self._ready.setdefault(self._done[number], deque()).append((number, to_epoch))
        for number in decision.pruned:
            self._tell(number, TrialState.PRUNED)

    def _new(self) -> _Pack:
        taken: _Pack = []
        size = max(self._batch, self._start - len(self._points))
        while len(taken) < size and len(self._points) < self._trials:
            number = len(self._points)
            # Start at 1: trial 0 of an arm has its defaults, which are not in a table.
            parameters = self._chooser.propose(number + 1)
            if parameters is None:
                self._ladder.end_of_trials()
                break
            self._points.append(self._problem.point(parameters))
            self._done.append(0)
            self.search.by_number.append(float(self._problem.regrets[self._points[-1]]))
            self._ladder.begin(number)
            taken.append((number, self._ladder.first_stop(number)))
        return taken

    def _end(self, number: int, to_epoch: int) -> None:
        point, done = self._points[number], self._done[number]
        curve = self._problem.values[point, done:to_epoch]
        lost = next((n for n, value in enumerate(curve, start=1) if math.isnan(value)), None)
        self._done[number] = to_epoch if lost is None else done + lost
        self.search.spent += float(self._problem.costs[point, done : self._done[number]].sum())
        if lost is not None:
            self._tell(number, TrialState.DIVERGED)
            self._ladder.end(number, completed=False)
        elif to_epoch == self._problem.epochs:
            self._tell(number, TrialState.COMPLETED, float(curve[-1]))
            self._ladder.end(number, completed=True)
            self.search.found.append((self.search.spent, self.search.by_number[number]))
        else:
            values = self._reached.setdefault(number, {})
            values[to_epoch] = float(curve[-1])
            self._chooser.set_rung_values(number + 1, values)
            self._ladder.wait(number, values[to_epoch])

    def _tell(self, number: int, state: TrialState, value: float | None = None) -> None:
        self._chooser.finish(number + 1, state, value)
