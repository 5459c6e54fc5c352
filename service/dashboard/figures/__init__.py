"""The charts of a study and of a trial: Plotly figures of SVG traces, each with a caption in words and its numbers as a table."""

__all__ = ["Chart", "ChartGroup", "StudyRecord", "furthest_pruned", "study_charts", "trial_charts"]

from service.dashboard.figures.best import best_so_far_charts
from service.dashboard.figures.chart import Chart, ChartGroup, StudyRecord
from service.dashboard.figures.epochs import best_run_charts, furthest_pruned, probe_charts, run_charts
from service.dashboard.figures.sensitivity import hyperparameter_charts, learning_rate_charts
from studies.catalog import WorkloadCard
from studies.views import ArmView, MeasurementView


def study_charts(record: StudyRecord) -> tuple[ChartGroup, ...]:
    """Return a study's charts in the order of the page; groups without any chart are left out."""
    groups = (
        ChartGroup("best-so-far", "Best so far", best_so_far_charts(record)),
        ChartGroup("learning-rate", "Learning rate", learning_rate_charts(record)),
        ChartGroup("training", "Training of each arm's best trial", best_run_charts(record)),
        ChartGroup("probes", "Weights and steps of each arm's best trial", probe_charts(record)),
        ChartGroup("hyperparameters", "Other hyperparameters", hyperparameter_charts(record)),
    )
    return tuple(group for group in groups if group.charts)


def trial_charts(measurements: tuple[MeasurementView, ...], *, arm: ArmView, card: WorkloadCard) -> tuple[Chart, ...]:
    """Return the charts of one trial, drawn as its arm is everywhere; none before its first epoch has ended."""
    return run_charts(measurements, arm=arm, card=card) if measurements else ()
