"""The scale of a hyperparameter's axis: numbers on a linear or log scale, choices side by side."""

__all__ = ["Scale"]

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from service.dashboard.figures.axes import Axis, log_tick
from studies.formatting import scalar
from studies.space import Choices, Range, Scalar
from studies.views import ArmView, TrialView


@dataclass(frozen=True)
class Scale:
    """One hyperparameter's axis, shared by all arms.

    Attributes:
        name: the hyperparameter.
        choices: the values as text where it is a choice; empty for numbers.
        is_log: whether numbers are on a log scale.
        log_tick: ticks of a log scale.
        arms: names of the arms, which are drawn side by side at each choice.
    """

    name: str
    choices: tuple[str, ...]
    is_log: bool
    log_tick: int | str | None
    arms: tuple[str, ...]

    @classmethod
    def of(cls, name: str, arms: Sequence[ArmView], trials: Sequence[TrialView]) -> Self:
        """Return the scale that fits all arms and trials.

        It is a scale of numbers if any arm searches a range of them, otherwise one of choices.
        """
        dimensions = [arm.space[name] for arm in arms]
        ranges = [dimension for dimension in dimensions if isinstance(dimension, Range)]
        choices = [dimension.choices for dimension in dimensions if isinstance(dimension, Choices)]
        offered = [choice for each in choices for choice in each]
        seen = [t.parameters[name] for t in trials]
        is_numeric = bool(ranges) and not any(isinstance(value, bool | str) for value in (*offered, *seen))
        values = sorted(
            dict.fromkeys((*offered, *seen)),
            key=lambda v: (isinstance(v, str), v if isinstance(v, str) else float(v)),
        )
        is_log = is_numeric and all(d.log for d in ranges)
        return cls(
            name=name,
            choices=() if is_numeric else tuple(dict.fromkeys(scalar(value) for value in values)),
            is_log=is_log,
            log_tick=log_tick(min(d.low for d in ranges), max(d.high for d in ranges)) if is_log else None,
            arms=tuple(arm.name for arm in arms),
        )

    @property
    def axis(self) -> Axis:
        """The axis to draw."""
        if self.choices:
            return Axis(title=self.name, labels=self.choices, range=(-0.5, len(self.choices) - 0.5))
        return Axis(title=self.name, is_log=self.is_log, tick=self.log_tick)

    def at(self, value: Scalar, *, arm: str) -> float | None:
        """Return the position of a value; None if the scale has none, such as 0 on a log scale."""
        if self.choices:
            if scalar(value) not in self.choices:
                return None
            aside = (self.arms.index(arm) - (len(self.arms) - 1) / 2) / len(self.arms)
            return self.choices.index(scalar(value)) + 0.7 * aside
        number = float(value)
        return None if self.is_log and number <= 0 else number
