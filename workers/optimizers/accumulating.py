"""Optimizers without momentum that scale by accumulated squared gradients: Adagrad and Adafactor."""

__all__ = ["ENTRIES"]

from studies.catalog import Bounds, Hyperparameter, OptimizerCard
from studies.space import Range
from workers.optimizers import hyperparameters as h
from workers.optimizers.registry import OptimizerEntry, upstream

_ADAGRAD = OptimizerCard(
    name="adagrad",
    title="Adagrad",
    description=(
        "Divides each gradient by the square root of the sum of all its squares so far, so that steps shrink "
        "over time."
    ),
    reference=(
        "Duchi, Hazan and Singer, Adaptive Subgradient Methods for Online Learning and "
        "Stochastic Optimization, JMLR 2011"
    ),
    import_line="from torch.optim import Adagrad",
    constructor="Adagrad",
    hyperparameters=(
        h.adam_lr(
            1e-2,
            low=1e-3,
            high=1.0,
            source="torch's default is 1e-2; one decade below and two above, because steps only shrink",
        ),
        Hyperparameter(
            name="lr_decay",
            description=(
                "The learning rate at step t is lr / (1 + (t - 1) * lr_decay), in addition to Adagrad's own "
                "shrinking."
            ),
            unit="per step",
            default=0.0,
            search=Range(low=1e-5, high=1e-1, log=True),
            source="torch.optim.Adagrad has it; the range is our choice",
            tuned=False,
            bounds=Bounds(low=0),
        ),
        h.l2_decay(0.0),
        Hyperparameter(
            name="initial_accumulator_value",
            description="Initial value of the sum of squared gradients.",
            unit="squared gradient",
            default=0.0,
            search=Range(low=1e-4, high=1.0, log=True),
            source="TensorFlow starts at 0.1, torch at 0; the range spans decades around 0.1",
            tuned=False,
            bounds=Bounds(low=0),
        ),
        h.eps(1e-10, description="Added to the square root of the sum of squared gradients."),
    ),
)

_ADAFACTOR = OptimizerCard(
    name="adafactor",
    title="Adafactor",
    description=(
        "Keeps row and column means of the squared gradients instead of every value, has no momentum, and "
        "scales steps by the size of the weights. In torch lr is an upper bound: the rate at step t is "
        "min(lr, 1 / sqrt(t))."
    ),
    reference=(
        "Shazeer and Stern, Adafactor: Adaptive Learning Rates with Sublinear Memory Cost, ICML 2018, "
        "arXiv:1804.04235; torch.optim.Adafactor"
    ),
    import_line="from torch.optim import Adafactor",
    constructor="Adafactor",
    hyperparameters=(
        Hyperparameter(
            name="lr",
            description=(
                "Learning rate: upper bound of the relative change of a weight in one step, approximately."
            ),
            unit="fraction of the weight's RMS per step",
            default=1e-2,
            search=Range(low=1e-4, high=1e-1, log=True),
            source=(
                "the paper's cap is 1e-2, AlgoPerf's Adafactor baseline searches 1e-4 to 1e-2; one decade "
                "more for small models"
            ),
            tuned=True,
            bounds=Bounds(low=0, low_open=True),
        ),
        Hyperparameter(
            name="beta2_decay",
            description="Sets the decay rate of the second moment, 1 - t ** beta2_decay at step t.",
            unit="none",
            default=-0.8,
            search=Range(low=-1.0, high=-0.5),
            source="the paper uses -0.8 and studies -0.5 to -1",
            tuned=False,
            bounds=Bounds(high=0),
        ),
        Hyperparameter(
            name="d",
            description="Updates whose root mean square exceeds this are scaled down to it.",
            unit="none",
            default=1.0,
            search=Range(low=1.0, high=4.0),
            source="the paper uses 1, which is also torch's minimum",
            tuned=False,
            bounds=Bounds(low=1),
        ),
        h.decoupled_decay(0.0, source="AlgoPerf's Adafactor baseline searches 1e-3 to 1"),
    ),
)

ENTRIES: tuple[OptimizerEntry, ...] = (
    upstream(_ADAGRAD, "torch.optim", shared=("initial_accumulator_value",)),
    upstream(_ADAFACTOR, "torch.optim"),
)
