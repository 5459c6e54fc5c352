"""How configurations were found, in words: sampler, budget, replicates and packs."""

__all__ = ["budget_said", "sampler_said"]

from collections.abc import Sequence

from service.report.planned import planned
from service.report.references import Citations
from studies.analysis.wording import listed
from studies.formatting import count, plural
from studies.pruner import Median
from studies.spec import ADAPTIVE_SAMPLERS
from studies.states import CLOSED_STUDY_STATES
from studies.views import ArmView, StudyView

# The rule is the run's own (workers/sampling.py); a test holds both in step.
_STARTUP = "random until a quarter of the arm's trials, at least 4 and at most 10, had been proposed"


def _by_optuna(cite: Citations) -> str:
    return f"in Optuna's implementation {cite('optuna')}"


def sampler_said(study: StudyView, arms: Sequence[ArmView], cite: Citations) -> tuple[str, ...]:
    """Return how configurations were chosen, a sentence each."""
    match study.spec.sampler:
        case "tpe":
            how = (
                f"by the tree-structured Parzen estimator {cite('tpe')}, multivariate, "
                f"{_by_optuna(cite)}; it was {_STARTUP}"
            )
        case "gp":
            acquisition = f"the logarithm of expected improvement {cite('logei')}"
            how = (
                f"by Bayesian optimization with a Gaussian process and {acquisition}, "
                f"{_by_optuna(cite)}; it was {_STARTUP}"
            )
        case "cmaes":
            strategy = f"by the covariance matrix adaptation evolution strategy {cite('cmaes')}"
            how = f"{strategy}, {_by_optuna(cite)}; what is not a number was drawn at random"
        case "random":
            how = f"independently and at random {cite('random')}"
        case "qmc":
            how = f"as successive points of a scrambled Sobol' sequence {cite('sobol')}"
        case "grid":
            how = "from the grid of all combinations, in random order"
    parts = [f"The first trial of each arm was its optimizer at its defaults; the others were chosen {how}."]
    if study.spec.sampler in {"random", "qmc"} and any(arm.optimizer.constraints for arm in arms):
        parts.append("Configurations that an optimizer cannot run were drawn anew.")
    parts.append("No configuration was tried twice in one search.")
    if study.spec.sampler in ADAPTIVE_SAMPLERS:
        parts.append(
            "Trials of which no value was known yet counted as bad while the next were chosen, and a "
            "trial that diverged ranked last."
        )
    return tuple(parts)


def budget_said(study: StudyView, arms: Sequence[ArmView]) -> tuple[str, ...]:
    """Return what each arm might spend and how often the search was repeated.

    Then what became of the trials; a sentence each.
    """
    spec, progress = study.spec, study.progress
    replicates = spec.budget.replicates
    most = spec.budget.trials_per_arm
    shorter = [plan for plan in (planned(arm, replicates=replicates) for arm in arms) if plan.trials < most]
    # An arm whose search was stopped before the study was extended has fewer trials as well, though its space
    # holds more.
    smaller = [
        f"{plan.name} ({count(plan.trials)})" for plan in shorter if plan.configurations() <= plan.trials
    ]
    stopped = [
        f"{plan.name} ({count(plan.trials)})" for plan in shorter if plan.configurations() > plan.trials
    ]
    budget = f"of {plural(most, 'trial')} of at most {plural(study.epochs, 'epoch')}"
    said = [f"Arms had budgets {budget}, less where their search had been stopped: {', '.join(stopped)}."]
    if not stopped:
        said = [f"Each arm had the same budget {budget}."]
    if smaller:
        said.append(
            "Smaller spaces hold fewer configurations, and all of those were to "
            f"be tried: {', '.join(smaller)}."
        )
    if isinstance(spec.pruner, Median):
        said.append("With the median rule, arms may train different numbers of epochs.")
    if replicates > 1:
        said.append(
            f"The search of each arm was repeated {replicates} times with that budget each, independently "
            "and on a training seed of its own; arms share the seed of a replicate."
        )
    fates = [
        f"{count(n)} {word}"
        for n, word in ((progress.completed, "completed"), (progress.pruned, "were pruned"))
    ]
    fates += [
        f"{count(n)} {word}"
        for n, word in ((progress.diverged, "diverged"), (progress.failed, "failed"))
        if n
    ]
    fates += [f"{count(progress.cancelled)} were cancelled"] if progress.cancelled else []
    told = [fate for fate in fates if not fate.startswith("0 ")]
    is_closed = study.state in CLOSED_STUDY_STATES
    if is_closed and progress.finished < progress.trials:
        fate = listed(told, most=len(told)) if told else "none was run"
        said.append(f"It ended before that was spent: of {plural(progress.trials, 'trial')} planned, {fate}.")
    elif told:
        said.append(
            f"Of {plural(progress.trials, 'trial')} in all, "
            f"{listed(told, most=len(told))}{'' if is_closed else ' so far'}."
        )
    said.append(
        "Divergence (a loss or a weight that is not finite) was charged to the arm; a trial lost to a "
        f"fault of its machine was run again, at most {plural(spec.max_retries, 'time')}, and not charged."
    )
    if spec.resources.max_pack_size != 1:
        said.append(
            "Trials of one arm could be trained together on one device, as one stacked model: each follows "
            "the run by itself to within rounding, and its seconds are its share of the stack's."
        )
    return tuple(said)
