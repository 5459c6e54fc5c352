"""Ray Tune's part in a run: our `Searcher` dispatches packs, and a callback notes their starts and ends.

Tune places actors and supervises them. It decides nothing.
"""

__all__ = ["run_packs"]

import json
import logging
import os
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import ray
from ray._private import serialization
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune import (
    Callback,
    CheckpointConfig,
    FailureConfig,
    PlacementGroupFactory,
    RunConfig,
    Stopper,
    TuneConfig,
    Tuner,
)

# Ray's types are incomplete.
from ray.tune import with_resources as _with_resources  # pyright: ignore[reportUnknownVariableType]
from ray.tune.execution import class_cache, tune_controller
from ray.tune.search import Searcher
from ray.tune.utils import object_cache

from studies.catalog import PackageVersion
from studies.child_environment import trial_environment
from studies.spec import StudySpec
from workers.pack_protocol import EpochReport, Pack
from workers.ray_signs import forget_sign, read_sign
from workers.scheduler import PackScheduler
from workers.signs_of_life import EVERY_S, Sign
from workers.trainable import PackTrainable
from workers.worker_failures import WorkerFailure, from_ray, hung, out_of_memory
from workers.workload_errors import WorkloadFault

T = TypeVar("T")
_log = logging.getLogger("tangent.run")
# Ray's functions have no complete types.
_ray = cast("Any", ray)
# A worker ends itself when an epoch takes too long. One that is silent for this much longer was stopped, or
# waits for a driver or a disk that does not answer.
_GRACE_S = 30.0
# We use none of Tune's own storage, so: no result files, no snapshots, and no waiting ten minutes for a trial
# to be cleaned up.
_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_FORCE_TRIAL_CLEANUP_S": "2",
    "TUNE_RESULT_BUFFER_LENGTH": "0",
    # Otherwise Tune itself retries a pack whose machine has left the cluster: with the same attempt number,
    # and from its beginning.
    "RAY_TRAIN_COUNT_PREEMPTION_AS_FAILURE": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    # The scheduler decides how many packs may be in flight. Otherwise Tune starts with one, and starts the
    # next worker only when the first is up.
    "TUNE_MAX_PENDING_TRIALS_PG": "100000",
}


class _ActorOutOfMemory(OutOfMemoryError, RayActorError):
    """The error of an actor that Ray's memory monitor has killed.

    Unlike Ray's own, it is a `RayActorError`: any other error makes Tune end the whole experiment.
    """

    def __init__(self, message: str) -> None:
        self.message = message
        RayActorError.__init__(self, error_msg=message)


class _NotPickled:
    """Excludes a class from Tune's snapshots, which pickle the searcher and are never restored."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


@dataclass
class _PackTrial:
    """A pack in flight, and Tune's trial for it.

    Attributes:
        pack: the pack.
        dispatched_at: when it was dispatched.
        trial: Tune's trial; None until a worker has started it.
        has_reported: whether it has reported an epoch.
        last_heard_at: when a worker started it or last reported; None while it waits for a worker.
        sign: the last sign of life since then; None without one.
        sign_at: when that came.
    """

    pack: Pack
    dispatched_at: float = field(default_factory=time.monotonic)
    trial: Any = None
    has_reported: bool = False
    last_heard_at: float | None = None
    sign: Sign | None = None
    sign_at: float | None = None

    @property
    def silent_s(self) -> float:
        return 0.0 if self.last_heard_at is None else time.monotonic() - self.last_heard_at

    @property
    def actor(self) -> Any:
        """Ray's handle of its worker; None without one."""
        return None if self.trial is None else self.trial.temporary_state.ray_actor

    @property
    def is_stuck(self) -> bool:
        """Whether its worker should have ended itself but has not."""
        timeout_s = self.pack.epoch_timeout_s if self.has_reported else self.pack.start_timeout_s
        return self.silent_s > timeout_s + _GRACE_S

    def forget_sign(self) -> None:
        """Remove the sign of its worker, which may never have been read."""
        if time.monotonic() - self.dispatched_at >= EVERY_S:
            forget_sign(self.pack.pack_id)

    def ask_to_leave(self) -> None:
        """Ask its worker to end it after the current epoch.

        The worker serves the request between two epochs: an actor handles one call at a time, in order.
        """
        if self.actor is not None:
            self.actor.leave.remote()


class PackSearcher(_NotPickled, Searcher):
    """Tune's view of the scheduler: each suggestion is a pack.

    Tune swallows some of a searcher's errors and wraps others. So the first error is kept here, ends the
    experiment, and is raised after it.
    """

    def __init__(self, scheduler: PackScheduler, *, config: Mapping[str, Any]) -> None:
        super().__init__()
        self._scheduler = scheduler
        self._recorder = scheduler.recorder
        self._config = config
        self._in_flight: dict[str, _PackTrial] = {}
        self._is_leaving = False
        self._signs_read_at = time.monotonic()
        self.error: Exception | None = None

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        pack_id = uuid.uuid4().hex[:12]
        pack = self._guarded(lambda: self._scheduler.next_pack(pack_id))
        if pack is None:
            is_over = (
                self.error is not None or self._scheduler.mode.is_draining or self._scheduler.is_finished
            )
            # Tune accepts this string, although its type for the method does not include it.
            return cast("Any", Searcher.FINISHED) if is_over else None
        self._in_flight[trial_id] = _PackTrial(pack)
        return {**self._config, "pack": pack.model_dump_json()}

    def note_start(self, trial: Any) -> None:
        """Record that a worker has started a pack."""
        started = self._in_flight[trial.trial_id]
        started.trial, started.last_heard_at = trial, time.monotonic()
        self._guarded(lambda: self._recorder.started(started.pack.pack_id))
        if self._is_leaving:
            started.ask_to_leave()

    def read_signs(self) -> None:
        """Record which packs have given a new sign of life, every few seconds."""
        now = time.monotonic()
        if now - self._signs_read_at < EVERY_S:
            return
        self._signs_read_at = now
        for each in self._in_flight.values():
            # A pack that reports often needs no other sign.
            if each.silent_s < EVERY_S:
                continue
            pack_id = each.pack.pack_id
            sign = read_sign(pack_id)
            if sign is not None and sign != each.sign:
                each.sign, each.sign_at = sign, now
                self._guarded(partial(self._recorder.heard, pack_id, sign.trial_ids, sign.step))

    def leave(self) -> None:
        """Ask every pack in flight to end after its current epoch."""
        if not self._is_leaving:
            self._is_leaving = True
            for each in self._in_flight.values():
                each.ask_to_leave()

    def kill_stuck(self) -> None:
        """Kill the workers that should have ended themselves but have not."""
        for each in self._in_flight.values():
            if each.is_stuck and each.actor is not None:
                _ray.kill(each.actor)

    def kill_all(self) -> None:
        """Kill the workers of all packs in flight. Tune would wait for their epochs to finish."""
        for each in self._in_flight.values():
            if each.actor is not None:
                _ray.kill(each.actor)

    def forget_signs(self) -> None:
        """Remove the signs of the packs that were in flight when Tune has ended."""
        for each in self._in_flight.values():
            each.forget_sign()

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        reporting = self._in_flight[trial_id]
        if "report" in result:
            report = EpochReport.model_validate_json(result["report"])
            self._guarded(
                lambda: self._recorder.reported(reporting.pack.pack_id, report, worker=result["worker"])
            )
        reporting.last_heard_at, reporting.has_reported = time.monotonic(), True
        reporting.sign_at = None

    # Tune's signature.
    def on_trial_complete(
        self,
        trial_id: str,
        result: dict[str, Any] | None = None,
        error: bool = False,  # noqa: FBT001, FBT002
    ) -> None:
        # Tune passes the last result here instead of to on_trial_result.
        if result is not None and not error:
            self.on_trial_result(trial_id, result)
        last = result if result is not None and not error else {}
        fault = WorkloadFault(**json.loads(last["fault"])) if "fault" in last else None
        if fault is not None:
            _log.warning("a pack failed: %s", fault.reason, extra={"exception": fault.traceback})
        ended = self._in_flight.pop(trial_id)
        ended.forget_sign()
        worker_failure = _worker_failure(ended, last, has_died=error)
        self._guarded(
            lambda: self._recorder.ended(
                ended.pack.pack_id,
                worker_failure=worker_failure,
                fault=fault,
                restart_reason=last.get("restart"),
                unusable=last.get("unusable", ()),
                is_handed_back="elsewhere" in last,
            )
        )

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: all state is in the database."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing: all state is in the database."""

    def _guarded(self, call: Callable[[], T]) -> T | None:
        if self.error is None:
            try:
                return call()
            except Exception as error:  # noqa: BLE001 # raised again once Tune has ended
                self.error = error
        return None


def _worker_failure(ended: _PackTrial, last: dict[str, Any], *, has_died: bool) -> WorkerFailure | None:
    """Return why a pack ended without an outcome; None if it did not."""
    if has_died:
        # A worker that ends itself after a timeout can no longer report why.
        if ended.silent_s >= ended.pack.epoch_timeout_s:
            silent_s = None if ended.sign_at is None else time.monotonic() - ended.sign_at
            return hung(ended.pack.epoch_timeout_s, silent_s=silent_s)
        return from_ray(_ray_error(ended.trial))
    if "left" in last:
        return WorkerFailure("its run or its machine was asked to end", is_charged=False)
    if "exhausted" in last:
        return out_of_memory(last["exhausted"])
    return WorkerFailure(last["lost"]) if "lost" in last else None


def _ray_error(trial: Any) -> str:
    """Return Ray's error text for a trial's actor; empty if the actor never started."""
    try:
        text = Path(trial.error_file).read_text(errors="replace") if trial is not None else ""
    except (OSError, TypeError):
        text = ""
    _log.warning("a worker was lost: %s", text or "it had not started")
    return text


class _StartCallback(_NotPickled, Callback):
    """Notes when a worker starts a pack, which may be long after its dispatch."""

    def __init__(self, searcher: PackSearcher) -> None:
        self._searcher = searcher

    # Tune's signature.
    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
        self._searcher.note_start(trial)


class _RunStopper(_NotPickled, Stopper):
    """Kills stuck workers, lets packs leave, and ends everything when the run is over.

    Tune calls it between any two of its events.
    """

    def __init__(
        self, searcher: PackSearcher, scheduler: PackScheduler, *, is_over: Callable[[], bool]
    ) -> None:
        self._searcher = searcher
        self._scheduler = scheduler
        self._is_over = is_over

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:  # noqa: ARG002 # Tune's signature
        return False

    def stop_all(self) -> bool:
        self._searcher.kill_stuck()
        self._searcher.read_signs()
        if self._scheduler.mode.is_leaving:
            self._searcher.leave()
        if self._is_over() or self._searcher.error is not None or self._scheduler.is_drained:
            self._searcher.kill_all()
            return True
        return False


def _cache_of_idle_workers(scheduler: PackScheduler, **options: Any) -> Any:
    """Return Tune's cache of idle workers, each of which keeps its resources.

    Tune always keeps one for the next pack. While the study may train no more packs, another study needs it.
    """
    cache = cast("Any", object_cache)._ObjectCache(**options)  # noqa: SLF001
    evict = cache.flush_cached_objects

    def flush(*, force_all: bool = False) -> Any:
        return evict(force_all=force_all or scheduler.is_at_its_share)

    cache.flush_cached_objects = flush
    return cache


def run_packs(
    scheduler: PackScheduler,
    spec: StudySpec,
    *,
    is_over: Callable[[], bool],
    packages: Sequence[str] = (),
    versions: Mapping[str, PackageVersion] | None = None,
) -> None:
    """Train packs until the scheduler is finished or drained, or until `is_over` returns True.

    When the run leaves, packs end after their current epoch and save checkpoints there. An error of the
    scheduler or its recorder is raised.

    Args:
        scheduler: dispatches the packs.
        spec: the study.
        is_over: whether to end now, without waiting for packs.
        packages: folders from which the workers import packages besides the installed ones.
        versions: packages by name that add workloads and optimizers; a worker with others trains no pack.

    Raises:
        Superseded: another attempt has taken the study over, or the study is closed.
        StoreUnavailable: the database was unavailable for too long.
    """
    os.environ.update(_ENVIRONMENT)
    # Ray looks the error class up here when an actor is lost; nothing else uses this name.
    cast("Any", serialization).OutOfMemoryError = _ActorOutOfMemory
    cast("Any", tune_controller)._ObjectCache = partial(_cache_of_idle_workers, scheduler)  # noqa: SLF001
    # Tune copies variables of this process to its workers, such as keys for S3.
    tune_variables = cast("Any", class_cache)
    tune_variables.ENV_VARS_TO_PROPAGATE &= trial_environment(os.environ).keys()
    resources = {"cpu": spec.resources.cpus_per_pack, "gpu": spec.resources.gpus_per_pack}
    processes = spec.resources.processes_per_trial
    placement = (
        resources
        if processes == 1
        # The pack's actor only passes on what the processes report.
        else PlacementGroupFactory(
            [{}, *[{name.upper(): amount / processes for name, amount in resources.items()}] * processes]
        )
    )
    config = {
        "cpus": resources["cpu"],
        "gpus": resources["gpu"],
        "packages": list(packages),
        # As text: Tune flattens nested configurations.
        "versions": json.dumps([version.model_dump() for version in (versions or {}).values()]),
    }
    searcher = PackSearcher(scheduler, config=config)
    # In the node's folder: if this process is killed, it is removed with that.
    with tempfile.TemporaryDirectory(dir=_ray.get_runtime_context().get_temp_dir()) as folder:
        Tuner(
            _with_resources(PackTrainable, placement),
            tune_config=TuneConfig(
                search_alg=searcher,
                num_samples=-1,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=RunConfig(
                name="run",
                storage_path=folder,
                callbacks=[_StartCallback(searcher)],
                stop=_RunStopper(searcher, scheduler, is_over=is_over),
                verbose=0,
                failure_config=FailureConfig(max_failures=0),
                checkpoint_config=CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            ),
        ).fit()
    searcher.forget_signs()
    if searcher.error is not None:
        raise searcher.error
