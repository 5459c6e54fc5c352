"""Optimizers that precondition each tensor along its dimensions: SOAP, Shampoo and PSGD-Kron."""

__all__ = ["ENTRIES"]

from studies.catalog import Bounds, Hyperparameter, OptimizerCard
from studies.space import Range
from workers.optimizers import hyperparameters as h
from workers.optimizers.registry import OptimizerEntry, upstream

_SOAP = OptimizerCard(
    name="soap",
    title="SOAP",
    description=(
        "AdamW in the eigenbasis of Shampoo's preconditioner, which is kept up by one step of a power "
        "iteration every few steps. Vectors are stepped by Adam. The first step only sets the basis."
    ),
    reference=(
        "Vyas et al., SOAP: Improving and Stabilizing Shampoo using Adam, ICLR 2025, arXiv:2409.11321; "
        "nikhilvyas/SOAP"
    ),
    import_line="from pytorch_optimizer import SOAP",
    constructor="SOAP",
    hyperparameters=(
        h.adam_lr(3e-3, source="the paper searches 3.2e-4 to 1e-2 for language models; more on both sides"),
        h.beta1(0.95),
        h.beta2(0.95, description="Decay rate of the second moment and of the preconditioners, per step."),
        Hyperparameter(
            name="precondition_frequency",
            description="Steps between two updates of the eigenbasis.",
            unit="step",
            default=10,
            search=Range(low=1, high=100, log=True, integer=True),
            source="the paper uses 10 and studies 1 to 100",
            tuned=False,
            bounds=Bounds(low=1),
        ),
        h.eps(),
        h.decoupled_decay(1e-2),
    ),
    pairs={"betas": ("beta1", "beta2")},
    findings=(
        (
            "pytorch_optimizer 4.1 decomposes its bases in float32, so that float64 weights follow the paper "
            "to 1e-6 only. It has the authors' steps, but for the eps before the bias correction, as theirs."
        ),
    ),
)

_SHAMPOO = OptimizerCard(
    name="shampoo",
    title="Shampoo",
    description=(
        "Multiplies the gradient along each of its k dimensions by the -1/(2k)-th power of the sum of that "
        "dimension's second-moment matrices so far. It has no momentum and no grafting, so its learning "
        "rates are its own, and steps shrink over time as Adagrad's do."
    ),
    reference=(
        "Gupta, Koren and Singer, Shampoo: Preconditioned Stochastic Tensor Optimization, ICML 2018, "
        "arXiv:1802.09568"
    ),
    import_line="from workers.optimizers.repaired import Shampoo",
    constructor="Shampoo",
    arguments={"weight_decouple": True},
    hyperparameters=(
        h.adam_lr(
            1e-3,
            low=1e-3,
            high=1.0,
            source="our choice: Adagrad's range, because steps shrink as Adagrad's do",
        ),
        Hyperparameter(
            name="preconditioning_compute_steps",
            description="Steps between two computations of the roots, which cost most of a step.",
            unit="step",
            default=1,
            search=Range(low=1, high=100, log=True, integer=True),
            source="the paper computes them every 20 to 100 steps; 1 is exact",
            tuned=False,
            bounds=Bounds(low=1),
        ),
        Hyperparameter(
            name="matrix_eps",
            description="Multiple of the identity with which each preconditioner starts.",
            unit="squared gradient",
            default=1e-6,
            search=Range(low=1e-8, high=1e-2, log=True),
            source="pytorch_optimizer uses 1e-6; the paper tunes it",
            tuned=False,
            bounds=Bounds(low=0, low_open=True),
        ),
        h.decoupled_decay(0.0),
    ),
    findings=(
        (
            "pytorch_optimizer 4.1 averages the raw gradient with the preconditioned one of the step before, "
            "which no paper does; this entry has no momentum."
        ),
        (
            "With preconditioning_compute_steps above 1, pytorch_optimizer 4.1 does not move the weights "
            "before the first multiple of it; a subclass computes the roots in the first step as well."
        ),
        "Its ScalableShampoo, which grafts, keeps objects in its state that checkpoints refuse; left out.",
    ),
)

_PSGD_KRON = OptimizerCard(
    name="psgd-kron",
    title="PSGD-Kron",
    description=(
        "Preconditions the momentum by triangular factors for each dimension, which it fits to gradients "
        "and random vectors in a step of their own, and clips the step to root mean square 1.1. The factors "
        "are fitted in every one of the first 500 steps, then less and less often. Weight decay spares "
        "vectors."
    ),
    reference=(
        "Li, Preconditioned Stochastic Gradient Descent, 2015, arXiv:1512.04202; Pooladzandi and Li, "
        "Curvature-Informed SGD via General Purpose Lie-Group Preconditioners, 2024, arXiv:2402.04553; "
        "evanatyourservice/kron_torch"
    ),
    import_line="from workers.optimizers.repaired import Kron",
    constructor="Kron",
    hyperparameters=(
        h.adam_lr(
            1e-3,
            low=3e-5,
            high=1e-1,
            source="README of kron_torch: about a third of AdamW's rate; AdamW's range, lower by as much",
        ),
        h.momentum(0.9, tuned=False, description="Decay rate of the running mean of the gradient, per step."),
        h.decoupled_decay(
            0.0, formula="w *= 1 - lr * weight_decay, separately from the gradient, for matrices and larger"
        ),
    ),
    findings=(
        (
            "pytorch_optimizer 4.1 has no merging of a convolution's dimensions and no damping of the "
            "gradient by noise, as kron_torch has now; the step is that of its earlier version."
        ),
        (
            "pytorch_optimizer 4.1 cannot load its own state, whose einsum expressions torch cannot cast; a "
            "subclass computes them anew. Its factors are float32."
        ),
    ),
)

ENTRIES: tuple[OptimizerEntry, ...] = (
    upstream(_SOAP, "pytorch_optimizer", shared=("precondition_frequency",)),
    upstream(_SHAMPOO, "workers.optimizers.repaired", shared=("preconditioning_compute_steps",)),
    upstream(_PSGD_KRON, "workers.optimizers.repaired"),
)
