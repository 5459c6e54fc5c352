"""What a study would do, in sentences."""

__all__ = ["describe_further", "describe_plan"]

from service.placement import Placement
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


def describe_further(plan: StudyPlan) -> tuple[str, ...]:
    """Return what else there is to say of a study, one sentence each: machines, gaps, and added pairs."""
    found = () if plan.placement is None else (_describe_placement(plan, plan.placement),)
    return (*found, *_describe_gap(plan), *_describe_decision_costs(plan))


def _describe_placement(plan: StudyPlan, placement: Placement) -> str:
    lent = f"{number(placement.cpus)} {'core' if placement.cpus == 1 else 'cores'}"
    if placement.gpus:
        lent += f" and {number(placement.gpus)} {'GPU' if placement.gpus == 1 else 'GPUs'}"
    if not placement.packs_at_once:
        needs = plan.spec.resources
        gpus = f" and {number(needs.gpus_per_pack)} GPUs" if needs.gpus_per_pack else ""
        return (
            f"No machine that there is now can hold a pack: it needs {number(needs.cpus_per_pack)} cores"
            f"{gpus}, and the largest cluster lends {lent}."
        )
    text = f"Machines now: {lent}, at most {plural(placement.packs_at_once, 'pack')} at once"
    if placement.estimate_s is None:
        return f"{text}."
    taking = duration(placement.estimate_s)
    return f"{text}, about {taking} of training if nothing else runs; less where trials stack."


def _describe_gap(plan: StudyPlan) -> tuple[str, ...]:
    search = plan.spec.search
    if search.verdict_at is None:
        if len(plan.study.arms) < 2 or plan.spec.sampler == "grid":
            return ()
        return ("There is no verdict by budget, because there are fewer than 8 pairs of trials.",)
    if plan.visible_gap is None:
        return ()
    gap = f"{plan.visible_gap:.1f}"
    after = f" with all {search.pairs + search.most_added} pairs" if search.most_added else ""
    budget = plural(search.verdict_at, "tuning trial")
    sentence = (
        f"After {budget} the study detects a difference of {gap} points between two arms in 80 % of such "
        f"studies{after}, if trials vary as usual."
    )
    return (sentence,)


def _describe_decision_costs(plan: StudyPlan) -> tuple[str, ...]:
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
