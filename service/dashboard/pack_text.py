"""How trials are trained together, in words."""

__all__ = ["describe_memory", "describe_pack", "describe_stacking"]

from studies.formatting import ABSENT, byte_size, count, number, plural
from studies.views import StackWidthView, TrialView

# The worker's prefix of a reason for a width of 1; earlier versions wrote the second.
_ONE_BY_ONE = ("Trials are trained one by one: ", "Members are trained one by one: ")


def describe_stacking(measured: StackWidthView | None) -> str:
    """Return how an arm's trials are trained on the device measured last; empty before any measurement.

    For example 'Trained 8 at a time on the CPU: 6.3× the steps per second.' or 'Trained one by one on …'.
    """
    if measured is None:
        return ""
    reason = (measured.reason or "").strip()
    device = "the CPU" if measured.device == "cpu" else measured.device
    more = f" {reason}" if reason else ""
    if measured.width > 1:
        alone, together = measured.trial_steps_per_s.get(1), measured.trial_steps_per_s.get(measured.width)
        gain = f": {number(together / alone, 2)}× the steps per second" if alone and together else ""
        return f"Trained {count(measured.width)} at a time on {device}{gain}.{more}"
    for prefix in _ONE_BY_ONE:
        if reason.startswith(prefix):
            return f"Trained one by one on {device}: {reason.removeprefix(prefix).rstrip('.')}."
    return f"Trained one by one on {device}.{more}"


def describe_pack(trial: TrialView) -> str:
    """Return how many trials the trial was last trained with; a dash before it was trained."""
    match trial.pack_size:
        case None:
            return ABSENT
        case 1:
            return "trained alone"
        case size:
            return f"trained with {plural(size - 1, 'other')}; its training time is its share of the pack's"


def describe_memory(trial: TrialView) -> str:
    """Return the memory that a trial has needed; a dash if it was not measured."""
    if trial.memory_bytes is None:
        return ABSENT
    on_gpu = trial.device_memory_bytes
    text = byte_size(trial.memory_bytes)
    text += "" if on_gpu is None else f", and {byte_size(on_gpu)} on the GPU"
    return text if trial.pack_size in {None, 1} else f"{text}: its share of the pack's peak"
