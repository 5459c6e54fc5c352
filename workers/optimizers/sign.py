"""Lion: steps of one size in every coordinate."""

__all__ = ["ENTRIES"]

from studies.catalog import OptimizerCard
from workers.optimizers import hyperparameters as h
from workers.optimizers.registry import OptimizerEntry, upstream

_LION = OptimizerCard(
    name="lion",
    title="Lion",
    description=(
        "Steps along the sign of a mix of momentum and gradient: every weight moves by "
        "exactly lr. Weight decay is decoupled."
    ),
    reference="Chen et al., Symbolic Discovery of Optimization Algorithms, NeurIPS 2023, arXiv:2302.06675",
    import_line="from pytorch_optimizer import Lion",
    constructor="Lion",
    hyperparameters=(
        h.adam_lr(
            1e-4,
            low=1e-5,
            high=1e-2,
            source="AdamW's range a decade down: Chen et al. advise 3 to 10 times less than AdamW",
        ),
        h.beta1(
            description="Weight of the momentum, against the gradient, in the direction whose sign is taken."
        ),
        h.beta2(0.99, description="How much of the momentum is kept at each step."),
        h.decoupled_decay(
            0.0,
            low=1e-2,
            high=1e1,
            source="AdamW's range a decade up: Chen et al. advise 3 to 10 times more than AdamW",
        ),
    ),
    pairs={"betas": ("beta1", "beta2")},
)

ENTRIES: tuple[OptimizerEntry, ...] = (upstream(_LION, "pytorch_optimizer"),)
