"""Charts of measurements by epoch: training curves and probes of each arm's best runs, or of one trial."""

__all__ = ["best_run_charts", "furthest_pruned", "probe_charts", "run_charts", "side_by_side_charts"]

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from service.dashboard.figures.axes import Axis, fitted, metric_axis, sparse, whole_axis
from service.dashboard.figures.chart import Chart, Drawing, FigureData
from service.dashboard.figures.seed_bands import ArmRuns, SeedPoint, steps_of_epoch
from service.dashboard.theme import arm_style
from studies.catalog import WorkloadCard
from studies.direction import Direction
from studies.formatting import ABSENT, count, duration, metric, metric_unit, number, plural
from studies.states import TrialState
from studies.trials import Measurement
from studies.views import ArmView, TrialView

# More faint lines would show nothing new, and each costs a query.
_PRUNED_LINES: Final = 48
_PRUNED_LINES_PER_ARM: Final = 12


@dataclass(frozen=True)
class _Quantity:
    """One quantity of the measurements: id, title, axis, value, meaning, number format, direction."""

    id: str
    title: str
    axis: Axis
    of: Callable[[Measurement], float | None]
    meaning: str
    write: Callable[[float | None], str] = number
    direction: Direction | None = None


_TRAIN_LOSS: Final = _Quantity(
    "train-loss",
    "Training loss",
    Axis(title="training loss", is_log=True),
    lambda m: m.train_loss,
    "",
    direction="minimize",
)
_VALIDATION_LOSS: Final = _Quantity(
    "validation-loss",
    "Validation loss",
    Axis(title="validation loss", is_log=True),
    lambda m: m.validation_loss,
    "",
    direction="minimize",
)
_LR: Final = _Quantity(
    "lr",
    "Learning rate",
    Axis(title="lr", tick_format=".3~g"),
    lambda m: m.lr,
    "Set by the study's schedule.",
)
_PROBES: Final = (
    _Quantity(
        "weight-norm",
        "Weight norm",
        Axis(title="norm of the weights"),
        lambda m: m.weight_norm,
        "Norm of all weights with two or more dimensions. In a scale-invariant layer, a growing norm "
        "shrinks the effective step.",
    ),
    _Quantity(
        "effective-step",
        "Effective step",
        Axis(title="effective step", is_log=True),
        lambda m: m.effective_step,
        "Mean angle by which one step turns a weight.",
    ),
    _Quantity(
        "projected-fraction",
        "Projected fraction",
        Axis(title="projected fraction", tick_format=".3~p", range=(-0.03, 1.03)),
        lambda m: m.projected_fraction,
        "Fraction of steps, over all weights, whose update lost its radial part.",
        lambda v: metric(v, "fraction"),
    ),
    _Quantity(
        "gradient-cosine",
        "|cos(gradient, weight)|",
        Axis(title="|cos(gradient, weight)|", tick_format=".3~g"),
        lambda m: m.gradient_cosine,
        "Mean over the weights. Near 0 the loss does not depend on a weight's scale; AdamP and SGDP project "
        "there.",
    ),
)


def best_run_charts(data: FigureData) -> tuple[Chart, ...]:
    """Return the metrics and losses of each arm's best configuration, with faint lines of pruned trials.

    A line is the mean over its confirmation runs, with a band over their seeds; before these, its best trial.
    None while no trial has completed.
    """
    quantities = (_metric(data.card), *_further_metrics(data.card), _TRAIN_LOSS, *_validation_loss(data.card))
    return _of_arms(data, quantities, with_pruned=True)


def furthest_pruned(trials: Sequence[TrialView], arm: ArmView, *, arms: int) -> tuple[TrialView, ...]:
    """Return the pruned trials of an arm that trained longest: at most 12, fewer if there are many arms."""
    pruned = [trial for trial in trials if trial.arm == arm.name and trial.state is TrialState.PRUNED]
    most = min(_PRUNED_LINES_PER_ARM, _PRUNED_LINES // arms)
    return tuple(sorted(pruned, key=lambda trial: (-trial.epochs_done, trial.number))[:most])


def probe_charts(data: FigureData) -> tuple[Chart, ...]:
    """Return the probes of the same runs, as far as any arm measured them."""
    return _of_arms(data, _PROBES)


def _further_metrics(card: WorkloadCard) -> tuple[_Quantity, ...]:
    """Return the workload's metrics beside the study's objective."""

    def of(name: str) -> Callable[[Measurement], float | None]:
        return lambda m: m.metrics.get(name)

    return tuple(
        replace(
            _metric(card.by_metric(metric.name)),
            id=f"further-metric-{n}",
            of=of(metric.name),
            meaning=metric.description,
        )
        for n, metric in enumerate(card.metrics)
    )


def _validation_loss(card: WorkloadCard) -> tuple[_Quantity, ...]:
    """Return the validation loss, unless it is what the study already measures by."""
    return () if _metric(card).title == _VALIDATION_LOSS.title else (_VALIDATION_LOSS,)


def _metric(card: WorkloadCard) -> _Quantity:
    return _Quantity(
        "validation-metric",
        f"Validation {card.metric}",
        metric_axis(card),
        lambda m: m.validation_metric,
        "",
        lambda v: metric(v, card.unit) + metric_unit(card.unit),
        direction=card.direction,
    )


def _of_arms(
    data: FigureData, quantities: Sequence[_Quantity], *, with_pruned: bool = False
) -> tuple[Chart, ...]:
    every = [runs for arm in data.arms if (runs := _runs_of(data, arm)) is not None]
    axis = whole_axis("epoch", data.study.epochs)
    charts = (
        _chart_of_runs(every, quantity, axis, with_pruned=data if with_pruned else None)
        for quantity in quantities
    )
    return tuple(chart for chart in charts if chart is not None)


def _runs_of(data: FigureData, arm: ArmView) -> ArmRuns | None:
    """Return every confirmation run of an arm's best configuration, else its best trial, if it has one."""
    confirmed = data.seed_runs.get(arm.name, ())
    runs = confirmed or tuple(filter(None, (data.best_runs.get(arm.name),)))
    steps = steps_of_epoch(data.study, {} if arm.best is None else arm.best.parameters)
    return ArmRuns(arm, runs, steps, is_confirmed=bool(confirmed)) if runs else None


def _chart_of_runs(
    every: Sequence[ArmRuns], quantity: _Quantity, axis: Axis, *, with_pruned: FigureData | None = None
) -> Chart | None:
    measured = [(one, points) for one in every if (points := one.points(quantity.of))]
    if not measured:
        return None
    drawing = Drawing(
        axis,
        fitted(quantity.axis, [end for _, points in measured for p in points for end in (p.low, p.high)]),
    )
    faint = (
        ""
        if with_pruned is None
        else _pruned_lines(
            drawing, with_pruned, quantity, best=[p.mean for _, points in measured for p in points]
        )
    )
    # With these, the page draws the same against steps, or against the seconds in `customdata`.
    drawing.layout["meta"] = {"steps": {one.arm.name: one.steps for one, _ in measured}}
    rows: list[tuple[str, ...]] = []
    for one, points in measured:
        arm, x = one.arm, [p.epoch for p in points]
        seconds = [round(p.seconds, 3) for p in points]
        if len(one.runs) > 1:
            drawing.band(arm, x, [p.low for p in points], [p.high for p in points], customdata=seconds)
        drawing.line(
            arm,
            x,
            [p.mean for p in points],
            markers=sparse(len(points), offset=arm.position),
            customdata=seconds,
        )
        rows += [
            (
                arm.label,
                str(p.epoch),
                ABSENT if one.steps is None else count(p.epoch * one.steps),
                duration(p.seconds),
                quantity.write(p.mean),
                f"{quantity.write(p.low)} to {quantity.write(p.high)}" if len(one.runs) > 1 else ABSENT,
            )
            for p in points
        ]
    names = {one.arm.name for one, _ in measured}
    without = [one.arm.label for one in every if one.arm.name not in names]
    left_out = f" Not measured for {', '.join(without)}." if without else ""
    return Chart(
        id=quantity.id,
        title=quantity.title,
        caption=f"{quantity.meaning} {_end(quantity, measured)}{left_out}{faint}".strip(),
        headers=("Arm", "Epoch", "Step", "Training time", quantity.axis.title.capitalize(), "Over seeds"),
        rows=tuple(rows),
        json=drawing.json(),
    )


def _end(quantity: _Quantity, measured: Sequence[tuple[ArmRuns, Sequence[SeedPoint]]]) -> str:
    """Return the best arm at the end, or the span of all arms of a quantity that has no best."""
    confirmed = [(one, points) for one, points in measured if one.is_confirmed]
    is_mixed = 0 < len(confirmed) < len(measured)
    # A best trial was chosen for its value, so it must not be held against means over fresh seeds.
    compared = confirmed if is_mixed and quantity.direction is not None else measured
    ends = sorted(((points[-1].mean, one.arm.label) for one, points in compared), key=lambda end: end[0])
    if quantity.direction is None:
        low, high = quantity.write(ends[0][0]), quantity.write(ends[-1][0])
        return f"At the end: {low}." if low == high else f"At the end: {low} to {high}."
    best = ends[-1 if quantity.direction == "maximize" else 0]
    single = ", ".join(one.arm.label for one, _ in measured if not one.is_confirmed) if is_mixed else ""
    return f"Best{' confirmed' if is_mixed else ''} at the end: {best[1]}, {quantity.write(best[0])}." + (
        f" Only the best trial, not yet confirmed: {single}." if single else ""
    )


def _pruned_lines(drawing: Drawing, data: FigureData, quantity: _Quantity, *, best: Sequence[float]) -> str:
    """Draw faint curves of pruned trials, a hollow mark at each end; return a note for the caption."""
    drawn = 0
    ends: list[float | None] = []
    for arm in data.arms:
        runs = [run for run in data.pruned_runs.get(arm.name, ()) if run]
        drawn += len(runs)
        ends += [quantity.of(run[-1]) for run in runs]
        if not runs:
            continue
        # One trace for all runs, with gaps between them.
        points = [
            point
            for run in runs
            for point in (
                *((m.epoch, quantity.of(m), m is run[-1], m.elapsed_s) for m in run),
                (None, None, False, None),
            )
        ]
        style = arm_style(arm.style)
        drawing.add(
            arm,
            [x for x, *_ in points],
            [y for _, y, *_ in points],
            mode="lines+markers",
            opacity=0.4,
            customdata=[seconds for *_, seconds in points],
            line={"color": style.colour, "dash": style.dash, "width": 1},
            marker={
                "color": style.colour,
                "symbol": f"{style.marker}-open",
                "size": [6 if is_end else 0 for _, _, is_end, _ in points],
                "opacity": 1,
            },
            hovertemplate=f"{arm.label}, pruned: %{{x}}, %{{y}}<extra></extra>",
        )
    if not drawn:
        return ""
    pruned = data.study.progress.pruned
    which = "" if drawn == pruned else f" of {count(pruned)}, those that trained longest"
    outside = _keep_to_best(drawing, best, ends)
    return f" Faint lines: {plural(drawn, 'pruned trial')}{which}{outside}."


def _keep_to_best(drawing: Drawing, best: Sequence[float], ends: Sequence[float | None]) -> str:
    """Keep bad pruned trials from squeezing the best into a corner; return a note for the caption."""
    is_log = drawing.layout["yaxis"]["type"] == "log"
    places = [math.log10(value) if is_log else value for value in best if value > 0 or not is_log]
    low, high = min(places, default=0.0), max(places, default=0.0)
    room = 0.5 * (high - low)
    reached = [
        math.log10(end) if is_log else end for end in ends if end is not None and (end > 0 or not is_log)
    ]
    out = sum(not low - room <= end <= high + room for end in reached)
    if not out or not room:
        return ""
    ends_at = min(low, max(low - room, min(reached))), max(high, min(high + room, max(reached)))
    drawing.layout["yaxis"]["range"] = [ends_at[0] - 0.1 * room, ends_at[1] + 0.1 * room]
    return f"; {count(out)} end{'s' if out == 1 else ''} outside the axis"


def side_by_side_charts(runs: Sequence[ArmRuns], card: WorkloadCard) -> tuple[Chart, ...]:
    """Return the curves and probes of several trials of one workload in the same charts."""
    quantities = (_metric(card), *_further_metrics(card), _TRAIN_LOSS, *_validation_loss(card), _LR, *_PROBES)
    last = max((run[-1].epoch for one in runs for run in one.runs), default=0)
    charts = (_chart_of_runs(runs, quantity, whole_axis("epoch", max(last, 1))) for quantity in quantities)
    return tuple(chart for chart in charts if chart is not None)


def run_charts(
    measurements: tuple[Measurement, ...], *, arm: ArmView, card: WorkloadCard
) -> tuple[Chart, ...]:
    """Return the curves and probes of one trial, in its arm's style."""
    quantities = (_metric(card), *_further_metrics(card), _TRAIN_LOSS, *_validation_loss(card), _LR, *_PROBES)
    return tuple(
        chart for quantity in quantities if (chart := _of_run(arm, measurements, quantity)) is not None
    )


def _of_run(arm: ArmView, run: tuple[Measurement, ...], quantity: _Quantity) -> Chart | None:
    values = [value for m in run if (value := quantity.of(m)) is not None]
    if not values:
        return None
    drawing = Drawing(whole_axis("epoch", run[-1].epoch), fitted(quantity.axis, values))
    drawing.line(
        arm, [m.epoch for m in run], [quantity.of(m) for m in run], markers=sparse(len(run), offset=0)
    )
    first, last = quantity.write(values[0]), quantity.write(values[-1])
    return Chart(
        id=quantity.id,
        title=quantity.title,
        caption=f"{quantity.meaning} From {first} in the first epoch to {last} in the last.".strip(),
        headers=("Epoch", quantity.axis.title.capitalize()),
        rows=tuple((str(m.epoch), quantity.write(quantity.of(m))) for m in run),
        json=drawing.json(),
    )
