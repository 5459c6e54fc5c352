"""Configurations side by side: which hyperparameters differ, and which are not the defaults."""

__all__ = ["SideBySideRow", "rows_of_configurations"]

from collections.abc import Sequence
from dataclasses import dataclass

from studies.formatting import ABSENT, scalar
from studies.space import Parameters


@dataclass(frozen=True)
class SideBySideRow:
    """One hyperparameter of several configurations.

    Attributes:
        name: the hyperparameter.
        cells: for each configuration its value as text, and whether it is not the default of its arm.
        differs: whether the values differ.
    """

    name: str
    cells: tuple[tuple[str, bool], ...]
    differs: bool

    @property
    def is_plain(self) -> bool:
        """Whether it has one value everywhere, which is the default."""
        return not self.differs and not any(is_changed for _, is_changed in self.cells)


def rows_of_configurations(
    columns: Sequence[tuple[Parameters | None, Parameters]],
) -> tuple[SideBySideRow, ...]:
    """Return a row of each hyperparameter; those that differ come first.

    Args:
        columns: each configuration, None where there is none yet, with the defaults of its arm.
    """
    known = [(parameters or {}, defaults) for parameters, defaults in columns]
    rows: list[SideBySideRow] = []
    for name in dict.fromkeys(name for parameters, _ in known for name in parameters):
        cells = tuple(
            (
                scalar(parameters[name]) if name in parameters else ABSENT,
                name in parameters and parameters[name] != defaults.get(name),
            )
            for parameters, defaults in known
        )
        rows.append(SideBySideRow(name, cells, len({text for text, _ in cells}) > 1))
    return tuple(sorted(rows, key=lambda row: not row.differs))
