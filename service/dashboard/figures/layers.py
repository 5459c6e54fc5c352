"""Charts of layers: how the norm of each weight grows, and how far its direction moves in a step.

The paper's claim is about scale-invariant layers: there momentum makes norms grow, which shortens the
effective step, and AdamP and SGDP remove the part of the update that makes them grow.
"""

__all__ = ["arm_layer_charts", "layer_charts", "layer_rows", "trial_layer_charts"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from service.dashboard.figures.axes import Axis, fitted, sparse, whole_axis
from service.dashboard.figures.chart import Chart, Drawing
from service.dashboard.theme import arm_style
from studies.formatting import count, metric, number, plural
from studies.layers import ArmLayers, LayerMeans, LayerValues, TrialLayers, mean_over_runs
from studies.views import ArmView

# A line of a layer needs no more points, and a page may have hundreds of such lines.
_MOST_POINTS: Final = 40
# The tallest chart of rows has room for no more.
_MOST_LAYERS: Final = 64
_MOST_ROWS: Final = 200
_INVARIANT: Final = "scale-invariant"
_MARK: Final = " *"


@dataclass(frozen=True)
class _LayerQuantity:
    """One quantity of layers: part of an id, title, axis, values of an epoch, when, meaning, format."""

    id: str
    title: str
    axis: Axis
    of: Callable[[LayerMeans], LayerValues]
    when: str
    meaning: str
    write: Callable[[float | None], str] = number


_GROWTH: Final = _LayerQuantity(
    "growth",
    "Norm growth",
    Axis(title="norm / initial norm", is_log=True),
    lambda m: m.growth,
    "At the end of",
    "The norm of a weight divided by its norm before the first step.",
    lambda v: number(v, 4),
)
_STEP: Final = _LayerQuantity(
    "step",
    "Effective step",
    Axis(title="effective step", is_log=True),
    lambda m: m.effective_step,
    "In",
    "How far a step moves the direction of a weight.",
    lambda v: number(v, 3),
)
_ANGLE: Final = _LayerQuantity(
    "angle",
    "Angle between update and weight",
    Axis(title="angle (degrees)", tick_format=".4~g"),
    lambda m: m.angle,
    "In",
    "90 degrees leave the norm nearly as it is, less make it grow, and more shrink it.",
    lambda v: number(v, 4),
)


def layer_charts(arms: Sequence[ArmView], layers: Sequence[ArmLayers]) -> tuple[Chart, ...]:
    """Return the charts that compare arms: by epoch over their scale-invariant layers, and by layer.

    Args:
        arms: the study's arms in order.
        layers: what the arms' runs measured on average.
    """
    shown = _shown(arms, layers)
    if not shown:
        return ()
    charts = [_by_epoch(shown, _GROWTH, runs=f" {_runs(shown)}"), _by_epoch(shown, _STEP)]
    at_end = f"{_GROWTH.when.lower()} {_last_epochs(shown)}"
    charts += [
        _by_layer(shown, _GROWTH, lambda of, n: _last(of, _GROWTH, n), at_end),
        _by_layer(
            shown, _STEP, lambda of, n: _mean(of, _STEP, n), "mean over the probed steps of all epochs"
        ),
    ]
    if any(_projects(of) for _, of in shown):
        charts.append(_projected(shown))
    return tuple(chart for chart in charts if chart is not None)


def arm_layer_charts(arm: ArmView, of: ArmLayers) -> tuple[Chart, ...]:
    """Return the charts of one arm: every layer by epoch."""
    quantities = (_GROWTH, _STEP, _ANGLE)
    charts = (_lines(arm, of, quantity) for quantity in quantities)
    return tuple(chart for chart in charts if chart is not None)


def trial_layer_charts(arm: ArmView, layers: TrialLayers) -> tuple[Chart, ...]:
    """Return the charts of one trial in its arm's style; none if it has not measured its layers."""
    if not layers.names or not layers.initial_norms:
        return ()
    return arm_layer_charts(arm, mean_over_runs(arm.name, "best", [layers]))


def layer_rows(layers: TrialLayers) -> tuple[tuple[str, ...], ...]:
    """Return a row of each layer of a trial, as of its last epoch; the means are over all epochs."""
    if not layers.epochs or not layers.initial_norms:
        return ()
    of = mean_over_runs("", "best", [layers])
    return tuple(
        (
            name,
            _invariance(layers.is_scale_invariant, n),
            number(layers.initial_norms[n], 4),
            number(layers.epochs[-1].weight_norm[n], 4),
            _GROWTH.write(_last(of, _GROWTH, n)),
            _STEP.write(_mean(of, _STEP, n)),
            _ANGLE.write(_mean(of, _ANGLE, n)),
            *(metric(share, "fraction") for share in _shares(of, n)),
        )
        for n, name in enumerate(layers.names)
    )


def _shown(arms: Sequence[ArmView], layers: Sequence[ArmLayers]) -> list[tuple[ArmView, ArmLayers]]:
    by_name = {of.arm: of for of in layers}
    return [(arm, by_name[arm.name]) for arm in arms if arm.name in by_name and by_name[arm.name].epochs]


def _by_epoch(
    shown: Sequence[tuple[ArmView, ArmLayers]], quantity: _LayerQuantity, *, runs: str = ""
) -> Chart | None:
    """Return the mean over the scale-invariant layers by epoch, one line for each arm."""
    is_marked = any(True in of.is_scale_invariant for _, of in shown)
    lines: list[tuple[ArmView, ArmLayers, list[float | None]]] = []
    for arm, of in shown:
        chosen = [n for n, known in enumerate(of.is_scale_invariant) if known or not is_marked]
        values = [_average([quantity.of(m)[n] for n in chosen]) for m in of.epochs]
        if any(value is not None for value in values):
            lines.append((arm, of, values))
    if not lines:
        return None
    last = max(of.epochs[-1].epoch for _, of, _ in lines)
    drawing = Drawing(
        whole_axis("epoch", last), fitted(quantity.axis, [v for _, _, values in lines for v in values])
    )
    rows: list[tuple[str, ...]] = []
    for arm, of, values in lines:
        epochs = [m.epoch for m in of.epochs]
        drawing.line(arm, epochs, values, markers=sparse(len(epochs), offset=arm.position))
        rows += [
            (arm.label, str(epoch), quantity.write(value))
            for epoch, value in zip(epochs, values, strict=True)
        ]
    which = "scale-invariant layers" if is_marked else "layers; none was found to be scale-invariant"
    ends = "; ".join(f"{arm.label} {quantity.write(values[-1])}" for arm, _, values in lines)
    return Chart(
        id=f"layers-{quantity.id}-by-epoch",
        title=f"{quantity.title} by epoch",
        caption=(
            f"{quantity.meaning} Mean over the {which}. {quantity.when} "
            f"{_last_epochs([(arm, of) for arm, of, _ in lines])}: {ends}.{runs}"
        ),
        headers=("Arm", "Epoch", quantity.axis.title.capitalize()),
        rows=tuple(rows),
        json=drawing.json(),
    )


def _by_layer(
    shown: Sequence[tuple[ArmView, ArmLayers]],
    quantity: _LayerQuantity,
    of_layer: Callable[[ArmLayers, int], float | None],
    when: str,
) -> Chart | None:
    """Return one row for each layer with a mark for each arm."""
    names, known = _layers(shown)
    values = {(arm.name, name): of_layer(of, n) for arm, of in shown for n, name in enumerate(of.names)}
    if not any(value is not None for value in values.values()):
        return None
    drawing = _rows_of(names, known, fitted(quantity.axis, list(values.values())))
    drawn = names[:_MOST_LAYERS]
    for place, (arm, _) in enumerate(shown):
        _dots(drawing, arm, drawn, [values.get((arm.name, name)) for name in drawn], _offset(place, shown))
    rows = tuple(
        (
            name,
            _invariance(known, n),
            *(quantity.write(values.get((arm.name, name))) for arm, _ in shown),
        )
        for n, name in enumerate(names)
    )
    chosen = [name for name, is_invariant in zip(names, known, strict=True) if is_invariant]
    which = "Scale-invariant layers" if chosen else "Lowest and highest"
    found: list[str] = []
    for arm, _ in shown:
        some = [value for name in chosen or names if (value := values.get((arm.name, name))) is not None]
        if some:
            low, high = quantity.write(min(some)), quantity.write(max(some))
            found.append(f"{arm.label} {low}" + (f" to {high}" if high != low else ""))
    return Chart(
        id=f"layers-{quantity.id}-by-layer",
        title=f"{quantity.title} by layer",
        caption=f"{quantity.title}, {when}. {which}: {'; '.join(found)}.{_left_out(names)}",
        headers=("Layer", _INVARIANT.capitalize(), *(arm.label for arm, _ in shown)),
        rows=rows[:_MOST_ROWS],
        json=drawing.json(),
        rows_drawn=len(drawn),
    )


def _projected(shown: Sequence[tuple[ArmView, ArmLayers]]) -> Chart:
    """Return the share of projected steps of each layer: hollow by channel, filled as one whole layer."""
    shown = [(arm, of) for arm, of in shown if _projects(of)]
    names, known = _layers(shown)
    drawn = names[:_MOST_LAYERS]
    axis = Axis(title="share of steps projected", tick_format=".3~p", range=(-0.03, 1.03))
    drawing = _rows_of(names, known, axis)
    shares = {(arm.name, name): _shares(of, n) for arm, of in shown for n, name in enumerate(of.names)}
    nothing = (None, None)
    for place, (arm, _) in enumerate(shown):
        for view, is_hollow in ((0, True), (1, False)):
            found = [shares.get((arm.name, name), nothing)[view] for name in drawn]
            _dots(drawing, arm, drawn, found, _offset(place, shown), is_hollow=is_hollow)
    rows = tuple(
        (
            name,
            _invariance(known, n),
            *(
                metric(share, "fraction")
                for arm, _ in shown
                for share in shares.get((arm.name, name), nothing)
            ),
        )
        for n, name in enumerate(names)
    )
    steps = "; ".join(
        f"{arm.label} {metric(_average([by for by, _ in some]), 'fraction')} and "
        f"{metric(_average([whole for _, whole in some]), 'fraction')}"
        for arm, of in shown
        if (some := [_shares(of, n) for n in range(len(of.names))])
    )
    views = [f"{arm.label}, {view}" for arm, _ in shown for view in ("by channel", "as layer")]
    return Chart(
        id="layers-projected-by-layer",
        title="Projected steps by layer",
        caption=(
            "Share of probed steps whose update lost its radial part: hollow marks by channel, filled marks "
            f"as one whole layer. Mean of all layers: {steps}.{_left_out(names)}"
        ),
        headers=("Layer", _INVARIANT.capitalize(), *views),
        rows=rows[:_MOST_ROWS],
        json=drawing.json(),
        rows_drawn=len(drawn),
    )


def _lines(arm: ArmView, of: ArmLayers, quantity: _LayerQuantity) -> Chart | None:
    """Return one line for each layer by epoch: solid if it is scale-invariant, and otherwise dotted."""
    every = -(-len(of.epochs) // _MOST_POINTS)
    # Counted from the last epoch, which is always drawn.
    drawn = of.epochs[(len(of.epochs) - 1) % every :: every] if of.epochs else ()
    values = [[_rounded(quantity.of(m)[n]) for m in drawn] for n in range(len(of.names))]
    if not any(value is not None for line in values for value in line):
        return None
    epochs = [m.epoch for m in drawn]
    drawing = Drawing(
        whole_axis("epoch", epochs[-1]), fitted(quantity.axis, [value for line in values for value in line])
    )
    style = arm_style(arm.style)
    each = zip(of.names, of.is_scale_invariant, values, strict=True)
    for name, known, line in islice(each, _MOST_LAYERS):
        drawing.add(
            arm,
            epochs,
            line,
            mode="lines+markers" if len(epochs) == 1 else "lines",
            line={"color": style.colour, "dash": "solid" if known else "dot", "width": 2 if known else 1},
            marker={"color": style.colour, "symbol": style.marker, "size": 7},
            hovertemplate=f"{name}{_MARK if known else ''}: %{{x}}, %{{y}}<extra></extra>",
        )
    rows = tuple(
        (name, _invariance(of.is_scale_invariant, n), quantity.write(line[0]), quantity.write(line[-1]))
        for n, (name, line) in enumerate(zip(of.names, values, strict=True))
    )
    ends = [(line[-1], name) for name, line in zip(of.names, values, strict=True) if line[-1] is not None]
    found = (
        f" {quantity.when} epoch {count(epochs[-1])}, from {quantity.write(min(ends)[0])} "
        f"({min(ends)[1]}) to {quantity.write(max(ends)[0])} ({max(ends)[1]})."
        if ends
        else ""
    )
    return Chart(
        id=f"layer-{quantity.id}-{arm.position}",
        title=f"{quantity.title} of each layer",
        caption=(
            f"{quantity.meaning} Solid lines: scale-invariant layers; dotted lines: others.{found}"
            f"{_left_out(of.names)}"
        ),
        headers=("Layer", _INVARIANT.capitalize(), f"Epoch {epochs[0]}", f"Epoch {epochs[-1]}"),
        rows=rows[:_MOST_ROWS],
        json=drawing.json(),
    )


def _layers(
    shown: Sequence[tuple[ArmView, ArmLayers]],
) -> tuple[tuple[str, ...], tuple[bool | None, ...]]:
    """Return the layers of all arms in the model's order, and whether each is scale-invariant."""
    found = {
        name: known for _, of in shown for name, known in zip(of.names, of.is_scale_invariant, strict=True)
    }
    return tuple(found), tuple(found.values())


def _rows_of(names: Sequence[str], known: Sequence[bool | None], x: Axis) -> Drawing:
    marks = [
        _short(name) + (_MARK if is_invariant else "")
        for name, is_invariant in zip(names, known, strict=True)
    ]
    labels = tuple(marks[:_MOST_LAYERS])
    return Drawing(x, Axis(title="", labels=labels, range=(len(labels) - 0.45, -0.55)))


def _dots(
    drawing: Drawing,
    arm: ArmView,
    names: Sequence[str],
    values: Sequence[float | None],
    offset: float,
    *,
    is_hollow: bool = False,
) -> None:
    style = arm_style(arm.style)
    drawing.add(
        arm,
        values,
        [row + offset for row in range(len(names))],
        mode="markers",
        marker={"color": style.colour, "symbol": f"{style.marker}{'-open' if is_hollow else ''}", "size": 9},
        text=list(names),
        hovertemplate=f"{arm.label}, %{{text}}: %{{x}}<extra></extra>",
    )


def _offset(place: int, shown: Sequence[tuple[ArmView, ArmLayers]]) -> float:
    """Return where in its row an arm is drawn, so that equal values do not hide each other."""
    return 0.0 if len(shown) == 1 else 0.5 * (place / (len(shown) - 1) - 0.5)


def _rounded(value: float | None) -> float | None:
    """Return a value with as many digits as a page of hundreds of lines can afford."""
    return None if value is None else float(f"{value:.6g}")


def _short(name: str) -> str:
    short = name.removesuffix(".weight")
    # Layers of `nn.Sequential` have no other name than their place.
    return name if short.isdigit() else short


def _invariance(of: Sequence[bool | None], layer: int) -> str:
    return {True: "yes", False: "no", None: "not tested"}[of[layer]]


def _projects(of: ArmLayers) -> bool:
    return any(m.projected_by_channel for m in of.epochs)


def _shares(of: ArmLayers, layer: int) -> tuple[float | None, float | None]:
    """Return the shares of a layer's steps that were projected by channel, and as one whole layer."""
    some = [m for m in of.epochs if m.projected_by_channel]
    return (
        _average([m.projected_by_channel[layer] for m in some]),
        _average([m.projected_as_layer[layer] for m in some]),
    )


def _last(of: ArmLayers, quantity: _LayerQuantity, layer: int) -> float | None:
    return quantity.of(of.epochs[-1])[layer]


def _mean(of: ArmLayers, quantity: _LayerQuantity, layer: int) -> float | None:
    return _average([quantity.of(m)[layer] for m in of.epochs])


def _average(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _runs(shown: Sequence[tuple[ArmView, ArmLayers]]) -> str:
    """Return what the means are of."""
    kinds = {(len(of.trials), of.configuration) for _, of in shown}
    names = {"best": "best configuration", "defaults": "defaults"}
    if len(kinds) == 1:
        [(runs, configuration)] = kinds
        return f"Each arm: {plural(runs, 'run')} of its {names[configuration]}."
    each = (
        f"{arm.label} {plural(len(of.trials), 'run')} of its {names[of.configuration]}" for arm, of in shown
    )
    return f"Runs: {'; '.join(each)}."


def _last_epochs(shown: Sequence[tuple[ArmView, ArmLayers]]) -> str:
    """Return the last epoch that runs have measured; of arms that have come differently far, each one's."""
    epochs = {of.epochs[-1].epoch for _, of in shown}
    if len(epochs) == 1:
        return f"epoch {count(epochs.pop())}"
    each = "; ".join(f"{arm.label} {count(of.epochs[-1].epoch)}" for arm, of in shown)
    return f"the last epoch that each arm has measured ({each})"


def _left_out(names: Sequence[str]) -> str:
    if len(names) <= _MOST_LAYERS:
        return ""
    table = f", the table the first {_MOST_ROWS}" if len(names) > _MOST_ROWS else ""
    return f" The chart has the first {_MOST_LAYERS} of {count(len(names))} layers{table}."
