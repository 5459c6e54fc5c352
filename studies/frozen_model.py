"""The base class of immutable values."""

__all__ = ["FrozenModel"]

from pydantic import BaseModel, ConfigDict


class FrozenModel(BaseModel):
    """An immutable value that rejects unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")
