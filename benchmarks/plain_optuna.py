"""Hyperparameter search with plain Optuna, as in its documentation: a side of `throughput.py`.

`throughput.py` starts it once for each core. The processes share an Optuna storage, a journal file; each
searches the arms in turn with TPE and its part of their trials. They report each epoch to Optuna only if a
pruner reads it: a report is a write to the journal.
"""

__all__ = ["main"]

import json
import sys
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from plain_training import trained

from studies.resolve import ResolvedArm, ResolvedStudy
from studies.space import AnyDimension, Choices, Range


def _value(trial: optuna.Trial, name: str, dimension: AnyDimension) -> Any:
    match dimension:
        case Choices():
            return trial.suggest_categorical(name, dimension.choices)
        case Range(integer=True):
            return trial.suggest_int(name, int(dimension.low), int(dimension.high), log=dimension.log)
        case Range():
            return trial.suggest_float(name, dimension.low, dimension.high, log=dimension.log)
        case _:
            return dimension.value


def _pruner(name: str, *, epochs: int) -> optuna.pruners.BasePruner:
    match name:
        case "asha":
            return optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
        case "hyperband":
            return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=epochs, reduction_factor=3)
        case _:
            return optuna.pruners.NopPruner()


def _search(asked: Mapping[str, Any], plan: ResolvedStudy, arm: ResolvedArm) -> None:
    """Run this process's trials of one arm."""

    def objective(trial: optuna.Trial) -> float:
        parameters = {name: _value(trial, name, dimension) for name, dimension in arm.space.items()}
        measured: Mapping[str, float] = {}
        for epoch, measured in enumerate(
            trained(
                parameters,
                card=arm.card,
                workload_name=plan.workload.name,
                epochs=plan.epochs,
                batch_size=plan.batch_size,
                seed=asked["seed"],
            ),
            1,
        ):
            if asked["pruner"] != "none":
                trial.report(measured["validation"], epoch)
                if trial.should_prune():
                    raise optuna.TrialPruned
        if "test" not in measured:
            # It has diverged.
            raise optuna.TrialPruned
        trial.set_user_attr("test", measured["test"])
        return measured["validation"]

    study = optuna.create_study(
        study_name=arm.name,
        storage=JournalStorage(JournalFileBackend(asked["storage"])),
        load_if_exists=True,
        direction=plan.workload.direction,
        sampler=optuna.samplers.TPESampler(seed=asked["sampler_seed"]),
        pruner=_pruner(asked["pruner"], epochs=plan.epochs),
    )
    study.optimize(objective, n_trials=asked["trials"])


def main() -> None:
    """Search the arms of the study that the first argument describes."""
    asked = json.loads(sys.argv[1])
    plan = ResolvedStudy.model_validate(asked["plan"])
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for arm in plan.arms:
        _search(asked, plan, arm)


if __name__ == "__main__":
    main()
