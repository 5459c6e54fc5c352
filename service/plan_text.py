"""What a study would do, in sentences."""

__all__ = ["describe_decision_costs", "describe_plan"]

from service.schemas import StudyPlan
from studies.formatting import duration, number, percent, plural
from studies.training_text import length_text


def describe_plan(plan: StudyPlan) -> str:
    """Return how much work a study would be, without a full stop."""
    seconds = plan.estimate_cpu_s
    estimate = "" if seconds is None else f", about {duration(seconds)} of training on one CPU core"
    trials = plural(plan.trials, "trial") + (f" ({plan.paired} paired)" if plan.paired else "")
    runs = f" and {plural(plan.confirmations, 'confirmation run')}" if plan.confirmations else ""
    return (
        f"{plural(len(plan.study.arms), 'arm')}, {trials}{runs}, "
        f"{length_text(plan.epochs, plan.study.interval_steps)}{estimate}"
    )


def describe_decision_costs(plan: StudyPlan) -> tuple[str, ...]:
    """Return what it may cost to add pairs until the arms are decided, one sentence each; empty without."""
    if plan.most_trials <= plan.trials:
        return ()
    sentences = [f"Pairs are added until the arms are decided: at most {plural(plan.most_trials, 'trial')}."]
    sentences += [
        f"If neighbouring arms differ by {number(cost.gap)} {'point' if cost.gap == 1 else 'points'}: "
        f"{plural(round(cost.trials), 'trial')} on average; {percent(cost.decided)} of such studies decide "
        "every requested pair of arms."
        for cost in plan.decision_costs
    ]
    return tuple(sentences)
