"""Sharpness-aware minimisation: SAM around another optimizer."""

__all__ = ["ENTRIES", "sam_around"]

import importlib
from typing import Any

from torch.optim import Optimizer

from studies.catalog import Bounds, Containment, Hyperparameter
from studies.recipe import arguments
from studies.space import Choices, Parameters, Range
from workers.optimizers import adam, gradient_descent
from workers.optimizers.registry import OptimizerEntry, ParameterGroup

_HYPERPARAMETERS = (
    Hyperparameter(
        name="rho",
        description="Distance of the point whose gradient is taken, from the weights along their gradient.",
        unit="weight",
        default=0.05,
        search=Range(low=0.01, high=0.5, log=True),
        source="the paper searches 0.01 to 0.5; ASAM (adaptive) uses about ten times more",
        tuned=True,
        bounds=Bounds(low=0),
    ),
    Hyperparameter(
        name="adaptive",
        description="Measure the distance relative to each weight (ASAM, Kwon et al. 2021).",
        unit="none",
        default=False,
        search=Choices(choices=(False, True)),
        source="a switch; the paper has none",
        tuned=False,
    ),
)


def sam_around(inner: OptimizerEntry) -> OptimizerEntry:
    """Return the entry `sam-NAME` of SAM around another entry's optimizer.

    Args:
        inner: an optimizer of torch.optim whose card has no call of its own.

    Raises:
        ValueError: the inner optimizer is imported from elsewhere, or its card has a call of its own.
    """
    card = inner.card
    if card.import_line != f"from torch.optim import {card.constructor}" or card.call:
        raise ValueError(
            "expected an optimizer with an import_line 'from torch.optim import NAME', where NAME is its "
            f"constructor, and without a call of its own, got {card.name} with {card.import_line!r}; choose "
            "an optimizer of torch.optim"
        )
    outer = card.model_copy(
        update={
            "name": f"sam-{card.name}",
            "title": f"SAM ({card.title})",
            "description": (
                f"{card.title} with the gradient at a point rho further up the gradient of each batch, which "
                "favours flat minima. A step goes over its batches twice; norms keep the statistics of the "
                "first pass. Clipping by value also changes the direction to that point."
            ),
            "reference": (
                "Foret et al., Sharpness-Aware Minimization for Efficiently Improving Generalization, ICLR "
                f"2021, arXiv:2010.01412; {card.reference}"
            ),
            "import_line": f"{card.import_line}\n\nfrom workers.optimizers.repaired import SAM",
            "constructor": "SAM",
            "preparation": (
                "# After loss.backward() call optimizer.step(closure); closure computes the loss of the same "
                "batch and calls backward."
            ),
            "call": (
                f"SAM({{params:model.parameters()}}, {card.constructor}, "
                f"{{args:{' '.join(arguments(card, {}))} rho adaptive}})"
            ),
            "hyperparameters": (*card.hyperparameters, *_HYPERPARAMETERS),
            "contains": (Containment(optimizer=card.name, at={"rho": 0.0}),),
            "findings": (
                (
                    "It stays at a saddle that is nearer than rho, where the gradient further up points "
                    "back: a property of SAM (Kim et al. 2023, arXiv:2301.06308). The test of saddles has "
                    "rho 1e-4."
                ),
            ),
            "per_group": (*card.per_group, "rho"),
            "needs": "closure",
        }
    )

    def build(groups: list[ParameterGroup], parameters: Parameters) -> Optimizer:
        # Imported on use, because pytorch_optimizer takes nearly a second to import.
        from workers.optimizers.repaired import SAM

        base = getattr(importlib.import_module("torch.optim"), card.constructor)
        settings: dict[str, Any] = {**arguments(outer, parameters)}
        return SAM(groups, base, **settings)

    return OptimizerEntry(outer, build)


_INNER = {"sgd", "adamw"}

ENTRIES: tuple[OptimizerEntry, ...] = tuple(
    sam_around(entry)
    for family in (gradient_descent, adam)
    for entry in family.ENTRIES
    if entry.card.name in _INNER
)
