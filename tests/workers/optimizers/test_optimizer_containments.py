"""Cards that declare another optimizer as a special case of their own."""

import pytest
import torch
from toy_regression import build_model, train

from studies.catalog import Containment
from studies.space import Parameters
from workers.optimizers import OptimizerEntry, build_optimizer, load_optimizers

__all__: list[str] = []

ENTRIES = load_optimizers()
CONTAINMENTS = [(entry, containment) for entry in ENTRIES.values() for containment in entry.card.contains]

TOLERANCES = {"qhadam": 1e-6, "qhadamw": 1e-6}
"""How far weights of order 1 may part in 20 steps of float64; 1e-12 where not named.

QHAdam counts its averaging weights in float32.
"""


def trajectory(entry: OptimizerEntry, parameters: Parameters) -> torch.Tensor:
    model = build_model()
    return train(model, build_optimizer(entry, model, parameters, decay_1d=False), steps=20)


def settings(container: OptimizerEntry, containment: Containment) -> tuple[Parameters, Parameters]:
    """Return configurations of container and contained optimizer that should give the same steps.

    Shared hyperparameters are equal, and both have decay and momentum if allowed.
    """
    contained = ENTRIES[containment.optimizer].card
    livelier: Parameters = {"weight_decay": 0.01, "momentum": 0.9, "lr": 0.01}
    inner = {
        name: containment.requires.get(name, livelier.get(name, default))
        for name, default in contained.defaults.items()
    }
    shared = {name: value for name, value in inner.items() if name in container.card.defaults}
    return {**container.card.defaults, **shared, **containment.at}, inner


def labels(value: OptimizerEntry | Containment) -> str:
    return value.card.name if isinstance(value, OptimizerEntry) else value.optimizer


@pytest.mark.parametrize(("container", "containment"), CONTAINMENTS, ids=labels)
def test_the_container_repeats_the_contained_step_by_step(
    container: OptimizerEntry, containment: Containment
) -> None:
    outer, inner = settings(container, containment)
    tolerance = TOLERANCES.get(container.card.name, 1e-12)
    expected = trajectory(ENTRIES[containment.optimizer], inner)
    torch.testing.assert_close(trajectory(container, outer), expected, rtol=0.0, atol=tolerance)


@pytest.mark.parametrize(("container", "containment"), CONTAINMENTS, ids=labels)
def test_containment_is_partial_if_the_card_has_a_requirement(
    container: OptimizerEntry, containment: Containment
) -> None:
    outer, inner = settings(container, containment)
    for name in containment.requires:
        changed: Parameters = {name: 0.5 if name == "dampening" else 0.01}
        expected = trajectory(ENTRIES[containment.optimizer], inner | changed)
        assert (trajectory(container, outer | changed) - expected).abs().max() > 1e-6


def test_adamp_and_sgdp_contain_the_optimizers_they_extend() -> None:
    contained = {
        container.card.name: {c.optimizer for c in container.card.contains} for container, _ in CONTAINMENTS
    }
    assert contained["adamp"] == {"adamw"}
    assert contained["sgdp"] == {"sgd", "sgd-nesterov"}
