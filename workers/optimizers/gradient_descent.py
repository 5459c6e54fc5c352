"""Stochastic gradient descent with momentum, heavy-ball and Nesterov."""

__all__ = ["ENTRIES"]

from studies.catalog import Bounds, OptimizerCard
from studies.space import Condition
from workers.optimizers import hyperparameters as h
from workers.optimizers.batched.sgd import StackedSGD
from workers.optimizers.registry import OptimizerEntry, upstream

_LR_SOURCE = (
    "AlgoPerf's Nesterov baseline searches 2e-2 to 5 at momentum 0.9; shifted down, because momentum up to "
    "0.99 multiplies the step by 100"
)

_SGD = OptimizerCard(
    name="sgd",
    title="SGD",
    description="Stochastic gradient descent with heavy-ball momentum. The default has no momentum.",
    reference=(
        "Sutskever et al., On the importance of initialization and momentum in deep "
        "learning, ICML 2013; torch.optim.SGD"
    ),
    import_line="from torch.optim import SGD",
    constructor="SGD",
    hyperparameters=(
        h.gradient_lr(1e-3, source=_LR_SOURCE),
        h.momentum(0.0),
        h.dampening(
            active_when=Condition(parameter="momentum", above=0),
            description=(
                "Fraction of each gradient, except the first, that does not enter the momentum buffer."
            ),
        ),
        h.l2_decay(0.0),
    ),
)

_SGD_NESTEROV = OptimizerCard(
    name="sgd-nesterov",
    title="SGD with Nesterov momentum",
    description=(
        "Stochastic gradient descent that looks one step ahead: it steps along g + momentum * buffer. SGD's "
        "default of no momentum is not legal here, so the first trial runs at 0.9."
    ),
    reference=(
        "Sutskever et al., On the importance of initialization and momentum in deep "
        "learning, ICML 2013; torch.optim.SGD"
    ),
    import_line="from torch.optim import SGD",
    constructor="SGD",
    arguments={"nesterov": True},
    hyperparameters=(
        h.gradient_lr(1e-3, source=_LR_SOURCE),
        h.momentum(0.9, bounds=Bounds(low=0, low_open=True, high=1, high_open=True)),
        h.l2_decay(0.0),
    ),
)

ENTRIES: tuple[OptimizerEntry, ...] = (
    upstream(_SGD, "torch.optim", stacked=StackedSGD),
    upstream(_SGD_NESTEROV, "torch.optim", stacked=StackedSGD),
)
