"""The training settings of a trial, and what a study may search of them."""

import pytest
from catalogs import catalog
from pydantic import ValidationError

from studies.space import Choices
from studies.spec import Training
from studies.training_settings import (
    PREFIX,
    TRAINING_HYPERPARAMETERS,
    TrainingSettings,
    must_share,
    settings_of,
    training_hyperparameters,
)

__all__: list[str] = []


def test_every_setting_has_a_card_with_the_default_of_a_study() -> None:
    assert [card.name for card in TRAINING_HYPERPARAMETERS[1:]] == [
        f"{PREFIX}{name}" for name in Training.model_fields if name not in ("batch_size", "ema_evaluation")
    ]
    for card in TRAINING_HYPERPARAMETERS[1:]:
        name = card.name.removeprefix(PREFIX)
        # The default of a warm-up is the schedule's.
        settings = Training(schedule="warmup-cosine") if name == "warmup_fraction" else Training()
        assert card.default == getattr(settings, "warmup" if name == "warmup_fraction" else name)


def test_a_setting_takes_exactly_the_values_that_its_card_calls_legal() -> None:
    for card in TRAINING_HYPERPARAMETERS:
        for value in (-1.0, 0.0, 0.5, 1.0, 1.5, 64, 2000, "cosine", "text"):
            is_switch = isinstance(card.default, bool)
            if is_switch or isinstance(value, str) != isinstance(card.default, str):
                continue
            if card.fault(value) is None:
                value = card.typed(value)
            try:
                settings_of(TrainingSettings(batch_size=8), {card.name: value})
            except ValidationError:
                assert card.fault(value) is not None, (card.name, value)
            else:
                assert card.fault(value) is None, (card.name, value)


def test_the_batch_size_has_the_workloads_default_and_at_most_its_examples() -> None:
    workload = catalog().workloads["digits-mlp"]
    batch_size = training_hyperparameters(workload)[0]
    examples = workload.examples["train"]
    assert batch_size.default == workload.batch_size
    assert isinstance(batch_size.search, Choices)
    assert workload.batch_size in batch_size.search.choices
    assert batch_size.fault(examples) is None
    assert batch_size.fault(examples + 1) is not None
    small = workload.model_copy(update={"examples": {"train": workload.batch_size}})
    assert training_hyperparameters(small)[0].fault(workload.batch_size) is None


def test_members_share_what_a_stack_cannot_do_for_each() -> None:
    parameters = {"lr": 0.1, "batch_size": 3, "training.batch_size": 8, "training.schedule": "cosine"}
    assert must_share(parameters) == {"training.batch_size": 8}


def test_a_configuration_sets_only_settings_that_exist() -> None:
    shared = TrainingSettings(batch_size=8)
    assert settings_of(shared, {"lr": 0.1}) == shared
    assert settings_of(shared, {"training.batch_size": 16}).batch_size == 16
    with pytest.raises(ValidationError):
        settings_of(shared, {"training.momentum": 0.9})
