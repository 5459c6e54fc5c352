"""The processes of one trial on Ray: Ray Train's worker group, in the placement group of the pack's actor.

Ray Tune reserves the CPUs and GPUs of the pack's actor and of all its processes in one placement group. The
actor starts the processes there with Ray Train's worker group, and Ray Train's torch backend connects them.
Ray Train's `TorchTrainer` would reserve a second placement group, outside that of Ray Tune.

Ray ends the processes with the actor that has started them.
"""

__all__ = ["Mailbox", "RankContext", "RankFailure", "TrialRanks", "prepare_rank"]

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import ray
from ray.exceptions import RayActorError

from studies.process_tree import adopt_orphans
from workers.pack_protocol import EpochReport, Pack
from workers.parent_watchdog import exit_without

# Ray's functions have no complete types.
_ray = cast("Any", ray)
_POLL_S = 0.5
# A process whose peer was killed fails too, and may do so before Ray knows of the death.
_DEATH_KNOWN_WITHIN_S = 5.0
# Beyond the timeout of an epoch, after which the actor ends itself and all processes.
_COLLECTIVE_GRACE_S = 60


class RankFailure(Exception):
    """A process of a trial has failed.

    Attributes:
        result: what the pack's actor reports: the result of a pack that ended early.
    """

    def __init__(self, result: dict[str, Any]) -> None:
        super().__init__(str(result))
        self.result = result


@dataclass(frozen=True)
class RankContext:
    """What each process of a trial needs beside the pack.

    Attributes:
        cpus: CPUs of a process.
        gpus: GPUs of a process.
        packages: folders from which packages are imported besides the installed ones.
        versions: the versions of packages that the study's dispatcher has, as JSON.
        mailbox: Ray's handle of the mailbox.
    """

    cpus: float
    gpus: float
    packages: tuple[str, ...]
    versions: str
    mailbox: Any


class Mailbox:
    """A Ray actor between a pack's actor and the first process of its trial."""

    def __init__(self) -> None:
        self._reports: asyncio.Queue[str] = asyncio.Queue()
        self._is_leaving = False

    async def put(self, report: str) -> None:
        """Add a report."""
        await self._reports.put(report)

    async def take(self, timeout_s: float) -> str | None:
        """Return the next report; None if there is none in time."""
        try:
            return await asyncio.wait_for(self._reports.get(), timeout_s)
        except TimeoutError:
            return None

    async def rest(self) -> list[str]:
        """Return all reports that have not been taken."""
        return [self._reports.get_nowait() for _ in range(self._reports.qsize())]

    async def leave(self) -> None:
        """Ask the processes to end after their current epoch."""
        self._is_leaving = True

    async def is_leaving(self) -> bool:
        """Return whether the processes are to end after their current epoch."""
        return self._is_leaving


class TrialRanks:
    """The processes of a trial, kept for the packs that follow."""

    def __init__(
        self, *, processes: int, cpus: float, gpus: float, packages: tuple[str, ...], versions: str
    ) -> None:
        """Keep what the processes need; they start with the first pack.

        Args:
            processes: how many there are.
            cpus: CPUs of all together.
            gpus: GPUs of all together.
            packages: folders from which packages are imported besides the installed ones.
            versions: the versions of packages that the study's dispatcher has, as JSON.
        """
        self._processes = processes
        self._cpus, self._gpus = cpus / processes, gpus / processes
        self._packages, self._versions = packages, versions
        self._group: Any = None

    def train(
        self,
        pack: Pack,
        train_rank: Callable[[str, RankContext], dict[str, Any] | None],
        *,
        is_leaving: Callable[[], bool],
    ) -> Iterator[EpochReport]:
        """Train a pack in all processes, and yield the first one's reports.

        Args:
            pack: what to train.
            train_rank: trains the pack, given as JSON, in one process; returns None, or the result of a pack
                that ended early.
            is_leaving: whether to end the pack after its current epoch.

        Raises:
            RankFailure: a process has failed, and all have ended.
        """
        mailbox = _ray.remote(num_cpus=0)(Mailbox).remote()
        context = RankContext(self._cpus, self._gpus, self._packages, self._versions, mailbox)
        is_whole = False
        reports: list[EpochReport] = []
        try:
            self._start(pack)
            futures: list[Any] = self._group.execute_async(train_rank, pack.model_dump_json(), context)
            has_left = False
            while True:
                taken = _ray.get(mailbox.take.remote(_POLL_S))
                if taken is not None:
                    reports.append(EpochReport.model_validate_json(taken))
                # The caller may not ask again after the last one.
                is_last = bool(reports) and _ends(reports[0], pack)
                if reports and not is_last:
                    yield reports.pop()
                    continue
                if is_leaving() and not has_left:
                    mailbox.leave.remote()
                    has_left = True
                are_done = _are_done(futures)
                _raise_failure(futures)
                if are_done:
                    # One may have come since the last look, but none comes after the processes are done.
                    rest = _ray.get(mailbox.rest.remote())
                    reports += [EpochReport.model_validate_json(report) for report in rest]
                    is_whole = True
                    yield from reports
                    return
        finally:
            if not is_whole:
                self.end()
            _ray.kill(mailbox)

    def _start(self, pack: Pack) -> None:
        """Start the processes unless they have been, and connect them.

        Raises:
            RankFailure: one has ended meanwhile.
        """
        if self._group is not None:
            return
        from ray.train._internal.worker_group import WorkerGroup
        from ray.train.torch import TorchConfig

        backend = TorchConfig(
            backend="nccl" if self._gpus > 0 else "gloo",
            timeout_s=math.ceil(pack.epoch_timeout_s) + _COLLECTIVE_GRACE_S,
        )
        resources = {"CPU": self._cpus, **({"GPU": self._gpus} if self._gpus > 0 else {})}
        try:
            self._group = WorkerGroup(self._processes, resources)
            self._group.sort_workers_by_node_id_and_gpu_id()
            self._group.execute(prepare_rank)
            cast("Any", backend.backend_cls)().on_start(self._group, backend)
        except RayActorError as error:
            raise RankFailure(
                {"lost": f"a process of the trial could not start: {error}"[:2000], "done": True}
            ) from error

    def end(self) -> None:
        """End the processes."""
        if self._group is not None:
            group, self._group = self._group, None
            with suppress(Exception):
                group.shutdown(patience_s=0)


def prepare_rank() -> None:
    """Prepare a process of a trial: it ends with its cluster, and adopts what its children leave behind."""
    exit_without(_ray.get_runtime_context().gcs_address)
    adopt_orphans()


def _ends(report: EpochReport, pack: Pack) -> bool:
    """Return whether a report is the last of its pack."""
    return report.epoch == pack.to_epoch or all(member.outcome is not None for member in report.members)


def _are_done(futures: list[Any]) -> bool:
    done, _ = _ray.wait(futures, num_returns=len(futures), timeout=0)
    return len(done) == len(futures)


def _raise_failure(futures: list[Any]) -> None:
    """Raise RankFailure if a process has failed.

    A process that died counts before one that raised an error: the death of a peer raises errors in others.
    """
    failed = _failed(futures)
    if failed is None:
        return
    give_up_at = time.monotonic() + _DEATH_KNOWN_WITHIN_S
    while "lost" not in failed and time.monotonic() < give_up_at and not _are_done(futures):
        time.sleep(_POLL_S)
        failed = _failed(futures) or failed
    raise RankFailure(failed)


def _failed(futures: list[Any]) -> dict[str, Any] | None:
    done, _ = _ray.wait(futures, num_returns=len(futures), timeout=0)
    first: dict[str, Any] | None = None
    for rank, future in enumerate(futures):
        if future not in done:
            continue
        try:
            result = _ray.get(future)
        except RayActorError as error:
            return {"lost": f"process {rank} of the trial ended: {error}"[:2000], "done": True}
        first = first or result
    return first
