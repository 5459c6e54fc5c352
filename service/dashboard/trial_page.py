"""The page of one trial: the whole page, or only what has changed."""

__all__ = ["describe_dimension", "trial_html", "trial_update_html"]

from typing import Any

from service.dashboard.figures import layer_rows, trial_charts, trial_layer_charts
from service.dashboard.pack_text import describe_memory, describe_pack
from service.dashboard.rendering import address, render
from service.dashboard.study_page import OUT_OF_BAND
from service.output_text import describe_output
from service.pruner_text import describe_rungs
from studies.direction import best_value
from studies.formatting import count, duration, metric, metric_unit, number, plural, scalar
from studies.promotion import brackets, rungs
from studies.pruner import Hyperband
from studies.space import AnyDimension, Choices, Fixed, Range
from studies.states import FINISHED_TRIAL_STATES, TrialState
from studies.store import Store
from studies.training_program import training_program
from studies.trials import Measurement
from studies.views import ArmView, StudyView, TrialView


def trial_html(store: Store, trial_id: str) -> str:
    """Return a trial's page.

    Raises:
        TrialNotFound: the trial does not exist.
    """
    trial = store.trial(trial_id)
    context = _context(store, trial)
    study: StudyView = context["study"]
    arm: ArmView = context["arm"]
    return render(
        "trial.html",
        **context,
        has_charts=True,
        json_url=f"/v1/trials/{trial_id}",
        more_json=[
            f"/v1/trials/{trial_id}/measurements",
            f"/v1/trials/{trial_id}/layers",
            f"/v1/trials/{trial_id}/output",
            f"/v1/trials/{trial_id}/artifacts",
        ],
        configuration=[
            (
                name,
                scalar(trial.parameters.get(name)),
                describe_dimension(dimension) + (", this arm's own" if name in arm.overrides else ""),
            )
            for name, dimension in arm.space.items()
        ],
        partners=_partners(store, trial),
        python=training_program(
            arm.optimizer,
            trial.parameters,
            study.spec.training.settings(batch_size=study.batch_size),
            workload=study.workload_card,
            epochs=study.epochs,
            interval_steps=study.interval_steps,
        ).rstrip(),
    )


def trial_update_html(store: Store, trial_id: str, *, seen: str) -> str | None:
    """Return the changed parts of a trial's page, or None if nothing has changed since version `seen`.

    Raises:
        TrialNotFound: the trial does not exist.
    """
    trial = store.trial(trial_id)
    return (
        None
        if seen == _version(trial)
        else render("trial/update.html", **_context(store, trial), oob=OUT_OF_BAND)
    )


def describe_dimension(dimension: AnyDimension) -> str:
    """Return what a hyperparameter is searched over, in words, e.g. '0.001 to 0.1 (log scale)'."""
    match dimension:
        case Range():
            how = " (log scale)" if dimension.log else ""
            numbers = "whole numbers " if dimension.integer else ""
            return f"{numbers}{scalar(dimension.low)} to {scalar(dimension.high)}{how}"
        case Choices():
            return " or ".join(scalar(choice) for choice in dimension.choices)
        case Fixed():
            return "fixed"


def _partners(store: Store, trial: TrialView) -> list[tuple[ArmView, TrialView]]:
    """Return the trials of the same pair in other arms, in the study's order of arms."""
    if trial.pair_index is None:
        return []
    of_arm = {each.arm: each for each in store.pair(trial)}
    arms = store.arms(trial.study_id)
    return [(arm, of_arm[arm.name]) for arm in arms if arm.name in of_arm and arm.name != trial.arm]


def _version(trial: TrialView) -> str:
    heard = "" if trial.heard_at is None else f"-{trial.heard_at.timestamp():.0f}"
    return f"{trial.state}-{trial.attempt}-{trial.epochs_done}-{trial.to_epoch}{heard}"


def _context(store: Store, trial: TrialView) -> dict[str, Any]:
    study = store.study(trial.study_id)
    arm = next(arm for arm in store.arms(trial.study_id) if arm.name == trial.arm)
    measurements = store.measurements(trial.id)
    layers = store.trial_layers(trial.id)
    is_live = trial.state not in FINISHED_TRIAL_STATES
    return {
        "study": study,
        "arm": arm,
        "trial": trial,
        "outcome": _outcome(trial, study, measurements),
        "bracket": _bracket(trial, study),
        "pack": describe_pack(trial),
        "memory": describe_memory(trial),
        # Slow to find in a study with many requeued trials, so only read if there are any.
        "requeued": store.requeue_events(trial.id) if trial.attempt > 1 else (),
        "charts": trial_charts(measurements, arm=arm, card=study.workload_card),
        "layer_charts": trial_layer_charts(arm, layers),
        "layer_rows": layer_rows(layers),
        "measured_headers": (
            "Epoch",
            "Time",
            "lr",
            "Training loss",
            "Validation loss",
            *(f"Validation {name}" for name in study.workload_card.metric_names),
            *_PROBES,
        ),
        "measured_rows": [_row(m, study) for m in measurements],
        "artifacts": store.trial_artifacts(trial.id),
        "output": (output := store.trial_output(trial.id)),
        "about_output": describe_output(output),
        "is_live": is_live,
        "live_url": address(f"/trials/{trial.id}/live", seen=_version(trial)) if is_live else None,
    }


_PROBES = ("Weight norm", "Effective step", "Projected fraction", "|cos(gradient, weight)|")


def _row(m: Measurement, study: StudyView) -> tuple[str, ...]:
    return (
        str(m.epoch),
        duration(m.elapsed_s),
        number(m.lr, 3),
        number(m.train_loss),
        number(m.validation_loss),
        metric(m.validation_metric, study.workload_card.unit),
        *(metric(m.metrics.get(each.name), each.unit) for each in study.workload_card.metrics),
        number(m.weight_norm),
        number(m.effective_step, 3),
        metric(m.projected_fraction, "fraction"),
        number(m.gradient_cosine, 3),
    )


def _bracket(trial: TrialView, study: StudyView) -> str:
    """Return the trial's Hyperband bracket with its rungs; empty with any other pruner."""
    pruner = study.spec.pruner
    if not isinstance(pruner, Hyperband):
        return ""
    return (
        f"{count(trial.bracket + 1)} of {count(brackets(pruner, study.epochs))}: "
        f"{describe_rungs(study, bracket=trial.bracket)}"
    )


def _outcome(trial: TrialView, study: StudyView, measurements: tuple[Measurement, ...]) -> str:
    reason = f" {trial.reason[:1].upper()}{trial.reason[1:].rstrip('.')}." if trial.reason else ""
    done = f"{trial.epochs_done} of {plural(study.epochs, 'epoch')}"
    at_rung = (
        f"at the rung after epoch {count(trial.epochs_done)} of "
        f"{count(study.epochs)}{_with_value(trial, study, measurements)}"
    )
    match trial.state:
        case TrialState.QUEUED if trial.is_waiting:
            return (
                f"Waiting {at_rung}. It will be promoted or pruned once enough trials of its arm have "
                f"reached the rung.{reason}"
            )
        case TrialState.QUEUED if trial.epochs_done in rungs(
            study.spec.pruner, study.epochs, bracket=trial.bracket
        ):
            return (
                f"Promoted {at_rung}. Waiting for a worker to train it to epoch "
                f"{count(trial.to_epoch)}.{reason}"
            )
        case TrialState.QUEUED:
            return f"Waiting for a worker.{reason}"
        case TrialState.RUNNING:
            next_rung = (
                f"; next rung after epoch {count(trial.to_epoch)}" if trial.to_epoch < study.epochs else ""
            )
            steps = f", and {plural(trial.step, 'step')} of the next" if trial.step else ""
            return f"In training: {done} done{steps}{next_rung}."
        case TrialState.COMPLETED:
            return f"Trained for {done}.{reason}"
        case TrialState.PRUNED:
            return f"Pruned {at_rung}: other trials of its arm were better there. It has no result.{reason}"
        case TrialState.DIVERGED:
            return f"Diverged after {done}. This counts as a result of its configuration.{reason}"
        case TrialState.FAILED:
            return (
                f"Failed after {done} because of the machine or the workload, so it says nothing about "
                f"the optimizer.{reason}"
            )
        case TrialState.CANCELLED:
            return f"Cancelled after {done}.{reason}"


def _with_value(trial: TrialView, study: StudyView, measurements: tuple[Measurement, ...]) -> str:
    """Return the value that the trial was compared by at its rung; empty if it was not finite."""
    card = study.workload_card
    values = [
        m.validation_metric
        for m in measurements
        if m.validation_metric is not None and m.epoch <= trial.epochs_done
    ]
    if not values or (study.spec.objective.at == "last" and measurements[-1].validation_metric is None):
        return ""
    best = best_value(values, card.direction)
    return (
        f" with {metric(values[-1] if study.spec.objective.at == 'last' else best, card.unit)}"
        f"{metric_unit(card.unit)} validation {card.metric}"
    )
