"""Ray Tune's part: our `Searcher` hands out packs, a callback notes their starts and losses.

Tune places and keeps alive; it decides nothing.
"""

__all__ = ["run_packs"]

import logging
import os
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import ray
from ray._private import serialization
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune import Callback, CheckpointConfig, FailureConfig, RunConfig, Stopper, TuneConfig, Tuner

# Ray's types are incomplete.
from ray.tune import with_resources as _with_resources  # pyright: ignore[reportUnknownVariableType]
from ray.tune.search import Searcher

from studies.spec import StudySpec
from workers.pack_protocol import EpochReport, Pack
from workers.scheduler import PackScheduler
from workers.trainable import PackTrainable
from workers.worker_failures import WorkerFailure, exhausted, hung, of_worker

T = TypeVar("T")
_log = logging.getLogger("tangent.run")
# Ray's functions have no complete types.
_ray = cast("Any", ray)
# A worker ends itself in time; who is silent for longer has been stopped, or waits for a driver or a disk
# that does not answer.
_GRACE_S = 30.0
# Tune's own record is not ours: no result files, no snapshots, no waiting ten minutes for a trial to be
# cleaned up.
_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_FORCE_TRIAL_CLEANUP_S": "2",
    "TUNE_RESULT_BUFFER_LENGTH": "0",
    # Tune would try a pack again by itself that a machine has lost which left the cluster: with the same
    # attempt, from its beginning.
    "RAY_TRAIN_COUNT_PREEMPTION_AS_FAILURE": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    # The feed says how many packs may be handed out. Tune would begin with one, and start the next worker
    # only when the first is up.
    "TUNE_MAX_PENDING_TRIALS_PG": "100000",
}


class _OutOfMemory(OutOfMemoryError, RayActorError):
    """What Ray's memory monitor ends an actor with, as the loss of an actor.

    Of any other error Tune would end the whole experiment.
    """

    def __init__(self, message: str) -> None:
        self.message = message
        RayActorError.__init__(self, error_msg=message)


class _NotPickled:
    """What Tune's snapshots must leave out.

    They pickle the searcher and its like, and we never restore one.
    """

    def __getstate__(self) -> dict[str, Any]:
        return {}


@dataclass
class _Flight:
    """A pack in flight, as Tune knows it."""

    pack: Pack
    trial: Any = None
    is_heard_of: bool = False
    # When a worker began it or was heard of last; None while it waits for one.
    heard_at: float | None = None

    @property
    def silent_s(self) -> float:
        return 0.0 if self.heard_at is None else time.monotonic() - self.heard_at

    @property
    def actor(self) -> Any:
        """Ray's handle of its worker; None where it has none."""
        return None if self.trial is None else self.trial.temporary_state.ray_actor

    @property
    def is_stuck(self) -> bool:
        """Whether it has been silent for longer than its worker should have let it."""
        within_s = self.pack.epoch_timeout_s if self.is_heard_of else self.pack.start_timeout_s
        return self.silent_s > within_s + _GRACE_S


class _FeedSearcher(_NotPickled, Searcher):
    """Tune's view of the feed: a suggestion is a pack.

    Tune swallows some errors of a searcher and wraps others; so the first is kept here, ends the experiment,
    and is raised after it.
    """

    def __init__(self, feed: PackScheduler, *, resources: dict[str, float]) -> None:
        super().__init__()
        self._feed = feed
        self._resources = resources
        self._flights: dict[str, _Flight] = {}
        self._is_leaving = False
        self.broken: Exception | None = None

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        pack_id = uuid.uuid4().hex[:12]
        pack = self._guarded(lambda: self._feed.next_pack(pack_id))
        if pack is None:
            is_over = self.broken is not None or self._feed.is_draining or self._feed.is_spent
            # Tune compares with this string, which its own type for the method leaves out.
            return cast("Any", Searcher.FINISHED) if is_over else None
        self._flights[trial_id] = _Flight(pack)
        return {"pack": pack.model_dump_json(), **self._resources}

    def begin(self, trial: Any) -> None:
        """Note that a worker has begun a pack."""
        flight = self._flights[trial.trial_id]
        flight.trial, flight.heard_at = trial, time.monotonic()
        self._guarded(lambda: self._feed.started(flight.pack.pack_id))
        if self._is_leaving:
            _ask_to_leave(flight)

    def leave(self) -> None:
        """Let every pack in flight end after its present epoch."""
        if not self._is_leaving:
            self._is_leaving = True
            for flight in self._flights.values():
                _ask_to_leave(flight)

    def end_hung(self) -> None:
        """End the workers of packs that were silent for too long and have not ended themselves.

        They are ended whatever keeps them from it.
        """
        for flight in self._flights.values():
            if flight.is_stuck and flight.actor is not None:
                _ray.kill(flight.actor)

    def end_all(self) -> None:
        """End the workers of all packs in flight at once.

        Tune would let them finish their epochs first, for as long as it waits.
        """
        for flight in self._flights.values():
            if flight.actor is not None:
                _ray.kill(flight.actor)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        flight = self._flights[trial_id]
        if "report" in result:
            report = EpochReport.model_validate_json(result["report"])
            self._guarded(lambda: self._feed.reported(flight.pack.pack_id, report, worker=result["worker"]))
        flight.heard_at, flight.is_heard_of = time.monotonic(), True

    # Tune's signature.
    def on_trial_complete(
        self,
        trial_id: str,
        result: dict[str, Any] | None = None,
        error: bool = False,  # noqa: FBT001, FBT002
    ) -> None:
        # Tune hands over the last result here and not through on_trial_result.
        if result is not None and not error:
            self.on_trial_result(trial_id, result)
        said = result if result is not None and not error else {}
        if "failure" in said:
            _log.warning("a pack failed: %s", said["failure"], extra={"exception": said["traceback"]})
        flight = self._flights.pop(trial_id)
        lost = _loss(flight, said, has_died=error)
        failure, restart, unusable = said.get("failure"), said.get("restart"), said.get("unusable", ())
        self._guarded(
            lambda: self._feed.ended(
                flight.pack.pack_id, lost=lost, failure=failure, restart=restart, unusable=unusable
            )
        )

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the record is in SQL."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing: the record is in SQL."""

    def _guarded(self, call: Callable[[], T]) -> T | None:
        if self.broken is None:
            try:
                return call()
            except Exception as error:  # noqa: BLE001 # raised again once Tune has ended
                self.broken = error
        return None


def _ask_to_leave(flight: _Flight) -> None:
    # It is served between two epochs: an actor does one thing at a time, in the order in which it was asked.
    if flight.actor is not None:
        flight.actor.leave.remote()


def _loss(flight: _Flight, said: dict[str, Any], *, has_died: bool) -> WorkerFailure | None:
    """Return why a pack was lost, as far as it was."""
    if has_died:
        # A worker ends itself when an epoch takes too long, and cannot say why any more.
        return (
            hung(flight.pack.epoch_timeout_s)
            if flight.silent_s >= flight.pack.epoch_timeout_s
            else of_worker(_last_words(flight.trial))
        )
    if "left" in said:
        return WorkerFailure("its run or its machine was asked to end", is_charged=False)
    if "exhausted" in said:
        return exhausted(said["exhausted"])
    return WorkerFailure(said["lost"]) if "lost" in said else None


def _last_words(trial: Any) -> str:
    """Return what Ray said of the end of a trial's actor; nothing where it never began."""
    try:
        said = Path(trial.error_file).read_text(errors="replace") if trial is not None else ""
    except (OSError, TypeError):
        said = ""
    _log.warning("a worker was lost: %s", said or "it had not begun")
    return said


class _Starts(_NotPickled, Callback):
    """Tells the feed when a pack has really begun: it may have to wait for a worker."""

    def __init__(self, searcher: _FeedSearcher) -> None:
        self._searcher = searcher

    # Tune's signature.
    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
        self._searcher.begin(trial)


class _Watch(_NotPickled, Stopper):
    """Asked between any two of Tune's events.

    Ends what hangs, lets packs leave, and ends everything in flight as soon as the run says so.
    """

    def __init__(self, searcher: _FeedSearcher, feed: PackScheduler, *, is_over: Callable[[], bool]) -> None:
        self._searcher = searcher
        self._feed = feed
        self._is_over = is_over

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:  # noqa: ARG002 # Tune's signature
        return False

    def stop_all(self) -> bool:
        self._searcher.end_hung()
        if self._feed.is_leaving:
            self._searcher.leave()
        if self._is_over():
            self._searcher.end_all()
            return True
        return False


def run_packs(feed: PackScheduler, spec: StudySpec, *, is_over: Callable[[], bool]) -> None:
    """Train packs until the feed is spent or drained, or until `is_over`.

    What the feed could not do is raised.

    Once the feed is leaving packs end after their present epochs, and their trials' states are left there.

    Raises:
        Superseded: another attempt has taken the study over, or it is closed.
        StoreUnavailable: the database was away for longer than the feed's patience.
    """
    os.environ.update(_ENVIRONMENT)
    # Where Ray reads off which error a lost actor is told with; nothing else here asks for it.
    cast("Any", serialization).OutOfMemoryError = _OutOfMemory
    resources = {"cpu": spec.resources.cpus_per_pack, "gpu": spec.resources.gpus_per_pack}
    searcher = _FeedSearcher(feed, resources={"cpus": resources["cpu"], "gpus": resources["gpu"]})
    with tempfile.TemporaryDirectory(prefix="tangent-") as folder:
        Tuner(
            _with_resources(PackTrainable, resources),
            tune_config=TuneConfig(
                search_alg=searcher,
                num_samples=-1,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=RunConfig(
                name="run",
                storage_path=folder,
                callbacks=[_Starts(searcher)],
                stop=_Watch(
                    searcher,
                    feed,
                    is_over=lambda: is_over() or searcher.broken is not None or feed.is_drained,
                ),
                verbose=0,
                failure_config=FailureConfig(max_failures=0),
                checkpoint_config=CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            ),
        ).fit()
    if searcher.broken is not None:
        raise searcher.broken
