"""How trials are trained together, in words."""

__all__ = ["describe_pack", "describe_stacking"]

from studies.formatting import ABSENT, count, number, plural
from studies.views import StackWidthView, TrialView

# The worker's prefix of a reason for a width of 1; earlier versions wrote the second.
_ONE_BY_ONE = ("Trials are trained one by one: ", "Members are trained one by one: ")


def describe_stacking(fit: StackWidthView | None) -> str:
    """Return how an arm's trials are trained on the device measured last; empty before any measurement.

    For example 'Trained 8 at a time on cpu: 6.3× the steps per second.' or 'Trained one by one on cpu: …'.
    """
    if fit is None:
        return ""
    reason = (fit.reason or "").strip()
    if fit.width > 1:
        alone, together = fit.trial_steps_per_s.get(1), fit.trial_steps_per_s.get(fit.width)
        gain = f": {number(together / alone, 2)}× the steps per second" if alone and together else ""
        return f"Trained {count(fit.width)} at a time on {fit.device}{gain}.{f' {reason}' if reason else ''}"
    for prefix in _ONE_BY_ONE:
        if reason.startswith(prefix):
            return f"Trained one by one on {fit.device}: {reason.removeprefix(prefix).rstrip('.')}."
    return f"Trained one by one on {fit.device}.{f' {reason}' if reason else ''}"


def describe_pack(trial: TrialView) -> str:
    """Return how many trials the trial was last trained with; a dash before it was trained."""
    match trial.pack_size:
        case None:
            return ABSENT
        case 1:
            return "trained alone"
        case size:
            return f"trained with {plural(size - 1, 'other')}; its training time is its share of the pack's"
