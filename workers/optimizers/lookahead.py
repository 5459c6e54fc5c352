"""Lookahead around another optimizer."""

__all__ = ["ENTRIES", "lookahead_around"]

from dataclasses import replace

from torch.optim import Optimizer

from studies.catalog import Bounds, Containment, Hyperparameter
from studies.recipe import arguments
from studies.space import Parameters, Range
from workers.optimizers import adam, gradient_descent, projected
from workers.optimizers.registry import OptimizerEntry, ParameterGroup

_PAPER = "Zhang et al., Lookahead Optimizer: k steps forward, 1 step back, NeurIPS 2019, arXiv:1907.08610"

_SOURCE = "is the default of pytorch_optimizer and the paper's value for ImageNet; the range is our choice"

_K = Hyperparameter(
    name="k",
    description="Steps of the inner optimizer between two moves back to the slow weights.",
    unit="step",
    default=5,
    search=Range(low=5, high=20, integer=True),
    source=f"5 {_SOURCE}",
    tuned=True,
    bounds=Bounds(low=1),
)
_ALPHA = Hyperparameter(
    name="alpha",
    description="Point to move back to, from the slow weights (0) to the inner optimizer's weights (1).",
    unit="none",
    default=0.5,
    search=Range(low=0.2, high=0.8),
    source=f"0.5 {_SOURCE}",
    tuned=True,
    bounds=Bounds(low=0, low_open=True, high=1, high_open=True),
)


def lookahead_around(inner: OptimizerEntry) -> OptimizerEntry:
    """Return the entry `lookahead-NAME` of Lookahead around another entry's optimizer.

    It has the inner optimizer's hyperparameters, k and alpha, and no batched form.

    Args:
        inner: an optimizer that one constructor builds, and that is trained and evaluated at the same
            weights.

    Raises:
        ValueError: the inner optimizer is built by several constructors, has a schedule of its own, or has a
            hyperparameter called k or alpha.
    """
    card = inner.card
    if card.call.startswith("[") or card.schedule == "constant" or {"k", "alpha"} & set(card.names):
        raise ValueError(
            f"expected an optimizer with one constructor, no schedule of its own, and no hyperparameter k or "
            f"alpha, got {card.name}"
        )
    every = " ".join(arguments(card, {}))
    call = card.call or f"{card.constructor}({{params:model.parameters()}}, {{args:{every}}})"
    outer = card.model_copy(
        update={
            "name": f"lookahead-{card.name}",
            "title": f"Lookahead ({card.title})",
            "description": (
                f"{card.title} that every k steps moves its weights back towards slow weights, which follow "
                f"it, and continues from there. It is evaluated at {card.title}'s weights, not at the slow "
                "weights."
            ),
            "reference": f"{_PAPER}; {card.reference}",
            "import_line": f"from pytorch_optimizer import Lookahead\n{card.import_line}",
            "constructor": "Lookahead",
            "call": f"Lookahead({call}, {{args:k alpha}})",
            "hyperparameters": (*card.hyperparameters, _K, _ALPHA),
            "contains": (
                Containment(
                    optimizer=card.name,
                    at={"k": 1_000_000_000},
                    note=(
                        f"Any k above the number of steps gives {card.title}. So would alpha = 1, but "
                        "pytorch_optimizer rejects it."
                    ),
                ),
            ),
        }
    )

    def build(groups: list[ParameterGroup], parameters: Parameters) -> Optimizer:
        # Imported on use, because pytorch_optimizer takes nearly a second to import.
        from pytorch_optimizer import Lookahead

        own = {name: value for name, value in parameters.items() if name not in {"k", "alpha"}}
        return Lookahead(inner.build(groups, own), k=int(parameters["k"]), alpha=float(parameters["alpha"]))

    return replace(inner, card=outer, build=build, stacked=None)


_INNER = {"adamw", "radam", "adamp", "sgd-nesterov", "sgdp"}

ENTRIES: tuple[OptimizerEntry, ...] = tuple(
    lookahead_around(entry)
    for family in (adam, gradient_descent, projected)
    for entry in family.ENTRIES
    if entry.card.name in _INNER
)
