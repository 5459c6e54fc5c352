"""Where the manual defines what a chart shows."""

__all__ = ["chart_definition"]

from typing import Final

_TRAINING: Final = "statistics#curves-and-probes-of-training"
_PASSAGES: Final = {
    "budget-curves": "statistics#budget-curves",
    "confirmed-runs": "statistics#confirmed-configurations",
    "validation-metric": f"{_TRAINING}.metric-and-loss",
    "train-loss": f"{_TRAINING}.metric-and-loss",
    "validation-loss": f"{_TRAINING}.metric-and-loss",
    "live-curves": f"{_TRAINING}.metric-and-loss",
    "packs": "architecture#glossary.pack",
    "narrowing": "statistics#the-budget-verdict.difference",
    "lr": "study#training.schedule",
    "weight-norm": f"{_TRAINING}.weight-norm",
    "effective-step": f"{_TRAINING}.effective-step",
    "projected-fraction": f"{_TRAINING}.projected-fraction",
    "gradient-cosine": f"{_TRAINING}.cosine",
    "compared-means": "statistics#confirmed-configurations",
    "compared-curves": "statistics#budget-curves",
    "compared-differences": "statistics#the-budget-verdict.the-band",
    "parallel-coordinates": "statistics#sensitivity.parallel-coordinates",
    "iqm": "statistics#suites.iqm",
    "relative": "statistics#suites.relative-performance",
    "profiles": "statistics#suites.performance-profile",
}
# Ids with the name of a hyperparameter or the number of a metric behind them.
_PASSAGES_BY_PREFIX: Final = {
    "layer": f"{_TRAINING}.layers",
    "by-": "statistics#sensitivity.isolation-curve",
    "further-metric-": f"{_TRAINING}.metric-and-loss",
}


def chart_definition(chart_id: str) -> str:
    """Return the address of the passage that defines what a chart shows, or of the document."""
    if chart_id in _PASSAGES:
        return f"/help/{_PASSAGES[chart_id]}"
    passages = (passage for prefix, passage in _PASSAGES_BY_PREFIX.items() if chart_id.startswith(prefix))
    return f"/help/{next(passages, 'statistics')}"
