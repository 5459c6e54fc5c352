"""Training settings in words, for pages, tables and comparisons."""

__all__ = ["length_text", "schedule_text", "training_texts", "unusual_texts"]

from studies.formatting import plural, scalar
from studies.training_settings import TrainingOptions


def length_text(epochs: int, interval_steps: int | None) -> str:
    """Return how long training takes: `12 epochs`, or `10 intervals of 200 steps (counted as epochs)`."""
    if interval_steps is None:
        return plural(epochs, "epoch")
    return f"{plural(epochs, 'interval')} of {plural(interval_steps, 'step')} (counted as epochs)"


def schedule_text(training: TrainingOptions) -> str:
    """Return the learning rate schedule with its numbers, e.g. `linear, warm-up over 0.1 of the steps`."""
    match training.schedule:
        case "step":
            details = f" ({plural(training.step_drops, 'drop')}, each to {scalar(training.step_factor)})"
        case "wsd":
            details = f" (decay over {scalar(training.decay_fraction)} of the steps)"
        case "warm-restarts":
            growth = f", each {scalar(training.cycle_growth)} times as long" if training.cycles > 1 else ""
            details = f" ({plural(training.cycles, 'cycle')}{growth})"
        case _:
            details = ""
    warmup = f", warm-up over {scalar(training.warmup)} of the steps" if training.warmup else ""
    return f"{training.schedule}{details}{warmup}"


def training_texts(training: TrainingOptions) -> dict[str, str]:
    """Return each setting's name in a sentence with its value."""
    return {
        "schedule": schedule_text(training),
        "weight decay of biases and norms": "on" if training.decay_1d else "off",
        "gradient clipping": _clipping(training),
        "batches per step": str(training.accumulation_steps),
        "moving average of the weights": (
            f"decay {scalar(training.ema_decay)}, evaluated"
            f"{'' if training.ema_evaluation == 'instead' else ' beside them'}"
            if training.ema_decay
            else "none"
        ),
        "label smoothing": scalar(training.label_smoothing),
        "precision": training.precision,
    }


def unusual_texts(training: TrainingOptions) -> dict[str, str]:
    """Return the settings other than the schedule whose values are not the defaults."""
    usual = training_texts(TrainingOptions())
    return {
        name: text
        for name, text in training_texts(training).items()
        if name != "schedule" and text != usual[name]
    }


def _clipping(training: TrainingOptions) -> str:
    limits = [
        f"{kind} {scalar(limit)}"
        for kind, limit in (("value", training.clip_value), ("norm", training.clip_norm))
        if limit
    ]
    return f"to {' and '.join(limits)}" if limits else "none"
