"""Terminal tables of studies, arms, trials, cards, tokens and the audit log."""

__all__ = [
    "arms",
    "audit",
    "describe_metric",
    "hyperparameters",
    "optimizers",
    "python",
    "ranked",
    "studies",
    "study",
    "tokens",
    "trials",
    "workloads",
]

from collections.abc import Iterable, Mapping, Sequence

from rich.table import Table

from service.cli.fitted_table import FittedTable, facts
from service.pruner_text import describe_pruner
from studies.catalog import Hyperparameter, OptimizerCard, WorkloadCard
from studies.direction import rank_key, worst_value
from studies.formatting import ABSENT, ago, byte_size, count, duration, metric, number, plural, scalar
from studies.resources import Resources
from studies.searched_text import describe_objective, describe_overrides, describe_shared_space
from studies.space import Choices, Fixed, Parameters, Range
from studies.spec import StudySpec
from studies.states import TrialState
from studies.training_text import length_text, schedule_text, unusual_texts
from studies.views import ArmView, AuditView, Progress, StudySummary, StudyView, TokenView, TrialView


def _finished_of_all(progress: Progress) -> str:
    return f"{progress.finished}/{progress.trials}"


def _unsuccessful(progress: Progress) -> str:
    counts = {"diverged": progress.diverged, "failed": progress.failed, "cancelled": progress.cancelled}
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count)


def _state(trial: TrialView) -> str:
    """Return a trial's state.

    A trial that waits at a rung is queued, but it waits for other trials rather than for a worker.
    """
    return f"waiting at epoch {trial.epochs_done}" if trial.is_waiting else trial.state.value


def _epochs(trial: TrialView) -> str:
    """Return the number of epochs trained and, while a trial is being trained, the epoch it is trained to."""
    is_training = trial.state in {TrialState.QUEUED, TrialState.RUNNING} and not trial.is_waiting
    return f"{trial.epochs_done} to {trial.to_epoch}" if is_training else str(trial.epochs_done)


def _parameters(parameters: Parameters) -> str:
    return ", ".join(f"{name}={scalar(value)}" for name, value in parameters.items())


def _dimension(value: Range | Choices | Fixed) -> str:
    """Return a hyperparameter's search space, e.g. '0.0001 to 0.1 (log)'."""
    match value:
        case Range():
            kinds = [*(["integer"] if value.integer else []), *(["log"] if value.log else [])]
            return f"{scalar(value.low)} to {scalar(value.high)}" + (
                f" ({', '.join(kinds)})" if kinds else ""
            )
        case Choices():
            return " or ".join(scalar(choice) for choice in value.choices)
        case Fixed():
            return f"fixed at {scalar(value.value)}"


def describe_metric(card: WorkloadCard) -> str:
    """Return a workload's metric with its unit and direction."""
    unit = "" if card.unit in {"none", "fraction"} else f" ({card.unit})"
    return f"{card.metric}{unit}, {card.direction}"


def studies(rows: Sequence[StudySummary], verdicts: Mapping[str, str]) -> FittedTable:
    """Return a table with one row per study; verdicts and tags only where there are any, and room for them.

    Args:
        rows: the studies.
        verdicts: their verdicts in a phrase, by id.
    """
    has = {"verdict": any(verdicts.values()), "tags": any(s.tags for s in rows)}
    further = [name for name, is_shown in has.items() if is_shown]
    result = FittedTable(
        "id",
        "state",
        "trials",
        "workload",
        "arms",
        "submitted",
        "name",
        *further,
        right=("trials",),
        text={"arms": 12, "name": 12, "verdict": 16, "tags": 8},
        optional=[name for name in ("tags", "verdict") if has[name]],
    )
    for s in rows:
        cells = {"verdict": verdicts.get(s.id) or ABSENT, "tags": ", ".join(s.tags) or ABSENT}
        result.add_row(
            s.id,
            s.state.value,
            _finished_of_all(s.progress),
            s.workload,
            ", ".join(s.arms),
            ago(s.created_at),
            s.name,
            *(cells[name] for name in further),
        )
    return result


def _search(spec: StudySpec) -> str:
    replicates = f" in each of {spec.budget.replicates} replicates" if spec.budget.replicates > 1 else ""
    trials = plural(spec.budget.trials_per_arm, "trial")
    paired = f", {count(spec.search.paired)} of them paired across arms" if spec.search.paired else ""
    if spec.search.until is not None:
        paired += f" (up to {count(spec.search.until.max_pairs)} until they are decided)"
    verdict = "" if spec.search.verdict_at is None else f", verdict at k = {count(spec.search.verdict_at)}"
    return f"{spec.sampler}, at most {trials} per arm{replicates}{paired}{verdict}, seed {spec.seed}"


def _confirmation(view: StudyView) -> str:
    """Return how many of the confirmation runs have finished."""
    progress, seeds = view.progress, view.spec.confirmation.seeds
    if not (seeds or progress.confirmations):
        return "none"
    finished = f"{progress.confirmations_finished}/{progress.confirmations} runs finished"
    return f"{finished}, on {plural(seeds, 'fresh seed')}"


def _processes(resources: Resources) -> str:
    found = resources.processes_per_trial
    return "" if found == 1 else f", {plural(found, 'process', 'processes')} per trial"


def study(view: StudyView, arms: Sequence[ArmView], *, page: str) -> Table:
    """Return a table with one fact about a study per row; of its arms, only what they have for themselves."""
    card = view.workload_card
    spent = (view.ended_at - view.started_at).total_seconds() if view.started_at and view.ended_at else None
    rows = {
        "id": view.id,
        "name": view.name,
        "state": view.state.value + (f": {view.state_reason}" if view.state_reason else ""),
        "actions": ", ".join(view.verbs) or "none",
        "workload": (
            view.workload
            + ("" if card.title == view.workload else f": {card.title}")
            + f"; {describe_metric(card)}"
            + ("" if card.target is None else f", target {metric(card.target, card.unit)}")
        ),
        "each trial": (
            f"{length_text(view.epochs, view.interval_steps)}, batch size {view.batch_size}, "
            + ", ".join(
                [
                    f"schedule {schedule_text(view.spec.training)}",
                    *(f"{name} {text}" for name, text in unusual_texts(view.spec.training).items()),
                ]
            )
            + _processes(view.spec.resources)
        ),
        "objective": describe_objective(view),
        **({"every arm": f"searches {shared}"} if (shared := describe_shared_space(view)) else {}),
        **{f"only {label}": text for label, text in describe_overrides(arms)},
        "search": _search(view.spec),
        "pruner": describe_pruner(view),
        **({"suite": view.suite} if view.suite else {}),
        "trials": "; ".join(
            part
            for part in (
                f"{_finished_of_all(view.progress)} finished",
                f"{view.progress.pruned} pruned" if view.progress.pruned else "",
                f"{view.progress.waiting} waiting at a rung" if view.progress.waiting else "",
                _unsuccessful(view.progress),
            )
            if part
        ),
        "epochs": f"{view.progress.epochs_done}/{view.progress.epochs} trained",
        "confirmation": _confirmation(view),
        "submitted": ago(view.created_at) + (f" by {view.owner}" if view.owner else ""),
        "took": duration(spent),
        **(
            {"notes": f"version {view.notes_version}: `tangent notes {view.id}`"}
            if view.notes_version
            else {}
        ),
        "page": page,
    }
    return facts(rows)


def ranked(arms: Sequence[ArmView], card: WorkloadCard) -> list[ArmView]:
    """Return the arms, best first; arms without a value come last, in the study's order."""
    worst = worst_value(card.direction)
    return sorted(
        arms,
        key=lambda arm: (
            arm.best is None,
            rank_key(arm.best.value if arm.best else worst, arm.position, card.direction),
        ),
    )


def arms(views: Sequence[ArmView], card: WorkloadCard) -> FittedTable:
    """Return a table with one row per arm, best first; columns about pruning appear if trials were pruned."""
    has_pruned = any(arm.progress.pruned for arm in views)
    pruned = ("pruned", "epochs") if has_pruned else ()
    value = f"validation {card.metric}"
    tests = [f"test {each.name}" for each in card.metrics]
    measured = ("memory",) if any(arm.memory_bytes is not None for arm in views) else ()
    result = FittedTable(
        "arm",
        "trials",
        *pruned,
        value,
        "test",
        *tests,
        "trial",
        *measured,
        "diverged or failed",
        right=("trials", *pruned, value, "test", *tests, *measured),
        text={"diverged or failed": 12},
    )
    for arm in ranked(views, card):
        best, progress = arm.best, arm.progress
        result.add_row(
            arm.name,
            _finished_of_all(progress),
            *((str(progress.pruned), f"{progress.epochs_done}/{progress.epochs}") if has_pruned else ()),
            metric(best.value if best else None, card.unit),
            metric(best.test_value if best else None, card.unit),
            *(metric(best.test_metrics.get(each.name) if best else None, each.unit) for each in card.metrics),
            best.trial_id if best else ABSENT,
            *([memory_text(arm)] if measured else []),
            _unsuccessful(progress) or ABSENT,
        )
    return result


def python(arm: ArmView, card: WorkloadCard) -> str:
    """Return an arm's best configuration as Python to paste, under a comment with its values."""
    best = arm.best
    if best is None:
        return f"# {arm.name}: no trial has completed"
    test = f", {metric(best.test_value, card.unit)} on test" if best.test_value is not None else ""
    for each in card.metrics:
        if best.test_metrics.get(each.name) is not None:
            test += f", {each.name} {metric(best.test_metrics[each.name], each.unit)}"
    return (
        f"# {arm.name}: {card.metric} {metric(best.value, card.unit)} on validation{test} (trial "
        f"{best.trial_id})\n{best.python.rstrip()}"
    )


def memory_text(of: ArmView | TrialView) -> str:
    """Return the memory of a trial, or the most of an arm's trials, and that of the GPU after a plus."""
    sizes = [size for size in (of.memory_bytes, of.device_memory_bytes) if size is not None]
    return " + ".join(map(byte_size, sizes)) or ABSENT


def trials(rows: Sequence[TrialView], card: WorkloadCard) -> FittedTable:
    """Return a table with one row per trial; a column of reasons appears if a trial has one."""
    tests = [f"test {each.name}" for each in card.metrics]
    measured = ("memory",) if any(t.memory_bytes is not None for t in rows) else ()
    paired = ("pair",) if any(t.pair_index is not None for t in rows) else ()
    right = (*paired, card.metric, "test", *tests, "epochs", "pack", *measured, "cost")
    reasons = ("reason",) if any(t.reason for t in rows) else ()
    result = FittedTable(
        "trial",
        "state",
        *right,
        *reasons,
        "configuration",
        right=right,
        text={"reason": 20, "configuration": 40},
    )
    for t in rows:
        pack = ABSENT if t.pack_size is None else str(t.pack_size)
        result.add_row(
            t.id,
            _state(t),
            *([ABSENT if t.pair_index is None else str(t.pair_index)] if paired else []),
            metric(t.value, card.unit),
            metric(t.test_value, card.unit),
            *(metric(t.test_metrics.get(each.name), each.unit) for each in card.metrics),
            _epochs(t),
            pack,
            *([memory_text(t)] if measured else []),
            duration(t.cost_s),
            *([t.reason or ABSENT] if reasons else []),
            _parameters(t.parameters),
        )
    return result


def optimizers(rows: Iterable[OptimizerCard]) -> FittedTable:
    """Return a table with one row per optimizer."""
    result = FittedTable(
        "name", "title", "tuned by default", "description", text={"tuned by default": 16, "description": 24}
    )
    for card in rows:
        tuned = ", ".join(h.name for h in card.hyperparameters if h.tuned)
        result.add_row(card.name, card.title, tuned, card.description)
    return result


def hyperparameters(rows: Iterable[Hyperparameter]) -> FittedTable:
    """Return a table with one row per hyperparameter."""
    result = FittedTable(
        "hyperparameter",
        "default",
        "tuned",
        "search space",
        "allowed",
        "description",
        right=("default",),
        text={"description": 20},
    )
    for h in rows:
        result.add_row(
            h.name,
            scalar(h.default) if h.follows is None else f"that of {h.follows}",
            "yes" if h.tuned else "no",
            _dimension(h.search),
            str(h.bounds or ABSENT),
            h.description,
        )
    return result


def workloads(rows: Iterable[WorkloadCard]) -> FittedTable:
    """Return a table with one row per workload."""
    result = FittedTable(
        "name",
        "state",
        "metric",
        "target",
        "epochs",
        "time",
        "description",
        right=("target", "epochs", "time"),
        text={"description": 20},
    )
    for card in rows:
        result.add_row(
            card.name,
            "missing" if card.missing else "ready",
            describe_metric(card),
            metric(card.target, card.unit),
            str(card.epochs),
            "–" if card.epoch_s is None else duration(card.epochs * card.epoch_s),
            card.description,
        )
    return result


def published(card: WorkloadCard) -> FittedTable:
    """Return a table with one row per published result of a workload."""
    result = FittedTable(
        "optimizer",
        "metric",
        "published",
        "setting",
        "source",
        right=("published",),
        text={"source": 20},
    )
    for row in card.published:
        name = row.metric or card.metric
        value = metric(row.value, card.by_metric(name).unit)
        result.add_row(row.optimizer, name, value, row.setting or "–", row.source)
    return result


def tokens(rows: Iterable[TokenView]) -> FittedTable:
    """Return a table with one row per token."""
    right = ("open studies", "trials per study", "GPU-hours")
    result = FittedTable(
        "name", "role", "created", "last used", "state", *right, right=right, text={"name": 12}
    )
    for t in rows:
        bounds = t.quotas
        result.add_row(
            t.name,
            t.role,
            ago(t.created_at),
            ago(t.last_used_at),
            "revoked" if t.revoked_at else "valid",
            _used(t.open_studies, bounds.max_studies),
            ABSENT if bounds.max_trials is None else f"at most {count(bounds.max_trials)}",
            _used(t.gpu_hours, bounds.max_gpu_hours),
        )
    return result


def _used(used: float | None, quota: float | None) -> str:
    """Return how much of a quota is used, and the quota if there is one."""
    return ABSENT if used is None else number(used, 3) + ("" if quota is None else f" of {number(quota)}")


def audit(rows: Iterable[AuditView]) -> FittedTable:
    """Return a table with one row per entry of the audit log."""
    result = FittedTable(
        "time (UTC)", "token", "action", "subject", "address", text={"token": 8, "subject": 12, "address": 15}
    )
    for entry in rows:
        when = entry.at.strftime("%Y-%m-%d %H:%M:%S")
        result.add_row(
            when,
            entry.actor or ABSENT,
            entry.verb,
            entry.study_id or entry.subject or ABSENT,
            entry.address or ABSENT,
        )
    return result
