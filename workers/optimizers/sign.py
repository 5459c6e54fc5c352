"""Lion: steps of the same size in every coordinate."""

__all__ = ["ENTRIES"]

from studies.catalog import OptimizerCard
from workers.optimizers import hyperparameters as h
from workers.optimizers.registry import OptimizerEntry, upstream

_LION = OptimizerCard(
    name="lion",
    title="Lion",
    description=(
        "Steps along the sign of a mix of momentum and gradient, so every weight moves by exactly lr. Weight "
        "decay is decoupled."
    ),
    reference="Chen et al., Symbolic Discovery of Optimization Algorithms, NeurIPS 2023, arXiv:2302.06675",
    import_line="from pytorch_optimizer import Lion",
    constructor="Lion",
    hyperparameters=(
        h.adam_lr(
            1e-4,
            low=1e-5,
            high=1e-2,
            source="AdamW's range, one decade lower: Chen et al. advise 3 to 10 times less than AdamW",
        ),
        h.beta1(
            description=(
                "Weight of the momentum, relative to the gradient, in the direction whose sign is taken."
            )
        ),
        h.beta2(0.99, description="Decay rate of the momentum, per step."),
        h.decoupled_decay(
            0.0,
            low=1e-2,
            high=1e1,
            source="AdamW's range, one decade higher: Chen et al. advise 3 to 10 times more than AdamW",
        ),
    ),
    pairs={"betas": ("beta1", "beta2")},
)

ENTRIES: tuple[OptimizerEntry, ...] = (upstream(_LION, "pytorch_optimizer"),)
