"""Lookahead over AdamW."""

__all__ = ["ENTRIES"]

from typing import Any

from torch.optim import AdamW, Optimizer

from studies.catalog import Bounds, Containment, Hyperparameter, OptimizerCard
from studies.recipe import arguments
from studies.space import Parameters, Range
from workers.optimizers import hyperparameters as h
from workers.optimizers.registry import OptimizerEntry, ParameterGroup

_PAPER = "Zhang et al., Lookahead Optimizer: k steps forward, 1 step back, NeurIPS 2019, arXiv:1907.08610"

_LOOKAHEAD_ADAMW = OptimizerCard(
    name="lookahead-adamw",
    title="Lookahead (AdamW)",
    description=(
        "AdamW that every k steps moves its weights back towards slow weights, which follow it, and "
        "continues from there. It is evaluated at AdamW's weights, not at the slow weights."
    ),
    reference=_PAPER,
    import_line="from pytorch_optimizer import Lookahead\nfrom torch.optim import AdamW",
    constructor="Lookahead",
    call="Lookahead(AdamW({params:model.parameters()}, {args:lr betas eps weight_decay}), {args:k alpha})",
    hyperparameters=(
        h.adam_lr(1e-3),
        h.beta1(),
        h.beta2(),
        h.eps(),
        h.decoupled_decay(1e-2),
        Hyperparameter(
            name="k",
            description="Steps of AdamW between two moves back to the slow weights.",
            unit="step",
            default=5,
            search=Range(low=5, high=20, integer=True),
            source=(
                "5 is the default of pytorch_optimizer and the paper's value for ImageNet; the range is our "
                "choice"
            ),
            tuned=True,
            bounds=Bounds(low=1),
        ),
        Hyperparameter(
            name="alpha",
            description="Point to move back to, from the slow weights (0) to AdamW's weights (1).",
            unit="none",
            default=0.5,
            search=Range(low=0.2, high=0.8),
            source=(
                "0.5 is the default of pytorch_optimizer and the paper's value for ImageNet; the range is "
                "our choice"
            ),
            tuned=True,
            bounds=Bounds(low=0, low_open=True, high=1, high_open=True),
        ),
    ),
    pairs={"betas": ("beta1", "beta2")},
    per_group=("lr", "beta1", "beta2", "eps", "weight_decay"),
    contains=(
        Containment(
            optimizer="adamw",
            at={"k": 1_000_000_000},
            note=(
                "Any k above the number of steps gives AdamW. So would alpha = 1, but pytorch_optimizer "
                "rejects it."
            ),
        ),
    ),
)


def _build(groups: list[ParameterGroup], parameters: Parameters) -> Optimizer:
    # Imported on use, because pytorch_optimizer takes nearly a second to import.
    from pytorch_optimizer import Lookahead

    settings: dict[str, Any] = {**arguments(_LOOKAHEAD_ADAMW, parameters)}
    k, alpha = settings.pop("k"), settings.pop("alpha")
    return Lookahead(AdamW(groups, **settings), k=k, alpha=alpha)


ENTRIES: tuple[OptimizerEntry, ...] = (OptimizerEntry(_LOOKAHEAD_ADAMW, _build),)
