"""The columns of the table of trials: which there are, which are shown, and what a configuration changes."""

__all__ = ["Column", "changed", "searched", "trial_columns"]

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from studies.pruner import NoPruner
from studies.space import Fixed, Parameters
from studies.trials import Phase
from studies.views import ArmView, StudyView

_OF_METRIC: Final = "metric."
_OF_PARAMETER: Final = "parameter."


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        name: its name in the address; `metric.NAME` and `parameter.NAME` for a metric and a hyperparameter.
        title: its header.
        is_number: whether its cells are numbers.
        order: the order of trials that its header asks for; empty if it cannot sort.
        is_shown: whether the table has it.
    """

    name: str
    title: str
    is_number: bool = True
    order: str = ""
    is_shown: bool = False

    @property
    def metric(self) -> str:
        """The further metric that it shows; empty if it shows something else."""
        return self.name.removeprefix(_OF_METRIC) if self.name.startswith(_OF_METRIC) else ""

    @property
    def parameter(self) -> str:
        """The hyperparameter that it shows; empty if it shows something else."""
        return self.name.removeprefix(_OF_PARAMETER) if self.name.startswith(_OF_PARAMETER) else ""


def trial_columns(
    study: StudyView, arms: Sequence[ArmView], *, phase: Phase, wanted: Sequence[str]
) -> tuple[Column, ...]:
    """Return every column that the table can have beside trial, arm and state.

    Args:
        study: the study.
        arms: its arms.
        phase: which trials the table lists.
        wanted: names of the columns to show; without any, the usual ones. Unknown names are ignored.
    """
    card = study.workload_card
    has_rungs = not isinstance(study.spec.pruner, NoPruner)
    usual = {"value", "test", "changes", "cost"}
    if has_rungs:
        usual |= {"epochs", "left"}
    if phase == "confirmation":
        usual.add("seed")
    names = dict.fromkeys(
        name
        for arm in arms
        for name, dimension in arm.space.items()
        if name == "lr" or not isinstance(dimension, Fixed)
    )
    columns = (
        Column("value", f"Validation {card.metric}", order="value"),
        Column("test", f"Test {card.metric}"),
        *(Column(f"{_OF_METRIC}{each.name}", f"Test {each.name}") for each in card.metrics),
        Column("changes", "Differs from the defaults in", is_number=False),
        Column("configuration", "Configuration", is_number=False),
        *(Column(f"{_OF_PARAMETER}{name}", name) for name in names),
        Column("epochs", f"Epochs (of {study.epochs})"),
        *((Column("left", "Epochs left"),) if has_rungs else ()),
        Column("seed", "Seed"),
        Column("pack", "Trained together"),
        Column("reason", "Reason", is_number=False),
        Column("cost", "Training time", order="cost"),
        Column("ended", "Ended", is_number=False, order="ended"),
    )
    shown = {column.name for column in columns} & set(wanted) or usual
    return tuple(Column(c.name, c.title, c.is_number, c.order, is_shown=c.name in shown) for c in columns)


def searched(arm: ArmView, parameters: Parameters) -> Parameters:
    """Return the parameters that differ between trials of an arm: lr, and all that are not fixed."""
    return {
        name: value
        for name, value in parameters.items()
        if name == "lr" or not isinstance(arm.space.get(name), Fixed)
    }


def changed(arm: ArmView, parameters: Parameters) -> Parameters:
    """Return the parameters that are not the defaults of their arm."""
    return {name: value for name, value in parameters.items() if arm.defaults.get(name) != value}
