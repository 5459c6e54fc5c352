"""The fields of a study and what it can search, each with the JSON that the page adds to a study."""

__all__ = ["FIELDS", "Addition", "searchable_of"]

import json
from dataclasses import dataclass
from typing import Any, Final

from service.dashboard.trial_page import describe_dimension
from studies.catalog import Catalog, Hyperparameter, WorkloadCard
from studies.searchable import KINDS
from studies.training_settings import TRAINING_HYPERPARAMETERS


@dataclass(frozen=True)
class Addition:
    """A part of a study that a user can add.

    Attributes:
        member: the fields to add, as JSON.
        text: what the page shows of it.
        meaning: what it does.
    """

    member: str
    text: str
    meaning: str


def _field(meaning: str, **member: Any) -> Addition:
    text = json.dumps(member)[1:-1]
    return Addition(json.dumps(member), text, meaning)


FIELDS: Final = (
    _field("What each arm may spend.", budget={"trials_per_arm": 16, "epochs": 5}),
    _field(
        "The same in steps of the optimizer, evaluated after every 200.",
        budget={"trials_per_arm": 16, "steps": 2000, "evaluate_every": 200},
    ),
    _field(
        "What every arm searches beside its optimizer. Names are listed below.",
        space={"training.batch_size": {"choices": [16, 32, 64]}, "training.warmup_fraction": "tune"},
    ),
    _field(
        "Arms with spaces of their own. A name with a dot replaces the study's for this arm alone.",
        arms=[
            "adamp",
            {
                "optimizer": "adamw",
                "space": {"lr": {"low": 1e-4, "high": 1e-1, "log": True}, "training.batch_size": 64},
            },
        ],
    ),
    _field("How every trial is trained.", training={"schedule": "warmup-cosine", "clip_norm": 1.0}),
    _field(
        "Evaluate a moving average of the weights beside them, as further metrics.",
        training={"ema_decay": 0.999, "ema_evaluation": "beside"},
    ),
    _field("Which epoch's value counts: last or best.", objective={"at": "best"}),
    _field(
        "How hopeless trials are stopped early.",
        pruner={"kind": "asha", "min_epochs": 1, "reduction_factor": 3},
    ),
    _field("How configurations are chosen.", sampler="random"),
    _field(
        "How many trials of every arm are paired across arms, and after how many trials of tuning arms are "
        "judged.",
        search={"paired": 12, "verdict_at": 3},
    ),
    _field(
        "Add pairs of trials until the arms are decided, up to a number of pairs.",
        search={"paired": 15, "until": {"max_pairs": 60}},
    ),
    _field("Fresh seeds on which the best of each arm is confirmed.", confirmation={"seeds": 10}),
    _field(
        "Keep the weights of each arm's best, and the files of its trials.",
        keep={"weights": "best", "files": True},
    ),
    _field("What a pack occupies.", resources={"cpus_per_pack": 1, "gpus_per_pack": 0, "max_pack_size": 8}),
    _field("Skip the check of a package's workload before the first trial.", check_workload=False),
    _field("Fixes initialisation, data order and sampling.", seed=1),
)
"""Fields of a study, with values to start from."""


def searchable_of(catalog: Catalog) -> list[tuple[str, list[Addition]]]:
    """Return what studies can search and compare by, under titles: the training, then each workload."""
    training = [_dimension(h.name, h) for h in TRAINING_HYPERPARAMETERS]
    workloads = [(card.title, _of_workload(card)) for card in catalog.workloads.values()]
    return [
        ("Training", training),
        ("Parameter groups of every model", [_group(kind) for kind in KINDS]),
        *((title, own) for title, own in workloads if own),
    ]


def _of_workload(card: WorkloadCard) -> list[Addition]:
    own = [_dimension(f"workload.{h.name}", h) for h in card.hyperparameters]
    own += [_group(group) for group in card.groups]
    for metric in card.metrics:
        own += [
            Addition(
                json.dumps({"objective": {"metric": metric.name}}),
                f"objective: {metric.name}",
                "Search, prune, confirm and judge by this metric.",
            ),
            Addition(
                json.dumps({"objective": {"compare": [metric.name]}}),
                f"compare: {metric.name}",
                "Compare the arms by this metric too.",
            ),
        ]
    return own


def _group(group: str) -> Addition:
    return Addition(
        json.dumps({"space": {f"groups.{group}.lr": "tune"}}),
        f"groups.{group}.lr",
        f"Learning rate of the parameters in the group {group}; each optimizer's card lists what else a "
        "group can have.",
    )


def _dimension(name: str, hyperparameter: Hyperparameter) -> Addition:
    usual = describe_dimension(hyperparameter.search)
    return Addition(
        json.dumps({"space": {name: "tune"}}), name, f"{hyperparameter.description} Usual range: {usual}."
    )
