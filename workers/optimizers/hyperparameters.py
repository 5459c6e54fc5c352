"""Hyperparameters that many optimizers share, each with one description, unit, legal range and search range.

Search ranges are those that the field usually uses, unless an optimizer overrides them.

Sources: "AlgoPerf" is the search spaces of mlcommons/algorithmic-efficiency, `algorithms/paper_baselines` and
`archived_paper_baselines`; "AdamP paper" is Heo et al., ICLR 2021 (arXiv:2006.08217).
"""

__all__ = [
    "adam_lr",
    "beta1",
    "beta2",
    "dampening",
    "decoupled_decay",
    "delta",
    "eps",
    "gradient_lr",
    "l2_decay",
    "momentum",
    "nesterov",
    "wd_ratio",
]

from studies.catalog import Bounds, Hyperparameter
from studies.space import Choices, Condition, Range

_POSITIVE = Bounds(low=0, low_open=True)
_NOT_NEGATIVE = Bounds(low=0)
_SHARE = Bounds(low=0, high=1, high_open=True)

_ALGOPERF_ADAM_LR = (
    "AlgoPerf's AdamW, NAdamW and Adafactor baselines search 1e-4 to 1e-2; one decade more for small models"
)
_BETA_SOURCE = (
    "AlgoPerf's AdamW and NAdamW baselines keep beta2 at 0.999 and search 1 - beta1 from 0.004 to 0.1 for "
    "NAdamW; this range is wider on both sides"
)


def adam_lr(
    default: float, *, low: float = 1e-4, high: float = 1e-1, source: str = _ALGOPERF_ADAM_LR, note: str = ""
) -> Hyperparameter:
    """Return the learning rate of an optimizer that normalises gradients: about a weight's step."""
    return Hyperparameter(
        name="lr",
        description=(
            "Learning rate: approximate distance that a weight moves in one step, for a gradient of any size."
        )
        + note,
        unit="weight per step",
        default=default,
        search=Range(low=low, high=high, log=True),
        source=source,
        tuned=True,
        bounds=_POSITIVE,
    )


def gradient_lr(
    default: float, *, low: float = 1e-3, high: float = 1.0, source: str, note: str = ""
) -> Hyperparameter:
    """Return the learning rate of an optimizer that steps in proportion to the gradient."""
    return Hyperparameter(
        name="lr",
        description="Learning rate: step length per unit of gradient." + note,
        unit="weight per gradient",
        default=default,
        search=Range(low=low, high=high, log=True),
        source=source,
        tuned=True,
        bounds=_POSITIVE,
    )


def decoupled_decay(
    default: float,
    *,
    formula: str = "w *= 1 - lr * weight_decay, separately from the gradient",
    low: float = 1e-3,
    high: float = 1.0,
    source: str = "AlgoPerf's Adafactor baseline searches 1e-3 to 1, its AdamW and NAdamW 5e-3 to 1",
) -> Hyperparameter:
    """Return weight decay in the AdamW convention (Loshchilov and Hutter, ICLR 2019)."""
    return Hyperparameter(
        name="weight_decay",
        description=f"Decoupled weight decay: {formula}.",
        unit="fraction of the weight per step, per lr",
        default=default,
        search=Range(low=low, high=high, log=True),
        source=source,
        tuned=True,
        bounds=_NOT_NEGATIVE,
    )


def l2_decay(
    default: float,
    *,
    low: float = 1e-6,
    high: float = 1e-2,
    source: str = (
        "AlgoPerf's Nesterov baseline searches 1e-7 to 5e-5; shifted up to include the usual 1e-4 and 5e-4"
    ),
) -> Hyperparameter:
    """Return weight decay as an L2 penalty."""
    return Hyperparameter(
        name="weight_decay",
        description=("L2 penalty: adds weight_decay * w to the gradient, before momentum and normalisation."),
        unit="gradient per weight",
        default=default,
        search=Range(low=low, high=high, log=True),
        source=source,
        tuned=True,
        bounds=_NOT_NEGATIVE,
    )


def beta1(
    default: float = 0.9,
    *,
    bounds: Bounds = _SHARE,
    description: str = "Decay rate of the running mean of the gradient, per step.",
) -> Hyperparameter:
    """Return the decay rate of the first moment."""
    return Hyperparameter(
        name="beta1",
        description=description,
        unit="none",
        default=default,
        search=Range(low=0.8, high=0.99),
        source=_BETA_SOURCE,
        tuned=False,
        bounds=bounds,
    )


def beta2(
    default: float = 0.999,
    *,
    description: str = "Decay rate of the running mean of the squared gradient, per step.",
) -> Hyperparameter:
    """Return the decay rate of the second moment."""
    return Hyperparameter(
        name="beta2",
        description=description,
        unit="none",
        default=default,
        search=Range(low=0.9, high=0.9999),
        source=_BETA_SOURCE,
        tuned=False,
        bounds=_SHARE,
    )


def eps(
    default: float = 1e-8,
    *,
    low: float = 1e-10,
    high: float = 1e-3,
    description: str = "Added to the square root of the second moment.",
) -> Hyperparameter:
    """Return the small constant that keeps a division finite."""
    return Hyperparameter(
        name="eps",
        description=description,
        unit="gradient",
        default=default,
        search=Range(low=low, high=high, log=True),
        source=(
            "Choi et al. 2019 (arXiv:1910.05446): eps matters and should be tuned over several decades; the "
            "range is our choice"
        ),
        tuned=False,
        bounds=_POSITIVE,
    )


def momentum(
    default: float,
    *,
    bounds: Bounds = _SHARE,
    tuned: bool = True,
    description: str = "Decay rate of the momentum buffer, per step.",
) -> Hyperparameter:
    """Return the decay rate of a momentum buffer."""
    return Hyperparameter(
        name="momentum",
        description=description,
        unit="none",
        default=default,
        search=Range(low=0.8, high=0.99),
        source=(
            "AlgoPerf's Nesterov baseline and the AdamP paper use 0.9; 0.8 to 0.99 average over 5 to 100 "
            "steps"
        ),
        tuned=tuned,
        bounds=bounds,
    )


def dampening(*, active_when: Condition | None, description: str) -> Hyperparameter:
    """Return the fraction of the gradient that does not enter the momentum buffer."""
    return Hyperparameter(
        name="dampening",
        description=description,
        unit="none",
        default=0.0,
        search=Range(low=0.0, high=0.9),
        source="torch.optim.SGD has it; it is rarely set, so the range is our choice",
        tuned=False,
        bounds=_SHARE,
        active_when=active_when,
    )


def nesterov(
    *,
    default: bool = False,
    tuned: bool,
    description: str,
    source: str = "a switch; the AdamP paper recommends it for SGDP, and its code leaves it off by default",
) -> Hyperparameter:
    """Return the switch of Nesterov momentum."""
    return Hyperparameter(
        name="nesterov",
        description=description,
        unit="none",
        default=default,
        search=Choices(choices=(False, True)),
        source=source,
        tuned=tuned,
    )


def delta() -> Hyperparameter:
    """Return AdamP's threshold."""
    return Hyperparameter(
        name="delta",
        description=(
            "A weight counts as scale-invariant, and its update is projected, if |cos(gradient, weight)| "
            "< delta / sqrt(n); 0 never projects."
        ),
        unit="cosine of two random directions, 1 / sqrt(n)",
        default=0.1,
        search=Range(low=1e-3, high=1.0, log=True),
        source=(
            "AdamP paper: 0.1 throughout. Our range: at 1e-3 almost only scale-invariant weights qualify, at "
            "1 two thirds of random gradients do"
        ),
        tuned=True,
        bounds=_NOT_NEGATIVE,
    )


def wd_ratio() -> Hyperparameter:
    """Return the fraction of weight decay that applies to projected weights."""
    return Hyperparameter(
        name="wd_ratio",
        description="Fraction of the weight decay that is applied to projected weights.",
        unit="none",
        default=0.1,
        search=Range(low=1e-2, high=1.0, log=True),
        source="AdamP paper: 0.1 throughout; the range is 1 % to 100 % of the decay",
        tuned=True,
        bounds=Bounds(low=0, high=1),
        active_when=Condition(parameter="weight_decay", above=0),
    )
