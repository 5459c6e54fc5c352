"""Charts of a study while it runs: curves of the trials in training, and packs on workers."""

__all__ = ["live_charts", "narrowing_chart"]

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from service.dashboard.figures.axes import Axis, metric_axis, whole_axis
from service.dashboard.figures.chart import Chart, Drawing
from service.dashboard.theme import arm_style
from studies.formatting import change, change_interval, count, duration, metric, plural
from studies.live_views import LivePack, LiveStudy, LiveTrial, NarrowedDifference
from studies.views import ArmView, StudyView

_MOST_LANES: Final = 16
_ROWS: Final = 100


def live_charts(study: StudyView, arms: Sequence[ArmView], live: LiveStudy) -> tuple[Chart, ...]:
    """Return the charts of a study that runs; none before the first epoch of a trial."""
    by_name = {arm.name: arm for arm in arms}
    charts = (_curves(study, by_name, live), _timeline(study, by_name, live))
    return tuple(chart for chart in charts if chart is not None)


def narrowing_chart(
    study: StudyView, arms: Sequence[ArmView], narrowed: Sequence[NarrowedDifference]
) -> Chart | None:
    """Return how the differences to the leading arm narrow with each pair of trials; None without any."""
    by_name, card = {arm.name: arm for arm in arms}, study.workload_card
    if not narrowed:
        return None
    last = max(each.pairs for each in narrowed)
    leader, most = by_name[narrowed[0].leader], max(study.spec.search.pairs, last)
    axis = metric_axis(card, "test")
    drawing = Drawing(
        Axis(title="pairs of trials that have ended", tick_format="d", range=(0, most * 1.02)),
        replace(axis, title=f"difference in {axis.title}"),
    )
    for name, arm in by_name.items():
        points = [each for each in narrowed if each.arm == name]
        if points:
            x = [each.pairs for each in points]
            drawing.band(arm, x, [each.low for each in points], [each.high for each in points])
            drawing.line(arm, x, [each.difference for each in points])
    drawing.layout["yaxis"] |= {"zeroline": True, "zerolinecolor": "var(--rule-strong)", "zerolinewidth": 2}
    budget = plural(study.spec.search.verdict_at or 1, "trial")
    now = "; ".join(
        f"{by_name[each.arm].label} {change(each.difference, card.unit)} "
        f"({change_interval(each.low, each.high, card.unit)})"
        for each in narrowed
        if each.pairs == last
    )
    return Chart(
        id="narrowing",
        title=f"Difference to {leader.label}, by pairs of trials",
        caption=(
            f"After {budget} of tuning, with 95 % intervals: {now}. "
            "This is not a verdict: an interval that is read repeatedly is wrong more often than it says."
        ),
        headers=("Arm", "Pairs", "Difference", "95 % interval"),
        rows=tuple(
            (
                by_name[each.arm].label,
                count(each.pairs),
                change(each.difference, card.unit),
                change_interval(each.low, each.high, card.unit),
            )
            for each in narrowed
        ),
        json=drawing.json(),
    )


def _curves(study: StudyView, arms: dict[str, ArmView], live: LiveStudy) -> Chart | None:
    """Return the curves of the trials in training, and of each arm's best so far."""
    card = study.workload_card
    training = [trial for trial in live.trials if trial.epochs]
    best = [trial for trial in live.best if trial.epochs]
    if not training and not best:
        return None
    drawing = Drawing(whole_axis("epoch", study.epochs), metric_axis(card))
    for trial in best:
        arm = arms[trial.arm]
        drawing.line(
            arm,
            trial.epochs,
            trial.values,
            markers=range(len(trial.epochs) - 1, len(trial.epochs)),
            opacity=0.45,
        )
    for name, some in _by_arm(training).items():
        _thin_lines(drawing, arms[name], some)
    left_out = live.in_training - len(live.trials)
    notes = [
        f"Thin lines that end in a mark: {plural(len(training), 'trial')} in training"
        + (f" of {count(live.in_training)}, those that have trained longest" if left_out > 0 else "")
        + ". Wide, faint lines: the best completed trial of each arm so far."
    ]
    leaders = "; ".join(f"{arms[trial.arm].label} {metric(_last(trial), card.unit)}" for trial in best[:6])
    return Chart(
        id="live-curves",
        title=f"Validation {card.metric} of the trials in training",
        caption=" ".join([*notes, f"After its last epoch: {leaders}." if leaders else ""]).strip(),
        headers=("Arm", "Trial", "Epochs", f"Validation {card.metric}"),
        rows=tuple(
            (arms[trial.arm].label, _name(trial), count(trial.epochs[-1]), metric(_last(trial), card.unit))
            for trial in (*training, *best)
        ),
        json=drawing.json(),
    )


def _by_arm(trials: Sequence[LiveTrial]) -> dict[str, list[LiveTrial]]:
    found: dict[str, list[LiveTrial]] = {}
    for trial in trials:
        found.setdefault(trial.arm, []).append(trial)
    return found


def _thin_lines(drawing: Drawing, arm: ArmView, trials: Sequence[LiveTrial]) -> None:
    """Draw trials of one arm as one trace, with gaps between them and a mark at each end."""
    style = arm_style(arm.style)
    x: list[float | None] = []
    y: list[float | None] = []
    sizes: list[int] = []
    for trial in trials:
        x += [*trial.epochs, None]
        y += [*trial.values, None]
        sizes += [0] * (len(trial.epochs) - 1) + [7, 0]
    drawing.add(
        arm,
        x,
        y,
        mode="lines+markers",
        line={"color": style.colour, "dash": style.dash, "width": 1.25},
        marker={
            "color": style.colour,
            "symbol": style.marker,
            "size": sizes,
            "opacity": 1,
            "line": {"width": 0},
        },
        hovertemplate=f"{arm.label}: %{{x}}, %{{y}}<extra></extra>",
    )


def _timeline(study: StudyView, arms: dict[str, ArmView], live: LiveStudy) -> Chart | None:
    """Return the packs as lines over time, one row for each worker, those that train now first."""
    began, now, packs = study.started_at, live.at, live.packs
    if began is None or not packs:
        return None
    lanes = _lanes(packs)
    drawing = Drawing(
        Axis(title="time since the study started"),
        Axis(title="worker", labels=tuple(f"{n + 1}" for n in range(len(lanes)))),
    )
    # In seconds; the page writes ticks in the unit that fits what is in view.
    drawing.layout["meta"] = {"time": "xaxis"}

    def at(moment: datetime) -> float:
        return round((moment - began).total_seconds(), 2)

    for name, arm in arms.items():
        x: list[float | None] = []
        y: list[float | None] = []
        for pack in packs:
            if pack.arm == name and pack.worker in lanes:
                x += [at(pack.started_at), at(pack.ended_at or now), None]
                y += [lanes[pack.worker], lanes[pack.worker], None]
        if x:
            style = arm_style(arm.style)
            drawing.add(
                arm,
                x,
                y,
                mode="lines+markers",
                line={"color": style.colour, "width": 9},
                marker={"color": style.colour, "symbol": "line-ns-open", "size": 12, "line": {"width": 1.5}},
                text=["" if each is None else duration(each) for each in x],
                hovertemplate=f"{arm.label}: %{{text}}<extra></extra>",
            )
    drawing.layout["yaxis"] |= {"range": [len(lanes) - 0.4, -0.6], "showgrid": False}
    running = sum(pack.running > 0 for pack in packs)
    workers = len({pack.worker for pack in packs if pack.running})
    return Chart(
        id="packs",
        title="Packs on workers",
        caption=(
            f"{plural(running, 'pack')} in training on {plural(workers, 'worker')}, and the last "
            f"{count(len(packs) - running)} that ended."
        ),
        headers=("Worker", "Arm", "Trials", "In training", "Epochs", "Started after", "Took"),
        rows=tuple(
            (
                pack.worker or "starting",
                f"{arms[pack.arm].label}{', confirmation' if pack.phase == 'confirmation' else ''}",
                count(pack.trials),
                count(pack.running),
                count(pack.epochs_done),
                duration((pack.started_at - began).total_seconds()),
                duration(((pack.ended_at or now) - pack.started_at).total_seconds()),
            )
            for pack in packs[:_ROWS]
        ),
        json=drawing.json(),
        rows_drawn=max(3, len(lanes)),
    )


def _lanes(packs: Sequence[LivePack]) -> dict[str | None, int]:
    """Return the row of each worker: those that train now first, then those that ended last."""
    order = sorted(packs, key=lambda pack: (pack.running == 0, pack.worker or ""))
    running = dict.fromkeys(pack.worker for pack in order if pack.running)
    others = dict.fromkeys(pack.worker for pack in packs if pack.worker not in running)
    return {worker: lane for lane, worker in enumerate([*running, *others][:_MOST_LANES])}


def _last(trial: LiveTrial) -> float | None:
    return trial.values[-1]


def _name(trial: LiveTrial) -> str:
    return f"{'c' if trial.phase == 'confirmation' else ''}{trial.number}"
