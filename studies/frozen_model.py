"""The base class of immutable values."""

__all__ = ["FrozenModel"]

from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class FrozenModel(BaseModel):
    """An immutable value that rejects unknown fields.

    Attributes:
        hint_for_unknown: what to do about an unknown field; empty if nothing is known.
    """

    hint_for_unknown: ClassVar[str] = ""

    model_config = ConfigDict(frozen=True, extra="forbid")
