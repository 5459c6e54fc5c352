"""A chart: a Plotly figure without theme, what it shows in words, and its numbers."""

__all__ = ["Chart", "ChartGroup", "Drawing", "StudyRecord", "label"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import plotly.graph_objects as go  # pyright: ignore[reportMissingTypeStubs]  # plotly ships none for it

from service.dashboard.figures.axes import Axis
from service.dashboard.theme import arm_style
from studies.catalog import WorkloadCard
from studies.views import ArmView, Curve, MeasurementView, StudyView, TrialView


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One figure of the page.

    Attributes:
        id: its name in the page, unique there.
        title: what is drawn against what.
        caption: the finding in words.
        headers, rows: the numbers, for the table under the figure.
        json: the figure; colours are CSS variables, and `meta` of a trace names its arm.
        is_wide: whether it takes the page's whole width.
    """

    id: str
    title: str
    caption: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    json: str
    is_wide: bool = False


@dataclass(frozen=True)
class ChartGroup:
    """Charts under one heading."""

    id: str
    title: str
    charts: tuple[Chart, ...]


@dataclass(frozen=True, kw_only=True)
class StudyRecord:
    """All that the charts of a study are drawn from.

    Attributes:
        study: the study.
        arms: its arms in order.
        curves: best so far of each arm.
        trials: every trial, oldest first.
        best_runs: measurements of each arm's best trial, by the arm's name; arms without one are absent.
        pruned_runs: measurements of some of each arm's pruned trials, by the arm's name.
    """

    study: StudyView
    arms: tuple[ArmView, ...]
    curves: tuple[Curve, ...]
    trials: tuple[TrialView, ...]
    best_runs: Mapping[str, tuple[MeasurementView, ...]]
    pruned_runs: Mapping[str, tuple[tuple[MeasurementView, ...], ...]] = field(default_factory=dict[str, tuple[tuple[MeasurementView, ...], ...]])

    @property
    def card(self) -> WorkloadCard:
        """The workload's card."""
        return self.study.workload_card


def label(arm: ArmView) -> str:
    """Return an arm's name for people: the optimizer's title, or its own name where the study gave it one."""
    return arm.optimizer.title if arm.name == arm.optimizer.name else arm.name


class Drawing:
    """A figure in the making: traces and layout as Plotly names them, in the page's style; its size comes from the page."""

    def __init__(self, x: Axis, y: Axis) -> None:
        """Start with two axes and nothing drawn."""
        self._traces: list[dict[str, Any]] = []
        self.layout: dict[str, Any] = {
            "autosize": True,
            "margin": {"l": 8, "r": 14, "t": 10, "b": 44},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"color": "var(--ink)", "size": 13, "family": "system-ui, sans-serif"},
            "hoverlabel": {"bgcolor": "var(--surface)", "bordercolor": "var(--rule-strong)", "font": {"color": "var(--ink)"}},
            "hovermode": "closest",
            "showlegend": False,
            "xaxis": x.layout,
            # Only the width of the numbers is not known beforehand; with both axes asking for room, small charts never settle.
            "yaxis": {**y.layout, "automargin": True},
        }

    def add(self, arm: ArmView | None, x: Sequence[float | None], y: Sequence[float | None], **trace: Any) -> None:
        """Add a scatter trace; that of an arm says so in its `meta`, by which the page hides and shows arms."""
        owner = {} if arm is None else {"meta": {"arm": arm.name}, "name": label(arm)}
        self._traces.append({"type": "scatter", "x": list(x), "y": list(y), **owner, **trace})

    def line(
        self,
        arm: ArmView,
        x: Sequence[float],
        y: Sequence[float | None],
        *,
        shape: Literal["linear", "hv"] = "linear",
        markers: Sequence[int] | None = None,
    ) -> None:
        """Draw an arm's line in its colour and dash, with its marker at every point, or only at `markers`."""
        style = arm_style(arm.position)
        shown = set(range(len(x)) if markers is None else markers)
        self.add(
            arm,
            x,
            y,
            mode="lines+markers",
            line={"color": style.colour, "dash": style.dash, "width": 2, "shape": shape},
            marker={
                "color": style.colour,
                "symbol": style.marker,
                "size": [8 if i in shown else 0 for i in range(len(x))],
                # With sizes in a list Plotly would take them for bubbles: faint, with a rim.
                "opacity": 1,
                "line": {"width": 0},
            },
            hovertemplate=f"{label(arm)}: %{{x}}, %{{y}}<extra></extra>",
        )

    def json(self) -> str:
        """Return the figure as JSON that may stand inside a <script> element.

        Raises:
            ValueError: Plotly knows no such attribute or value.
        """
        figure: Any = go.Figure(data=self._traces, layout=self.layout)
        # Plotly's own theme would come with every figure.
        figure.update_layout(template=None)
        return str(figure.to_json()).replace("<", "\\u003c")
