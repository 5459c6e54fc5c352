"""The Ray side of a pack: a class Trainable that serves pack after pack in one process, a step for each epoch."""

__all__ = ["PackTrainable"]

import os
import socket
import traceback
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from ray import tune

from workers.checkpoints import CheckpointNotSaved, CheckpointUnusable, load
from workers.pack import EpochReport, Pack

T = TypeVar("T")


class PackTrainable(tune.Trainable):
    """Trains the pack in its config; with `reuse_actors` the process, its imports and its data outlive the pack."""

    def setup(self, config: dict[str, Any]) -> None:
        """Load the catalogue, once for the process, and begin the first pack."""
        # Imported here: the run that names this class needs no torch, and would wait for it before its first pack.
        import torch

        from workers.optimizers import load_optimizers
        from workers.stacked.fit import Fits
        from workers.workloads import DataCache, load_workloads

        # One thread a core: two processes of one thread beat one of two nearly everywhere at these sizes.
        torch.set_num_threads(max(1, int(config["cpus"])))
        self._device = torch.device("cuda:0" if torch.cuda.is_available() and config["gpus"] > 0 else "cpu")
        self._optimizers = load_optimizers()
        self._workloads = load_workloads()
        self._data = DataCache()
        self._fits = Fits()
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another pack in the same process."""
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch; return its report, or what went wrong.

        A Python error becomes a result with `failure`: Tune would only say that the trial failed, and end a process that is fit to go on. What
        can be tried again becomes one with `lost`, or with `restart` and the trials that have to begin anew.
        """
        try:
            report = next(self._reports)
        except CheckpointUnusable as error:
            return {"restart": str(error), "unusable": self._unusable(), "done": True}
        except CheckpointNotSaved as error:
            return {"lost": str(error), "done": True}
        except Exception as error:  # noqa: BLE001 # whatever a workload raises is the trial's failure, not this process's
            lines = traceback.format_exc(limit=-4)
            return {"failure": f"{type(error).__name__}: {error}"[:2000], "traceback": lines[-8000:], "done": True}
        is_over = report.epoch == self._pack.to_epoch or all(member.outcome is not None for member in report.members)
        return {"report": report.model_dump_json(), "worker": f"{socket.gethostname()}:{os.getpid()}", "done": is_over}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Save nothing: at a rung the pack itself leaves its members' checkpoints."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Load nothing, for nothing is saved."""

    def _unusable(self) -> list[str]:
        """Return the ids of the pack's trials whose checkpoints cannot be read."""
        found: list[str] = []
        for member in self._pack.members:
            try:
                if member.checkpoint is not None:
                    load(member.checkpoint)
            except CheckpointUnusable:
                found.append(member.trial_id)
        # One that can be read now may have been out of reach a moment ago, or does not fit its model: then none is trusted.
        return found or [member.trial_id for member in self._pack.members]

    def _begin(self, config: dict[str, Any]) -> None:
        self._pack = Pack.model_validate_json(config["pack"])
        self._reports = self._train()

    def _train(self) -> Iterator[EpochReport]:
        from workers.training import train_pack

        workload = _known(self._pack.workload, self._workloads, "workload")
        entry = _known(self._pack.optimizer, self._optimizers, "optimizer")
        data = self._data.load(workload, device=self._device)
        yield from train_pack(self._pack, workload=workload, entry=entry, data=data, device=self._device, fits=self._fits)


def _known(name: str, catalog: Mapping[str, T], kind: str) -> T:
    if name not in catalog:
        raise LookupError(
            f"{socket.gethostname()} has no {kind} {name!r}, though a dispatcher offers it; install the package that adds it there as well"
        )
    return catalog[name]
