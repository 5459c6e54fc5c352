"""A chart: a Plotly figure without a theme, its caption, and a table of its numbers."""

__all__ = ["Chart", "ChartArm", "ChartGroup", "Drawing", "FigureData"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic_core import to_json

from service.dashboard.figures.axes import Axis
from service.dashboard.theme import arm_style
from studies.analysis.views import StudyAnalysis
from studies.catalog import WorkloadCard
from studies.trials import Measurement
from studies.views import ArmView, StudyView, TrialView


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One figure of the page.

    Attributes:
        id: its id in the page.
        title: what is drawn against what.
        caption: what the chart shows, and the finding.
        headers, rows: its numbers, for the table under the figure.
        json: the figure; colours are CSS variables, and `meta` of a trace names its arm.
        is_wide: whether it takes the full width of the page.
        is_tall: whether it has two panels, one above the other.
        rows_drawn: number of rows of names, which sets its height; 0 for a chart of lines.
    """

    id: str
    title: str
    caption: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    json: str
    is_wide: bool = False
    is_tall: bool = False
    rows_drawn: int = 0

    @property
    def height(self) -> str:
        """The CSS class for its height; empty for the default height."""
        if self.is_tall:
            return "is-tall"
        return next(
            (
                name
                for most, name in ((0, ""), (2, "of-2"), (4, "of-4"), (8, "of-8"), (16, "of-16"))
                if self.rows_drawn <= most
            ),
            "of-64",
        )


@dataclass(frozen=True)
class ChartGroup:
    """Charts under one heading."""

    id: str
    title: str
    charts: tuple[Chart, ...]


@dataclass(frozen=True)
class ChartArm:
    """An arm of a suite or of a comparison, drawn like an arm of one study (`ArmView`).

    Attributes:
        name: the name by which the page hides and shows it.
        label: the name to show.
        position: its place, from 0.
        style: the number of its colour, dash and marker.
    """

    name: str
    label: str
    position: int
    style: int


@dataclass(frozen=True, kw_only=True)
class FigureData:
    """The data that the charts of a study are drawn from.

    Attributes:
        study: the study.
        arms: its arms in order.
        trials: every trial of the search, oldest first.
        analysis: the study's analysis.
        best_runs: measurements of each arm's best trial, by arm; arms without one are absent.
        pruned_runs: measurements of some pruned trials of each arm, by arm.
        seed_runs: measurements of every completed confirmation run of each arm's best configuration, by arm.
    """

    study: StudyView
    arms: tuple[ArmView, ...]
    trials: tuple[TrialView, ...]
    analysis: StudyAnalysis
    best_runs: Mapping[str, tuple[Measurement, ...]]
    pruned_runs: Mapping[str, tuple[tuple[Measurement, ...], ...]] = field(
        default_factory=dict[str, tuple[tuple[Measurement, ...], ...]]
    )
    seed_runs: Mapping[str, tuple[tuple[Measurement, ...], ...]] = field(
        default_factory=dict[str, tuple[tuple[Measurement, ...], ...]]
    )

    @property
    def card(self) -> WorkloadCard:
        """The workload's card."""
        return self.study.workload_card


class Drawing:
    """Builds a figure: traces and layout in Plotly's terms and the page's style; the page sets its size."""

    def __init__(self, x: Axis, y: Axis) -> None:
        """Start an empty figure with two axes."""
        self._traces: list[dict[str, Any]] = []
        self.layout: dict[str, Any] = {
            "autosize": True,
            "margin": {"l": 8, "r": 14, "t": 10, "b": 44},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"color": "var(--ink)", "size": 13, "family": "system-ui, sans-serif"},
            "hoverlabel": {
                "bgcolor": "var(--surface)",
                "bordercolor": "var(--rule-strong)",
                "font": {"color": "var(--ink)"},
            },
            "hovermode": "closest",
            "showlegend": False,
            "xaxis": x.layout,
            # Only the width of the y axis' numbers is unknown. With automatic margins on both axes, small
            # charts never settle.
            "yaxis": {**y.layout, "automargin": True},
        }

    def add(
        self,
        arm: ArmView | ChartArm | None,
        x: Sequence[float | None],
        y: Sequence[float | None],
        **trace: Any,
    ) -> None:
        """Add a scatter trace; its `meta` names the arm, so that the page can hide and show arms."""
        owner = {} if arm is None else {"meta": {"arm": arm.name}, "name": arm.label}
        self._traces.append({"type": "scatter", "x": list(x), "y": list(y), **owner, **trace})

    def line(
        self,
        arm: ArmView | ChartArm,
        x: Sequence[float],
        y: Sequence[float | None],
        *,
        shape: Literal["linear", "hv"] = "linear",
        markers: Sequence[int] | None = None,
        **trace: Any,
    ) -> None:
        """Draw an arm's line in its style, with markers at every point, or only at the indices `markers`."""
        style = arm_style(arm.style)
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
                # Plotly treats markers with a list of sizes as bubbles: faint, with a rim.
                "opacity": 1,
                "line": {"width": 0},
            },
            hovertemplate=f"{arm.label}: %{{x}}, %{{y}}<extra></extra>",
            **trace,
        )

    def band(
        self,
        arm: ArmView | ChartArm,
        x: Sequence[float],
        low: Sequence[float],
        high: Sequence[float],
        *,
        shape: Literal["linear", "hv"] = "linear",
        edge_width: float = 0,
        **trace: Any,
    ) -> None:
        """Fill the area between two lines faintly in an arm's colour; with a width, draw the lines too."""
        style = arm_style(arm.style)
        line = {"width": edge_width, "shape": shape, "color": style.colour}
        edge = {"mode": "lines", "hoverinfo": "skip", "line": line, **trace}
        self.add(arm, x, low, **edge)
        self.add(arm, x, high, fill="tonexty", fillcolor=style.faint, **edge)

    def mean(
        self,
        arm: ArmView | ChartArm,
        x: float,
        y: float,
        *,
        low: float | None,
        high: float | None,
        is_hollow: bool,
        hover: str,
        size: int = 12,
    ) -> None:
        """Draw a mean with its interval in a row of names; hollow for a baseline."""
        style = arm_style(arm.style)
        bars = (
            {}
            if low is None or high is None
            else {
                "error_x": {
                    "type": "data",
                    "symmetric": False,
                    "array": [high - x],
                    "arrayminus": [x - low],
                    "color": style.colour,
                    "thickness": 1.5 if is_hollow else 2.5,
                    "width": 5,
                }
            }
        )
        self.add(
            arm,
            [x],
            [y],
            mode="markers",
            marker={
                "color": style.colour,
                "symbol": f"{style.marker}{'-open' if is_hollow else ''}",
                "size": min(size, 9) if is_hollow else size,
                "line": {"width": 2 if is_hollow else 0},
            },
            hovertemplate=f"{hover}<extra></extra>",
            **bars,
        )

    def json(self) -> str:
        """Return the figure as JSON that is safe inside a <script> element.

        A test checks that Plotly knows every attribute, because Plotly's own check takes three times as long
        as everything else that a figure needs.
        """
        written = to_json(
            {"data": self._traces, "layout": self.layout}, inf_nan_mode="null", fallback=_to_builtin
        )
        return written.decode().replace("<", "\\u003c")


def _to_builtin(value: Any) -> Any:
    """Return a NumPy number or array as Python numbers."""
    return value.tolist()
