"""What a trial's page shows, gathered from the store."""

__all__ = ["trial_html", "trial_update_html"]

from typing import Any

from service.dashboard.figures import trial_charts
from service.dashboard.numbers import duration, metric, number, plural, scalar
from service.dashboard.rendering import address, render
from service.dashboard.study_page import OUT_OF_BAND
from studies.recipe import recipe
from studies.space import AnyDimension, Choices, Fixed, Range
from studies.states import FINISHED_TRIAL_STATES, TrialState
from studies.store import Store
from studies.views import ArmView, MeasurementView, StudyView, TrialView


def trial_html(store: Store, trial_id: str) -> str:
    """Return a trial's page.

    Raises:
        TrialNotFound: there is none.
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
        more_json=[f"/v1/trials/{trial_id}/measurements"],
        configuration=[(name, scalar(trial.parameters.get(name)), over(dimension)) for name, dimension in arm.space.items()],
        python=recipe(arm.optimizer, trial.parameters, decay_1d=study.spec.training.decay_1d).rstrip(),
    )


def trial_update_html(store: Store, trial_id: str, *, seen: str) -> str | None:
    """Return what has changed of a trial's page since `seen`, or None when nothing has.

    Raises:
        TrialNotFound: there is none.
    """
    trial = store.trial(trial_id)
    return None if seen == _seen(trial) else render("trial/update.html", **_context(store, trial), oob=OUT_OF_BAND)


def over(dimension: AnyDimension) -> str:
    """Return what a hyperparameter is searched over, in words."""
    match dimension:
        case Range():
            how = " (log scale)" if dimension.log else ""
            numbers = "whole numbers " if dimension.integer else ""
            return f"{numbers}{scalar(dimension.low)} to {scalar(dimension.high)}{how}"
        case Choices():
            return " or ".join(scalar(choice) for choice in dimension.choices)
        case Fixed():
            return "fixed"


def _seen(trial: TrialView) -> str:
    return f"{trial.state}-{trial.attempt}-{trial.epochs_done}"


def _context(store: Store, trial: TrialView) -> dict[str, Any]:
    study = store.study(trial.study_id)
    arm = next(arm for arm in store.arms(trial.study_id) if arm.name == trial.arm)
    measurements = store.measurements(trial.id)
    is_live = trial.state not in FINISHED_TRIAL_STATES
    return {
        "study": study,
        "arm": arm,
        "trial": trial,
        "outcome": _outcome(trial, study),
        "charts": trial_charts(measurements, arm=arm, card=study.workload_card),
        "measured_headers": ("Epoch", "Time", "lr", "Training loss", "Validation loss", f"Validation {study.workload_card.metric}", *_PROBES),
        "measured_rows": [_row(m, study) for m in measurements],
        "is_live": is_live,
        "live_url": address(f"/trials/{trial.id}/live", seen=_seen(trial)) if is_live else None,
    }


_PROBES = ("Weight norm", "Effective step", "Share projected", "|cos(gradient, weight)|")


def _row(m: MeasurementView, study: StudyView) -> tuple[str, ...]:
    return (
        str(m.epoch),
        duration(m.elapsed_s),
        number(m.lr, 3),
        number(m.train_loss),
        number(m.validation_loss),
        metric(m.validation_metric, study.workload_card.unit),
        number(m.weight_norm),
        number(m.effective_step, 3),
        metric(m.projected_fraction, "fraction"),
        number(m.gradient_cosine, 3),
    )


def _outcome(trial: TrialView, study: StudyView) -> str:
    reason = f" {trial.reason[:1].upper()}{trial.reason[1:].rstrip('.')}." if trial.reason else ""
    done = f"{trial.epochs_done} of {plural(study.epochs, 'epoch')}"
    match trial.state:
        case TrialState.QUEUED:
            return f"It waits for a worker.{reason}"
        case TrialState.RUNNING:
            return f"In training: {done} done."
        case TrialState.COMPLETED:
            return f"Trained for {done}.{reason}"
        case TrialState.PRUNED:
            return f"Stopped early by the pruner after {done}.{reason}"
        case TrialState.DIVERGED:
            return f"Diverged after {done}; that is a result of its configuration.{reason}"
        case TrialState.FAILED:
            return f"Lost to a fault of machine or workload after {done}, which says nothing of the optimizer.{reason}"
        case TrialState.CANCELLED:
            return f"Ended after {done}.{reason}"
