"""The charts of a study, of a trial and of a suite.

Each is a Plotly figure of SVG traces with a caption that states the finding, and a table of its numbers.
"""

__all__ = [
    "Against",
    "Chart",
    "ChartGroup",
    "FigureData",
    "arm_layer_charts",
    "budget_charts",
    "comparison_charts",
    "confirmed_charts",
    "furthest_pruned",
    "layer_charts",
    "layer_rows",
    "live_charts",
    "narrowing_chart",
    "side_by_side_charts",
    "study_charts",
    "suite_charts",
    "trial_charts",
    "trial_layer_charts",
]

from service.dashboard.figures.budget import budget_charts
from service.dashboard.figures.budget_lines import Against
from service.dashboard.figures.chart import Chart, ChartGroup, FigureData
from service.dashboard.figures.comparison import comparison_charts
from service.dashboard.figures.confirmed import confirmed_charts
from service.dashboard.figures.epochs import (
    best_run_charts,
    furthest_pruned,
    probe_charts,
    run_charts,
    side_by_side_charts,
)
from service.dashboard.figures.layers import arm_layer_charts, layer_charts, layer_rows, trial_layer_charts
from service.dashboard.figures.live import live_charts, narrowing_chart
from service.dashboard.figures.parallel import parallel_charts
from service.dashboard.figures.sensitivity import hyperparameter_charts, learning_rate_charts
from service.dashboard.figures.suite import suite_charts
from studies.catalog import WorkloadCard
from studies.trials import Measurement
from studies.views import ArmView


def study_charts(data: FigureData) -> tuple[ChartGroup, ...]:
    """Return the charts of a study's search in the order of the page; groups without a chart are left out."""
    groups = (
        ChartGroup("learning-rate", "Learning rate", learning_rate_charts(data)),
        ChartGroup("best-trials", "The best trials", parallel_charts(data)),
        ChartGroup("hyperparameters", "Other hyperparameters", hyperparameter_charts(data)),
        ChartGroup("training", "Training", best_run_charts(data)),
        ChartGroup("probes", "Weights and steps", probe_charts(data)),
    )
    return tuple(group for group in groups if group.charts)


def trial_charts(
    measurements: tuple[Measurement, ...], *, arm: ArmView, card: WorkloadCard
) -> tuple[Chart, ...]:
    """Return the charts of one trial, in its arm's style; none before its first epoch has ended."""
    return run_charts(measurements, arm=arm, card=card) if measurements else ()
