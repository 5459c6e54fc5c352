"""The label by which studies form a suite, as a request changes it."""

__all__ = ["SuiteLabel", "parse_label"]

from typing import Any

from pydantic import Field, ValidationError

from studies.errors import SpecInvalid, SpecProblem, json_kind
from studies.frozen_model import FrozenModel
from studies.validation_errors import problems_of


class SuiteLabel(FrozenModel):
    """The suite that a study belongs to."""

    suite: str | None = Field(
        pattern=r"^[a-z0-9][a-z0-9-]{0,63}$",
        description="Label of the suite; null for none.",
        examples=["small-vision"],
    )


def parse_label(data: Any) -> SuiteLabel:
    """Parse plain data (from JSON, YAML or a form) into a label.

    Raises:
        SpecInvalid: the data is not a label; carries every fault with its JSON pointer.
    """
    if not isinstance(data, dict):
        raise SpecInvalid(
            [SpecProblem("", f"expected an object with the field suite, got {json_kind(data)}")]
        )
    try:
        return SuiteLabel.model_validate(data)
    except ValidationError as error:
        raise SpecInvalid(problems_of(error, data, of=SuiteLabel)) from None
