"""Ray Tune's part: our `Searcher` hands out packs, a callback notes their starts and losses. Tune places and keeps alive; it decides nothing."""

__all__ = ["run_packs"]

import logging
import os
import tempfile
import uuid
from collections.abc import Callable
from typing import Any, TypeVar, cast

from ray.tune import Callback, CheckpointConfig, FailureConfig, RunConfig, Stopper, TuneConfig, Tuner
from ray.tune import with_resources as _with_resources  # pyright: ignore[reportUnknownVariableType] # Ray's types are incomplete
from ray.tune.search import Searcher

from studies.spec import StudySpec
from workers.feed import PackFeed
from workers.pack import EpochReport
from workers.trainable import PackTrainable

T = TypeVar("T")
_log = logging.getLogger("tangent.run")
# Tune's own record is not ours: no result files, no snapshots, no waiting ten minutes for a trial to be cleaned up.
_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_FORCE_TRIAL_CLEANUP_S": "2",
    "TUNE_RESULT_BUFFER_LENGTH": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    # The feed says how many packs may be handed out. Tune would begin with one, and start the next worker only when the first is up.
    "TUNE_MAX_PENDING_TRIALS_PG": "100000",
}


class _NotPickled:
    """What Tune's snapshots must leave out: they pickle the searcher and its like, and we never restore one."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _FeedSearcher(_NotPickled, Searcher):
    """Tune's view of the feed: a suggestion is a pack.

    Tune swallows some errors of a searcher and wraps others; so the first is kept here, ends the experiment, and is raised after it.
    """

    def __init__(self, feed: PackFeed, *, resources: dict[str, float]) -> None:
        super().__init__()
        self._feed = feed
        self._resources = resources
        self._pack_ids: dict[str, str] = {}
        self.broken: Exception | None = None

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        pack_id = uuid.uuid4().hex[:12]
        pack = self._guarded(lambda: self._feed.next_pack(pack_id))
        if pack is None:
            is_over = self.broken is not None or self._feed.is_draining or self._feed.is_spent
            # Tune compares with this string, which its own type for the method leaves out.
            return cast("Any", Searcher.FINISHED) if is_over else None
        self._pack_ids[trial_id] = pack_id
        return {"pack": pack.model_dump_json(), **self._resources}

    def begin(self, trial_id: str) -> None:
        self._guarded(lambda: self._feed.started(self._pack_ids[trial_id]))

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if "report" in result:
            report = EpochReport.model_validate_json(result["report"])
            self._guarded(lambda: self._feed.reported(self._pack_ids[trial_id], report, worker=result["worker"]))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:  # noqa: FBT001, FBT002 # Tune's signature
        # Tune hands over the last result here and not through on_trial_result.
        if result is not None and not error:
            self.on_trial_result(trial_id, result)
        said = result if result is not None and not error else {}
        if "failure" in said:
            _log.warning("a pack failed: %s", said["failure"], extra={"exception": said["traceback"]})
        lost = "its worker was lost" if error else said.get("lost")
        self._guarded(
            lambda: self._feed.ended(
                self._pack_ids.pop(trial_id),
                lost=lost,
                failure=said.get("failure"),
                restart=said.get("restart"),
                unusable=said.get("unusable", ()),
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


class _Starts(_NotPickled, Callback):
    """Tells the feed when a pack has really begun: it may have to wait for a worker."""

    def __init__(self, searcher: _FeedSearcher) -> None:
        self._searcher = searcher

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002 # Tune's signature
        self._searcher.begin(trial.trial_id)


class _Until(_NotPickled, Stopper):
    """Ends everything in flight as soon as the run says so."""

    def __init__(self, is_over: Callable[[], bool]) -> None:
        self._is_over = is_over

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:  # noqa: ARG002 # Tune's signature
        return False

    def stop_all(self) -> bool:
        return self._is_over()


def run_packs(feed: PackFeed, spec: StudySpec, *, is_over: Callable[[], bool]) -> None:
    """Train packs until the feed is spent or drained, or until `is_over`; what the feed could not do is raised.

    Raises:
        Superseded: another attempt has taken the study over, or it is closed.
        StoreUnavailable: the database was away for longer than the feed's patience.
    """
    os.environ.update(_ENVIRONMENT)
    resources = {"cpu": spec.resources.cpus_per_pack, "gpu": spec.resources.gpus_per_pack}
    searcher = _FeedSearcher(feed, resources={"cpus": resources["cpu"], "gpus": resources["gpu"]})
    with tempfile.TemporaryDirectory(prefix="tangent-") as folder:
        Tuner(
            _with_resources(PackTrainable, resources),
            tune_config=TuneConfig(search_alg=searcher, num_samples=-1, reuse_actors=True, trial_dirname_creator=lambda trial: trial.trial_id),
            run_config=RunConfig(
                name="run",
                storage_path=folder,
                callbacks=[_Starts(searcher)],
                stop=_Until(lambda: is_over() or searcher.broken is not None or feed.is_drained),
                verbose=0,
                failure_config=FailureConfig(max_failures=0),
                checkpoint_config=CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            ),
        ).fit()
    if searcher.broken is not None:
        raise searcher.broken
