"""Records what workers report about packs: results, promotions, retries and failures.

It writes to the database and keeps the arms' queues up to date. It knows nothing of Ray.
"""

__all__ = ["PackRecorder"]

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from studies.resolve import ResolvedStudy
from studies.searchable import stack_kind
from studies.space import Parameters, configuration_key
from studies.spec import StudySpec
from studies.states import FINISHED_TRIAL_STATES, TrialState
from studies.store import RunWriter
from studies.trials import CardDifference, NewTrial, PendingTrial
from studies.usable_values import ENOUGH_FAILED, ArmTally
from studies.views import TrialView
from workers.arms import Arm
from workers.pack_protocol import EpochReport, MemberReport, Pack
from workers.packing import MeasuredWidths
from workers.pair_blocks import PairBlocks
from workers.quarantine import Quarantine
from workers.retry import DatabaseRetry
from workers.stored_reports import stored_report
from workers.trial_queue import TrialQueue
from workers.unfit_machines import UnfitMachines
from workers.worker_failures import WorkerFailure
from workers.workload_errors import WorkloadFault

_log = logging.getLogger("tangent.run")
# More retries than a trial can use.
_UNLIMITED = 2**31


@dataclass
class _PackInFlight:
    """A dispatched pack, and those of its members that have not finished it."""

    queue: TrialQueue
    size: int
    members: dict[str, PendingTrial]
    # Of its first member.
    parameters: Parameters
    has_own_seeds: bool
    is_started: bool = False
    is_heard: bool = False
    # When its worker started it, or when its last charged report arrived.
    charged_at: float | None = None
    last_epoch: int = 0

    def charge_s(self, now: float, *, members: int) -> float:
        """Charge the wall time since the last charge; return each member's part of it."""
        before, self.charged_at = self.charged_at, now
        return 0.0 if before is None else (now - before) / max(1, members)


class PackRecorder:
    """Stores what packs report and applies it to the queues of a study's arms.

    Attributes:
        arms: by name.
        widths: the stack widths measured so far.
        unfit_machines: trials to be tried on another machine.
    """

    def __init__(
        self,
        spec: StudySpec,
        plan: ResolvedStudy,
        *,
        writer: RunWriter,
        retry: DatabaseRetry,
        artifacts: str,
        clock: Callable[[], float] = time.monotonic,
        count_machines: Callable[[], int] = lambda: 1,
    ) -> None:
        """Load a study's trials from the database.

        Args:
            spec: the study as submitted.
            plan: the study as resolved.
            writer: writes to the study; no trial of it is running.
            retry: how long to wait for the database.
            artifacts: folder (any fsspec URL) for the files that this study keeps.
            clock: returns seconds, from which the wall time of packs is charged.
            count_machines: returns how many machines train.
        """
        self._max_retries = spec.max_retries
        self._artifacts = artifacts
        self._writer = writer
        self._retry = retry
        self._clock = clock
        self.arms = {arm.name: Arm(arm, spec=spec, study=plan) for arm in plan.arms}
        self.widths = MeasuredWidths(
            writer.stack_widths(plan.workload.name), has_gpu=spec.resources.gpus_per_pack > 0
        )
        self._card_differences: tuple[CardDifference, ...] = ()
        # What makes a model differ, for the models whose layers were tested for scale invariance.
        self._tested_models: set[tuple[object, ...]] = {()} if writer.knows_scale_invariance() else set()
        self._packs: dict[str, _PackInFlight] = {}
        self._quarantine = Quarantine(max_retries=spec.max_retries)
        self.unfit_machines = UnfitMachines(count_machines=count_machines, clock=clock)
        self._failed = 0
        self._has_result = False
        self._last_failure: str | None = None
        # How the trials of each arm's search have ended.
        self._tallies = {name: ArmTally() for name in self.arms}
        self._outdated: deque[str] = deque()
        # When each pack's worker has died.
        self._lost_at: dict[str, float] = {}
        self._blocks = PairBlocks(self.arms, spec=spec, plan=plan, writer=writer, retry=retry)
        self._load()
        for name, keys in writer.weights_kept().items():
            self.arms[name].confirmation.keeps(keys)

    @property
    def in_flight(self) -> int:
        """How many packs are dispatched; some may still wait for a worker."""
        return len(self._packs)

    @property
    def is_training(self) -> bool:
        """Whether a worker has started one of the packs in flight."""
        return any(pack.is_started for pack in self._packs.values())

    @property
    def is_hopeless(self) -> bool:
        """Whether the study must fail: an arm, or the whole study, can no longer get a usable value.

        A pack in flight may still prove the opposite.
        """
        return (self._failed >= ENOUGH_FAILED and not self._has_result) or any(self._unusable_arms())

    def lost_packs(self, within_s: float) -> set[str]:
        """Return the ids of the packs whose worker has died within the last `within_s`."""
        since = self._clock() - within_s
        self._lost_at = {pack_id: at for pack_id, at in self._lost_at.items() if at > since}
        return set(self._lost_at)

    def failure_reason(self) -> str | None:
        """Return why the study fails: an arm, or all of them, has no usable value. None if it does not."""
        if not self._has_result and self._failed:
            trials = "the only trial" if self._failed == 1 else f"each of {self._failed} trials"
            return f"{trials} failed: {self._last_failure}"
        unusable = [
            f"no trial of arm {name!r} has a usable value: {self._tallies[name].describe()}"
            for name in self._unusable_arms()
        ]
        return "; ".join(unusable) or None

    def _unusable_arms(self) -> Iterator[str]:
        for name, arm in self.arms.items():
            is_over = all(search.is_over for search in arm.searches)
            if self._tallies[name].is_unusable(is_over=is_over):
                yield name

    def outdated_checkpoints(self) -> tuple[str, ...]:
        """Return the URLs of checkpoints that are no longer needed, each URL in one call only.

        Safe to call from another thread.
        """
        return tuple(self._outdated.popleft() for _ in range(len(self._outdated)))

    def create(self, queue: TrialQueue, new: Sequence[NewTrial]) -> None:
        """Store new trials and queue them."""
        queue.enqueue(self._retry.persist(lambda: self._writer.create(new)))

    def dispatched(self, pack_id: str, queue: TrialQueue, trials: Sequence[PendingTrial]) -> None:
        """Note that a pack of these trials is in flight."""
        self._packs[pack_id] = _PackInFlight(
            queue,
            len(trials),
            {trial.id: trial for trial in trials},
            trials[0].parameters,
            has_own_seeds=len({trial.seed for trial in trials}) > 1,
        )

    def started(self, pack_id: str) -> None:
        """Record that a worker has started a pack."""
        pack = self._packs.get(pack_id)
        if pack is not None:
            pack.is_started, pack.charged_at = True, self._clock()
            self._retry.persist(lambda: self._writer.start(pack.members.values()))

    def reported(self, pack_id: str, report: EpochReport, *, worker: str) -> None:
        """Record one epoch of a pack's members, and promote or prune those at a rung."""
        pack = self._packs.get(pack_id)
        if pack is None:
            return
        width = report.stack_width
        if width is not None and self.widths.add(width, pack.parameters, has_own_seeds=pack.has_own_seeds):
            card = width.model_dump(mode="json", exclude={"is_for_own_seeds"})
            self._retry.persist(lambda: self._writer.record_stack_width(card))
        if report.card_differences and report.card_differences != self._card_differences:
            self._card_differences = report.card_differences
            self._retry.persist(lambda: self._writer.record_card_differences(report.card_differences))
        invariance = report.scale_invariance
        if invariance is not None and (model := stack_kind(pack.parameters)) not in self._tested_models:
            self._retry.persist(lambda: self._writer.record_scale_invariance(invariance))
            self._tested_models.add(model)
        charged_s = 0.0
        # A pack that leaves repeats its last report, and the store charges a report once.
        if report.epoch > pack.last_epoch:
            pack.last_epoch = report.epoch
            charged_s = pack.charge_s(self._clock(), members=len(report.members))
        reports = [
            stored_report(
                member,
                report,
                worker=worker,
                pack_size=pack.size,
                charged_s=charged_s,
                artifacts=self._artifacts,
            )
            for member in report.members
        ]
        accepted = self._retry.persist(
            lambda: self._writer.record(reports), read_back=lambda: self._stored(report)
        )
        has_changed = False
        for member in report.members:
            trial = pack.members.get(member.trial_id)
            if (
                trial is not None
                and member.trial_id in accepted
                and self._apply(pack, trial, member, epoch=report.epoch)
            ):
                has_changed = True
                if any(kept.weights_of and kept.sha256 for kept in member.kept):
                    self.arms[trial.arm].confirmation.keeps([configuration_key(trial.parameters)])
                del pack.members[trial.id]
        if has_changed:
            self.settle([pack.queue])

    def heard(self, pack_id: str, trial_ids: Sequence[str], step: int | None) -> None:
        """Record that a pack goes on, and how many steps its trials in training have taken in their epoch."""
        pack = self._packs.get(pack_id)
        if pack is not None:
            pack.is_heard = True
            attempts = {trial.id: trial.attempt for trial in pack.members.values()}
            self._retry.persist(lambda: self._writer.hear(attempts, dict.fromkeys(trial_ids, step)))

    def ended(
        self,
        pack_id: str,
        *,
        worker_failure: WorkerFailure | None = None,
        fault: WorkloadFault | None = None,
        restart_reason: str | None = None,
        unusable: Sequence[str] = (),
        is_handed_back: bool = False,
    ) -> None:
        """Record that a pack has ended, and requeue or fail the members that have not finished it.

        A trial never fails because of its pack: after the last shared attempt it gets one alone.

        Args:
            pack_id: the pack.
            worker_failure: why it ended without an outcome. Its members are retried from their checkpoints.
            fault: the Python error that ended it. A trial that was alone in the pack fails with it, and so do
                all of its members if the error does not depend on a configuration; else they are retried
                alone, uncharged.
            restart_reason: why members cannot resume from their checkpoints. They start over, uncharged: a
                trial that starts over reaches its next rung without a checkpoint.
            unusable: ids of the trials whose checkpoints cannot be used; the others resume from theirs.
            is_handed_back: whether its machine is one of those that lack what a member needs.
        """
        pack = self._packs.pop(pack_id, None)
        if worker_failure is not None and worker_failure.has_died:
            self._lost_at[pack_id] = self._clock()
        if pack is None or not pack.members:
            return
        members = list(pack.members.values())
        charged_s = pack.charge_s(self._clock(), members=len(members))
        if fault is not None and fault.unfit_machine is not None:
            again = self.unfit_machines.worth_a_try(
                pack.members, host=fault.unfit_machine, reason=fault.reason, epoch=pack.last_epoch
            )
            tried = [trial for trial in members if trial.id in again]
            self._requeue(pack.queue, tried, reason=fault.reason, is_charged=False, charged_s=charged_s)
            members = [trial for trial in members if trial.id not in again]
        if is_handed_back:
            self._requeue_handed_back(pack)
        elif fault is not None and pack.size > 1 and not fault.is_for_all:
            self._quarantine.add_error(trial.id for trial in members)
            self._requeue(pack.queue, members, reason=fault.reason, is_charged=False, charged_s=charged_s)
        elif fault is not None:
            self._requeue(
                pack.queue,
                members,
                reason=fault.reason,
                traceback=fault.traceback,
                max_retries=0,
                charged_s=charged_s,
            )
        elif restart_reason is not None:
            _log.warning("%d trials start over: %s", len(unusable), restart_reason)
            for is_from_start in (True, False):
                self._requeue(
                    pack.queue,
                    [trial for trial in members if (trial.id in unusable) is is_from_start],
                    reason=restart_reason,
                    is_charged=False,
                    is_from_start=is_from_start,
                    charged_s=charged_s,
                )
        else:
            failure = worker_failure or WorkerFailure("the pack ended without an outcome")
            if failure.is_charged:
                self._quarantine.add_failures(
                    (trial.id for trial in members), is_own_fault=failure.is_own_fault
                )
            self._requeue(
                pack.queue,
                members,
                reason=failure.reason,
                max_retries=_UNLIMITED if pack.size > 1 else None,
                is_charged=failure.is_charged,
                charged_s=charged_s,
            )
        self.settle([pack.queue])

    def _requeue_handed_back(self, pack: _PackInFlight) -> None:
        """Requeue the members of a pack that its machine handed back, or fail those that waited too long."""
        # A machine may hold another pack too, which is started but never heard.
        is_training = any(
            each.is_started
            and (each.is_heard or each.last_epoch > 0 or not self.unfit_machines.hosts(each.members))
            for each in self._packs.values()
        )
        failures = self.unfit_machines.handed_back(pack.members, is_training=is_training)
        for trial_id, reason in failures.items():
            self._requeue(pack.queue, [pack.members[trial_id]], reason=reason, max_retries=0)
        waiting = [trial for trial in pack.members.values() if trial.id not in failures]
        reason = "its machine lacks what it needs, and handed it back"
        self._requeue(pack.queue, waiting, reason=reason, is_charged=False)

    def needs_scale_invariance(self, pack: Pack) -> bool:
        """Return whether a pack, whose layers are shown, should find which of them are scale-invariant."""
        return (
            any(member.measures_layers for member in pack.members)
            and stack_kind(pack.members[0].parameters) not in self._tested_models
        )

    def requeue_all(self, *, reason: str) -> None:
        """Requeue all packs in flight, uncharged: their workers are gone, but not because of a failure."""
        while self._packs:
            _, pack = self._packs.popitem()
            members = list(pack.members.values())
            charged_s = pack.charge_s(self._clock(), members=len(members))
            self._requeue(pack.queue, members, reason=reason, is_charged=False, charged_s=charged_s)

    def settle(self, queues: Iterable[TrialQueue]) -> None:
        """Promote and prune waiting trials, and add pairs, as far as results allow."""
        self._blocks.look()
        promoted: list[tuple[PendingTrial, int]] = []
        pruned: list[PendingTrial] = []
        for queue in queues:
            decided = queue.settle()
            promoted += decided[0]
            pruned += decided[1]
        if not promoted and not pruned:
            return
        promotions = [(trial.id, trial.attempt, to_epoch) for trial, to_epoch in promoted]
        prunings = [(trial.id, trial.attempt) for trial in pruned]
        # The writer's return value is not used: after an outage it may be empty although all was written.
        self._retry.persist(lambda: self._writer.settle(promoted=promotions, pruned=prunings))
        for trial, to_epoch in promoted:
            self._enqueue(self.arms[trial.arm].queue_of(trial), replace(trial, to_epoch=to_epoch))
        for trial in pruned:
            self._count(trial, TrialState.PRUNED, None, reason=None)
            self._discard_checkpoint(trial)
            self._quarantine.release(trial.id)

    def _load(self) -> None:
        stored, rung_values = self._writer.trials(), self._writer.rung_values()
        queued = {trial.id: trial for trial in self._writer.queued_trials()}
        for trial in sorted(stored, key=lambda t: (t.arm, t.phase != "search", t.number)):
            if trial.state is TrialState.FAILED:
                self._failed, self._last_failure = self._failed + 1, trial.reason
            elif (
                trial.state in FINISHED_TRIAL_STATES and trial.state is not TrialState.CANCELLED
            ) or trial.is_waiting:
                self._has_result = True
            if trial.is_waiting:
                self._tallies[trial.arm].reached_rung += trial.phase == "search"
            elif trial.state in FINISHED_TRIAL_STATES:
                self._count(trial, trial.state, trial.value, reason=trial.reason)
            pending = queued.get(trial.id)
            if pending is not None and not pending.is_waiting:
                self._quarantine.add_failures([trial.id], count=trial.retries)
            is_alone = self._quarantine.contains(trial.id)
            self.arms[trial.arm].load(trial, pending, rung_values.get(trial.id, {}), is_alone=is_alone)
        self.settle(search for arm in self.arms.values() for search in arm.searches)

    def _apply(self, pack: _PackInFlight, trial: PendingTrial, member: MemberReport, *, epoch: int) -> bool:
        """Apply a stored report; return whether the member has finished this pack."""
        self.unfit_machines.reported(trial.id, epoch=epoch)
        has_reached_rung = pack.queue.measured(trial, epoch, member.measurement.validation_metric)
        if member.outcome is not None:
            state = TrialState(member.outcome.state)
            if state is TrialState.COMPLETED and member.outcome.value is None:
                state = TrialState.DIVERGED
            self._end(pack.queue, trial, state, member.outcome.value, reason=member.outcome.reason)
            return True
        if member.checkpoint is None:
            return False
        if member.checkpoint != trial.checkpoint:
            self._discard_checkpoint(trial)
        if not has_reached_rung:
            # `epochs_done` stays as dispatched: an interruption subtracts from there.
            pack.members[trial.id] = replace(trial, checkpoint=member.checkpoint)
            pack.queue.checkpointed(trial)
            return False
        waiting = replace(trial, epochs_done=epoch, checkpoint=member.checkpoint)
        pack.queue.reached_rung(waiting, member.measurement.validation_metric)
        self._has_result = True
        self._tallies[trial.arm].reached_rung += trial.phase == "search"
        # It reached its rung, so it does not kill its worker.
        self._quarantine.release(trial.id)
        return True

    def _stored(self, report: EpochReport) -> frozenset[str]:
        """Return the ids of the trials whose part of a report is in the database."""
        attempts = {(member.trial_id, member.attempt) for member in report.members}
        return frozenset(
            trial.id
            for trial in self._writer.trials()
            if (trial.id, trial.attempt) in attempts and trial.epochs_done >= report.epoch
        )

    def _requeue(
        self,
        queue: TrialQueue,
        trials: Sequence[PendingTrial],
        *,
        reason: str,
        max_retries: int | None = None,
        is_charged: bool = True,
        is_from_start: bool = False,
        charged_s: float = 0.0,
        traceback: str | None = None,
    ) -> None:
        """Requeue trials that did not reach their target epoch; fail those without retries left."""
        if not trials:
            return
        attempts = [(trial.id, trial.attempt) for trial in trials]
        level = logging.WARNING if is_charged else logging.INFO
        _log.log(level, "trials requeued: %s", reason, extra={"trial_ids": [trial.id for trial in trials]})
        requeued = self._retry.persist(
            lambda: self._writer.requeue(
                attempts,
                reason=reason,
                max_retries=self._max_retries if max_retries is None else max_retries,
                is_charged=is_charged,
                from_start=is_from_start,
                charged_s=charged_s,
                traceback=traceback,
            ),
            read_back=lambda: self._queued_attempts({(id_, attempt + 1) for id_, attempt in attempts}),
        )
        by_id = {trial.id: trial for trial in requeued}
        for trial in trials:
            again = by_id.get(trial.id)
            queue.interrupted(trial, epochs_done=trial.epochs_done if again is None else again.epochs_done)
            if again is None:
                self._end(queue, trial, TrialState.FAILED, None, reason=reason)
                continue
            if is_from_start:
                queue.restarted(trial)
                self._discard_checkpoint(trial)
            self._enqueue(queue, again)

    def _queued_attempts(self, attempts: set[tuple[str, int]]) -> tuple[PendingTrial, ...]:
        return tuple(trial for trial in self._writer.queued_trials() if (trial.id, trial.attempt) in attempts)

    def _enqueue(self, queue: TrialQueue, trial: PendingTrial) -> None:
        queue.enqueue([trial], is_alone=self._quarantine.contains(trial.id))

    def _end(
        self,
        queue: TrialQueue,
        trial: PendingTrial,
        state: TrialState,
        value: float | None,
        *,
        reason: str | None,
    ) -> None:
        queue.ended(trial, state, value)
        self._count(trial, state, value, reason=reason)
        if state is TrialState.FAILED:
            self._failed, self._last_failure = self._failed + 1, reason
        self._has_result |= state is not TrialState.FAILED
        self._discard_checkpoint(trial)
        self._quarantine.release(trial.id)
        self.unfit_machines.release(trial.id)

    def _count(
        self, trial: TrialView | PendingTrial, state: TrialState, value: float | None, *, reason: str | None
    ) -> None:
        """Count a trial of the search that has ended, for its arm."""
        if trial.phase == "search":
            if state is TrialState.COMPLETED and value is None:
                state = TrialState.DIVERGED
            self._tallies[trial.arm].add(state, reason=reason)

    def _discard_checkpoint(self, trial: PendingTrial) -> None:
        if trial.checkpoint is not None:
            self._outdated.append(trial.checkpoint)
