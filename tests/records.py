"""Hand-written study records: the result of each search trial and confirmation run, without a store."""

__all__ = ["Arm", "Outcome", "around", "falling", "record"]

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from catalogs import catalog, study_body

from studies.catalog import Catalog
from studies.resolve import ResolvedArm, resolve
from studies.seeds import confirmation_seed, trial_seed
from studies.space import Range, Scalar
from studies.spec import StudySpec, parse_spec
from studies.states import FINISHED_TRIAL_STATES, StudyState, TrialState, allowed_verbs
from studies.trials import Measurement
from studies.views import ArmView, Progress, StudyRecord, StudyView, TrialView

Outcome = float | str
"""What a trial came to: its validation value, or the state that it is in without one ('diverged', 'pruned',
'failed', 'running' ...).
"""

_START = datetime(2026, 1, 1, tzinfo=UTC)


def falling(best: float, *, trials: int = 40, step: float = 0.0005) -> list[Outcome]:
    """Return search results that lie `step` apart, with the best in the middle of the trials."""
    return [best - step * ((7 * n + 3) % trials) for n in range(trials)]


def around(mean: float, *, seeds: int = 5, turn: int = 0) -> list[Outcome]:
    """Return runs about a tenth of a point around a mean; another `turn` gives other deviations."""
    noise = (0.0, 0.001, -0.001, 0.0015, -0.0015, 0.0005, -0.0005)
    return [mean + noise[(n * (turn + 1) + turn) % len(noise)] for n in range(seeds)]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """The results of one arm.

    Attributes:
        search: the result of each search trial; with several replicates, one sequence for each.
        best: test values, or states, of the best configuration on fresh seeds; with several replicates, one
            sequence for each.
        defaults: the same for the defaults.
        parameters: parameters by trial number that differ from the builder's choice.
        shift: validation value minus test value of confirmation runs.
        curves: validation values of the best configuration's runs by epoch; by default they approach the
            run's value.
        cost_s: seconds of each trial.
        optimizer: its optimizer, if the arm has another name.
        space: the dimensions that the study sets.
    """

    search: Sequence[Outcome] | Sequence[Sequence[Outcome]] = ()
    best: Sequence[Outcome] | Sequence[Sequence[Outcome]] = ()
    defaults: Sequence[Outcome] = ()
    parameters: Mapping[int, Mapping[str, Scalar]] = field(default_factory=dict[int, Mapping[str, Scalar]])
    shift: float = 0.0
    curves: Sequence[float] = ()
    cost_s: float = 1.0
    optimizer: str = ""
    space: Mapping[str, Any] = field(default_factory=dict[str, Any])


def record(
    arms: Mapping[str, Arm],
    *,
    state: StudyState = StudyState.COMPLETED,
    study_id: str = "study",
    known: Catalog | None = None,
    environment: Mapping[str, str] | None = None,
    **fields: Any,
) -> StudyRecord:
    """Return the record of a study of these arms; `fields` replace or add to its spec."""
    most = max((len(line) for arm in arms.values() for line in _lines(arm.search)), default=1)
    replicates = max((len(_lines(arm.search)) for arm in arms.values()), default=1)
    entries = [
        {"optimizer": arm.optimizer or name, "name": name, "space": dict(arm.space)}
        for name, arm in arms.items()
    ]
    budget = {"trials_per_arm": max(1, most), "epochs": 4, "replicates": max(1, replicates)}
    spec = parse_spec(
        study_body(
            arms=entries, **{"budget": budget, "sampler": "random", "confirmation": {"seeds": 5}} | fields
        )
    )
    plan = resolve(spec, known or catalog())
    trials: list[TrialView] = []
    runs: list[TrialView] = []
    measurements: dict[str, tuple[Measurement, ...]] = {}
    views: list[ArmView] = []
    sign = 1 if plan.workload.direction == "maximize" else -1
    for position, resolved in enumerate(plan.arms):
        arm = arms[resolved.name]
        mine = _search(study_id, resolved, arm, spec, plan.epochs)
        theirs = _confirmations(study_id, resolved, arm, spec, plan.epochs, mine, sign)
        best = _best(mine, None, sign)
        for run in [*theirs, *([] if best is None else [best])]:
            measurements[run.id] = _measured(run, arm.curves, sign)
        views.append(
            ArmView(
                name=resolved.name,
                position=position,
                optimizer=resolved.card,
                space=resolved.space,
                defaults=resolved.defaults,
                progress=_progress(mine, theirs, resolved.trials * spec.budget.replicates, plan.epochs),
                best=None,
                fit=None,
            )
        )
        trials += mine
        runs += theirs
    study = StudyView(
        id=study_id,
        name=spec.name,
        state=state,
        state_reason=None,
        workload=spec.workload,
        suite=spec.suite,
        arms=tuple(arms),
        owner=None,
        progress=_progress(trials, runs, sum(view.progress.trials for view in views), plan.epochs),
        created_at=_START,
        started_at=_START,
        ended_at=None,
        version=1,
        verbs=allowed_verbs(state),
        workload_card=plan.workload,
        epochs=plan.epochs,
        batch_size=plan.batch_size,
        spec=spec,
        environment=dict(environment or {"python": "3.11"}),
    )
    return StudyRecord(
        study=study,
        arms=tuple(views),
        trials=tuple(trials),
        confirmations=tuple(runs),
        measurements=measurements,
    )


def _lines(outcomes: Sequence[Outcome] | Sequence[Sequence[Outcome]]) -> list[Sequence[Outcome]]:
    """Return one sequence for each replicate."""
    if not outcomes:
        return [[]]
    flat = [each for each in outcomes if isinstance(each, float | str)]
    return [flat] if flat else [line for line in outcomes if not isinstance(line, float | int | str)]


def _trial(
    study_id: str,
    arm: str,
    number: int,
    outcome: Outcome,
    *,
    epochs: int,
    test: float | None = None,
    **fields: Any,
) -> TrialView:
    state = TrialState.COMPLETED if isinstance(outcome, float) else TrialState(outcome)
    is_confirmation = fields.get("phase") == "confirmation"
    value = outcome if isinstance(outcome, float) else None
    done = {TrialState.COMPLETED: epochs, TrialState.QUEUED: 0}.get(state, 1)
    return TrialView(
        **{
            "id": f"{study_id}.{arm}.{'c' if is_confirmation else ''}{number}",
            "study_id": study_id,
            "arm": arm,
            "number": number,
            "state": state,
            "attempt": 1,
            "retries": 0,
            "value": value,
            "best_epoch": None if value is None else epochs,
            "test_value": value if test is None else test,
            "epochs_done": done,
            "to_epoch": epochs,
            "bracket": 0,
            "pack_size": 1,
            "cost_s": 1.0,
            "reason": None,
            "worker": "host:1",
            "created_at": _START,
            "started_at": _START,
            "ended_at": _START + timedelta(seconds=number + 1) if state in FINISHED_TRIAL_STATES else None,
        }
        | fields
    )


def _search(study_id: str, arm: ResolvedArm, told: Arm, spec: StudySpec, epochs: int) -> list[TrialView]:
    lr = arm.space["lr"]
    until = spec.search.until
    most = spec.search.paired if until is None else until.max_pairs
    found: list[TrialView] = []
    for replicate, line in enumerate(_lines(told.search)):
        for n, outcome in enumerate(line):
            number = len(found)
            parameters = dict(arm.defaults)
            if n and isinstance(lr, Range):
                # Anywhere in the range but at its edges, no two alike.
                parameters["lr"] = lr.low * (lr.high / lr.low) ** (0.2 + 0.6 * ((0.618 * number) % 1))
            found.append(
                _trial(
                    study_id,
                    arm.name,
                    number,
                    outcome,
                    epochs=epochs,
                    origin="sampled" if n else "default",
                    parameters=parameters | dict(told.parameters.get(number, {})),
                    replicate=replicate,
                    pair_index=n - 1 if 0 < n <= most else None,
                    seed=trial_seed(spec.seed, replicate),
                    cost_s=told.cost_s,
                )
            )
    return found


def _best(trials: Sequence[TrialView], replicate: int | None, sign: int) -> TrialView | None:
    completed = [
        trial for trial in trials if trial.value is not None and replicate in {None, trial.replicate}
    ]
    return max(completed, key=lambda trial: (sign * (trial.value or 0.0), -trial.number), default=None)


def _confirmations(
    study_id: str,
    arm: ResolvedArm,
    told: Arm,
    spec: StudySpec,
    epochs: int,
    trials: Sequence[TrialView],
    sign: int,
) -> list[TrialView]:
    found: list[TrialView] = []
    asked = [(_best(trials, replicate, sign), line) for replicate, line in enumerate(_lines(told.best))]
    for of, outcomes in [*asked, (trials[0] if trials else None, told.defaults)]:
        for index, outcome in enumerate(outcomes):
            assert of is not None, "there is something to confirm"
            value = outcome + told.shift if isinstance(outcome, float) else outcome
            found.append(
                _trial(
                    study_id,
                    arm.name,
                    len(found),
                    value,
                    epochs=epochs,
                    test=outcome if isinstance(outcome, float) else None,
                    phase="confirmation",
                    confirms=of.number,
                    origin=of.origin,
                    parameters=of.parameters,
                    replicate=of.replicate,
                    seed=confirmation_seed(spec.seed, index),
                )
            )
    return found


def _measured(run: TrialView, curve: Sequence[float], sign: int) -> tuple[Measurement, ...]:
    end = run.value if run.value is not None else 0.5
    values = curve or [
        end - sign * 0.4 * 0.1**epoch * (epoch < run.to_epoch) for epoch in range(1, run.to_epoch + 1)
    ]
    fields = (
        "lr",
        "train_loss",
        "validation_loss",
        "weight_norm",
        "effective_step",
        "projected_fraction",
        "gradient_cosine",
    )
    return tuple(
        Measurement(epoch=epoch, elapsed_s=0.5 * epoch, validation_metric=value, **dict.fromkeys(fields))
        for epoch, value in enumerate(values[: run.epochs_done], start=1)
    )


def _progress(trials: Sequence[TrialView], runs: Sequence[TrialView], planned: int, epochs: int) -> Progress:
    states = Counter(trial.state for trial in trials)
    return Progress(
        trials=planned,
        finished=sum(trial.state in FINISHED_TRIAL_STATES for trial in trials),
        completed=states[TrialState.COMPLETED],
        diverged=states[TrialState.DIVERGED],
        pruned=states[TrialState.PRUNED],
        failed=states[TrialState.FAILED],
        cancelled=states[TrialState.CANCELLED],
        running=states[TrialState.RUNNING],
        waiting=0,
        epochs_done=sum(trial.epochs_done for trial in trials),
        epochs=planned * epochs,
        confirmations=len(runs),
        confirmations_finished=sum(run.state in FINISHED_TRIAL_STATES for run in runs),
        confirmations_running=sum(run.state is TrialState.RUNNING for run in runs),
    )
