"""The limits of a finding, each a sentence: what its intervals cover, how much was tried, what went wrong."""

__all__ = ["limits"]

from collections.abc import Iterator, Sequence
from typing import Final

from studies.analysis.noise import examples_error
from studies.analysis.study_results import ArmResults, StudyResults
from studies.analysis.verdicts import count_divergence
from studies.analysis.views import BudgetVerdict, Confirmed, PairVerdict, RankFlip
from studies.formatting import count, difference, listed, plural
from studies.states import StudyState, TrialState
from studies.statistics.paired import mean_interval
from studies.trial_values import has_test

_FEW_SEEDS: Final = 5
_COVERS: Final = {
    "seeds and search": (
        "The interval of a difference covers the variation over seeds and, estimated from the trials of each "
        "search, the variation over searches. More seeds hardly narrow it; replicates of the search do."
    ),
    "replicates": (
        "The interval of a difference covers the variation over whole searches, because each search was "
        "repeated from the start."
    ),
    "configurations": (
        "The interval of a difference between two configurations covers the variation over seeds. Another "
        "search would find other configurations."
    ),
}
_SIGN_TEST: Final = {
    True: (
        "A mean leaves out the runs that diverged. Pairs with such a run are therefore judged by the "
        "number of {} on which each arm did better."
    ),
    False: (
        "If all differences of a pair are equal, there is no spread to compare them with. Such a pair is "
        "judged by the number of {} on which each arm did better."
    ),
}


def limits(
    results: StudyResults,
    pairs: Sequence[PairVerdict],
    confirmed: Sequence[Confirmed],
    flips: Sequence[RankFlip],
    by_budget: BudgetVerdict | None,
) -> tuple[str, ...]:
    """Return the limits of the finding, the most important first; none before a trial has completed.

    Args:
        results: the study.
        pairs: the verdict on every pair of arms.
        confirmed: the confirmed configurations.
        flips: budgets at which the lead by validation changes.
        by_budget: the verdict on the optimizers by their paired trials.
    """
    if all(arm.best is None for arm in results.arms):
        return ()
    return (
        *_early_end(results),
        *_budget(results, by_budget),
        *_confirmation(results, confirmed),
        *_intervals(results, pairs, confirmed),
        *_scope(results, flips, by_budget),
        *_losses(results, confirmed),
    )


def _early_end(results: StudyResults) -> Iterator[str]:
    study, progress = results.study, results.study.progress
    if results.is_stopped:
        ending = {StudyState.FAILED: "failed", StudyState.CANCELLED: "was cancelled"}.get(
            study.state, "was stopped"
        )
        finished = progress.finished - progress.cancelled
        yield f"The study {ending} early: {count(finished)} of {plural(progress.trials, 'trial')} finished."


def _budget(results: StudyResults, verdict: BudgetVerdict | None) -> Iterator[str]:
    """Yield what the budget verdict rests on, and what is missing of that."""
    if verdict is None or not verdict.pairs:
        return
    yield (
        f"Better after {plural(verdict.primary or 0, 'trial')} of tuning means: of as many random "
        "configurations, the best by validation has the better test value on average. The interval covers "
        "the variation over configurations and seeds. A sampler that learns may reach as much with fewer "
        "trials."
    )
    if verdict.looks:
        return
    missing = verdict.planned - verdict.n
    if missing:
        lack, and_count = ("lacks", "counts") if missing == 1 else ("lack", "count")
        yield (
            f"{count(missing)} of {plural(verdict.planned, 'pair')} of trials {lack} a result in some arm "
            f"and {and_count} only between the others."
        )
    if verdict.ended < verdict.planned and not results.unusable_arms:
        yield (
            "The study ended before all pairs of trials had. If it was stopped because of its figures, its "
            "words are wrong more often than 5 times in 100."
        )


def _confirmation(results: StudyResults, confirmed: Sequence[Confirmed]) -> Iterator[str]:
    waiting = [arm for arm in results.arms if arm.best is not None and not arm.is_confirmed]
    if waiting:
        yield (
            "The search trained each configuration once. The best of several noisy values looks better than "
            "it is, so small differences may be noise."
        )
        yield _unconfirmed(results, waiting)
        return
    states = {
        (each.arm, run.trial_id): run.state
        for each in confirmed
        if each.configuration == "best"
        for run in each.runs
    }
    total = plural(len(states), "confirmation run")
    pending = sum(state in {TrialState.QUEUED, TrialState.RUNNING} for state in states.values())
    if pending:
        yield f"{count(pending)} of {total} {'has' if pending == 1 else 'have'} not finished yet."
    missing = [
        f"{count(n)} {'was' if n == 1 else 'were'} {what}"
        for state, what in ((TrialState.CANCELLED, "cancelled"), (TrialState.FAILED, "lost to faults"))
        if (n := sum(each is state for each in states.values()))
    ]
    if missing:
        yield f"Of {total}, {' and '.join(missing)}; the comparison rests on the others."


def _unconfirmed(results: StudyResults, waiting: Sequence[ArmResults]) -> str:
    is_every_arm = len(waiting) == sum(arm.best is not None for arm in results.arms)
    of_arms = "" if is_every_arm else f" of {listed([arm.label for arm in waiting])}"
    sentence = f"No configuration{of_arms} has been confirmed on fresh seeds"
    if results.study.spec.confirmation.seeds == 0:
        return f"{sentence}: the study asked for no confirmation."
    was_lost = any(
        run.state in {TrialState.FAILED, TrialState.CANCELLED} for arm in waiting for run in arm.confirming
    )
    if was_lost and results.is_closed:
        return f"{sentence}: none of its runs finished."
    if results.is_stopped:
        return f"{sentence}: the study ended before its confirmation."
    return f"{sentence}." if results.is_closed else f"{sentence} yet; that follows the search of each arm."


def _intervals(
    results: StudyResults, pairs: Sequence[PairVerdict], confirmed: Sequence[Confirmed]
) -> Iterator[str]:
    for covers in dict.fromkeys(
        pair.covers for pair in pairs if pair.low is not None and pair.covers != "signs"
    ):
        yield _COVERS[covers]
    by_signs = [pair for pair in pairs if pair.n and pair.covers == "signs"]
    counted = "searches" if any(len(arm.bests) > 1 for arm in results.arms) else "seeds"
    for has_diverged in dict.fromkeys(
        any(count_divergence(results, results.arm(pair.first), results.arm(pair.second))) for pair in by_signs
    ):
        yield _SIGN_TEST[has_diverged].format(counted)
    best = [each for each in confirmed if each.configuration == "best" and each.completed]
    seeds = min((each.completed + each.diverged for each in best), default=_FEW_SEEDS)
    if seeds < _FEW_SEEDS:
        yield f"With {plural(seeds, 'fresh seed')}, only large differences can be told from chance."
    means = [each.test_mean for each in best if each.test_mean is not None]
    errors = [error for mean in means if (error := examples_error(results, mean, "test")) is not None]
    if errors:
        examples = f"the same {count(results.card.examples['test'])} test examples"
        error = difference(max(errors), 0, "fraction")
        yield (
            f"All runs are scored on {examples}. The choice of these examples alone gives an accuracy "
            f"a standard error of {error}."
        )
    if best:
        return
    value = next(
        (
            arm.best.trial.value
            for arm in results.arms
            if arm.best is not None and arm.best.trial.value is not None
        ),
        None,
    )
    error = None if value is None else examples_error(results, value, "validation")
    if error is not None:
        examples = f"{count(results.card.examples['validation'])} validation examples"
        yield f"An accuracy on {examples} has a standard error of about {difference(error, 0, 'fraction')}."


def _scope(
    results: StudyResults, flips: Sequence[RankFlip], by_budget: BudgetVerdict | None
) -> Iterator[str]:
    study = results.study
    budget = study.spec.budget
    replicates = "" if budget.replicates == 1 else f", {count(budget.replicates)} replicates"
    paired = f", {count(study.spec.search.paired)} of them paired" if study.spec.search.paired else ""
    spent = (
        f"{plural(budget.trials_per_arm, 'trial')} per arm of {plural(study.epochs, 'epoch')} each "
        f"(sampler {study.spec.sampler}{paired}{replicates})"
    )
    if by_budget is not None and by_budget.looks:
        added = max(0, by_budget.ended - study.spec.search.pairs)
        spent += f" and {plural(added, 'pair')} that {'was' if added == 1 else 'were'} added" * bool(added)
    is_complete = all(len(arm.spent) >= budget.trials_per_arm * budget.replicates for arm in results.arms)
    planned = "" if is_complete else "planned "
    caveat = (
        "Other workloads and budgets may rank the arms differently."
        if len(results.arms) > 1
        else "It says nothing about other workloads and budgets."
    )
    yield (
        f"The finding holds for one workload, {results.card.title}, and a {planned}search of {spent}. "
        f"{caveat}"
    )
    if flips:
        last = flips[-1]
        times = "" if len(flips) == 1 else f", for the {_ordinal(len(flips))} time"
        per = "arm" if budget.replicates == 1 else "search"
        yield (
            f"The lead by validation depends on the budget: after {plural(last.trials, 'trial')} per {per} "
            f"it passes from {results.arm(last.before).label} to {results.arm(last.after).label}{times}."
        )
    if study.spec.objective.at == "best":
        yield "Each value is that of the trial’s best epoch by validation, which is optimistic."


def _losses(results: StudyResults, confirmed: Sequence[Confirmed]) -> Iterator[str]:
    counts = [len(arm.spent) for arm in results.arms]
    if results.is_closed and min(counts) < max(counts):
        yield f"The arms had unequal budgets: {count(min(counts))} to {count(max(counts))} trials per arm."
    best = [each for each in confirmed if each.configuration == "best"]
    for arm in results.arms:
        of_arm = [each for each in best if each.arm == arm.name]
        # Two searches may have found the same configuration, and then share its runs.
        diverged = sum(run.state is TrialState.DIVERGED for run in arm.confirming)
        if diverged and any(each.completed for each in of_arm):
            yield f"The mean of {arm.label} leaves out {plural(diverged, 'confirmation run')} that diverged."
        yield from _better_defaults(results, arm, of_arm)
    pruned = results.study.progress.pruned
    if pruned:
        yield (
            f"{plural(pruned, 'trial')} of {count(sum(counts))} "
            f"{'was' if pruned == 1 else 'were'} pruned before the last epoch and cannot be the best."
        )
    failed = sum(
        trial.state is TrialState.FAILED for arm in results.arms for trial in (*arm.trials, *arm.runs)
    )
    if failed:
        yield (
            f"{plural(failed, 'trial')} {'was' if failed == 1 else 'were'} "
            "lost to faults of the machine or the workload."
        )


def _better_defaults(results: StudyResults, arm: ArmResults, best: Sequence[Confirmed]) -> Iterator[str]:
    """Yield a sentence if an arm's defaults beat the search's best by more than the variation over seeds."""
    if arm.defaults is None or len(best) != 1 or arm.best is None:
        return
    tests = {run.seed: run.test_value for run in arm.best.runs if has_test(run)}
    leads = [
        results.sign * (run.test_value - chosen)
        for run in arm.defaults.runs
        if has_test(run) and run.test_value is not None and (chosen := tests.get(run.seed)) is not None
    ]
    lead = mean_interval(leads)
    # Without a spread there is no interval, and the mean alone has to do.
    if lead.n > 1 and lead.mean > 0 and not lead.low <= 0:
        yield (
            f"On {plural(lead.n, 'fresh seed')}, the defaults of {arm.label} do better than the best "
            f"configuration of its search, by {difference(lead.mean, 0, results.card.unit)}."
        )


def _ordinal(n: int) -> str:
    return {2: "second", 3: "third"}.get(n, f"{n}th")
