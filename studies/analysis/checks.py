"""Checks beside the ranking: what puts a comparison in doubt, each a sentence with its figures."""

__all__ = ["checks"]

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from studies.analysis.common_checks import with_common_checks
from studies.analysis.convergence import splits_disagree, still_improving
from studies.analysis.edges import edges
from studies.analysis.study_results import ArmResults, StudyResults
from studies.analysis.under_tuned import UnderTunedArm
from studies.analysis.views import Check, Confirmed, PairVerdict
from studies.errors import SpecInvalid
from studies.formatting import count, difference, duration, listed, percent, plural, scalar
from studies.space import Fixed, is_active, size
from studies.spec import StudySpec, parse_spec, to_copy
from studies.states import TrialState
from studies.statistics.proportion import wilson_interval
from studies.trials import CardDifference
from studies.views import TrialView

_PER_DIMENSION: Final = 10
"""Least number of trials for each searched hyperparameter."""
_INERT: Final = 0.02
"""Importance below which a hyperparameter makes hardly any difference."""
_BEST: Final = 5
"""Number of best trials that show whether a hyperparameter had an effect where it counts."""
_UNEQUAL: Final = 1.1
_UNEQUAL_SECONDS: Final = 1.25
_MUCH_OVERLAP: Final = 0.01
_MANY: Final = 0.25
_MANY_FAULTS: Final = 0.1


def checks(
    results: StudyResults,
    *,
    importances: Mapping[str, Mapping[str, float]],
    under_tuned: Sequence[UnderTunedArm],
    confirmed: Sequence[Confirmed],
    pairs: Sequence[PairVerdict],
) -> tuple[Check, ...]:
    """Return what the checks found: warnings first, then in the order of kinds and arms.

    What holds for every arm of several is one check.

    Args:
        results: the study.
        importances: importances of each arm's hyperparameters.
        under_tuned: the arms that are behind an arm they contain.
        confirmed: the confirmed configurations.
        pairs: the verdict on every pair of arms.
    """
    found = [_without_values(arm) for arm in results.unusable_arms]
    found += _check_results(results)
    found += [_card_difference(results, each) for each in results.study.card_differences]
    for arm in results.arms:
        found += edges(results, arm, importances[arm.name])
    for arm in results.arms:
        found += _divergence(arm)
    found += [_under_tuned(results, each) for each in under_tuned]
    for arm in results.arms:
        found += _too_few_trials(results, arm)
    for arm in results.arms:
        found += _inert(results, arm, importances[arm.name])
    found += _unequal_budgets(results)
    found += still_improving(results)
    found += splits_disagree(results, confirmed, pairs)
    found += _faults(results)
    return tuple(sorted(with_common_checks(results, found), key=lambda check: not check.is_warning))


def _without_values(arm: ArmResults) -> Check:
    """Return the check of an arm that has no usable value."""
    tally = arm.tally
    return Check(
        kind="no-usable-value",
        arm=arm.name,
        is_warning=True,
        sentence=f"{arm.label}: no trial has a usable value: {tally.describe()}.",
        figures={"diverged": float(tally.diverged), "failed": float(tally.failed)},
    )


def _check_results(results: StudyResults) -> Iterator[Check]:
    """Yield the errors and warnings of the workload's check, except what the card's differences say too."""
    study = results.study
    for result in study.check_results:
        is_repeated = bool(study.card_differences) and result.check in {"card: examples", "separate splits"}
        if result.status in {"error", "warning"} and not is_repeated:
            yield Check(
                kind="workload-check",
                arm=None,
                is_warning=True,
                sentence=f"The check of {results.card.name} found: {result}.",
            )


def _card_difference(results: StudyResults, difference: CardDifference) -> Check:
    """Return the check of data that differ from the workload's card, or of splits that share inputs."""
    name, found, split = results.card.name, difference.found, difference.split
    if difference.kind == "examples":
        sentence = (
            f"The card of {name} gives {plural(difference.expected, 'example')} in the {split} split, the "
            f"data has {count(found)}. Correct the card or the data."
        )
    else:
        sentence = (
            f"{plural(found, 'different input')} of the {split} split of {name}, which has "
            f"{plural(difference.expected, 'example')}, also {'occurs' if found == 1 else 'occur'} in the "
            f"{difference.other} split. Values on the {split} split are too optimistic."
        )
    return Check(
        kind="card-differs",
        arm=None,
        is_warning=difference.kind == "examples" or found >= _MUCH_OVERLAP * difference.expected,
        sentence=sentence,
        figures={"expected": float(difference.expected), "found": float(found)},
    )


def _divergence(arm: ArmResults) -> Iterator[Check]:
    """Yield an arm's fraction of diverged trials with its interval, and the lr from which they diverged."""
    # Trials that wait at a rung have not diverged.
    known = [
        trial
        for trial in arm.trials
        if trial.is_waiting or trial.state in {TrialState.COMPLETED, TrialState.DIVERGED, TrialState.PRUNED}
    ]
    diverged = [trial for trial in known if trial.state is TrialState.DIVERGED]
    runs_diverged = sum(run.state is TrialState.DIVERGED for run in arm.confirming)
    if not (diverged or runs_diverged):
        return
    fraction = len(diverged) / len(known)
    low, high = wilson_interval(len(diverged), len(known))
    interval = f"{percent(0.95)} interval {percent(low)} to {percent(high)}"
    if diverged:
        sentence = (
            f"{arm.label}: {count(len(diverged))} of {plural(len(known), 'trial')} diverged, "
            f"{percent(fraction)} ({interval})"
        )
    else:
        sentence = f"{arm.label}: none of {plural(len(known), 'trial')} diverged ({interval})"
    figures = {
        "diverged": float(len(diverged)),
        "trials": float(len(known)),
        "share": fraction,
        "low": low,
        "high": high,
    }
    rates = [rate for trial in diverged if isinstance(rate := trial.parameters.get("lr"), int | float)]
    if rates and not isinstance(arm.view.space.get("lr", Fixed(value=0)), Fixed):
        start = min(rates)
        above = [
            trial
            for trial in known
            if isinstance(rate := trial.parameters.get("lr"), int | float) and rate >= start
        ]
        sentence += (
            f"; all divergence occurred at lr ≥ {scalar(start)}, where {count(len(diverged))} "
            f"of {plural(len(above), 'trial')} diverged"
        )
        figures |= {"lr_from": float(start), "trials_from": float(len(above))}
    if runs_diverged:
        best = "best configurations" if len(arm.bests) > 1 else "best configuration"
        runs = f"{plural(runs_diverged, 'confirmation run')} of its {best}"
        sentence += f"; {runs} diverged too" if diverged else f", but {runs} did"
        figures["confirmations"] = float(runs_diverged)
    yield Check(
        kind="divergence",
        arm=arm.name,
        is_warning=fraction >= _MANY or runs_diverged > 0,
        sentence=f"{sentence}.",
        figures=figures,
    )


def _under_tuned(results: StudyResults, case: UnderTunedArm) -> Check:
    """Return the check of an arm that is behind an arm it contains."""
    unit = results.card.unit
    behind = "" if case.behind is None else f" by {difference(case.behind, 0, unit)}"
    label = case.arm.label
    excluded = ""
    if case.outside:
        excluded = (
            f"the space of {label} excludes "
            f"{listed([f'{name} = {scalar(value)}' for name, value in case.outside.items()])}"
        )
    if case.is_under_tuned:
        sentence = (
            f"{case.identity}, which its space includes, yet it did worse{behind}: {label} is under-tuned, "
            "not worse. More trials should show this."
        )
    elif case.is_certain:
        sentence = (
            f"{case.identity}, but {excluded}. It did worse{behind}; this is a result about {label} as it "
            "was searched, not about the optimizer."
        )
    else:
        causes = "noise, too few trials, or too narrow a space"
        sentence = (
            f"{case.identity}, yet its search is behind{behind}. Possible causes are {causes}"
            f"{f': {excluded}' if excluded else ''}."
        )
    return Check(
        kind="under-tuned",
        arm=case.arm.name,
        is_warning=case.is_certain,
        sentence=sentence,
        figures={} if case.behind is None else {"behind": case.behind},
        spec=_longer(results.study.spec) if case.is_under_tuned else None,
    )


def _longer(spec: StudySpec) -> dict[str, Any] | None:
    """Return the study with twice the trials, or None if that exceeds the limit of a study."""
    data = to_copy(spec)
    data["budget"]["trials_per_arm"] *= 2
    data["suite"] = None
    data["name"] = f"{spec.name[:180]}, twice the trials"
    try:
        return parse_spec(data).model_dump(mode="json")
    except SpecInvalid:
        return None


def _too_few_trials(results: StudyResults, arm: ArmResults) -> Iterator[Check]:
    """Yield a warning for fewer than ten trials for each hyperparameter, unless the whole space was tried.

    Source: Loeppky, Sacks and Welch (2009), "Choosing the Sample Size of a Computer Experiment": ten runs for
    each input.
    """
    dimensions = sum(not isinstance(dimension, Fixed) for dimension in arm.view.space.values())
    searches = max(1, len(arm.bests))
    trials = len(arm.spent) // searches if results.is_closed else arm.view.progress.trials // searches
    if (
        not dimensions
        or not arm.spent
        or trials >= _PER_DIMENSION * dimensions
        or trials >= size(arm.view.space)
    ):
        return
    searched = plural(dimensions, "searched hyperparameter")
    yield Check(
        kind="too-few-trials",
        arm=arm.name,
        is_warning=True,
        sentence=(
            f"{arm.label}: {plural(trials, 'trial')} for {searched}. A rule of thumb for computer "
            f"experiments is ten for each, {count(_PER_DIMENSION * dimensions)} here (Loeppky et al. 2009). "
            "A larger search may find a much better configuration."
        ),
        figures={
            "trials": float(trials),
            "dimensions": float(dimensions),
            "asked": float(_PER_DIMENSION * dimensions),
        },
    )


def _inert(results: StudyResults, arm: ArmResults, importance: Mapping[str, float]) -> Iterator[Check]:
    """Yield the hyperparameters that were searched without effect.

    Their importance is close to zero, or they were inactive in all of the best trials.
    """
    conditions = arm.view.conditions
    best = sorted(arm.completed, key=lambda trial: results.sign * (trial.value or 0.0), reverse=True)[:_BEST]
    searched = [name for name, dimension in arm.view.space.items() if not isinstance(dimension, Fixed)]
    inactive = [
        name
        for name in searched
        if len(best) == _BEST and not any(is_active(name, conditions, trial.parameters) for trial in best)
    ]
    unimportant = [name for name in searched if name not in inactive and importance.get(name, 1.0) < _INERT]
    clauses = [
        (
            f"{name} had no effect in the best {_BEST} trials, because {conditions[name].parameter} was "
            f"not {conditions[name].rule}"
        )
        for name in inactive
    ]
    if unimportant:
        shares = listed([f"{name} ({percent(importance[name])})" for name in unimportant])
        clauses.append(f"{shares} made hardly any difference, by importance")
    if clauses:
        pronoun = "it" if len(inactive) + len(unimportant) == 1 else "them"
        yield Check(
            kind="inert-hyperparameter",
            arm=arm.name,
            is_warning=False,
            sentence=(
                f"{arm.label}: {'; '.join(clauses)}. Fix {pronoun} to spend the trials on the "
                "hyperparameters that matter."
            ),
            figures={name: importance.get(name, 0.0) for name in (*inactive, *unimportant)},
        )


def _unequal_budgets(results: StudyResults) -> Iterator[Check]:
    """Yield the trials, epochs and seconds of which a closed study spent more on one arm than another."""
    if not results.is_closed or len(results.arms) < 2:
        return
    budgeted = {arm.name: _budgeted(results, arm) for arm in results.arms}
    trials = {name: float(len(spent)) for name, spent in budgeted.items()}
    epochs = {name: float(sum(trial.epochs_done for trial in spent)) for name, spent in budgeted.items()}
    seconds = {arm.name: sum(trial.cost_s for trial in arm.spent) for arm in results.arms}

    def extremes(spent: Mapping[str, float], factor: float) -> tuple[ArmResults, ArmResults] | None:
        least, most = min(spent, key=spent.__getitem__), max(spent, key=spent.__getitem__)
        return (results.arm(least), results.arm(most)) if spent[most] > factor * spent[least] else None

    clauses: list[str] = []
    figures: dict[str, float] = {}
    for what, spent in (("trial", trials), ("epoch", epochs)):
        ends = extremes(spent, _UNEQUAL)
        if ends is not None:
            fewest, most = (spent[arm.name] for arm in ends)
            clauses.append(
                f"{ends[0].label} had {plural(int(fewest), what)}, {ends[1].label} {count(int(most))}"
            )
            figures |= {f"fewest_{what}s": fewest, f"most_{what}s": most}
    if clauses:
        is_uneven = "fewest_trials" in figures
        opening = "The arms had unequal budgets" if is_uneven else "Some trials ended early"
        yield Check(
            kind="unequal-budgets",
            arm=None,
            is_warning=is_uneven,
            sentence=f"{opening}: {'; '.join(clauses)}.",
            figures=figures,
        )
    ends = extremes(seconds, _UNEQUAL_SECONDS)
    if ends is not None:
        shortest, longest = (seconds[arm.name] for arm in ends)
        yield Check(
            kind="unequal-budgets",
            arm=None,
            is_warning=False,
            sentence=(
                f"The searches took unequal training time: {duration(longest)} for {ends[1].label}, "
                f"{duration(shortest)} for {ends[0].label}."
            ),
            figures={"shortest_s": shortest, "longest_s": longest},
        )


def _budgeted(results: StudyResults, arm: ArmResults) -> list[TrialView]:
    """Return an arm's trials without defaults that are not on its grid: they do not count as budget."""
    return [
        trial
        for trial in arm.spent
        if results.study.spec.sampler != "grid"
        or all(dimension.contains(trial.parameters[name]) for name, dimension in arm.view.space.items())
    ]


def _faults(results: StudyResults) -> Iterator[Check]:
    """Yield how many trials of search and confirmation were lost to faults."""
    failed = {
        arm.name: sum(trial.state is TrialState.FAILED for trial in (*arm.trials, *arm.runs))
        for arm in results.arms
    }
    total = sum(len(arm.trials) + len(arm.runs) for arm in results.arms)
    if any(failed.values()):
        by_arm = [f"{arm.label} {count(failed[arm.name])}" for arm in results.arms if failed[arm.name]]
        lost = sum(failed.values())
        yield Check(
            kind="faults",
            arm=None,
            is_warning=lost >= _MANY_FAULTS * total,
            sentence=(
                f"{count(lost)} of {plural(total, 'trial')} {'was' if lost == 1 else 'were'} lost to faults "
                f"of the machine or the workload, which say nothing about the optimizer: {listed(by_arm)}."
            ),
            figures={"failed": float(lost), "trials": float(total)},
        )
