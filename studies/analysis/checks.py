"""Checks beside the ranking: what puts a comparison in doubt, each a sentence with its figures."""

__all__ = ["checks"]

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from studies.analysis.convergence import splits_disagree, still_improving
from studies.analysis.edges import edges
from studies.analysis.study_results import ArmResults, StudyResults
from studies.analysis.under_tuned import UnderTunedArm
from studies.analysis.views import Check, Confirmed, PairVerdict
from studies.analysis.wording import listed, settings
from studies.errors import SpecInvalid
from studies.formatting import count, difference, duration, percent, plural, scalar
from studies.space import Fixed, is_active, size
from studies.spec import StudySpec, parse_spec
from studies.states import TrialState
from studies.statistics.proportion import wilson_interval

_PER_DIMENSION: Final = 10
"""Trials for each searched hyperparameter that a search of its space asks for at least."""
_INERT: Final = 0.02
"""Share of importance below which a hyperparameter makes no difference to speak of."""
_BEST: Final = 5
"""Best trials that tell whether a hyperparameter had any effect where it counts."""
_UNEQUAL: Final = 1.1
_UNEQUAL_SECONDS: Final = 1.25
_MANY: Final = 0.25
_MANY_FAULTS: Final = 0.1


def checks(
    reading: StudyResults,
    *,
    importances: Mapping[str, Mapping[str, float]],
    losses: Sequence[UnderTunedArm],
    confirmed: Sequence[Confirmed],
    pairs: Sequence[PairVerdict],
) -> tuple[Check, ...]:
    """Return what was found, warnings first, else in the order of kinds and arms.

    Args:
        reading: the study.
        importances: of each arm's hyperparameters.
        losses: arms that are behind one they contain.
        confirmed: its confirmed configurations.
        pairs: every pair of arms, as judged.
    """
    found: list[Check] = []
    for arm in reading.arms:
        found += edges(reading, arm, importances[arm.name])
    for arm in reading.arms:
        found += _divergence(arm)
    found += [_under_tuned(reading, loss) for loss in losses]
    for arm in reading.arms:
        found += _too_few_trials(reading, arm)
    for arm in reading.arms:
        found += _inert(reading, arm, importances[arm.name])
    found += _unequal_budgets(reading)
    found += still_improving(reading)
    found += splits_disagree(reading, confirmed, pairs)
    found += _faults(reading)
    return tuple(sorted(found, key=lambda check: not check.is_warning))


def _divergence(arm: ArmResults) -> Iterator[Check]:
    """Yield an arm's share of diverged trials with its interval.

    Also from which learning rate on they diverged.
    """
    # Those that wait at a rung have not diverged.
    told = [
        trial
        for trial in arm.trials
        if trial.is_waiting or trial.state in {TrialState.COMPLETED, TrialState.DIVERGED, TrialState.PRUNED}
    ]
    diverged = [trial for trial in told if trial.state is TrialState.DIVERGED]
    lost = sum(run.state is TrialState.DIVERGED for run in arm.confirming)
    if not (diverged or lost):
        return
    part = len(diverged) / len(told)
    low, high = wilson_interval(len(diverged), len(told))
    interval = f"{percent(0.95)} interval {percent(low)} to {percent(high)}"
    many = (
        f"{count(len(diverged))} of {plural(len(told), 'trial')} diverged, {percent(part)}"
        if diverged
        else f"none of {plural(len(told), 'trial')} diverged"
    )
    said = f"{arm.label}: {many} ({interval})"
    figures = {
        "diverged": float(len(diverged)),
        "trials": float(len(told)),
        "share": part,
        "low": low,
        "high": high,
    }
    rates = [rate for trial in diverged if isinstance(rate := trial.parameters.get("lr"), int | float)]
    if rates and not isinstance(arm.view.space.get("lr", Fixed(value=0)), Fixed):
        start = min(rates)
        above = [
            trial
            for trial in told
            if isinstance(rate := trial.parameters.get("lr"), int | float) and rate >= start
        ]
        said += (
            f"; the lowest lr among them is {scalar(start)}, and from there on {count(len(diverged))} "
            f"of {count(len(above))} diverged"
        )
        figures |= {"lr_from": float(start), "trials_from": float(len(above))}
    if lost:
        runs = (
            f"{plural(lost, 'confirmation run')} of its best configuration{'s' if len(arm.bests) > 1 else ''}"
        )
        said += f"; so did {runs}" if diverged else f", but {runs} did"
        figures["confirmations"] = float(lost)
    yield Check(
        kind="divergence",
        arm=arm.name,
        is_warning=part >= _MANY or lost > 0,
        sentence=f"{said}.",
        figures=figures,
    )


def _under_tuned(reading: StudyResults, loss: UnderTunedArm) -> Check:
    """Return what it means that an arm is behind one it contains."""
    unit = reading.card.unit
    behind = "" if loss.behind is None else f" by {difference(loss.behind, 0, unit)}"
    equal = f"{loss.arm.label} equals {loss.other.label} at {settings(loss.at)}"
    out = ""
    if loss.outside:
        out = (
            f"the space of {loss.arm.label} leaves out "
            f"{listed([f'{name} = {scalar(value)}' for name, value in loss.outside.items()])}"
        )
    if loss.is_under_tuned:
        said = (
            f"{equal}, which its space holds, yet it did worse{behind}: it is under-tuned, not "
            "worse; more trials should show it."
        )
    elif loss.is_certain:
        said = f"{equal}, but {out}: that it did worse{behind} is about {loss.arm.label} as it was searched."
    else:
        why = f"noise, too few trials, or too narrow a space{f', for {out}' if out else ''}"
        said = f"{equal}, yet its search is{behind.replace(' by', '', 1)} behind: {why}."
    return Check(
        kind="under-tuned",
        arm=loss.arm.name,
        is_warning=loss.is_certain,
        sentence=said,
        figures={} if loss.behind is None else {"behind": loss.behind},
        spec=_longer(reading.study.spec) if loss.is_under_tuned else None,
    )


def _longer(spec: StudySpec) -> dict[str, Any] | None:
    """Return the study with twice the trials; None where that is more than a study may have."""
    data = spec.model_dump(mode="json")
    data["budget"]["trials_per_arm"] *= 2
    data["suite"] = None
    data["name"] = f"{spec.name[:180]}, twice the trials"
    try:
        return parse_spec(data).model_dump(mode="json")
    except SpecInvalid:
        return None


def _too_few_trials(reading: StudyResults, arm: ArmResults) -> Iterator[Check]:
    """Yield a warning for a search of fewer than ten trials for each hyperparameter.

    Not if it went through its whole space.

    Source: Loeppky, Sacks and Welch (2009), "Choosing the Sample Size of a Computer Experiment": ten runs for
    each input.
    """
    dimensions = sum(not isinstance(dimension, Fixed) for dimension in arm.view.space.values())
    searches = max(1, len(arm.bests))
    trials = len(arm.spent) // searches if reading.is_closed else arm.view.progress.trials // searches
    if (
        not dimensions
        or not arm.spent
        or trials >= _PER_DIMENSION * dimensions
        or trials >= size(arm.view.space)
    ):
        return
    what = plural(dimensions, "searched hyperparameter")
    yield Check(
        kind="too-few-trials",
        arm=arm.name,
        is_warning=True,
        sentence=(
            f"{arm.label}: {plural(trials, 'trial')} for {what}; a rule of thumb from computer experiments "
            f"asks for ten for each, {count(_PER_DIMENSION * dimensions)} (Loeppky et al. 2009). Its best "
            "configuration may be well short of what it can do."
        ),
        figures={
            "trials": float(trials),
            "dimensions": float(dimensions),
            "asked": float(_PER_DIMENSION * dimensions),
        },
    )


def _inert(reading: StudyResults, arm: ArmResults, importance: Mapping[str, float]) -> Iterator[Check]:
    """Yield what was searched without any effect.

    Of hardly any importance, or switched off in all of the best trials.
    """
    card = arm.view.optimizer
    best = sorted(arm.completed, key=lambda trial: reading.sign * (trial.value or 0.0), reverse=True)[:_BEST]
    searched = [name for name, dimension in arm.view.space.items() if not isinstance(dimension, Fixed)]
    off = [
        name
        for name in searched
        if len(best) == _BEST
        and not any(is_active(name, card.conditions, trial.parameters) for trial in best)
    ]
    idle = [name for name in searched if name not in off and importance.get(name, 1.0) < _INERT]
    parts = [
        (
            f"{name} had no effect in the best {_BEST} trials, for {card.conditions[name].parameter} was "
            f"not above {card.conditions[name].above:g}"
        )
        for name in off
    ]
    if idle:
        parts.append(
            f"{listed([f'{name} ({percent(importance[name])})' for name in idle])} made hardly any "
            "difference, by share of importance"
        )
    if parts:
        yield Check(
            kind="inert-hyperparameter",
            arm=arm.name,
            is_warning=False,
            sentence=(
                f"{arm.label}: {'; '.join(parts)}. With {'it' if len(off) + len(idle) == 1 else 'them'} "
                "fixed, trials would go to what matters."
            ),
            figures={name: importance.get(name, 0.0) for name in (*off, *idle)},
        )


def _unequal_budgets(reading: StudyResults) -> Iterator[Check]:
    """Yield where a closed study spent more on one arm than on another: trials, epochs, seconds."""
    if not reading.is_closed or len(reading.arms) < 2:
        return
    trials = {arm.name: float(len(arm.spent)) for arm in reading.arms}
    epochs = {arm.name: float(sum(trial.epochs_done for trial in arm.spent)) for arm in reading.arms}
    seconds = {arm.name: sum(trial.cost_s for trial in arm.spent) for arm in reading.arms}

    def uneven(spent: Mapping[str, float], factor: float) -> tuple[ArmResults, ArmResults] | None:
        least, most = min(spent, key=spent.__getitem__), max(spent, key=spent.__getitem__)
        return (reading.arm(least), reading.arm(most)) if spent[most] > factor * spent[least] else None

    said: list[str] = []
    figures: dict[str, float] = {}
    for what, spent in (("trial", trials), ("epoch", epochs)):
        ends = uneven(spent, _UNEQUAL)
        if ends is not None:
            fewest, most = (spent[arm.name] for arm in ends)
            said.append(
                f"{ends[0].label} had {plural(int(fewest), what)}, {ends[1].label} {count(int(most))}"
            )
            figures |= {f"fewest_{what}s": fewest, f"most_{what}s": most}
    if said:
        is_uneven = "fewest_trials" in figures
        yield Check(
            kind="unequal-budgets",
            arm=None,
            is_warning=is_uneven,
            sentence=f"The budgets were not equal: {'; '.join(said)}."
            if is_uneven
            else f"Some trials ended early: {'; '.join(said)}.",
            figures=figures,
        )
    ends = uneven(seconds, _UNEQUAL_SECONDS)
    if ends is not None:
        shortest, longest = (seconds[arm.name] for arm in ends)
        yield Check(
            kind="unequal-budgets",
            arm=None,
            is_warning=False,
            sentence=(
                f"In training time {ends[1].label} took {duration(longest)} for its search, "
                f"{ends[0].label} {duration(shortest)}."
            ),
            figures={"shortest_s": shortest, "longest_s": longest},
        )


def _faults(reading: StudyResults) -> Iterator[Check]:
    """Yield what was lost to faults, of search and confirmation."""
    failed = {
        arm.name: sum(trial.state is TrialState.FAILED for trial in (*arm.trials, *arm.runs))
        for arm in reading.arms
    }
    total = sum(len(arm.trials) + len(arm.runs) for arm in reading.arms)
    if any(failed.values()):
        who = [f"{arm.label} {count(failed[arm.name])}" for arm in reading.arms if failed[arm.name]]
        yield Check(
            kind="faults",
            arm=None,
            is_warning=sum(failed.values()) >= _MANY_FAULTS * total,
            sentence=(
                "Trials lost to faults of machine or workload, which say nothing "
                f"of the optimizer: {listed(who)}."
            ),
            figures={"failed": float(sum(failed.values())), "trials": float(total)},
        )
