"""Adam with another order, another mean or another scale of its steps: ADOPT, AdEMAMix, MARS and Prodigy."""

__all__ = ["ENTRIES"]

from studies.catalog import Bounds, Hyperparameter, OptimizerCard
from studies.space import Choices, Range
from workers.optimizers import hyperparameters as h
from workers.optimizers.registry import OptimizerEntry, upstream

_BETAS = {"betas": ("beta1", "beta2")}
_OPEN_SHARE = Bounds(low=0, low_open=True, high=1, high_open=True)


def _clip_of(step: int) -> float:
    """Return ADOPT's bound on a normalised gradient; the paper counts steps from 0, `step` from 1."""
    return (step - 1) ** 0.25


_ADOPT = OptimizerCard(
    name="adopt",
    title="ADOPT",
    description=(
        "Adam that divides each gradient by the second moment of the steps before it, clips the quotient to "
        "t ** 0.25, and only then averages. The first step only sets the second moment. Weight decay is "
        "decoupled."
    ),
    reference=(
        "Taniguchi et al., ADOPT: Modified Adam Can Converge with Any beta2 with the Optimal Rate, NeurIPS "
        "2024, arXiv:2411.02853; iShohei220/adopt"
    ),
    import_line="from pytorch_optimizer import ADOPT",
    constructor="ADOPT",
    arguments={"weight_decouple": True},
    call=(
        "ADOPT({params:model.parameters()}, {args:lr betas eps weight_decay weight_decouple}, "
        "clip_lambda=lambda step: (step - 1) ** 0.25)"
    ),
    hyperparameters=(
        h.adam_lr(1e-3),
        h.beta1(),
        h.beta2(0.9999),
        h.eps(1e-6, high=1e-2, description="Smallest value of the square root of the second moment."),
        h.decoupled_decay(0.0),
    ),
    pairs=_BETAS,
    findings=(
        (
            "pytorch_optimizer 4.1 clips step t to (t + 1) ** 0.25, the paper and its authors' code to t ** "
            "0.25; this entry passes the paper's bound."
        ),
        "pytorch_optimizer 4.1 applies weight decay in the first step too, the authors' code does not.",
    ),
)

_ADEMAMIX = OptimizerCard(
    name="ademamix",
    title="AdEMAMix",
    description=(
        "AdamW that adds alpha times a second, very slow mean of the gradient to its direction. With "
        "t_alpha_beta3 above 1, alpha and the slow decay rate grow to their values over that number of steps."
    ),
    reference=(
        "Pagliardini, Ablin and Grangier, The AdEMAMix Optimizer: Better, Faster, Older, ICLR 2025, "
        "arXiv:2409.03137; apple/ml-ademamix"
    ),
    import_line="from pytorch_optimizer import AdEMAMix",
    constructor="AdEMAMix",
    arguments={"weight_decouple": True},
    hyperparameters=(
        h.adam_lr(1e-3),
        h.beta1(bounds=_OPEN_SHARE),
        h.beta2(),
        Hyperparameter(
            name="beta3",
            description="Decay rate of the slow mean of the gradient, per step.",
            unit="none",
            default=0.9999,
            search=Range(low=0.99, high=0.9999),
            source="the paper uses 0.999 to 0.9999; lower values suit runs of fewer steps",
            tuned=True,
            bounds=_OPEN_SHARE,
        ),
        Hyperparameter(
            name="alpha",
            description="Weight of the slow mean in the direction.",
            unit="none",
            default=5.0,
            search=Range(low=1.0, high=10.0),
            source="the paper: values from 4 to 10 work well, and smaller ones in short runs",
            tuned=True,
            bounds=Bounds(low=0),
        ),
        Hyperparameter(
            name="t_alpha_beta3",
            description="Steps over which alpha and beta3 grow to their values; 1 has no such warm-up.",
            unit="step",
            default=1,
            search=Range(low=100, high=10_000, log=True, integer=True),
            source="the paper uses the number of training steps; the range covers runs of these lengths",
            tuned=True,
            bounds=Bounds(low=1),
        ),
        h.eps(),
        h.decoupled_decay(0.0),
    ),
    pairs={"betas": ("beta1", "beta2", "beta3")},
)

_MARS = OptimizerCard(
    name="mars",
    title="MARS (AdamW)",
    description=(
        "AdamW on gradients corrected by gamma * beta1 / (1 - beta1) times their change since the last step, "
        "each weight tensor's clipped to norm 1. This is the approximate variant, which takes the last "
        "step's gradient as it was."
    ),
    reference=(
        "Yuan et al., MARS: Unleashing the Power of Variance Reduction for Training Large Models, ICML 2025, "
        "arXiv:2411.10438; AGI-Arena/MARS"
    ),
    import_line="from pytorch_optimizer import MARS",
    constructor="MARS",
    # Else vectors are stepped by AdamW with a weight decay of its own, 0.1, whatever the study sets.
    arguments={"optimize_1d": True},
    hyperparameters=(
        h.adam_lr(3e-3),
        h.beta1(0.95),
        h.beta2(0.99),
        Hyperparameter(
            name="gamma",
            description="Strength of the correction; 0 has none.",
            unit="none",
            default=0.025,
            search=Range(low=1e-3, high=0.1, log=True),
            source="the paper uses 0.025 for language models; more than half a decade above, one below",
            tuned=True,
            bounds=Bounds(low=0),
        ),
        h.eps(),
        h.decoupled_decay(0.0),
    ),
    pairs=_BETAS,
    findings=(
        (
            "pytorch_optimizer 4.1 adds eps before the bias correction of the second moment, the authors' "
            "code after it, and 1e-15 to the second moment before its square root, so that eps is at least "
            "3e-8. Both matter only where gradients are about as small as eps."
        ),
        (
            "By default pytorch_optimizer and the authors' code step biases and norms by AdamW with the "
            "weight decay 0.1, even where a study sets none; this entry steps all parameters by MARS."
        ),
    ),
)

_PRODIGY = OptimizerCard(
    name="prodigy",
    title="Prodigy",
    description=(
        "AdamW that estimates its own step size d from the distance that the weights have moved; lr "
        "multiplies it and stays at 1, which schedules scale. d is one number for all parameters and grows "
        "from d0."
    ),
    reference=(
        "Mishchenko and Defazio, Prodigy: An Expeditiously Adaptive Parameter-Free Learner, ICML 2024, "
        "arXiv:2306.06101; konstmish/prodigy"
    ),
    import_line="from pytorch_optimizer import Prodigy",
    constructor="Prodigy",
    hyperparameters=(
        Hyperparameter(
            name="lr",
            description="Factor of the estimated step size; the authors advise to leave it at 1.",
            unit="none",
            default=1.0,
            search=Range(low=0.1, high=10.0, log=True),
            source="README of konstmish/prodigy: 1; a decade on both sides",
            tuned=False,
            bounds=Bounds(low=0, low_open=True),
        ),
        Hyperparameter(
            name="d_coef",
            description="Factor of the estimate of d: the way to ask for larger or smaller steps.",
            unit="none",
            default=1.0,
            search=Range(low=0.1, high=10.0, log=True),
            source="README of konstmish/prodigy advises 0.5 to 2, and knows uses from 0.1 to 10",
            tuned=True,
            bounds=Bounds(low=0, low_open=True),
        ),
        h.beta1(),
        h.beta2(),
        Hyperparameter(
            name="d0",
            description="First estimate of d.",
            unit="weight per step",
            default=1e-6,
            search=Range(low=1e-8, high=1e-4, log=True),
            source="1e-6 in the paper, which finds no effect of it; two decades on both sides",
            tuned=False,
            bounds=Bounds(low=0, low_open=True),
        ),
        Hyperparameter(
            name="bias_correction",
            description="Adam's bias correction, which the paper leaves out.",
            unit="none",
            default=False,
            search=Choices(choices=(False, True)),
            source="a switch; README of konstmish/prodigy turns it on for diffusion models",
            tuned=False,
        ),
        h.eps(),
        h.decoupled_decay(
            0.0, formula="w *= 1 - d * lr * weight_decay, separately from the gradient", low=1e-3, high=1.0
        ),
    ),
    pairs=_BETAS,
    findings=(
        "The estimate of d is kept in float32, so that float64 weights follow the paper to 1e-6 only.",
    ),
)

ENTRIES: tuple[OptimizerEntry, ...] = (
    upstream(_ADOPT, "pytorch_optimizer", fixed={"clip_lambda": _clip_of}),
    upstream(_ADEMAMIX, "pytorch_optimizer"),
    upstream(_MARS, "pytorch_optimizer"),
    upstream(_PRODIGY, "pytorch_optimizer", shared=("lr", "d_coef", "beta1", "beta2", "d0")),
)
