"""Which studies and arms are compared, as an address names them."""

__all__ = ["ARM_ID", "MAX_ARMS", "MAX_COMPARED", "ChosenArms"]

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from studies.errors import SpecInvalid, SpecProblem, shown

MAX_COMPARED: Final = 16
"""The most studies in one comparison."""

MAX_ARMS: Final = 64
"""The most arms that are chosen for one comparison."""

ARM_ID: Final = r"^[a-z0-9]{1,16}\.[a-z0-9][a-z0-9-]{0,63}$"
"""The form of an arm's id: the study's id and the arm's name, joined by a dot as in the ids of its trials."""


@dataclass(frozen=True)
class ChosenArms:
    """The studies and arms to compare.

    Attributes:
        studies: ids of all studies, in the order given.
        arms: of some of them the arms that were chosen, as study and name; of the others every arm.
    """

    studies: tuple[str, ...]
    arms: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, study_ids: Sequence[str], arm_ids: Sequence[str] = ()) -> Self:
        """Return the studies and arms with these ids; a study that is named itself has every arm.

        Raises:
            SpecInvalid: there are too few or too many, a study appears twice, or an arm's id is not one.
        """
        repeated = next((study_id for n, study_id in enumerate(study_ids) if study_id in study_ids[:n]), None)
        if repeated is not None:
            raise SpecInvalid(
                [SpecProblem("/study", f"{repeated!r} appears more than once; name each study once")]
            )
        wrong = [arm_id for arm_id in arm_ids if not re.fullmatch(ARM_ID, arm_id)]
        if wrong:
            message = f"expected a study and an arm such as k3f9x2db.adamp, got {shown(wrong[0])}"
            raise SpecInvalid([SpecProblem("/arm", message)])
        pairs = [arm_id.split(".") for arm_id in dict.fromkeys(arm_ids)]
        arms = tuple((study_id, name) for study_id, name in pairs if study_id not in study_ids)
        studies = tuple(dict.fromkeys((*study_ids, *(study_id for study_id, _ in pairs))))
        if len(studies) > MAX_COMPARED or (len(studies) < 2 and not arm_ids):
            raise SpecInvalid(
                [
                    SpecProblem(
                        "/study", f"expected 2 to {MAX_COMPARED} studies to compare, got {len(studies)}"
                    )
                ]
            )
        if len(arms) > MAX_ARMS or (len(studies) < 2 and len(arms) < 2):
            raise SpecInvalid(
                [SpecProblem("/arm", f"expected 2 to {MAX_ARMS} arms to compare, got {len(arms)}")]
            )
        return cls(studies, arms)

    @property
    def key(self) -> tuple[str, ...]:
        """A part of a cache's key that identifies this choice."""
        return (*self.studies, "of", *(f"{study_id}.{name}" for study_id, name in self.arms))

    @property
    def query(self) -> dict[str, list[str]]:
        """The parameters of an address that name this choice."""
        partly = {study_id for study_id, _ in self.arms}
        return {
            "study": [study_id for study_id in self.studies if study_id not in partly],
            "arm": [f"{study_id}.{name}" for study_id, name in self.arms],
        }
