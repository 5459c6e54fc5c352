"""AdaBelief: Adam that takes larger steps when the gradient is close to its running mean."""

__all__ = ["ENTRIES"]

from studies.catalog import OptimizerCard
from workers.optimizers import hyperparameters as h
from workers.optimizers.registry import OptimizerEntry, upstream

_ADABELIEF = OptimizerCard(
    name="adabelief",
    title="AdaBelief",
    description=(
        "AdamW whose second moment is that of the gradient's deviation from its running mean. Weight decay "
        "is decoupled; there is no rectification."
    ),
    reference=(
        "Zhuang et al., AdaBelief Optimizer: Adapting Stepsizes by the Belief in Observed "
        "Gradients, NeurIPS 2020, arXiv:2010.07468"
    ),
    import_line="from pytorch_optimizer import AdaBelief",
    constructor="AdaBelief",
    hyperparameters=(
        h.adam_lr(1e-3),
        h.beta1(),
        h.beta2(description="Decay rate of the running mean of squared deviations, per step."),
        h.eps(
            1e-16,
            low=1e-16,
            high=1e-8,
            description="Added to the mean squared deviation at each step, and to its square root.",
        ),
        h.decoupled_decay(0.0),
    ),
    pairs={"betas": ("beta1", "beta2")},
)

ENTRIES: tuple[OptimizerEntry, ...] = (upstream(_ADABELIEF, "pytorch_optimizer"),)
