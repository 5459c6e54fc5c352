"""`trial` in a Python program that a worker has started: `from tangent import trial`."""

__all__ = ["trial"]

import atexit
import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch

from studies.training_settings import TrainingSettings
from workers.checkpoints import load, save
from workers.optimizers import load_optimizers
from workers.script.arm_recipe import EntryRecipe
from workers.script.command_client import VARIABLE, WorkerConnection
from workers.script.trial import Trial
from workers.script.trial_task import ScriptReport, TrialTask, states_of
from workers.seeding import initialisation_seed, seed_generators
from workers.trial_files import TrialFolder


@functools.cache
def _connected() -> Trial:
    """Return the trial of this process.

    Raises:
        RuntimeError: no worker has started this process for a trial.
    """
    connection = WorkerConnection()
    given = connection.trial
    torch.set_num_threads(given["threads"])
    device = torch.device(given["device"])
    training = TrainingSettings.model_validate(given["training"])
    task = TrialTask(
        trial_id=given["id"],
        workload=given["workload"],
        optimizer=given["optimizer"],
        parameters=given["parameters"],
        training=training,
        seed=given["seed"],
        metrics=tuple(given["metrics"]),
        from_epoch=given["from_epoch"],
        to_epoch=given["to_epoch"],
        epochs=given["epochs"],
        interval_steps=given["interval_steps"],
        rank=given["rank"],
        world_size=given["world_size"],
    )
    entry = load_optimizers()[task.optimizer]
    found = Trial(
        task,
        device=device,
        recipe=EntryRecipe(entry, parameters=task.parameters, training=training),
        host=_Worker(connection),
        state=load(given["state"]) if given["state"] is not None else None,
        folder=TrialFolder(Path(given["folder"])),
    )
    # A loop that was left with `break` has not passed on its last report.
    atexit.register(found.end_pending)
    return found


class _Worker:
    """The worker as the host of this process's trial."""

    def __init__(self, connection: WorkerConnection) -> None:
        self._connection = connection

    def epoch_ended(self, report: ScriptReport, test: Callable[[], Mapping[str, float]]) -> None:
        """Pass on a report, and wait until the loop may go on."""
        state = report.state

        def saved() -> str:
            path = str(Path(self._connection.trial["folder"]) / "state.pt")
            save(path, states_of(state or {}))
            return path

        self._connection.end_epoch(
            {
                "step": report.step,
                "validation": {**report.validation, **({} if report.loss is None else {"loss": report.loss})},
                "train_loss": report.train_loss,
                "lr": report.lr,
                "probes": report.probes,
            },
            test=test,
            state=None if state is None else saved,
        )

    def heard(self, step: int | None) -> None:
        """Pass on that the loop goes on."""
        self._connection.goes_on(step)


class _Current:
    """Stands for the trial of this process, which is read with the first use of one of its members."""

    def __getattr__(self, name: str) -> Any:
        return getattr(_connected(), name)


trial = cast("Trial", _Current())

if VARIABLE in os.environ:
    # Before the program builds its model.
    _given = WorkerConnection().trial
    seed_generators(initialisation_seed(_given["seed"]), device=torch.device(_given["device"]))
