"""The values that a user's loop reports, checked: names of metrics, and numbers."""

__all__ = ["LOSS", "checked_number", "checked_values"]

from collections.abc import Mapping, Sequence
from typing import Final, cast

from torch import Tensor

from workers.script.trial_task import Values
from workers.workload_errors import CannotTrain

LOSS: Final = "loss"
"""The validation loss among the metrics of a report."""


def checked_values(values: Values, names: Sequence[str], *, split: str) -> dict[str, float]:
    """Return metrics by name, the objective first, and perhaps a loss.

    Args:
        values: as reported.
        names: the metrics that a report holds, the objective first.
        split: which examples were measured.

    Raises:
        CannotTrain: a name is unknown or missing, or a value is not a number.
    """
    if not isinstance(values, Mapping):
        values = {names[0]: values}
    missing = [name for name in names if name not in values]
    unknown = [name for name in values if name not in {*names, LOSS}]
    if missing or unknown:
        raise CannotTrain(
            f"expected {split} values of {', '.join(map(repr, names))} and perhaps 'loss', got "
            f"{', '.join(map(repr, values)) or 'none'}"
        )
    return {name: checked_number(values[name], name) for name in sorted(values, key=[*names, LOSS].index)}


def checked_number(value: object, name: str) -> float:
    """Return a value as a number; raise CannotTrain if it is not one."""
    try:
        return float(cast("float", value))
    except (TypeError, ValueError, RuntimeError):
        found = f"a tensor of shape {list(value.shape)}" if isinstance(value, Tensor) else repr(value)
        raise CannotTrain(f"expected a number for {name!r}, got {found[:80]}") from None
