"""Measurements are declared once, and the database and files follow the declaration."""

__all__: list[str] = []

import math

import pytest
from pydantic import ValidationError

from studies.store import tables
from studies.trials import Measurement


def test_the_measurement_table_has_a_column_for_each_field() -> None:
    assert set(tables.measurement.columns.keys()) == {"trial_id", *Measurement.model_fields}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
def test_a_value_that_is_not_finite_is_none(value: float | None) -> None:
    assert Measurement(epoch=1, elapsed_s=0.5, train_loss=value, lr=0.1) == Measurement(
        epoch=1, elapsed_s=0.5, lr=0.1
    )


def test_every_measurement_has_an_epoch_and_its_seconds() -> None:
    with pytest.raises(ValidationError):
        Measurement.model_validate({"epoch": 1, "elapsed_s": math.nan})
    with pytest.raises(ValidationError):
        Measurement.model_validate({"epoch": 0, "elapsed_s": 0.5})
