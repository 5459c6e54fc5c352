"""AdamP and SGDP: momentum optimizers that remove the radial part of steps on scale-invariant weights."""

__all__ = ["ENTRIES"]

from studies.catalog import Constraint, Containment, OptimizerCard
from workers.optimizers import hyperparameters as h
from workers.optimizers.batched.adam import StackedAdamP
from workers.optimizers.batched.sgd import StackedSGDP
from workers.optimizers.registry import OptimizerEntry, upstream

_PAPER = (
    "Heo et al., AdamP: Slowing Down the Slowdown for Momentum Optimizers on Scale-invariant "
    "Weights, ICLR 2021, arXiv:2006.08217"
)

_ADAMP = OptimizerCard(
    name="adamp",
    title="AdamP",
    description=(
        "AdamW that removes the radial part of its steps on weights whose gradient is nearly orthogonal to "
        "them, and scales their weight decay by wd_ratio."
    ),
    reference=_PAPER,
    import_line="from adamp import AdamP",
    constructor="AdamP",
    hyperparameters=(
        h.adam_lr(1e-3),
        h.beta1(),
        h.beta2(),
        h.eps(
            description=(
                "Added to the square root of the second moment, and to the norms that the projection divides "
                "by."
            )
        ),
        h.decoupled_decay(
            0.0,
            formula=(
                "w *= 1 - lr * weight_decay * f, separately from the gradient; f is wd_ratio for a projected "
                "weight, else 1"
            ),
            source=(
                "AdamP paper: 1e-2 recommended, 0.1 in AdamW's convention on ImageNet; AlgoPerf's "
                "Adafactor baseline searches 1e-3 to 1"
            ),
        ),
        h.delta(),
        h.wd_ratio(),
        h.nesterov(tuned=True, description="Step along beta1 * m + (1 - beta1) * g instead of m."),
    ),
    pairs={"betas": ("beta1", "beta2")},
    contains=(Containment(optimizer="adamw", at={"delta": 0.0, "nesterov": False}),),
)

_SGDP = OptimizerCard(
    name="sgdp",
    title="SGDP",
    description=(
        "SGD with momentum that removes the radial part of its steps on weights whose gradient is nearly "
        "orthogonal to them. The default has no momentum; the paper uses Nesterov momentum 0.9 and weight "
        "decay 1e-5."
    ),
    reference=_PAPER,
    import_line="from adamp import SGDP",
    constructor="SGDP",
    hyperparameters=(
        h.gradient_lr(
            0.1,
            source="AdamP paper: 0.1 recommended; one decade above and two below",
            note=" The constructor has no default; 0.1 is the paper's value.",
        ),
        h.momentum(0.0),
        h.dampening(
            active_when=None,
            description=(
                "Fraction of each gradient, the first included, that does not enter the momentum buffer."
            ),
        ),
        h.decoupled_decay(
            0.0,
            formula=(
                "w *= 1 - lr * weight_decay * f / (1 - momentum), separately from the gradient; f is "
                "wd_ratio for a projected weight, else 1"
            ),
            low=1e-6,
            high=1e-2,
            source=(
                "AdamP paper: 1e-5 recommended; the range is that of SGD's L2 penalty, which decays as fast "
                "per step"
            ),
        ),
        h.nesterov(tuned=True, description="Step along g + momentum * buffer instead of the buffer."),
        h.eps(description="Added to the norms that the projection divides by."),
        h.delta(),
        h.wd_ratio(),
    ),
    contains=(
        Containment(
            optimizer="sgd",
            at={"delta": 0.0, "weight_decay": 0.0, "dampening": 0.0, "nesterov": False},
            requires={"weight_decay": 0.0, "dampening": 0.0},
            note="SGDP decouples weight decay and dampens the first gradient; SGD does neither.",
        ),
        Containment(
            optimizer="sgd-nesterov",
            at={"delta": 0.0, "weight_decay": 0.0, "dampening": 0.0, "nesterov": True},
            requires={"weight_decay": 0.0},
            note="SGDP decouples weight decay; SGD adds it to the gradient.",
        ),
    ),
    constraints=(
        Constraint(
            product=("lr", "weight_decay"),
            below_one_minus="momentum",
            reason=(
                "weight decay multiplies the weights by 1 - lr * weight_decay / (1 - momentum), which must "
                "stay above 0"
            ),
        ),
    ),
)

ENTRIES: tuple[OptimizerEntry, ...] = (
    upstream(_ADAMP, "adamp", stacked=StackedAdamP),
    upstream(_SGDP, "adamp", stacked=StackedSGDP),
)
