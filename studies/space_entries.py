"""How users write what a study sets or searches of one hyperparameter: `0.9`, `"tune"` or a range."""

__all__ = ["Pair", "SpaceEntry", "Tune", "is_dimension"]

from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, BeforeValidator, Field

from studies.frozen_model import FrozenModel
from studies.space import Choices, Fixed, Range, Scalar


class Tune(FrozenModel):
    """Search the hyperparameter over the range on its card; written as `"tune"`."""

    kind: Literal["tune"] = "tune"


class Pair(FrozenModel):
    """Two fixed hyperparameters that the optimizer takes as one argument: `"betas": [0.9, 0.99]`."""

    kind: Literal["pair"] = "pair"
    values: tuple[Scalar, Scalar] = Field(description="The two values, in the optimizer's order.")


def _expand_dimension(value: Any) -> Any:
    if isinstance(value, BaseModel) or (isinstance(value, Mapping) and "kind" in value):
        return cast("Any", value)
    if isinstance(value, Mapping):
        mapping = cast("Mapping[str, Any]", value)
        if mapping and not {"choices", "value", "low", "high"} & set(mapping):
            raise ValueError(
                'expected a value, "tune", {"low": ..., "high": ...} or {"choices": [...]}, got an object '
                f"with {', '.join(map(str, mapping))}; nested names are written with dots, such as "
                "training.batch_size or groups.output.lr"
            )
        kind = "choices" if "choices" in mapping else "fixed" if "value" in mapping else "range"
        return {"kind": kind, **mapping}
    if value == "tune":
        return {"kind": "tune"}
    if isinstance(value, list | tuple):
        items = list(cast("list[Any] | tuple[Any, ...]", value))
        if len(items) == 2:
            return {"kind": "pair", "values": items}
        raise ValueError(
            f"expected two numbers for a pair such as betas, got a list of length {len(items)}; "
            'to choose between values, write {"choices": [...]}'
        )
    return {"kind": "fixed", "value": value}


SpaceEntry = Annotated[
    Annotated[Range | Choices | Fixed | Tune | Pair, Field(discriminator="kind")],
    BeforeValidator(
        _expand_dimension,
        json_schema_input_type=Scalar | tuple[Scalar, Scalar] | Range | Choices | Fixed | Tune | Pair,
    ),
]
"""How a study sets or searches one hyperparameter."""


def is_dimension(value: object) -> bool:
    """Return whether a value is searched, as a range, choices or `"tune"`, rather than a value by itself.

    A list counts too: it is a mistake that a space describes better than a field.
    """
    return value == "tune" or isinstance(value, Mapping | Range | Choices | Tune | list)
