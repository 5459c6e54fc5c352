"""The pruning rules that a study can name, with their settings; `studies.promotion` applies them."""

__all__ = ["Asha", "Hyperband", "Median", "NoPruner", "Pruner", "PrunerName"]

from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast, get_args

from pydantic import BeforeValidator, Field

from studies.errors import shown
from studies.formatting import plural
from studies.frozen_model import FrozenModel

PrunerName = Literal["none", "asha", "hyperband", "median"]


class NoPruner(FrozenModel):
    """Train every trial to its last epoch; written as `"none"`."""

    kind: Literal["none"] = "none"

    def __str__(self) -> str:
        """Return the rule in words, as pages show it."""
        return "none"


class _Halving(FrozenModel):
    min_epochs: int = Field(
        default=1, gt=0, le=100_000, strict=True, description="Epoch of the first rung.", examples=[1]
    )
    reduction_factor: int = Field(
        default=3,
        ge=2,
        le=100,
        strict=True,
        description=(
            "One in this many trials is promoted from each rung, and the next rung is at this many times the "
            "epoch."
        ),
        examples=[3],
    )

    def _describe(self, kind: str) -> str:
        return f"{kind} (from epoch {self.min_epochs}, 1 in {self.reduction_factor} promoted)"


class Asha(_Halving):
    """Compare an arm's trials at a few epochs, the rungs, and promote the best (Li et al. 2020, "ASHA")."""

    kind: Literal["asha"] = "asha"

    def __str__(self) -> str:
        """Return the rule in words, as pages show it."""
        return self._describe(self.kind)


class Hyperband(_Halving):
    """ASHA in several brackets, each starting one rung later (Li et al. 2018, "Hyperband")."""

    kind: Literal["hyperband"] = "hyperband"

    def __str__(self) -> str:
        """Return the rule in words, as pages show it."""
        return self._describe(self.kind)


class Median(FrozenModel):
    """Prune a trial that is worse than the median of those before it (Golovin et al. 2017, "Vizier")."""

    kind: Literal["median"] = "median"
    min_epochs: int = Field(
        default=1, gt=0, le=100_000, strict=True, description="Epoch of the first rung.", examples=[1]
    )
    min_trials: int = Field(
        default=5,
        gt=0,
        le=100_000,
        strict=True,
        description="Trials that pass each rung without a comparison.",
        examples=[5],
    )
    every_epochs: int = Field(
        default=1,
        gt=0,
        le=100_000,
        strict=True,
        description="Epochs between rungs.",
        examples=[1],
    )

    def __str__(self) -> str:
        """Return the rule in words, as pages show it."""
        every = "every epoch" if self.every_epochs == 1 else f"every {self.every_epochs} epochs"
        return f"median (from epoch {self.min_epochs}, {every}, after {plural(self.min_trials, 'trial')})"


def _expand(value: Any) -> Any:
    if isinstance(value, FrozenModel):
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
    BeforeValidator(_expand, json_schema_input_type=PrunerName | NoPruner | Asha | Hyperband | Median),
]
"""How trials with little promise are stopped early."""
