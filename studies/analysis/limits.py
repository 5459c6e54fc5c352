"""The limits of a finding.

What its interval covers and what it does not, how much was tried, and what went amiss; each a sentence.
"""

__all__ = ["limits"]

from collections.abc import Iterator, Sequence
from typing import Final

from studies.analysis.noise import examples_error
from studies.analysis.study_results import ArmResults, StudyResults, has_test
from studies.analysis.verdicts import Verdict, diverged
from studies.analysis.views import Confirmed, RankFlip
from studies.analysis.wording import listed
from studies.formatting import count, difference, plural
from studies.states import StudyState, TrialState
from studies.statistics.paired import mean_interval

_FEW_SEEDS: Final = 5
_COVERS: Final = {
    "seeds and search": (
        "The interval of a difference covers the luck of the seeds and, estimated from the search’s own "
        "trials, of the search; more seeds hardly narrow it, replicates of the search do."
    ),
    "replicates": (
        "The interval of a difference covers the luck of whole searches, for "
        "each was repeated from its start."
    ),
}
_COUNTED: Final = {
    True: (
        "A mean leaves out the runs that diverged: pairs with such a run are "
        "judged by who did better on how many {}."
    ),
    False: (
        "Where all differences of a pair are the same there is no spread to tell chance by: it is judged "
        "by who did better on how many {}."
    ),
}


def limits(
    reading: StudyResults, verdict: Verdict, confirmed: Sequence[Confirmed], flips: Sequence[RankFlip]
) -> tuple[str, ...]:
    """Return what a reader has to know before trusting the finding, most telling first.

    Nothing before a trial has completed.

    Args:
        reading: the study.
        verdict: what its confirmed scores say.
        confirmed: its confirmed configurations.
        flips: budgets at which the lead by validation changes.
    """
    if all(arm.best is None for arm in reading.arms):
        return ()
    return (
        *_end(reading),
        *_confirmation(reading, confirmed),
        *_intervals(reading, verdict, confirmed),
        *_scope(reading, flips),
        *_amiss(reading, confirmed),
    )


def _end(reading: StudyResults) -> Iterator[str]:
    study, progress = reading.study, reading.study.progress
    if reading.is_stopped:
        how = {StudyState.FAILED: "failed", StudyState.CANCELLED: "was cancelled"}.get(
            study.state, "was stopped"
        )
        ended = progress.finished - progress.cancelled
        yield (
            f"The study {how} early: {count(ended)} of {plural(progress.trials, 'trial')} were run to an end."
        )


def _confirmation(reading: StudyResults, confirmed: Sequence[Confirmed]) -> Iterator[str]:
    waiting = [arm for arm in reading.arms if arm.best is not None and not arm.is_confirmed]
    if waiting:
        yield (
            "In the search each configuration was trained once, and the best of several looks better than "
            "it is: small differences may be noise."
        )
        yield _unconfirmed(reading, waiting)
        return
    runs = {
        (each.arm, run.trial_id): run.state
        for each in confirmed
        if each.configuration == "best"
        for run in each.runs
    }
    open_runs = sum(state in {TrialState.QUEUED, TrialState.RUNNING} for state in runs.values())
    if open_runs:
        yield (
            f"Of {plural(len(runs), 'confirmation run')} {count(open_runs)} "
            f"{'has' if open_runs == 1 else 'have'} not ended."
        )
    lost = [
        f"{count(n)} {'was' if n == 1 else 'were'} {what}"
        for state, what in ((TrialState.CANCELLED, "cancelled"), (TrialState.FAILED, "lost to faults"))
        if (n := sum(each is state for each in runs.values()))
    ]
    if lost:
        yield (
            f"Of {plural(len(runs), 'confirmation run')} {' and '.join(lost)}: "
            "the comparison rests on the others."
        )


def _unconfirmed(reading: StudyResults, waiting: Sequence[ArmResults]) -> str:
    who = (
        "No configuration has"
        if len(waiting) == sum(arm.best is not None for arm in reading.arms)
        else f"No configuration of {_names(waiting)} has"
    )
    if reading.study.spec.confirmation.seeds == 0:
        return f"{who} been confirmed on fresh seeds: the study asked for none."
    if (
        any(
            run.state in {TrialState.FAILED, TrialState.CANCELLED}
            for arm in waiting
            for run in arm.confirming
        )
        and reading.is_closed
    ):
        return f"{who} been confirmed on fresh seeds: no such run came to its end."
    if reading.is_stopped:
        return f"{who} been confirmed on fresh seeds: the study ended before that."
    return (
        f"{who} been confirmed on fresh "
        f"seeds{'' if reading.is_closed else ' yet: that follows each arm’s search'}."
    )


def _intervals(reading: StudyResults, verdict: Verdict, confirmed: Sequence[Confirmed]) -> Iterator[str]:
    for covers in dict.fromkeys(
        pair.covers for pair in verdict.pairs if pair.low is not None and pair.covers != "signs"
    ):
        yield _COVERS[covers]
    counted = [pair for pair in verdict.pairs if pair.n and pair.covers == "signs"]
    over = "searches" if any(len(arm.bests) > 1 for arm in reading.arms) else "seeds"
    for is_lost in dict.fromkeys(
        any(diverged(reading, reading.arm(pair.first), reading.arm(pair.second))) for pair in counted
    ):
        yield _COUNTED[is_lost].format(over)
    best = [each for each in confirmed if each.configuration == "best" and each.completed]
    seeds = min((each.completed + each.diverged for each in best), default=_FEW_SEEDS)
    if seeds < _FEW_SEEDS:
        yield (
            f"{plural(seeds, 'fresh seed').capitalize()} {'is' if seeds == 1 else 'are'} few: only large "
            "differences can be told from chance."
        )
    means = [each.test_mean for each in best if each.test_mean is not None]
    errors = [error for mean in means if (error := examples_error(reading, mean, "test")) is not None]
    if errors:
        examples = f"the same {count(reading.card.examples['test'])} test examples"
        error = difference(max(errors), 0, "fraction")
        yield (
            f"All runs are scored on {examples}; by their choice alone an accuracy "
            f"has a standard error of {error}."
        )
    if not best:
        value = next(
            (
                arm.best.trial.value
                for arm in reading.arms
                if arm.best is not None and arm.best.trial.value is not None
            ),
            None,
        )
        error = None if value is None else examples_error(reading, value, "validation")
        if error is not None:
            examples = f"{count(reading.card.examples['validation'])} validation examples"
            yield (
                f"An accuracy on {examples} has a standard error of about {difference(error, 0, 'fraction')}."
            )


def _scope(reading: StudyResults, flips: Sequence[RankFlip]) -> Iterator[str]:
    study = reading.study
    budget = study.spec.budget
    searches = "" if budget.replicates == 1 else f", {count(budget.replicates)} times over"
    spent = (
        f"{plural(budget.trials_per_arm, 'trial')} per arm of {plural(study.epochs, 'epoch')} each "
        f"(sampler {study.spec.sampler}{searches})"
    )
    is_whole = all(len(arm.spent) >= budget.trials_per_arm * budget.replicates for arm in reading.arms)
    others = "others may order the arms otherwise" if len(reading.arms) > 1 else "it says nothing of others"
    yield (
        f"It holds for one workload, {reading.card.title}, and a search "
        f"{'of' if is_whole else 'planned as'} {spent}; {others}."
    )
    if flips:
        last = flips[-1]
        more = "" if len(flips) == 1 else f" for the {_ordinal(len(flips))} time"
        after = f"after {plural(last.trials, 'trial')} per {'arm' if budget.replicates == 1 else 'search'}"
        yield (
            f"The lead by validation changes with the budget: {after}{more}, from "
            f"{_label(reading, last.before)} to {_label(reading, last.after)}."
        )
    if study.spec.objective.at == "best":
        yield "Values are each trial’s best epoch by validation, which is optimistic."


def _amiss(reading: StudyResults, confirmed: Sequence[Confirmed]) -> Iterator[str]:
    counts = [len(arm.spent) for arm in reading.arms]
    if reading.is_closed and min(counts) < max(counts):
        yield f"The budgets were not equal: {count(min(counts))} to {count(max(counts))} trials per arm."
    best = [each for each in confirmed if each.configuration == "best"]
    for arm in reading.arms:
        mine = [each for each in best if each.arm == arm.name]
        # Two searches may have found the same, and share its runs.
        n = sum(run.state is TrialState.DIVERGED for run in arm.confirming)
        if n and any(each.completed for each in mine):
            yield f"The mean of {arm.label} leaves out {plural(n, 'confirmation run')} that diverged."
        yield from _defaults(reading, arm, mine)
    pruned = reading.study.progress.pruned
    if pruned:
        were = "was" if pruned == 1 else "were"
        yield (
            f"Of {plural(sum(counts), 'trial')} {count(pruned)} {were} pruned before the "
            "last epoch; no best value is theirs."
        )
    failed = sum(
        trial.state is TrialState.FAILED for arm in reading.arms for trial in (*arm.trials, *arm.runs)
    )
    if failed:
        yield (
            f"{plural(failed, 'trial')} {'was' if failed == 1 else 'were'} "
            "lost to faults of machine or workload."
        )


def _defaults(reading: StudyResults, arm: ArmResults, best: Sequence[Confirmed]) -> Iterator[str]:
    """Yield that an arm's defaults beat what its search chose.

    Only where that is more than the luck of the seeds.
    """
    if arm.defaults is None or len(best) != 1 or arm.best is None:
        return
    tests = {run.seed: run.test_value for run in arm.best.runs if has_test(run)}
    ahead = [
        reading.sign * (run.test_value - chosen)
        for run in arm.defaults.runs
        if has_test(run) and run.test_value is not None and (chosen := tests.get(run.seed)) is not None
    ]
    over = mean_interval(ahead)
    # Without a spread there is no interval, and the mean alone has to do.
    if over.n > 1 and over.mean > 0 and not over.low <= 0:
        by = difference(over.mean, 0, reading.card.unit)
        yield (
            f"On {plural(over.n, 'fresh seed')} the defaults of {arm.label} do better than "
            f"the best of its search, by {by}."
        )


def _names(arms: Sequence[ArmResults]) -> str:
    return listed([arm.label for arm in arms])


def _label(reading: StudyResults, name: str) -> str:
    return reading.arm(name).label


def _ordinal(n: int) -> str:
    return {2: "second", 3: "third"}.get(n, f"{n}th")
