"""What a study says of pruning: a rule by name, or with its numbers.

What the rules decide is in `studies.promotion`.
"""

__all__ = ["Asha", "Hyperband", "Median", "NoPruner", "Pruner", "PrunerName"]

from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from studies.errors import shown

PrunerName = Literal["none", "asha", "hyperband", "median"]


class _Rule(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NoPruner(_Rule):
    """Train every trial to its last epoch; written `"none"`."""

    kind: Literal["none"] = "none"

    def __str__(self) -> str:
        """Return the rule as pages show it."""
        return "none"


class _Halving(_Rule):
    min_epochs: int = Field(
        default=1, gt=0, le=100_000, strict=True, description="Epoch of the first rung.", examples=[1]
    )
    reduction_factor: int = Field(
        default=3,
        ge=2,
        le=100,
        strict=True,
        description=(
            "One trial in so many goes on from each rung, and the next rung lies at so many times its epoch."
        ),
        examples=[3],
    )

    def _from(self, kind: str) -> str:
        return f"{kind}: from epoch {self.min_epochs} on, one in {self.reduction_factor} goes on"


class Asha(_Halving):
    """Compare the trials of an arm at a few epochs, the rungs (Li et al. 2020, "ASHA").

    The best of each rung go on.
    """

    kind: Literal["asha"] = "asha"

    def __str__(self) -> str:
        """Return the rule as pages show it."""
        return self._from(self.kind)


class Hyperband(_Halving):
    """ASHA in several brackets (Li et al. 2018, "Hyperband").

    Each has its first rung one later than the one before.
    """

    kind: Literal["hyperband"] = "hyperband"

    def __str__(self) -> str:
        """Return the rule as pages show it."""
        return self._from(self.kind)


class Median(_Rule):
    """Stop a trial that is worse than the median at its rung (Golovin et al. 2017, "Vizier").

    The median is of those that came to the rung before it.
    """

    kind: Literal["median"] = "median"
    min_epochs: int = Field(
        default=1, gt=0, le=100_000, strict=True, description="Epoch of the first rung.", examples=[1]
    )
    min_trials: int = Field(
        default=5,
        gt=0,
        le=100_000,
        strict=True,
        description="Trials that pass each rung unjudged.",
        examples=[5],
    )
    every_epochs: int = Field(
        default=1,
        gt=0,
        le=100_000,
        strict=True,
        description="Epochs from one rung to the next.",
        examples=[1],
    )

    def __str__(self) -> str:
        """Return the rule as pages show it."""
        return (
            f"median: from epoch {self.min_epochs} on, every "
            f"{self.every_epochs}, after {self.min_trials} trials"
        )


def _spell_out(value: Any) -> Any:
    if isinstance(value, _Rule):
        return value
    rule = {"kind": value} if isinstance(value, str) else value
    names = get_args(PrunerName)
    if not isinstance(rule, Mapping) or cast("Mapping[str, Any]", rule).get("kind") not in names:
        expected = f"{', '.join(map(repr, names[:-1]))} or {names[-1]!r}"
        raise ValueError(
            f'expected {expected}, or an object such as {{"kind": "asha", '
            f'"min_epochs": 1}}, got {shown(value)}'
        )
    return cast("Any", rule)


Pruner = Annotated[
    Annotated[NoPruner | Asha | Hyperband | Median, Field(discriminator="kind")],
    BeforeValidator(_spell_out, json_schema_input_type=PrunerName | NoPruner | Asha | Hyperband | Median),
]
"""How hopeless trials are stopped early."""
