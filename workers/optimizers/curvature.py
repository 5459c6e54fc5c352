"""Optimizers that estimate the diagonal of the Hessian from a second derivative: Sophia-H and AdaHessian."""

__all__ = ["ENTRIES"]

from studies.catalog import Bounds, Hyperparameter, OptimizerCard
from studies.space import Range
from workers.optimizers import hyperparameters as h
from workers.optimizers.registry import OptimizerEntry, upstream

_MODULE = "workers.optimizers.repaired"
_BETAS = {"betas": ("beta1", "beta2")}
_GRAPH = (
    "# Call loss.backward(create_graph=True) in place of loss.backward(), and optimizer.zero_grad() after "
    "each step."
)

_SOPHIA = OptimizerCard(
    name="sophia",
    title="Sophia-H",
    description=(
        "Divides the momentum by a running mean of the Hessian's diagonal, and clips the quotient to p; "
        "where the curvature is small or negative it steps along the sign. The diagonal is estimated from "
        "one random vector every few steps. Clipping changes the gradient, and not the estimated curvature."
    ),
    reference=(
        "Liu et al., Sophia: A Scalable Stochastic Second-order Optimizer for Language Model Pre-training, "
        "ICLR 2024, arXiv:2305.14342; Liuhong99/Sophia"
    ),
    import_line="from workers.optimizers.repaired import SophiaH",
    constructor="SophiaH",
    preparation=_GRAPH,
    needs="curvature",
    hyperparameters=(
        h.adam_lr(
            6e-2,
            low=1e-2,
            high=10.0,
            source="p times it is the longest step of a weight, for which this is AdamW's range",
        ).model_copy(
            update={
                "description": "Learning rate: lr * p is the longest step of a weight.",
                "unit": "weight per step, per p",
            }
        ),
        h.beta1(0.96),
        h.beta2(0.99, description="Decay rate of the running mean of the Hessian's diagonal, per estimate."),
        Hyperparameter(
            name="p",
            description="Bound of the quotient of momentum and curvature; the paper's gamma.",
            unit="weight",
            default=1e-2,
            search=Range(low=1e-3, high=1e-1, log=True),
            source="the paper uses 0.01 for Sophia-H and 0.05 for Sophia-G; a decade on both sides",
            tuned=True,
            bounds=Bounds(low=0, low_open=True),
        ),
        Hyperparameter(
            name="update_period",
            description="Steps between two estimates of the Hessian's diagonal.",
            unit="step",
            default=10,
            search=Range(low=1, high=20, integer=True),
            source="the paper uses 10 and studies 1 to 100",
            tuned=False,
            bounds=Bounds(low=1),
        ),
        h.decoupled_decay(0.0),
    ),
    pairs=_BETAS,
    findings=(
        (
            "pytorch_optimizer 4.1 fails where a gradient does not depend on any weight; a subclass counts "
            "such weights as without curvature."
        ),
        (
            "It writes the paper's lr as lr * p. The authors' code is Sophia-G, which needs labels drawn "
            "from the model and is not in the catalogue."
        ),
    ),
)

_ADAHESSIAN = OptimizerCard(
    name="adahessian",
    title="AdaHessian",
    description=(
        "Adam whose second moment is that of the Hessian's diagonal, estimated from one random vector in "
        "each step and averaged over a filter's kernel or a matrix's row. A step costs about twice AdamW's. "
        "Clipping changes the gradient, and not the estimated curvature."
    ),
    reference=(
        "Yao et al., ADAHESSIAN: An Adaptive Second Order Optimizer for Machine Learning, AAAI 2021, "
        "arXiv:2006.00719; amirgholami/adahessian"
    ),
    import_line="from workers.optimizers.repaired import AdaHessian",
    constructor="AdaHessian",
    preparation=_GRAPH,
    needs="curvature",
    hyperparameters=(
        h.adam_lr(
            0.15, low=1e-2, high=1.0, source="the paper uses 0.15; about a decade on both sides"
        ).model_copy(
            update={
                "description": "Learning rate: step per unit of gradient divided by curvature.",
                "unit": "none",
            }
        ),
        h.beta1(),
        h.beta2(description="Decay rate of the running mean of the squared diagonal, per step."),
        Hyperparameter(
            name="hessian_power",
            description="Power of the curvature that the momentum is divided by; 0 would be momentum SGD.",
            unit="none",
            default=1.0,
            search=Range(low=0.5, high=1.0),
            source="the paper uses 1 and studies smaller ones",
            tuned=False,
            bounds=Bounds(low=0, low_open=True, high=1),
        ),
        h.eps(1e-4, low=1e-8, high=1e-1, description="Added to the root mean square of the diagonal."),
        h.decoupled_decay(0.0),
    ),
    pairs=_BETAS,
    findings=(
        (
            "pytorch_optimizer 4.1 leaves out the paper's spatial averaging, has eps 1e-16 in place of 1e-4, "
            "and fails where a gradient does not depend on any weight; a subclass has all three."
        ),
    ),
)

ENTRIES: tuple[OptimizerEntry, ...] = (
    upstream(_SOPHIA, _MODULE, shared=("update_period",)),
    upstream(_ADAHESSIAN, _MODULE),
)
