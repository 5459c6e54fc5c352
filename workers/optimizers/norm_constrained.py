"""Scion: steps of a fixed size in a norm that each kind of tensor has for itself."""

__all__ = ["ENTRIES"]

from studies.catalog import Bounds, Hyperparameter, OptimizerCard
from studies.space import Range
from workers.optimizers import hyperparameters as h
from workers.optimizers.registry import OptimizerEntry, upstream

_SCION = OptimizerCard(
    name="scion",
    title="Scion (unconstrained)",
    description=(
        "Steps matrices and convolutions along their orthogonalised momentum (in bfloat16), scaled by their "
        "shape, and vectors along their momentum scaled to root mean square 1. Every step has the same "
        "size. Weight decay is decoupled."
    ),
    reference=(
        "Pethick et al., Training Deep Learning Models with Norm-Constrained LMOs, ICML 2025, "
        "arXiv:2502.07529; LIONS-EPFL/scion"
    ),
    import_line="from pytorch_optimizer import SCION",
    constructor="SCION",
    # LMONorm.AUTO as a number, because checkpoints refuse the enumeration's member.
    arguments={"norm_type": 1},
    hyperparameters=(
        h.adam_lr(
            1e-3,
            low=1e-3,
            high=1.0,
            source="the authors train at lr times radius of 0.01 to 0.7; about half a decade on both sides",
        ),
        Hyperparameter(
            name="momentum",
            description="Weight of the newest gradient in the running mean: 1 minus the usual momentum.",
            unit="none",
            default=0.1,
            search=Range(low=0.02, high=0.5, log=True),
            source="the paper uses 0.1, and 0.5 for images; the range averages over 2 to 50 steps",
            tuned=False,
            bounds=Bounds(low=0, low_open=True, high=1),
        ),
        h.decoupled_decay(0.0),
    ),
    findings=(
        (
            "The paper gives the output layer of a language model the sign norm and a larger radius of its "
            "own; this entry has one norm for each kind of tensor and one radius, as the authors' Auto."
        ),
    ),
)

ENTRIES: tuple[OptimizerEntry, ...] = (upstream(_SCION, "pytorch_optimizer"),)
