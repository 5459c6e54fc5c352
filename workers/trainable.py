"""The Ray side of a pack.

A class Trainable that serves pack after pack in one process, a step for each epoch.
"""

__all__ = ["PackTrainable"]

import math
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import ray
from ray import tune

from workers.checkpoints import CheckpointNotSaved, CheckpointUnusable, load
from workers.deadline import exit_after
from workers.pack_protocol import EpochReport, Pack
from workers.parent_watchdog import LEAVE_SIGNAL, exit_without

if TYPE_CHECKING:
    # Imported where they are needed: the run that names this class needs no torch, and would wait for it
    # before its first pack.
    import torch

    from workers.optimizers import OptimizerEntry
    from workers.stacked.width_tuning import WidthTuner
    from workers.workloads import DataCache, Workload

T = TypeVar("T")
# Ray's functions have no complete types.
_ray = cast("Any", ray)
# A process whose node is about to end waits no longer for its run to see that its pack is over.
_IDLE_S = 1.0


class PackTrainable(tune.Trainable):
    """Trains the pack in its config.

    With `reuse_actors` the process, its imports and its data outlive the pack.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Begin the first pack."""
        self._bench: _Bench | None = None
        self._is_leaving = False
        self._is_last = False
        # Only a process's main thread may; Ray runs actors there, tests need not.
        with suppress(ValueError):
            signal.signal(LEAVE_SIGNAL, lambda _number, _frame: self._leave_with_node())
        if _ray.is_initialized():
            # On a machine that is cut off nobody else would end it, and nothing that it says or leaves counts
            # any more.
            exit_without(_ray.get_runtime_context().gcs_address)
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another pack in the same process."""
        self._begin(new_config)
        return True

    def leave(self) -> None:
        """Let the pack end after its present epoch, and leave its members' states there."""
        self._is_leaving = True

    def step(self) -> dict[str, Any]:
        """Train one epoch; return its report, or what went wrong.

        A Python error becomes a result with `failure`: Tune would only say that the trial failed, and end a
        process that is fit to go on. What can be tried again becomes one with `lost`, or with `restart` and
        the trials that have to begin anew. A pack that ends before its time, because its run or its node is
        about to end, says so with `left`.
        """
        if self._is_last and not self._is_begun:
            # Whatever is handed out to this process now would be lost with its node, in a moment; so it is
            # handed out elsewhere.
            _ray.actor.exit_actor()
        said = self._train_epoch()
        self._idle_at = time.monotonic() if said["done"] else math.inf
        return said

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Save nothing: the pack itself leaves its members' checkpoints."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Load nothing, for nothing is saved."""

    def _train_epoch(self) -> dict[str, Any]:
        try:
            if self._reports is None:
                with exit_after(self._pack.start_timeout_s):
                    self._reports = self._started(self._pack)
            with exit_after(self._pack.epoch_timeout_s):
                report = next(self._reports, None)
        except CheckpointUnusable as error:
            return {"restart": str(error), "unusable": self._unusable(), "done": True}
        except CheckpointNotSaved as error:
            return {"lost": str(error), "done": True}
        # Whatever a workload raises is the trial's failure, not this process's.
        except Exception as error:  # noqa: BLE001
            said = f"{type(error).__name__}: {error}"[:2000]
            if _is_out_of_memory(error):
                return {"exhausted": said, "done": True}
            lines = traceback.format_exc(limit=-4)
            return {"failure": said, "traceback": lines[-8000:], "done": True}
        if report is None:
            return {"left": True, "done": True}
        self._is_begun = True
        is_over = report.epoch == self._pack.to_epoch or all(
            member.outcome is not None for member in report.members
        )
        has_left = (
            not is_over
            and self._is_leaving
            and all(m.outcome is not None or m.checkpoint is not None for m in report.members)
        )
        said = {
            "report": report.model_dump_json(),
            "worker": f"{socket.gethostname()}:{os.getpid()}",
            "done": is_over or has_left,
        }
        return {**said, "left": True} if has_left else said

    def _leave_with_node(self) -> None:
        self._is_leaving = self._is_last = True

        def end() -> None:
            while time.monotonic() - self._idle_at < _IDLE_S:
                time.sleep(_IDLE_S / 4)
            os._exit(0)

        threading.Thread(target=end, name="leaving", daemon=True).start()

    def _unusable(self) -> list[str]:
        """Return the ids of the pack's trials whose checkpoints cannot be read."""
        found: list[str] = []
        for member in self._pack.members:
            try:
                if member.checkpoint is not None:
                    load(member.checkpoint)
            except CheckpointUnusable:
                found.append(member.trial_id)
        # One that can be read now may have been out of reach a moment ago, or does not fit its model: then
        # none is trusted.
        return found or [member.trial_id for member in self._pack.members]

    def _begin(self, config: dict[str, Any]) -> None:
        self._pack = Pack.model_validate_json(config["pack"])
        self._cpus, self._gpus = config["cpus"], config["gpus"]
        self._is_begun = False
        self._idle_at = math.inf
        # Made with the first epoch: what goes wrong there, or never ends, is told like any fault of a pack.
        self._reports: Iterator[EpochReport] | None = None

    def _started(self, pack: Pack) -> Iterator[EpochReport]:
        from workers.training import train_pack

        bench = self._bench = self._bench or _bench(cpus=self._cpus, gpus=self._gpus)
        workload = _known(pack.workload, bench.workloads, "workload")
        entry = _known(pack.optimizer, bench.optimizers, "optimizer")
        data = bench.data.load(workload, device=bench.device)
        return train_pack(
            pack,
            workload=workload,
            entry=entry,
            data=data,
            device=bench.device,
            fits=bench.fits,
            is_leaving=lambda: self._is_leaving,
        )


@dataclass(frozen=True)
class _Bench:
    """What a process loads once and keeps."""

    device: "torch.device"
    optimizers: "Mapping[str, OptimizerEntry]"
    workloads: "Mapping[str, Workload]"
    data: "DataCache"
    fits: "WidthTuner"


def _bench(*, cpus: float, gpus: float) -> _Bench:
    import torch

    from workers.optimizers import load_optimizers
    from workers.stacked.width_tuning import WidthTuner
    from workers.workloads import DataCache, load_workloads

    # One thread a core: two processes of one thread beat one of two nearly everywhere at these sizes.
    torch.set_num_threads(max(1, int(cpus)))
    device = torch.device("cuda:0" if torch.cuda.is_available() and gpus > 0 else "cpu")
    return _Bench(device, load_optimizers(), load_workloads(), DataCache(), WidthTuner())


def _is_out_of_memory(error: Exception) -> bool:
    if "torch" not in sys.modules:
        return isinstance(error, MemoryError)
    from workers.memory import is_out_of_memory

    return is_out_of_memory(error)


def _known(name: str, catalog: Mapping[str, T], kind: str) -> T:
    if name not in catalog:
        raise LookupError(
            f"{socket.gethostname()} has no {kind} {name!r}, though a dispatcher offers it; install the "
            "package that adds it there as well"
        )
    return catalog[name]
