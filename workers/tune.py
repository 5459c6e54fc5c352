"""Ray Tune's part: our `Searcher` hands out packs, a callback notes their starts and losses. Tune places and keeps alive; it decides nothing."""

__all__ = ["PackFeed", "run_packs"]

import logging
import os
import tempfile
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from ray.tune import Callback, CheckpointConfig, FailureConfig, RunConfig, Stopper, TuneConfig, Tuner
from ray.tune import with_resources as _with_resources  # pyright: ignore[reportUnknownVariableType] # Ray's types are incomplete
from ray.tune.search import Searcher

from studies.errors import StoreUnavailable
from studies.resolve import ResolvedArm, ResolvedStudy
from studies.seeds import trial_seed
from studies.spec import StudySpec
from studies.states import FINISHED_TRIAL_STATES, TrialState
from studies.store import NewTrial, PendingTrial, Report, RunWriter
from studies.views import TrialView
from workers.pack import EpochReport, Member, MemberReport, Pack
from workers.sampling import ArmSampler
from workers.trainable import PackTrainable

T = TypeVar("T")
_log = logging.getLogger("tangent.run")
_TRY_AGAIN_AFTER_S = 0.5
# A workload that fails this often without a single result is broken, whatever the configuration.
_HOPELESS_AFTER = 10
# Tune's own record is not ours: no result files, no snapshots, no waiting ten minutes for a trial to be cleaned up.
_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_FORCE_TRIAL_CLEANUP_S": "2",
    "TUNE_RESULT_BUFFER_LENGTH": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}


class PackFeed:
    """Decides which trials are trained next and takes what they report; knows nothing of Tune's own classes."""

    def __init__(self, spec: StudySpec, plan: ResolvedStudy, *, writer: RunWriter, record: Sequence[TrialView], patience_s: float) -> None:
        """Take up a study where its record stands.

        Args:
            spec: what was submitted.
            plan: the same, resolved.
            writer: where everything goes.
            record: every trial so far, none of them running.
            patience_s: how long a database that is away is waited for.
        """
        self._spec = spec
        self._plan = plan
        self._writer = writer
        self._patience_s = patience_s
        self._arms = {arm.name: arm for arm in plan.arms}
        self._samplers = {arm.name: ArmSampler(arm, sampler=spec.sampler, direction=plan.workload.direction, seed=spec.seed) for arm in plan.arms}
        self._begun = {arm.name: 0 for arm in plan.arms}
        self._exhausted: set[str] = set()
        self._ends: Counter[TrialState] = Counter()
        self._pending: deque[PendingTrial] = deque()
        self._live: dict[str, tuple[PendingTrial, ...]] = {}
        self._started: set[str] = set()
        for trial in sorted(record, key=lambda t: (t.arm, t.number)):
            self._begun[trial.arm] += 1
            self._samplers[trial.arm].remember(trial.number, trial.parameters, trial.state, trial.value)
            if trial.state in FINISHED_TRIAL_STATES:
                self._ends[trial.state] += 1
            if trial.state is TrialState.QUEUED:
                self._pending.append(PendingTrial(trial.id, trial.arm, trial.number, trial.attempt, trial.parameters, trial.seed))
        self.is_draining = False

    @property
    def is_spent(self) -> bool:
        """Whether nothing is left to begin and nothing is in flight."""
        return not self._live and (self._is_hopeless or (not self._pending and self._furthest_behind() is None))

    @property
    def _is_hopeless(self) -> bool:
        """Whether so many trials failed, and nothing else ever happened, that the rest would only fail as well."""
        return self._ends[TrialState.FAILED] >= _HOPELESS_AFTER and self._ends.total() == self._ends[TrialState.FAILED]

    @property
    def is_drained(self) -> bool:
        """Whether the feed drains and no worker trains a pack any more, though one may have been handed out and wait for its worker."""
        return self.is_draining and not self._started

    def next_pack(self, pack_id: str) -> Pack | None:
        """Return the next pack, or None when there is nothing to begin now."""
        limit = self._spec.resources.max_concurrent_packs
        if self.is_draining or self._is_hopeless or (limit is not None and len(self._live) >= limit):
            return None
        trial = self._pending.popleft() if self._pending else self._new_trial()
        if trial is None:
            return None
        self._live[pack_id] = (trial,)
        training = self._spec.training
        return Pack(
            pack_id=pack_id,
            workload=self._plan.workload.name,
            optimizer=self._arms[trial.arm].card.name,
            members=(Member(trial_id=trial.id, attempt=trial.attempt, parameters=trial.parameters, seed=trial.seed),),
            from_epoch=0,
            to_epoch=self._plan.epochs,
            epochs=self._plan.epochs,
            batch_size=self._plan.batch_size,
            schedule=training.schedule,
            warmup_fraction=training.warmup_fraction,
            decay_1d=training.decay_1d,
            objective_at=self._spec.objective.at,
            maximize=self._plan.workload.direction == "maximize",
        )

    def started(self, pack_id: str) -> None:
        """Note that a worker has begun a pack."""
        self._started.add(pack_id)
        self._persist(lambda: self._writer.start(self._live.get(pack_id, ())))

    def reported(self, pack_id: str, report: EpochReport, *, worker: str) -> None:
        """Record what a pack's members measured, and tell the sampler of those that ended."""
        trials = {trial.id: trial for trial in self._live.get(pack_id, ())}
        taken = self._persist(lambda: self._writer.record([_as_report(member, worker=worker) for member in report.members]))
        for member in report.members:
            trial = trials.get(member.trial_id)
            if trial is None or member.outcome is None or member.trial_id not in taken:
                continue
            state = TrialState(member.outcome.state)
            self._ends[state] += 1
            self._samplers[trial.arm].tell(trial.number, state, member.outcome.value)
            self._live[pack_id] = tuple(t for t in self._live[pack_id] if t.id != trial.id)

    def ended(self, pack_id: str, *, lost: str | None = None, failure: str | None = None) -> None:
        """Note that a pack is over: its unfinished members failed with it, or are queued again where the machine lost them.

        Args:
            pack_id: the pack.
            lost: why the machine lost it; its members are retried.
            failure: the Python error that ended it; retrying would only repeat it.
        """
        self._started.discard(pack_id)
        unfinished = self._live.pop(pack_id, ())
        if not unfinished:
            return
        reason = failure or lost or "the pack ended without an outcome"
        retries = 0 if failure is not None else self._spec.max_retries
        lost_trials = [(t.id, t.attempt) for t in unfinished]
        again = self._persist(lambda: self._writer.give_back(lost_trials, reason=reason, max_retries=retries))
        self._pending.extend(again)
        for trial in unfinished:
            if trial.id not in {t.id for t in again}:
                self._ends[TrialState.FAILED] += 1
                self._samplers[trial.arm].tell(trial.number, TrialState.FAILED, None)

    def hand_back(self, *, reason: str) -> None:
        """Queue whatever has been handed out again, uncharged: its workers are gone, and not by a fault."""
        trials = [(trial.id, trial.attempt) for trials in self._live.values() for trial in trials]
        if not trials:
            return
        self._live.clear()
        self._started.clear()
        again = self._persist(lambda: self._writer.give_back(trials, reason=reason, max_retries=self._spec.max_retries, is_charged=False))
        self._pending.extendleft(reversed(again))

    def _persist(self, write: Callable[[], T]) -> T:
        """Return what a write returns, waiting for a database that is away: a restart of it costs no trial."""
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                return write()
            except StoreUnavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_TRY_AGAIN_AFTER_S)

    def _new_trial(self) -> PendingTrial | None:
        while (arm := self._furthest_behind()) is not None:
            number = self._begun[arm.name]
            sampler = self._samplers[arm.name]
            parameters = arm.defaults if number == 0 else sampler.propose(number)
            if parameters is None:
                self._exhausted.add(arm.name)
                continue
            if number == 0:
                sampler.remember(0, parameters, TrialState.RUNNING, None)
            self._begun[arm.name] += 1
            seed = trial_seed(self._spec.seed, 0)
            origin = "default" if number == 0 else "sampled"
            return self._create(NewTrial(arm.name, number, origin, parameters, seed))
        return None

    def _create(self, new: NewTrial) -> PendingTrial:
        return self._persist(lambda: self._writer.create([new]))[0]

    def _furthest_behind(self) -> ResolvedArm | None:
        """Return the arm that has begun the smallest share of its trials; None when all have begun all."""
        open_arms = [arm for arm in self._plan.arms if self._begun[arm.name] < arm.trials and arm.name not in self._exhausted]
        return min(open_arms, key=lambda arm: self._begun[arm.name] / arm.trials, default=None)


def _as_report(member: MemberReport, *, worker: str) -> Report:
    outcome = member.outcome
    report = Report(member.trial_id, member.attempt, member.measurement.model_dump(), worker=worker)
    if outcome is None:
        return report
    return Report(
        member.trial_id,
        member.attempt,
        member.measurement.model_dump(),
        ended=outcome.state,
        value=outcome.value,
        best_epoch=outcome.best_epoch,
        test_value=outcome.test_value,
        reason=outcome.reason,
        worker=worker,
    )


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
        failure = result.get("failure") if result is not None and not error else None
        if result is not None and failure is not None:
            _log.warning("a pack failed: %s\n%s", failure, result["traceback"])
        lost = "its worker was lost" if error else None
        self._guarded(lambda: self._feed.ended(self._pack_ids.pop(trial_id), lost=lost, failure=failure))

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
    """Tells the feed when a pack has really begun: Tune asks for one more than fits and lets it wait."""

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
