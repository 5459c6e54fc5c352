"""Schedule-Free AdamW: averaging instead of a learning-rate schedule."""

__all__ = ["ENTRIES"]

from studies.catalog import Bounds, Hyperparameter, OptimizerCard
from studies.space import Range
from workers.optimizers import hyperparameters as h
from workers.optimizers.registry import OptimizerEntry, upstream

_README = "README of facebookresearch/schedule_free"

_SCHEDULE_FREE_ADAMW = OptimizerCard(
    name="schedule-free-adamw",
    title="Schedule-Free AdamW",
    description=(
        "AdamW that takes gradients at a point between its iterate and the running average of all iterates, "
        "and evaluates at the average. It needs no schedule, but `optimizer.train()` before training and "
        "`optimizer.eval()` before evaluation."
    ),
    reference="Defazio et al., The Road Less Scheduled, NeurIPS 2024, arXiv:2405.15682",
    import_line="from pytorch_optimizer import ScheduleFreeAdamW",
    constructor="ScheduleFreeAdamW",
    preparation=(
        "# Call optimizer.train() wherever you call model.train(), and "
        "optimizer.eval() wherever you call model.eval()."
    ),
    hyperparameters=(
        h.adam_lr(
            2.5e-3,
            source=f"{_README}: 1 to 10 times AdamW's rate; the range is AdamW's, which has room above",
        ),
        h.beta1(
            bounds=Bounds(low=0, low_open=True, high=1, high_open=True),
            description="Point at which gradients are taken, from the iterate (0) to the average (1).",
        ),
        h.beta2(),
        h.eps(),
        h.decoupled_decay(
            0.0,
            formula=("subtracts lr * weight_decay * w, where w is the point at which the gradient is taken"),
        ),
        Hyperparameter(
            name="warmup_steps",
            description="Steps over which the learning rate grows linearly to lr.",
            unit="step",
            default=0,
            search=Range(low=0, high=1000, integer=True),
            source=(
                f"{_README} recommends warmup; the range is our choice and best set by the length of a run"
            ),
            tuned=False,
            bounds=Bounds(low=0),
        ),
    ),
    pairs={"betas": ("beta1", "beta2")},
    schedule="constant",
)

ENTRIES: tuple[OptimizerEntry, ...] = (upstream(_SCHEDULE_FREE_ADAMW, "pytorch_optimizer"),)
