"""How trials are trained together, in words."""

__all__ = ["describe_pack", "describe_stacking"]

from studies.formatting import ABSENT, count, number, plural
from studies.views import StackWidthView, TrialView

# What a worker's reason begins with where it only repeats that the width is 1.
_ALONE = "Members are trained one by one: "


def describe_stacking(fit: StackWidthView | None) -> str:
    """Return how the trials of an arm are trained on the device that measured last; nothing while none has.

    For example '8 at a time on cpu: 6.3 times as many steps a second as alone', or 'One at a time on cpu,
    because ...'.
    """
    if fit is None:
        return ""
    reason = (fit.reason or "").strip()
    if fit.width > 1:
        alone, together = fit.trial_steps_per_s.get(1), fit.trial_steps_per_s.get(fit.width)
        gain = (
            f": {number(together / alone, 2)} times as many steps a second as alone"
            if alone and together
            else ""
        )
        return f"{count(fit.width)} at a time on {fit.device}{gain}.{f' {reason}' if reason else ''}"
    if reason.startswith(_ALONE):
        return f"One at a time on {fit.device}, because {reason.removeprefix(_ALONE).rstrip('.')}."
    return f"One at a time on {fit.device}.{f' {reason}' if reason else ''}"


def describe_pack(trial: TrialView) -> str:
    """Return with how many others a trial was last trained, and whose seconds its own are."""
    match trial.pack_size:
        case None:
            return ABSENT
        case 1:
            return "trained by itself"
        case size:
            return (
                f"trained together with {plural(size - 1, 'other')}; its seconds are its share of the pack's"
            )
