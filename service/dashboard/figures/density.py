"""Charts of very many trials: squares that show their density, and points for the best of them."""

__all__ = ["thinned"]

from collections.abc import Sequence
from typing import Final

import numpy as np

from service.dashboard.figures.chart import Drawing
from service.dashboard.figures.scale import Scale
from studies.catalog import WorkloadCard
from studies.direction import rank_key
from studies.formatting import count
from studies.views import TrialView

_BEST: Final = 200
_BINS: Final = (40, 25)


def thinned(
    drawing: Drawing, completed: Sequence[TrialView], scale: Scale, card: WorkloadCard, *, most: int
) -> tuple[Sequence[TrialView], str]:
    """Return the trials to draw as points, and a note for the caption.

    Up to `most` trials all are points. Of more, the best 200 are, over squares that show the density of all.
    """
    if len(completed) <= most:
        return completed, ""
    best = sorted(completed, key=lambda t: rank_key(t.value or 0.0, t.number, card.direction))[:_BEST]
    pairs = [
        (x, t.value)
        for t in completed
        if (x := scale.at(t.parameters[scale.name], arm=t.arm)) is not None and t.value is not None
    ]
    x, y = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    # The worst fifth would stretch the bins over irrelevant values.
    y = np.clip(y, *np.quantile(y, [0.2, 1.0] if card.direction == "maximize" else [0.0, 0.8]))
    counts, x_edges, y_edges = np.histogram2d(np.log10(x) if scale.is_log else x, y, bins=_BINS)
    i, j = np.nonzero(counts)
    centres = (x_edges[i] + x_edges[i + 1]) / 2
    drawing.add(
        None,
        (10**centres if scale.is_log else centres).tolist(),
        ((y_edges[j] + y_edges[j + 1]) / 2).tolist(),
        mode="markers",
        customdata=counts[i, j].astype(int).tolist(),
        marker={
            "color": "var(--ink-soft)",
            "symbol": "square",
            "opacity": 0.35,
            "size": (2 + 10 * np.sqrt(counts[i, j] / counts.max())).tolist(),
            "line": {"width": 0},
        },
        hovertemplate="%{customdata} trials<extra></extra>",
    )
    return best, (
        f"Squares show the density of all {count(len(completed))} trials (the worst fifth at the edge), "
        f"points the best {_BEST}."
    )
