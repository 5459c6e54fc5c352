"""Adam and its closest relatives in torch: AdamW, NAdam, NAdamW and RAdam."""

__all__ = ["ENTRIES"]

from studies.catalog import Bounds, Containment, Hyperparameter, OptimizerCard
from studies.space import Range
from workers.optimizers import hyperparameters as h
from workers.optimizers.batched.adam import StackedAdam, StackedAdamW
from workers.optimizers.registry import OptimizerEntry, upstream

_BETAS = {"betas": ("beta1", "beta2")}

_ADAM = OptimizerCard(
    name="adam",
    title="Adam",
    description=(
        "Steps along the running mean of the gradient divided by the square root of the running mean of its "
        "square. Weight decay is an L2 penalty."
    ),
    reference="Kingma and Ba, Adam: A Method for Stochastic Optimization, ICLR 2015, arXiv:1412.6980",
    import_line="from torch.optim import Adam",
    constructor="Adam",
    hyperparameters=(h.adam_lr(1e-3), h.beta1(), h.beta2(), h.eps(), h.l2_decay(0.0)),
    pairs=_BETAS,
    contains=(Containment(optimizer="adamw", at={"weight_decay": 0.0}, requires={"weight_decay": 0.0}),),
)

_ADAMW = OptimizerCard(
    name="adamw",
    title="AdamW",
    description="Adam with decoupled weight decay.",
    reference="Loshchilov and Hutter, Decoupled Weight Decay Regularization, ICLR 2019, arXiv:1711.05101",
    import_line="from torch.optim import AdamW",
    constructor="AdamW",
    hyperparameters=(h.adam_lr(1e-3), h.beta1(), h.beta2(), h.eps(), h.decoupled_decay(1e-2)),
    pairs=_BETAS,
    contains=(Containment(optimizer="adam", at={"weight_decay": 0.0}, requires={"weight_decay": 0.0}),),
)

_MOMENTUM_DECAY = Hyperparameter(
    name="momentum_decay",
    description=(
        "Growth rate of the momentum, which at step t is beta1 * (1 - 0.5 * 0.96 ** (t * momentum_decay))."
    ),
    unit="per step",
    default=4e-3,
    search=Range(low=1e-4, high=1e-1, log=True),
    source="Dozat 2016 and torch use 4e-3; the range adds more than a decade on both sides",
    tuned=False,
    bounds=Bounds(low=0),
)

_NADAM = OptimizerCard(
    name="nadam",
    title="NAdam",
    description=(
        "Adam with Nesterov momentum, whose beta1 warms up as set by momentum_decay. Weight decay is an L2 "
        "penalty."
    ),
    reference="Dozat, Incorporating Nesterov Momentum into Adam, ICLR 2016 workshop; torch.optim.NAdam",
    import_line="from torch.optim import NAdam",
    constructor="NAdam",
    hyperparameters=(
        h.adam_lr(2e-3),
        h.beta1(),
        h.beta2(),
        h.eps(),
        h.l2_decay(0.0),
        _MOMENTUM_DECAY,
    ),
    pairs=_BETAS,
)

_NADAMW = OptimizerCard(
    name="nadamw",
    title="NAdamW",
    description="NAdam with decoupled weight decay.",
    reference=(
        "Dozat, Incorporating Nesterov Momentum into Adam, ICLR 2016 workshop; Dahl et al., Benchmarking "
        "Neural Network Training Algorithms, 2023, arXiv:2306.07179; torch.optim.NAdam"
    ),
    import_line="from torch.optim import NAdam",
    constructor="NAdam",
    arguments={"decoupled_weight_decay": True},
    hyperparameters=(
        h.adam_lr(2e-3),
        h.beta1(),
        h.beta2(),
        h.eps(),
        h.decoupled_decay(0.0),
        _MOMENTUM_DECAY,
    ),
    pairs=_BETAS,
    contains=(Containment(optimizer="nadam", at={"weight_decay": 0.0}, requires={"weight_decay": 0.0}),),
)

_RADAM = OptimizerCard(
    name="radam",
    title="RAdam",
    description=(
        "Adam that starts with steps of momentum SGD and rectifies its steps until the variance of the "
        "second moment is under control. Weight decay is an L2 penalty."
    ),
    reference=(
        "Liu et al., On the Variance of the Adaptive Learning Rate and Beyond, ICLR 2020, arXiv:1908.03265"
    ),
    import_line="from torch.optim import RAdam",
    constructor="RAdam",
    hyperparameters=(h.adam_lr(1e-3), h.beta1(), h.beta2(), h.eps(), h.l2_decay(0.0)),
    pairs=_BETAS,
)

ENTRIES: tuple[OptimizerEntry, ...] = (
    upstream(_ADAM, "torch.optim", stacked=StackedAdam),
    upstream(_ADAMW, "torch.optim", stacked=StackedAdamW),
    upstream(_NADAM, "torch.optim"),
    upstream(_NADAMW, "torch.optim"),
    upstream(_RADAM, "torch.optim"),
)
