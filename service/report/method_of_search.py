"""How configurations were found, as sentences: sampler, budget, replicates and packs."""

__all__ = ["describe_budget", "describe_sampler"]

from collections.abc import Sequence

from service.report.planned import planned_arm
from service.report.references import Citations
from studies.analysis.views import BudgetVerdict
from studies.formatting import count, listed, plural
from studies.pruner import Median, NoPruner
from studies.spec import ADAPTIVE_SAMPLERS
from studies.states import CLOSED_STUDY_STATES
from studies.views import ArmView, Progress, StudyView

# The rule is that of workers/sampling.py; a test checks that the two agree.
_STARTUP = "after a random start of a quarter of the arm's trials, at least 4 and at most 10"


def describe_sampler(
    study: StudyView, arms: Sequence[ArmView], verdict: BudgetVerdict | None, cite: Citations
) -> tuple[str, ...]:
    """Return how configurations were chosen, one sentence each."""
    paired = study.spec.search.paired
    sentences = [
        "The first trial of each arm used its optimizer's defaults.",
        *_describe_pairs(study, arms, cite),
        *_describe_added_pairs(study, arms, verdict),
    ]
    if paired < study.spec.budget.trials_per_arm - 1 or not paired:
        sentences.append(f"The other configurations were chosen {_how_chosen(study, cite)}.")
        if study.spec.sampler in {"random", "qmc"} and any(arm.optimizer.constraints for arm in arms):
            sentences.append("Configurations that violate a constraint of their optimizer were drawn again.")
        once = "No configuration was tried twice within one search"
        sentences.append(f"{once}, except by paired trials." if paired else f"{once}.")
        if study.spec.sampler in ADAPTIVE_SAMPLERS:
            if paired:
                sentences.append(
                    "The sampler learned from the paired trials too, which count as part of its random start."
                )
            sentences.append(
                "While a configuration was being chosen, trials without a value counted as bad, and trials "
                "that had diverged ranked last."
            )
    return tuple(sentences)


def _how_chosen(study: StudyView, cite: Citations) -> str:
    match study.spec.sampler:
        case "tpe":
            return (
                f"by the multivariate tree-structured Parzen estimator {cite('tpe')} "
                f"{_in_optuna(cite)}, {_STARTUP}"
            )
        case "gp":
            acquisition = f"the logarithm of expected improvement {cite('logei')}"
            return (
                f"by Bayesian optimization with a Gaussian process and {acquisition} "
                f"{_in_optuna(cite)}, {_STARTUP}"
            )
        case "cmaes":
            strategy = f"by the covariance matrix adaptation evolution strategy {cite('cmaes')}"
            return f"{strategy} {_in_optuna(cite)}; hyperparameters that are not numbers were drawn at random"
        case "random":
            return f"independently and at random {cite('random')}"
        case "qmc":
            return f"as successive points of a scrambled Sobol' sequence {cite('sobol')}"
        case "grid":
            return "from the grid of all combinations, in random order"


def _describe_pairs(study: StudyView, arms: Sequence[ArmView], cite: Citations) -> tuple[str, ...]:
    """Return how the paired trials were drawn, one sentence each; empty if no trials are paired."""
    paired, replicates = study.spec.search.paired, study.spec.budget.replicates
    if not paired:
        return ()
    each = " in each replicate" if replicates > 1 else ""
    # With `until` there may be more of them.
    following = plural(paired, "trial") if study.spec.search.until is None else "trials"
    drawn = (
        f"The next {following} of each arm{each} had random configurations {cite('random')} "
        "that are paired across arms"
    )
    if len(arms) == 1:
        drawn = f"The next {plural(paired, 'trial')}{each} had random configurations {cite('random')}"
        return (f"{drawn}, each with a seed of its own.",)
    return (
        (
            f"{drawn}: the trials of a pair share a seed, and their hyperparameters of the same name take "
            "the same quantile of their ranges."
        ),
        *(
            ["A draw that violates a constraint of its optimizer was replaced by that arm's next one."]
            if any(arm.optimizer.constraints for arm in arms)
            else []
        ),
        *(
            ["Paired trials were trained to the last epoch and took no part in pruning."]
            if not isinstance(study.spec.pruner, NoPruner)
            else []
        ),
    )


def _describe_added_pairs(
    study: StudyView, arms: Sequence[ArmView], verdict: BudgetVerdict | None
) -> tuple[str, ...]:
    """Return how many pairs were added until the arms were decided, one sentence each; empty without."""
    search = study.spec.search
    if search.until is None or verdict is None or not verdict.looks:
        return ()
    when = "in all" if study.state in CLOSED_STUDY_STATES else "so far"
    ended = f"{plural(verdict.ended, 'pair')} of trials ended in every arm that took part"
    labels = {arm.name: arm.label for arm in arms}
    began = f"The study began with {plural(search.pairs, 'pair')} and could add more"
    sentences = [
        f"{began}, up to {count(verdict.looks[-1])}, while a pair of arms was undecided; {when}, {ended}."
    ]
    if search.until.drop_losers:
        sentences += [
            f"{labels[arm]} was worse than every other arm by the look at {plural(look, 'pair')}, and took "
            "part in no further pairs."
            for arm in labels
            if (look := _lost_at(arm, verdict)) is not None and look < verdict.ended
        ]
    return tuple(sentences)


def _lost_at(arm: str, verdict: BudgetVerdict) -> int | None:
    """Return the look by which an arm was worse than all that it is judged against; None if it was not."""
    own = [pair for pair in verdict.pairs if arm in {pair.first, pair.second} and pair.look is not None]
    is_lost = all(pair.word == ("worse" if pair.first == arm else "better") for pair in own)
    return max((pair.look or 0 for pair in own), default=None) if is_lost else None


def _in_optuna(cite: Citations) -> str:
    return f"as implemented in Optuna {cite('optuna')}"


def describe_budget(
    study: StudyView, arms: Sequence[ArmView], verdict: BudgetVerdict | None
) -> tuple[str, ...]:
    """Return each arm's budget, the number of searches and the outcomes of the trials, one sentence each."""
    spec = study.spec
    replicates = spec.budget.replicates
    max_trials = spec.budget.trials_per_arm
    plans = [planned_arm(arm, replicates=replicates) for arm in arms]
    # Pairs that are added count in an arm's trials, but not in its budget.
    trials = {
        plan.name: min(plan.trials, plan.trials_for(max_trials, spec.sampler, paired=spec.search.paired))
        for plan in plans
    }
    shorter = [plan for plan in plans if trials[plan.name] < max_trials]
    # An arm whose search was stopped before the study was extended also has fewer trials, although its space
    # contains more configurations.
    finite = {plan.name: plan.configurations() + spec.search.paired <= trials[plan.name] for plan in shorter}
    named = {plan.name: f"{plan.name} ({count(trials[plan.name])})" for plan in shorter}
    smaller = [named[plan.name] for plan in shorter if finite[plan.name]]
    stopped = [named[plan.name] for plan in shorter if not finite[plan.name]]
    larger = [plan.name for plan in plans if trials[plan.name] > max_trials]
    has_added = verdict is not None and bool(verdict.looks) and verdict.ended > spec.search.pairs
    budget = f"a budget of {plural(max_trials, 'trial')} of at most {plural(study.epochs, 'epoch')}"
    budget += " beside the pairs that were added" * has_added
    sentences = [f"Each arm had the same budget: {budget.removeprefix('a budget of ')}."]
    if stopped:
        sentences = [
            f"Each arm had {budget}, or fewer trials if its search was stopped: {', '.join(stopped)}."
        ]
    if smaller:
        sentences.append(
            "The following arms have smaller search spaces, and the plan was to try every configuration: "
            f"{', '.join(smaller)}."
        )
    if larger:
        sentences.append(
            "The defaults of the following arms are not a point of their grid, and were tried in addition: "
            f"{', '.join(larger)}."
        )
    if isinstance(spec.pruner, Median):
        sentences.append("With the median rule, arms may have been trained for different numbers of epochs.")
    if replicates > 1:
        shared = "all trials that are not paired share" if spec.search.paired else "all arms share"
        sentences.append(
            f"The search of each arm was repeated {replicates} times, each time with this budget, "
            f"independently and with a different training seed; in each replicate, {shared} the seed."
        )
    sentences += _describe_outcomes(study.progress, is_closed=study.state in CLOSED_STUDY_STATES)
    sentences.append(
        "A trial that diverged (a loss or a weight that is not finite) counted towards its arm's budget. A "
        f"trial lost to a machine failure was retried, at most {plural(spec.max_retries, 'time')}, and did "
        "not count."
    )
    processes = spec.resources.processes_per_trial
    if processes > 1:
        sentences.append(
            f"Each trial was trained by {processes} processes together: each computed the gradients of an "
            "equal part of every batch, and the mean of these gradients was applied."
        )
    elif spec.resources.max_pack_size != 1:
        sentences.append(
            "Trials of one arm could be trained together on one device as one stacked model: each follows "
            "its separate run up to rounding, and its training time is its share of the stack's."
        )
    return tuple(sentences)


def _describe_outcomes(progress: Progress, *, is_closed: bool) -> list[str]:
    """Return how many trials completed, were pruned, diverged, failed or were cancelled."""
    outcomes = [
        *([f"{count(progress.completed)} completed"] if progress.completed else []),
        *([f"{_were(progress.pruned)} pruned"] if progress.pruned else []),
        *([f"{count(progress.diverged)} diverged"] if progress.diverged else []),
        *([f"{count(progress.failed)} failed"] if progress.failed else []),
        *([f"{_were(progress.cancelled)} cancelled"] if progress.cancelled else []),
    ]
    listing = listed(outcomes, most=len(outcomes)) if outcomes else "none was run"
    trials = plural(progress.trials, "trial")
    if is_closed and progress.finished < progress.trials:
        return [f"The study ended before this budget was used: of the {trials} planned, {listing}."]
    return [f"Of {trials}, {listing}{'' if is_closed else ' so far'}."] if outcomes else []


def _were(value: int) -> str:
    return f"{count(value)} {'was' if value == 1 else 'were'}"
