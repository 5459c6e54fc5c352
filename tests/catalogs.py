"""A small catalogue for tests that need cards but not torch.

Together the cards use every feature: log and linear ranges, integers, booleans, words, a pair, conditions, a
constraint, a containment, and one workload of each direction.
"""

from typing import Any

from studies.catalog import (
    Bounds,
    Catalog,
    Constraint,
    Containment,
    Hyperparameter,
    OptimizerCard,
    WorkloadCard,
)
from studies.direction import Direction
from studies.space import AnyDimension, Choices, Condition, Range, Scalar

__all__ = ["catalog", "study_body"]

POSITIVE = Bounds(low=0, low_open=True)
NOT_NEGATIVE = Bounds(low=0)
SHARE = Bounds(low=0, high=1, high_open=True)


def _hyperparameter(
    name: str,
    default: Scalar,
    search: AnyDimension,
    *,
    tuned: bool = True,
    bounds: Bounds | None = None,
    active_when: Condition | None = None,
) -> Hyperparameter:
    return Hyperparameter(
        name=name,
        description=f"What {name} does.",
        unit="none",
        default=default,
        search=search,
        source="made up",
        tuned=tuned,
        bounds=bounds,
        active_when=active_when,
    )


def _optimizer(name: str, constructor: str, *hyperparameters: Hyperparameter, **fields: Any) -> OptimizerCard:
    return OptimizerCard(
        name=name,
        title=constructor,
        description=f"{constructor}, as its paper has it.",
        reference="made up",
        import_line=f"from optimizers import {constructor}",
        constructor=constructor,
        hyperparameters=hyperparameters,
        **fields,
    )


def _workload(name: str, *, metric: str, unit: str, direction: Direction, target: float) -> WorkloadCard:
    return WorkloadCard(
        name=name,
        title=name.replace("-", " "),
        description="A small network on a small set.",
        source="made up",
        metric=metric,
        unit=unit,
        direction=direction,
        target=target,
        epochs=4,
        batch_size=32,
        examples={"train": 1000, "validation": 300, "test": 300},
        parameters=5000,
        epoch_s=0.1,
    )


def catalog() -> Catalog:
    """Return four optimizers (adamp, adamw, sgdp, stepper) and two workloads.

    The metric of digits-mlp is maximized, that of char-lm is minimized.
    """
    decayed = Condition(parameter="weight_decay", above=0)
    lr = _hyperparameter("lr", 1e-3, Range(low=1e-5, high=1e-1, log=True), bounds=POSITIVE)
    betas = (
        _hyperparameter("beta1", 0.9, Range(low=0.8, high=0.99), tuned=False, bounds=SHARE),
        _hyperparameter("beta2", 0.999, Range(low=0.9, high=0.9999), tuned=False, bounds=SHARE),
    )
    delta = _hyperparameter("delta", 0.1, Range(low=1e-3, high=1.0, log=True), bounds=NOT_NEGATIVE)
    nesterov = _hyperparameter("nesterov", False, Choices(choices=(False, True)), tuned=False)
    # The defaults of adamp and sgdp lie outside their spaces: no decay, below a logarithmic range.
    decay = _hyperparameter("weight_decay", 0.0, Range(low=1e-4, high=1.0, log=True), bounds=NOT_NEGATIVE)
    wd_ratio = _hyperparameter(
        "wd_ratio", 0.1, Range(low=1e-2, high=1.0, log=True), bounds=NOT_NEGATIVE, active_when=decayed
    )
    adamp = _optimizer(
        "adamp",
        "AdamP",
        lr,
        *betas,
        decay,
        delta,
        wd_ratio,
        nesterov,
        pairs={"betas": ("beta1", "beta2")},
        contains=(Containment(optimizer="adamw", at={"delta": 0.0}),),
    )
    adamw = _optimizer(
        "adamw",
        "AdamW",
        lr,
        *betas,
        decay.model_copy(update={"default": 0.01}),
        pairs={"betas": ("beta1", "beta2")},
    )
    sgdp = _optimizer(
        "sgdp",
        "SGDP",
        lr.model_copy(update={"default": 0.1}),
        _hyperparameter("momentum", 0.0, Range(low=0.8, high=0.99), bounds=SHARE),
        decay,
        wd_ratio,
        constraints=(
            Constraint(
                product=("lr", "weight_decay"),
                below_one_minus="momentum",
                reason="the decay would turn the weights round",
            ),
        ),
    )
    stepper = _optimizer(
        "stepper",
        "Stepper",
        lr,
        _hyperparameter("k", 5, Range(low=2, high=9, integer=True), bounds=Bounds(low=1)),
        _hyperparameter("rule", "plain", Choices(choices=("plain", "signed")), tuned=False),
    )
    digits = _workload("digits-mlp", metric="accuracy", unit="fraction", direction="maximize", target=0.95)
    text = _workload("char-lm", metric="loss", unit="nats per character", direction="minimize", target=1.6)
    return Catalog(
        optimizers={card.name: card for card in (adamp, adamw, sgdp, stepper)},
        workloads={card.name: card for card in (digits, text)},
    )


def study_body(**fields: Any) -> dict[str, Any]:
    """Return the JSON of a valid study: two arms of three trials with two epochs each.

    Without pairs and confirmation, because many tests simulate single trials.

    Args:
        fields: replace or add fields.
    """
    budget = {"trials_per_arm": 3, "epochs": 2}
    return {
        "workload": "digits-mlp",
        "arms": ["adamp", "adamw"],
        "budget": budget,
        "search": {"paired": 0},
        "confirmation": {"seeds": 0},
    } | fields
