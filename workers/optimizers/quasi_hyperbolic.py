"""QHAdam and QHAdamW: Adam that mixes the current gradient into its moments before using them."""

__all__ = ["ENTRIES"]

from studies.catalog import Bounds, Containment, Hyperparameter, OptimizerCard
from studies.space import Range
from workers.optimizers import hyperparameters as h
from workers.optimizers.batched.adam import StackedQHAdam, StackedQHAdamW
from workers.optimizers.registry import OptimizerEntry, upstream

_PAPER = "Ma and Yarats, Quasi-hyperbolic momentum and Adam for deep learning, ICLR 2019, arXiv:1810.06801"
_ROUNDING = (
    "pytorch_optimizer keeps its averaging weights in float32, so in float64 the two agree to 1e-7 per step "
    "rather than to rounding."
)
_FORMULA = "((1 - nu1) * g + nu1 * m) / (sqrt((1 - nu2) * g^2 + nu2 * v) + eps)"


def _nu(number: int, of: str, *, is_tuned: bool, source: str) -> Hyperparameter:
    return Hyperparameter(
        name=f"nu{number}",
        description=f"Weight of the running mean against the current {of}; 1 is Adam, 0 has no memory.",
        unit="none",
        default=1.0,
        search=Range(low=0.5, high=1.0),
        source=source,
        tuned=is_tuned,
        bounds=Bounds(low=0, high=1),
    )


def _card(name: str, title: str, description: str, *, is_decoupled: bool) -> OptimizerCard:
    return OptimizerCard(
        name=name,
        title=title,
        description=(
            f"{description} The defaults are Adam's; the paper recommends nu1 0.7 with beta1 0.995."
        ),
        reference=_PAPER,
        import_line="from pytorch_optimizer import QHAdam",
        constructor="QHAdam",
        arguments={"weight_decouple": True} if is_decoupled else {},
        hyperparameters=(
            h.adam_lr(1e-3),
            h.beta1(),
            h.beta2(),
            _nu(
                1,
                "gradient",
                is_tuned=True,
                source="Ma and Yarats recommend 0.7; the range reaches Adam's 1, and goes about as far below",
            ),
            _nu(
                2,
                "squared gradient",
                is_tuned=False,
                source="Ma and Yarats recommend 1; the range mirrors nu1's",
            ),
            h.eps(),
            h.decoupled_decay(0.0) if is_decoupled else h.l2_decay(0.0),
        ),
        pairs={"betas": ("beta1", "beta2"), "nus": ("nu1", "nu2")},
        contains=(
            Containment(
                optimizer="adamw" if is_decoupled else "adam", at={"nu1": 1.0, "nu2": 1.0}, note=_ROUNDING
            ),
        ),
    )


ENTRIES: tuple[OptimizerEntry, ...] = (
    upstream(
        _card(
            "qhadam",
            "QHAdam",
            f"Adam that steps along {_FORMULA}; weight decay is an L2 penalty.",
            is_decoupled=False,
        ),
        "pytorch_optimizer",
        stacked=StackedQHAdam,
    ),
    upstream(
        _card(
            "qhadamw",
            "QHAdamW",
            f"AdamW that steps along {_FORMULA}; weight decay is decoupled.",
            is_decoupled=True,
        ),
        "pytorch_optimizer",
        stacked=StackedQHAdamW,
    ),
)
