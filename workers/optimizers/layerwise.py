"""LAMB and LARS: Adam and SGD with steps scaled to the norm of each weight."""

__all__ = ["ENTRIES"]

from studies.catalog import Bounds, Hyperparameter, OptimizerCard
from studies.space import Condition, Range
from workers.optimizers import hyperparameters as h
from workers.optimizers.registry import OptimizerEntry, upstream

_LAMB = OptimizerCard(
    name="lamb",
    title="LAMB",
    description=(
        "Adam without bias correction, whose step on each weight tensor, decay included, has norm lr times "
        "the weight's norm. As in pytorch_optimizer, norms above 10 count as 10."
    ),
    reference=(
        "You et al., Large Batch Optimization for Deep Learning: Training BERT in 76 minutes, ICLR "
        "2020, arXiv:1904.00962 (version 3)"
    ),
    import_line="from pytorch_optimizer import Lamb",
    constructor="Lamb",
    # The defaults of pytorch_optimizer apply decay outside the trust ratio and divide lr by 1 - beta1^t,
    # which makes the first step ten times lr * |w|.
    arguments={"weight_decouple": False, "adam_debias": True},
    hyperparameters=(
        Hyperparameter(
            name="lr",
            description=(
                "Learning rate: the change of a whole weight tensor in one step, relative to its norm."
            ),
            unit="fraction of the weight's norm per step",
            default=1e-3,
            search=Range(low=1e-4, high=1e-1, log=True),
            source=(
                "You et al. use 6e-4 to 5e-3 for BERT, growing with the batch size; rounded outwards, and "
                "one decade more at the top"
            ),
            tuned=True,
            bounds=Bounds(low=0, low_open=True),
        ),
        h.beta1(),
        h.beta2(),
        h.eps(1e-6, low=1e-8),
        h.decoupled_decay(
            0.0,
            formula=("adds weight_decay * w to Adam's direction before both are scaled to the weight's norm"),
            source="You et al. use 0.01; AlgoPerf's Adafactor baseline searches 1e-3 to 1",
        ),
    ),
    pairs={"betas": ("beta1", "beta2")},
)

_LARS = OptimizerCard(
    name="lars",
    title="LARS",
    description=(
        "SGD with momentum, where the gradient of each weight of two or more dimensions is scaled to "
        "trust_coefficient times the weight's norm. Biases and norm layers use plain momentum SGD without "
        "weight decay."
    ),
    reference=(
        "You, Gitman and Ginsburg, Large Batch Training of Convolutional Networks, 2017, arXiv:1708.03888"
    ),
    import_line="from pytorch_optimizer import LARS",
    constructor="LARS",
    hyperparameters=(
        h.gradient_lr(
            1e-3,
            low=1e-2,
            high=1e1,
            source=(
                "our choice: relative steps of 1e-4 to 1e-1 at momentum 0.9 and the usual trust_coefficient"
            ),
            note=(
                " On matrices and convolutions, a step changes the weight by lr * trust_coefficient / (1 - "
                "momentum) of its norm."
            ),
        ),
        h.momentum(0.9),
        h.dampening(
            active_when=Condition(parameter="momentum", above=0),
            description="Fraction of each gradient that does not enter the momentum buffer.",
        ),
        h.l2_decay(0.0, source="You et al. use 5e-4; the range is that of SGD's penalty"),
        Hyperparameter(
            name="trust_coefficient",
            description="Norm of a scaled gradient relative to its weight's norm.",
            unit="fraction of the weight's norm per step, per lr",
            default=1e-3,
            search=Range(low=1e-4, high=1e-1, log=True),
            source="You et al. use 1e-3; it multiplies lr, so tuning both helps only if biases matter",
            tuned=False,
            bounds=Bounds(low=0, low_open=True),
        ),
        h.nesterov(
            tuned=False,
            source="a switch",
            description="Step along g + momentum * buffer instead of the buffer.",
        ),
    ),
)

ENTRIES: tuple[OptimizerEntry, ...] = (
    upstream(_LAMB, "pytorch_optimizer"),
    upstream(_LARS, "pytorch_optimizer"),
)
