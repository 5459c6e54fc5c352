"""The content security policy, and the colour, dash and marker of each arm.

Colours are CSS variables (`var(--arm-0)`), which `static/charts.js` looks up, because only style.css and
dark.css have their values.
"""

__all__ = ["CONTENT_SECURITY_POLICY", "ArmStyle", "arm_style"]

import math
from dataclasses import dataclass
from typing import Final

from studies.arm_styles import COLOURS

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
"""The policy of every page: nothing inline, nothing from other hosts. A chart becomes a PNG through a blob.

So figures use only SVG scatter traces and plain text: heatmaps and `<b>` in labels need inline styles, and
Plotly's own rules are in static/plotly.css.
"""

# Plotly's name of a dash, and SVG's `stroke-dasharray` for the swatches beside names.
_DASHES: Final = (
    ("solid", "none"),
    ("dash", "7 4"),
    ("dot", "2 3"),
    ("dashdot", "7 3 2 3"),
    ("longdash", "11 4"),
    ("longdashdot", "11 3 2 3"),
)


def _corners(n: int, *, first: float, inner: float | None = None) -> str:
    """Return an SVG path with n corners, the first at this angle in degrees; `inner` makes it a star."""
    radii = [4.6] if inner is None else [5.4, inner]
    steps = n * len(radii)
    at = [(radii[i % len(radii)], math.radians(first + 360 * i / steps)) for i in range(steps)]
    return "M" + "L".join(f"{r * math.cos(angle):.2f} {r * math.sin(angle):.2f}" for r, angle in at) + "Z"


# Plotly's name of a symbol, and its outline around (0, 0).
_MARKERS: Final = (
    ("circle", "M-3.8 0A3.8 3.8 0 1 0 3.8 0A3.8 3.8 0 1 0 -3.8 0Z"),
    ("square", _corners(4, first=45)),
    ("diamond", _corners(4, first=0)),
    ("triangle-up", _corners(3, first=-90)),
    ("triangle-down", _corners(3, first=90)),
    ("pentagon", _corners(5, first=-90)),
    ("hexagon", _corners(6, first=30)),
    ("star", _corners(5, first=-90, inner=2.2)),
)


@dataclass(frozen=True, kw_only=True)
class ArmStyle:
    """The style of one arm in all charts and tables.

    Attributes:
        number: which of the eight Okabe-Ito colours, from 0; the CSS class is `arm-{number}`.
        colour: the colour as a CSS variable.
        faint: the same colour for areas, translucent.
        dash: Plotly's name of the line's dash.
        dash_array: the same as SVG's `stroke-dasharray`.
        marker: Plotly's name of the symbol.
        outline: the same as an SVG path around (0, 0).
    """

    number: int
    colour: str
    faint: str
    dash: str
    dash_array: str
    marker: str
    outline: str


def arm_style(number: int) -> ArmStyle:
    """Return the style with this number (`ArmView.style`); 48 of each colour differ in dash or marker."""
    turn, number = divmod(number, COLOURS)
    # After eight turns the markers start again, with other dashes.
    dash, dash_array = _DASHES[(number + turn + 5 * (turn // len(_MARKERS))) % len(_DASHES)]
    marker, outline = _MARKERS[(number + turn) % len(_MARKERS)]
    colour = f"var(--arm-{number})"
    return ArmStyle(
        number=number,
        colour=colour,
        faint=f"var(--arm-{number}-faint)",
        dash=dash,
        dash_array=dash_array,
        marker=marker,
        outline=outline,
    )
