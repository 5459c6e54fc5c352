"""The Ray side of a pack: a Trainable that trains pack after pack in one process, one step per epoch."""

__all__ = ["PackTrainable", "train_rank"]

import json
import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from copy import copy
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import psutil
import ray
from ray import tune

from studies.catalog import PackageVersion
from studies.process_tree import adopt_orphans, descendants, end_descendants
from studies.trials import CardDifference
from workers.checkpoints import CheckpointNotSaved, CheckpointUnusable, load
from workers.deadline import exit_after
from workers.output_capture import OutputCapture
from workers.output_files import output_folder
from workers.pack_protocol import EpochReport, Pack
from workers.packages import use_packages
from workers.parent_watchdog import LEAVE_SIGNAL, exit_without
from workers.ray_signs import send_sign
from workers.signs_of_life import end_signs, publish_signs
from workers.trial_ranks import RankContext, RankFailure, TrialRanks
from workers.unfit_machines import HOLD_S
from workers.workload_errors import MachineUnfit, describe_error

if TYPE_CHECKING:
    # Imported where they are used: the run that names this class does not need torch, and importing it would
    # delay its first pack.
    import torch

    from workers.entry_points import Installed
    from workers.memory_meters import PackMeter
    from workers.optimizers import OptimizerEntry
    from workers.stacked.width_tuning import WidthTuner
    from workers.workloads import AnyWorkload, DataCache
    from workers.workloads.shared_data import SharedData

# Ray's functions have no complete types.
_ray = cast("Any", ray)
# How long a process whose node is shutting down waits for its run to read the last report.
_IDLE_S = 1.0
# Processes that libraries start once and use again and again, by a part of their command.
_REUSED = (
    "multiprocessing.resource_tracker",
    "multiprocessing.forkserver",
    "_inductor.compile_worker",
    "_inductor/compile_worker",
)


class PackTrainable(tune.Trainable):
    """Trains the pack in its config; with `reuse_actors` its process, imports and data are reused."""

    def setup(self, config: dict[str, Any]) -> None:
        """Prepare the process and the first pack."""
        self._resources: _Resources | None = None
        self._ranks: TrialRanks | None = None
        self._kept: set[psutil.Process] = set()
        # The folders of this machine, which may differ, and those of the dispatcher.
        use_packages([*os.environ.get("TANGENT_PACKAGES", "").split(os.pathsep), *config.get("packages", ())])
        self._output: OutputCapture | None = None
        self._is_leaving = False
        self._is_last = False
        # Only a process's main thread may set a handler. Ray runs actors there; tests may not.
        with suppress(ValueError):
            signal.signal(LEAVE_SIGNAL, lambda _number, _frame: self._leave_with_node())
        if _ray.is_initialized():
            # On a machine that is cut off nothing else ends this process, and its reports and checkpoints no
            # longer count.
            exit_without(_ray.get_runtime_context().gcs_address)
            adopt_orphans()
            self._output = OutputCapture()
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Prepare another pack in the same process."""
        self._begin(new_config)
        return True

    def leave(self) -> None:
        """End the pack after the current epoch, and save its members' checkpoints."""
        self._is_leaving = True

    def step(self) -> dict[str, Any]:
        """Train one epoch and return its report, or what went wrong.

        A Python error becomes a result with `fault`: Tune would only report that the trial failed, and end a
        process that can go on. An error that a retry may fix becomes a result with `lost`, or with
        `restart` and the trials that have to start again. A pack that ends early, because its run or its node
        is shutting down, sets `left`.
        """
        if self._is_last and not self._is_begun:
            # A pack dispatched to this process now would soon be lost with its node, so another process must
            # get it.
            _ray.actor.exit_actor()
        result = self._train_epoch()
        if result["done"]:
            end_signs()
            # A pack that ends early holds its members' loops.
            self._reports = None
        if result["done"] and self._output is not None:
            # Whatever the pack has started and left running. The next pack must not compete with it.
            end_descendants(spare=self._outlives_packs)
            self._output.end()
        self._idle_at = time.monotonic() if result["done"] else math.inf
        return result

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Save nothing: the pack itself saves its members' checkpoints."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Load nothing, since nothing is saved."""

    def cleanup(self) -> None:
        """End the processes of this actor's trials."""
        if self._ranks is not None:
            self._ranks.end()

    def _train_epoch(self) -> dict[str, Any]:
        if _machine() in self._pack.not_on and not self._is_begun:
            # Another machine may free a worker meanwhile.
            time.sleep(HOLD_S)
            return {"elsewhere": True, "done": True}
        try:
            if self._reports is None:
                with exit_after(self._pack.start_timeout_s):
                    self._reports = self._train_pack(self._pack)
            with exit_after(self._pack.epoch_timeout_s):
                report = next(self._reports, None)
        except RankFailure as failure:
            return failure.result
        # An error that a workload raises fails the trial, not this process.
        except Exception as error:  # noqa: BLE001
            return _ended_by(error, self._pack)
        if report is None:
            return {"left": True, "done": True}
        if self._meter is not None:
            own, on_gpu = self._meter.read()
            report = report.model_copy(update={"memory_bytes": own, "device_memory_bytes": on_gpu})
        if not self._is_begun:
            report = report.model_copy(update={"card_differences": self._differences})
        self._is_begun = True
        is_over = report.epoch == self._pack.to_epoch or all(
            member.outcome is not None for member in report.members
        )
        has_left = (
            not is_over
            and self._is_leaving
            and all(m.outcome is not None or m.checkpoint is not None for m in report.members)
        )
        result = {
            "report": report.model_dump_json(),
            "worker": f"{socket.gethostname()}:{os.getpid()}",
            "done": is_over or has_left,
        }
        return {**result, "left": True} if has_left else result

    def _outlives_packs(self, process: psutil.Process) -> bool:
        """Return whether a process belongs to what this one loads once and keeps."""
        if process in self._kept or (self._output is not None and process.pid == self._output.keeper_pid):
            return True
        return _is_reused(process)

    def _leave_with_node(self) -> None:
        self._is_leaving = self._is_last = True

        def end() -> None:
            while time.monotonic() - self._idle_at < _IDLE_S:
                time.sleep(_IDLE_S / 4)
            os._exit(0)

        threading.Thread(target=end, name="leaving", daemon=True).start()

    def _begin(self, config: dict[str, Any]) -> None:
        self._pack = Pack.model_validate_json(config["pack"])
        self._cpus, self._gpus = config["cpus"], config["gpus"]
        self._versions = config.get("versions", "[]")
        self._packages = tuple(config.get("packages", ()))
        if self._output is not None:
            pack = self._pack
            self._output.begin(
                # The first process of a trial of several keeps its own.
                folder=output_folder(pack.checkpoints) if pack.checkpoints and pack.processes == 1 else None,
                pack_id=pack.pack_id,
                attempts={member.trial_id: member.attempt for member in pack.members},
            )
        if _ray.is_initialized() and self._pack.processes == 1:
            publish_signs(self._pack.pack_id, send_sign)
        self._is_begun = False
        self._differences: tuple[CardDifference, ...] = ()
        self._meter: PackMeter | None = None
        self._idle_at = math.inf
        # Created with the first epoch, so that an error or a hang there is reported like any other.
        self._reports: Iterator[EpochReport] | None = None

    def _train_pack(self, pack: Pack) -> Iterator[EpochReport]:
        if pack.processes > 1:
            self._ranks = self._ranks or TrialRanks(
                processes=pack.processes,
                cpus=self._cpus,
                gpus=self._gpus,
                packages=self._packages,
                versions=self._versions,
            )
            return self._ranks.train(pack, train_rank, is_leaving=lambda: self._is_leaving)
        from workers.memory_meters import PackMeter
        from workers.training import train_pack

        resources = self._resources = self._resources or _load_resources(cpus=self._cpus, gpus=self._gpus)
        keeper = None if self._output is None else self._output.keeper_pid
        self._meter = PackMeter(resources.device, keeper_pid=keeper)
        _check_machine(pack, self._versions, resources)
        workload, entry = resources.workloads[pack.workload], resources.optimizers[pack.optimizer]
        data = resources.data.load(workload, device=resources.device)
        self._differences = resources.data.differences(workload)
        # The data stay for later packs, and with them the processes that read them.
        self._kept = descendants()
        return train_pack(
            pack,
            workload=workload,
            entry=entry,
            data=data,
            device=resources.device,
            tuner=resources.tuner,
            is_leaving=lambda: self._is_leaving,
        )


def train_rank(pack_json: str, context: RankContext) -> dict[str, Any] | None:
    """Train a pack in one process of its trial, and send the first process's reports.

    Returns:
        None, or the result of a pack that ended early.
    """
    import torch

    from workers.memory_meters import PackMeter
    from workers.training import train_pack
    from workers.trial_processes import trial_processes

    pack, processes = Pack.model_validate_json(pack_json), trial_processes()
    use_packages([*os.environ.get("TANGENT_PACKAGES", "").split(os.pathsep), *context.packages])
    # Libraries such as Accelerate read them. A process sees no other GPU than its own.
    os.environ.update(RANK=str(processes.rank), WORLD_SIZE=str(processes.size), LOCAL_RANK="0")
    output = _rank_output() if processes.is_main else None
    if processes.is_main:
        publish_signs(pack.pack_id, send_sign)
    keeper = None if output is None else output.keeper_pid
    if output is not None:
        output.begin(
            folder=None if pack.checkpoints is None else output_folder(pack.checkpoints),
            pack_id=pack.pack_id,
            attempts={member.trial_id: member.attempt for member in pack.members},
        )
    try:
        resources = _rank_resources(context.cpus, context.gpus)
        meter = PackMeter(resources.device, keeper_pid=keeper)
        _check_machine(pack, context.versions, resources)
        workload = copy(resources.workloads[pack.workload])
        vars(workload).update(rank=processes.rank, world_size=processes.size)
        reports = train_pack(
            pack,
            workload=workload,
            entry=resources.optimizers[pack.optimizer],
            data=None,
            device=resources.device,
            is_leaving=lambda: bool(_ray.get(context.mailbox.is_leaving.remote())),
        )
        for report in reports:
            own, on_gpu = meter.read()
            of_each = torch.tensor([own, on_gpu or 0], dtype=torch.float64, device=resources.device)
            whole, whole_on_gpu = map(int, processes.mean(of_each) * processes.size)
            report = report.model_copy(
                update={
                    "memory_bytes": whole,
                    "device_memory_bytes": None if on_gpu is None else whole_on_gpu,
                }
            )
            if processes.is_main:
                _ray.get(context.mailbox.put.remote(report.model_dump_json()))
    # An error that a workload raises fails the trial, not this process.
    except Exception as error:  # noqa: BLE001
        return _ended_by(error, pack)
    finally:
        end_signs()
        end_descendants(spare=lambda process: process.pid == keeper or _is_reused(process))
        if output is not None:
            output.end()
    return None


@cache
def _rank_output() -> OutputCapture:
    return OutputCapture()


@cache
def _rank_resources(cpus: float, gpus: float) -> "_Resources":
    return _load_resources(cpus=cpus, gpus=gpus)


def _check_machine(pack: Pack, versions: str, resources: "_Resources") -> None:
    """Raise MachineUnfit if this machine lacks what the pack needs, or has another version of it."""
    from workers.workloads import what_is_missing

    expected = {version.name: version for version in map(PackageVersion.model_validate, json.loads(versions))}
    for kind, name, installed in (
        ("workload", pack.workload, resources.workloads),
        ("optimizer", pack.optimizer, resources.optimizers),
    ):
        unfit = installed.why_unfit(name, kind=kind, expected=expected)
        if unfit is not None:
            raise MachineUnfit(unfit)
    missing = what_is_missing(resources.workloads[pack.workload])
    if missing:
        raise MachineUnfit(f"{pack.workload} cannot be trained on {socket.gethostname()}: {missing}")


def _ended_by(error: Exception, pack: Pack) -> dict[str, Any]:
    """Return the result of a pack that an error ended."""
    if isinstance(error, CheckpointUnusable):
        return {"restart": str(error), "unusable": _unusable(pack), "done": True}
    if isinstance(error, CheckpointNotSaved):
        return {"lost": str(error), "done": True}
    if _is_out_of_memory(error):
        return {"exhausted": f"{type(error).__name__}: {error}"[:2000], "done": True}
    fault = describe_error(error, workload=pack.workload, machine=_machine())
    # As text: Tune flattens nested results.
    return {"fault": json.dumps(asdict(fault)), "done": True}


def _machine() -> str:
    """Return the address of this process's Ray node, or this machine's name without Ray."""
    if not _ray.is_initialized():
        return socket.gethostname()
    return str(_ray.util.get_node_ip_address())


def _unusable(pack: Pack) -> list[str]:
    """Return the ids of the pack's trials whose checkpoints cannot be read."""
    found: list[str] = []
    for member in pack.members:
        try:
            if member.checkpoint is not None:
                load(member.checkpoint)
        except CheckpointUnusable:
            found.append(member.trial_id)
    # If all can be read now, one was out of reach a moment ago or does not fit its model: trust none.
    return found or [member.trial_id for member in pack.members]


def _is_reused(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        command = " ".join(process.cmdline())
        return any(part in command for part in _REUSED)
    return False


@dataclass(frozen=True)
class _Resources:
    """What a process loads once and keeps for its lifetime."""

    device: "torch.device"
    optimizers: "Installed[OptimizerEntry]"
    workloads: "Installed[AnyWorkload]"
    data: "DataCache"
    tuner: "WidthTuner"


def _load_resources(*, cpus: float, gpus: float) -> _Resources:
    import torch

    from workers.optimizers import load_optimizers
    from workers.stacked.node_results import NodeResults
    from workers.stacked.width_tuning import WidthTuner
    from workers.trial_files import TrialFolder
    from workers.workloads import DataCache, load_workloads

    # One thread per core: at these sizes two processes of one thread beat one of two nearly everywhere.
    torch.set_num_threads(max(1, int(cpus)))
    device = torch.device("cuda:0" if torch.cuda.is_available() and gpus > 0 else "cpu")
    TrialFolder.parent = _node_folder()
    workloads = load_workloads()
    optimizers = load_optimizers()
    data = DataCache(_shared_data(), packages=workloads.packages)
    folder = _node_data("tangent-stacks")
    results = (
        None
        if folder is None
        else NodeResults(folder, workloads=workloads.packages, optimizers=optimizers.packages)
    )
    return _Resources(device, optimizers, workloads, data, WidthTuner(results, gpus=gpus))


def _node_folder() -> Path | None:
    """Return the folder of this process's Ray node, which is removed when the node ends; None without Ray."""
    return Path(_ray.get_runtime_context().get_temp_dir()) if _ray.is_initialized() else None


def _shared_data() -> "SharedData | None":
    """Return where the workers of this node share data; None without Ray."""
    from workers.workloads.shared_data import SharedData

    folder = _node_data("tangent-data")
    return None if folder is None else SharedData(folder)


def _node_data(name: str) -> Path | None:
    """Return a folder that the workers of this Ray node share; None without Ray."""
    folder = _node_folder()
    return None if folder is None else folder / _ray.get_runtime_context().get_session_name() / name


def _is_out_of_memory(error: Exception) -> bool:
    if "torch" not in sys.modules:
        return isinstance(error, MemoryError)
    from workers.memory import is_out_of_memory

    return is_out_of_memory(error)
