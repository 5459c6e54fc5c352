"""What studies, arms, trials and cards look like in a terminal."""

__all__ = [
    "arms",
    "audit",
    "hyperparameters",
    "metric",
    "optimizers",
    "python",
    "ranked",
    "studies",
    "study",
    "tokens",
    "trials",
    "workloads",
]

from collections.abc import Iterable, Sequence

from rich.table import Table
from rich.text import Text

from service.cli.output import table
from service.pruner_text import describe_pruner
from studies.catalog import Hyperparameter, OptimizerCard, WorkloadCard
from studies.formatting import ABSENT, ago, duration, scalar, significant
from studies.space import Choices, Fixed, Parameters, Range
from studies.spec import StudySpec
from studies.states import TrialState
from studies.views import ArmView, AuditView, Progress, StudySummary, StudyView, TokenView, TrialView


def _share(progress: Progress) -> str:
    return f"{progress.finished}/{progress.trials}"


def _troubles(progress: Progress) -> str:
    counts = {"diverged": progress.diverged, "failed": progress.failed, "cancelled": progress.cancelled}
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count)


def _state(trial: TrialView) -> str:
    """Return where a trial stands, as people say it.

    One at a rung is queued, and yet no worker is what it waits for.
    """
    if trial.is_waiting:
        return f"waiting at epoch {trial.epochs_done}"
    return trial.state.value + (f": {trial.reason}" if trial.reason else "")


def _epochs(trial: TrialView) -> str:
    """Return the epochs trained, and to which it is being trained where that is not its last."""
    is_on_its_way = trial.state in {TrialState.QUEUED, TrialState.RUNNING} and not trial.is_waiting
    return f"{trial.epochs_done} to {trial.to_epoch}" if is_on_its_way else str(trial.epochs_done)


def _parameters(parameters: Parameters) -> str:
    return ", ".join(f"{name}={scalar(value)}" for name, value in parameters.items())


def _dimension(value: Range | Choices | Fixed) -> str:
    """Return what one hyperparameter may be, in words."""
    match value:
        case Range():
            kind = "whole numbers, " if value.integer else ""
            return (
                f"{value.low:g} to "
                f"{value.high:g}"
                f"{' (' + kind + 'log)' if value.log else ' (' + kind[:-2] + ')' if kind else ''}"
            )
        case Choices():
            return " or ".join(scalar(choice) for choice in value.choices)
        case Fixed():
            return f"fixed at {scalar(value.value)}"


def metric(card: WorkloadCard) -> str:
    """Return what a workload measures, in which unit, and which way is better."""
    unit = "" if card.unit == "none" else f" ({card.unit})"
    return f"{card.metric}{unit}, {card.direction}"


def studies(found: Iterable[StudySummary]) -> Table:
    """Return one row a study."""
    made = table(None, "id", "state", "trials", "workload", "arms", "submitted", "name", right=("trials",))
    for s in found:
        made.add_row(
            s.id, s.state.value, _share(s.progress), s.workload, ", ".join(s.arms), ago(s.created_at), s.name
        )
    return made


def _search(spec: StudySpec) -> str:
    replicates = f" in each of {spec.budget.replicates} replicates" if spec.budget.replicates > 1 else ""
    return f"{spec.sampler}, at most {spec.budget.trials_per_arm} trials an arm{replicates}, seed {spec.seed}"


def _confirmation(found: StudyView) -> str:
    """Return how far the runs on fresh seeds are."""
    progress, seeds = found.progress, found.spec.confirmation.seeds
    if not (seeds or progress.confirmations):
        return "none asked for"
    return f"{progress.confirmations_finished}/{progress.confirmations} runs finished, on {seeds} fresh seeds"


def study(found: StudyView, *, page: str) -> Table:
    """Return what there is to know of a study but its arms, one fact a row."""
    made = table(None, "", "")
    made.show_header = False
    card = found.workload_card
    spent = (
        (found.ended_at - found.started_at).total_seconds() if found.started_at and found.ended_at else None
    )
    rows = {
        "id": found.id,
        "name": found.name,
        "state": found.state.value + (f": {found.state_reason}" if found.state_reason else ""),
        "may": ", ".join(found.verbs) or "nothing can change it any more",
        "workload": f"{found.workload}: {card.title}; {metric(card)}, target {card.target:g}",
        "each trial": (
            f"{found.epochs} epochs, batch size {found.batch_size}, {found.spec.training.schedule} schedule"
        ),
        "search": _search(found.spec),
        "pruner": describe_pruner(found),
        **({"suite": found.suite} if found.suite else {}),
        "trials": "; ".join(
            part
            for part in (
                f"{_share(found.progress)} finished",
                f"{found.progress.pruned} pruned" if found.progress.pruned else "",
                f"{found.progress.waiting} waiting at a rung" if found.progress.waiting else "",
                _troubles(found.progress) or "none in trouble",
            )
            if part
        ),
        "epochs": f"{found.progress.epochs_done}/{found.progress.epochs} trained",
        "confirmation": _confirmation(found),
        "submitted": ago(found.created_at) + (f" by {found.owner}" if found.owner else ""),
        "took": duration(spent),
        "page": page,
    }
    for name, value in rows.items():
        made.add_row(Text(name, style="dim"), value)
    return made


def ranked(found: Sequence[ArmView], card: WorkloadCard) -> list[ArmView]:
    """Return the arms, best first; those without a value last, in the study's order."""
    sign = -1.0 if card.direction == "maximize" else 1.0
    return sorted(
        found, key=lambda arm: (arm.best is None, sign * arm.best.value if arm.best else 0.0, arm.position)
    )


def arms(found: Sequence[ArmView], card: WorkloadCard) -> Table:
    """Return one row an arm, best first; with a column of the pruned where any were."""
    is_pruned = any(arm.progress.pruned for arm in found)
    pruned = ("pruned", "epochs") if is_pruned else ()
    value = f"validation {card.metric}"
    made = table(
        None,
        "arm",
        "trials",
        *pruned,
        value,
        "test",
        "trial",
        "in trouble",
        right=("trials", *pruned, value, "test"),
    )
    for arm in ranked(found, card):
        best, progress = arm.best, arm.progress
        made.add_row(
            arm.name,
            _share(progress),
            *((str(progress.pruned), f"{progress.epochs_done}/{progress.epochs}") if is_pruned else ()),
            significant(best.value if best else None),
            significant(best.test_value if best else None),
            best.trial_id if best else ABSENT,
            _troubles(progress) or ABSENT,
        )
    return made


def python(arm: ArmView, card: WorkloadCard) -> str:
    """Return an arm's best configuration as Python to paste, under a comment that says how good it was."""
    best = arm.best
    if best is None:
        return f"# {arm.name}: no trial has completed"
    test = f", {significant(best.test_value)} on test" if best.test_value is not None else ""
    return (
        f"# {arm.name}: {card.metric} {significant(best.value)} on validation{test} (trial "
        f"{best.trial_id})\n{best.python.rstrip()}"
    )


def trials(found: Iterable[TrialView], card: WorkloadCard) -> Table:
    """Return one row a trial."""
    right = (card.metric, "test", "epochs", "pack", "cost")
    made = table(
        None, "trial", "state", card.metric, "test", "epochs", "pack", "cost", "configuration", right=right
    )
    for t in found:
        pack = ABSENT if t.pack_size is None else str(t.pack_size)
        made.add_row(
            t.id,
            _state(t),
            significant(t.value),
            significant(t.test_value),
            _epochs(t),
            pack,
            duration(t.cost_s),
            _parameters(t.parameters),
        )
    return made


def optimizers(found: Iterable[OptimizerCard]) -> Table:
    """Return one row an optimizer."""
    made = table(None, "name", "title", "tuned by default", "what it is")
    for card in found:
        tuned = ", ".join(h.name for h in card.hyperparameters if h.tuned)
        made.add_row(card.name, card.title, tuned, card.description)
    return made


def hyperparameters(found: Iterable[Hyperparameter]) -> Table:
    """Return one row a hyperparameter."""
    made = table(
        None, "hyperparameter", "default", "tuned", "usual range", "legal", "what it does", right=("default",)
    )
    for h in found:
        made.add_row(
            h.name,
            scalar(h.default),
            "yes" if h.tuned else "no",
            _dimension(h.search),
            str(h.bounds or ABSENT),
            h.description,
        )
    return made


def workloads(found: Iterable[WorkloadCard]) -> Table:
    """Return one row a workload."""
    made = table(
        None, "name", "metric", "target", "epochs", "about", "what it is", right=("target", "epochs", "about")
    )
    for card in found:
        made.add_row(
            card.name,
            metric(card),
            f"{card.target:g}",
            str(card.epochs),
            duration(card.epochs * card.epoch_s),
            card.description,
        )
    return made


def tokens(found: Iterable[TokenView]) -> Table:
    """Return one row a token."""
    right = ("open studies", "trials a study", "GPU-hours")
    made = table(None, "name", "role", "created", "last used", "state", *right, right=right)
    for t in found:
        bounds = t.quotas
        made.add_row(
            t.name,
            t.role,
            ago(t.created_at),
            ago(t.last_used_at),
            "revoked" if t.revoked_at else "valid",
            _used(t.open_studies, bounds.max_studies),
            ABSENT if bounds.max_trials is None else f"at most {bounds.max_trials}",
            _used(t.gpu_hours, bounds.max_gpu_hours),
        )
    return made


def _used(used: float | None, most: float | None) -> str:
    """Return how much of a quota is used, and the quota where there is one."""
    return ABSENT if used is None else f"{used:.3g}" + ("" if most is None else f" of {most:g}")


def audit(found: Iterable[AuditView]) -> Table:
    """Return one row a thing that somebody did."""
    made = table(None, "when", "who", "what", "study, token or webhook", "from")
    for entry in found:
        when = entry.at.strftime("%Y-%m-%d %H:%M:%S")
        made.add_row(
            when,
            entry.actor or ABSENT,
            entry.verb,
            entry.study_id or entry.subject or ABSENT,
            entry.address or ABSENT,
        )
    return made
