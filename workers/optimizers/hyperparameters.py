"""Hyperparameters that many optimizers share.

One wording, unit and legal range for each, with the field's usual range unless told otherwise.

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
    "AlgoPerf's AdamW, NAdamW and Adafactor baselines search 1e-4 to 1e-2; a decade on top, for small models"
)
_BETA_SOURCE = (
    "AlgoPerf's AdamW and NAdamW baselines keep beta2 at 0.999 and search 1 - beta1 from 0.004 to 0.1 for "
    "NAdamW; wider here on both sides"
)


def adam_lr(
    default: float, *, low: float = 1e-4, high: float = 1e-1, source: str = _ALGOPERF_ADAM_LR, note: str = ""
) -> Hyperparameter:
    """Return the learning rate of an optimizer that normalises its gradients.

    About the change of a weight in one step.
    """
    return Hyperparameter(
        name="lr",
        description=(
            "Learning rate: about how far a weight moves in one step, whatever the size of its gradient."
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
    formula: str = "w *= 1 - lr * weight_decay, apart from the gradient",
    low: float = 1e-3,
    high: float = 1.0,
    source: str = "AlgoPerf's Adafactor baseline searches 1e-3 to 1, its AdamW and NAdamW 5e-3 to 1",
) -> Hyperparameter:
    """Return weight decay in the AdamW convention (Loshchilov and Hutter, ICLR 2019)."""
    return Hyperparameter(
        name="weight_decay",
        description=f"Decoupled weight decay: {formula}.",
        unit="share of the weight per step, per lr",
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
        "AlgoPerf's Nesterov baseline searches 1e-7 to 5e-5; shifted up to hold the usual 1e-4 and 5e-4"
    ),
) -> Hyperparameter:
    """Return weight decay as an L2 penalty."""
    return Hyperparameter(
        name="weight_decay",
        description=(
            "L2 penalty: weight_decay * w is added to the gradient, before momentum and normalisation."
        ),
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
    description: str = "How much of the gradient's running mean is kept at each step.",
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
    description: str = "How much of the squared gradient's running mean is kept at each step.",
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
    description: str = "Added to the root of the second moment.",
) -> Hyperparameter:
    """Return the small number that keeps a division finite."""
    return Hyperparameter(
        name="eps",
        description=description,
        unit="gradient",
        default=default,
        search=Range(low=low, high=high, log=True),
        source=(
            "Choi et al. 2019 (arXiv:1910.05446): eps matters and should be tuned over "
            "decades; the decades are our choice"
        ),
        tuned=False,
        bounds=_POSITIVE,
    )


def momentum(
    default: float,
    *,
    bounds: Bounds = _SHARE,
    tuned: bool = True,
    description: str = "How much of the momentum buffer is kept at each step.",
) -> Hyperparameter:
    """Return the decay rate of a momentum buffer."""
    return Hyperparameter(
        name="momentum",
        description=description,
        unit="none",
        default=default,
        search=Range(low=0.8, high=0.99),
        source=(
            "AlgoPerf's Nesterov baseline and the AdamP paper use 0.9; 0.8 to "
            "0.99 averages over 5 to 100 steps"
        ),
        tuned=tuned,
        bounds=bounds,
    )


def dampening(*, active_when: Condition | None, description: str) -> Hyperparameter:
    """Return the share of the gradient that is kept out of the momentum buffer."""
    return Hyperparameter(
        name="dampening",
        description=description,
        unit="none",
        default=0.0,
        search=Range(low=0.0, high=0.9),
        source="torch.optim.SGD has it; hardly anyone sets it, so the range is our choice",
        tuned=False,
        bounds=_SHARE,
        active_when=active_when,
    )


def nesterov(
    *,
    default: bool = False,
    tuned: bool,
    description: str,
    source: str = "a switch: the AdamP paper recommends it for SGDP, the code leaves it off by default",
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
            "A weight counts as scale-invariant, and its update is projected, when |cos(gradient, weight)| "
            "< delta / sqrt(n); 0 never projects."
        ),
        unit="cosine of two random directions, 1 / sqrt(n)",
        default=0.1,
        search=Range(low=1e-3, high=1.0, log=True),
        source=(
            "AdamP paper: 0.1 throughout. Our range: at 1e-3 hardly anything but scale-invariant weights "
            "qualifies, at 1 two of three random gradients do"
        ),
        tuned=True,
        bounds=_NOT_NEGATIVE,
    )


def wd_ratio() -> Hyperparameter:
    """Return the share of weight decay that projected weights keep."""
    return Hyperparameter(
        name="wd_ratio",
        description="Share of the weight decay that a projected weight gets.",
        unit="none",
        default=0.1,
        search=Range(low=1e-2, high=1.0, log=True),
        source="AdamP paper: 0.1 throughout; from a hundredth to all of the decay",
        tuned=True,
        bounds=Bounds(low=0, high=1),
        active_when=Condition(parameter="weight_decay", above=0),
    )
