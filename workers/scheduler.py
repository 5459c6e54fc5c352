"""What is trained next: `PackScheduler` hands out packs and takes what they report.

It knows the record and nothing of Ray.
"""

__all__ = ["PackScheduler"]

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from studies.resolve import ResolvedStudy
from studies.spec import ADAPTIVE_SAMPLERS, StudySpec
from studies.states import FINISHED_TRIAL_STATES, TrialState
from studies.store import RunWriter
from studies.trials import PendingTrial, Report
from workers.arms import Arm
from workers.pack_protocol import EpochReport, MemberReport, Pack
from workers.packing import Packing
from workers.quarantine import Quarantine
from workers.retry import DatabaseRetry
from workers.trial_queue import TrialQueue
from workers.worker_failures import WorkerFailure

_log = logging.getLogger("tangent.run")
# A workload that fails this often without a single result is broken, whatever the configuration.
_HOPELESS_AFTER = 10
# More retries than any trial has.
_ANY = 2**31


@dataclass
class _Live:
    """A pack that has been handed out, and those of its members that have not ended it yet."""

    source: TrialQueue
    size: int
    members: dict[str, PendingTrial]
    is_started: bool = False
    # When its worker began it, or when the last report that was charged came.
    charged_at: float | None = None
    last_epoch: int = 0

    def charge_s(self, now: float, *, members: int) -> float:
        """Return each member's share of the wall time that has not been charged yet, and charge it."""
        before, self.charged_at = self.charged_at, now
        return 0.0 if before is None else (now - before) / max(1, members)


class PackScheduler:
    """Decides which trials are trained next and takes what they report; knows nothing of Tune's own classes.

    Whatever was lost or promoted comes before new trials, what has come furthest first; of several arms the
    one that is furthest behind its share, and of its replicates likewise. Confirmation trials come when there
    are no others, before a worker stands idle.
    """

    def __init__(
        self,
        spec: StudySpec,
        plan: ResolvedStudy,
        *,
        writer: RunWriter,
        checkpoints: str,
        slots: Callable[[], int],
        patience_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take up a study where its record stands.

        Args:
            spec: what was submitted.
            plan: the same, resolved.
            writer: where everything goes; no trial on its record is running.
            checkpoints: folder (any fsspec URL) for the checkpoints of this study alone.
            slots: tells how many packs can be trained at once.
            patience_s: how long a database that is away is waited for.
            clock: returns seconds, from which the wall time of packs is counted.
        """
        self._spec = spec
        self._writer = writer
        self._clock = clock
        self._patience = DatabaseRetry(patience_s)
        self._packing = Packing(
            spec, plan, checkpoints=checkpoints, slots=slots, fits=writer.stack_widths(plan.workload.name)
        )
        self._arms = {arm.name: Arm(arm, spec=spec, study=plan) for arm in plan.arms}
        # Whether what is at hand depends on results that are still to come.
        self._learns = spec.sampler in ADAPTIVE_SAMPLERS or spec.pruner.kind != "none"
        self._live: dict[str, _Live] = {}
        self._suspects = Quarantine(max_retries=spec.max_retries)
        self._failed = 0
        self._has_result = False
        self._last_failure: str | None = None
        self._outdated: deque[str] = deque()
        self.is_draining = False
        # Packs that could be trained at once, were there room; read by another thread.
        self.wanted = 0
        # Whether other studies want the same machines: then no pack waits for its worker, for it would take
        # the next that is free from them.
        self.is_sharing = False
        # Whether it drains only until it has a share of them again.
        self.is_resting = False
        # Whether it drains because its run is about to end: packs that are out are then asked to end after
        # their present epoch.
        self.is_leaving = False
        self._take_up()
        self._note_wanted()

    @property
    def is_spent(self) -> bool:
        """Whether nothing is left to begin and nothing is in flight."""
        return not self._live and (self._is_hopeless or all(arm.is_spent for arm in self._arms.values()))

    @property
    def is_drained(self) -> bool:
        """Whether the feed drains and no worker trains a pack any more.

        One may have been handed out and wait for its worker.
        """
        return self.is_draining and not any(live.is_started for live in self._live.values())

    def failure(self) -> str | None:
        """Return why every trial that has ended has failed; None unless all have."""
        if self._has_result or not self._failed:
            return None
        count = "the only trial" if self._failed == 1 else f"each of {self._failed} trials"
        return f"{count} failed: {self._last_failure}"

    def outdated_checkpoints(self) -> tuple[str, ...]:
        """Return the URLs of checkpoints that nobody will ask for any more, each once.

        Safe to call from another thread.
        """
        return tuple(self._outdated.popleft() for _ in range(len(self._outdated)))

    def next_pack(self, pack_id: str) -> Pack | None:
        """Return the next pack, or None when there is nothing to begin now."""
        pack = self._choose(pack_id)
        self._note_wanted()
        return pack

    def _choose(self, pack_id: str) -> Pack | None:
        # To ask for the share may end in a rest.
        while len(self._live) < self._most_live() and not (self.is_draining or self._is_hopeless):
            source = self._next_source()
            if source is None:
                return None
            size = self._packing.size(source, at_hand=self._at_hand(), out=len(self._live))
            group = source.first_group()
            if group is None or group.is_new:
                self._draw(source, size)
                group = source.first_group()
            if group is None:
                # The space of this arm has just proved to be used up.
                continue
            ahead = self._arms[source.plan.name].epochs_ahead(source)
            trials = source.hand_out(group, 1 if group.alone is not None else size)
            self._live[pack_id] = _Live(source, len(trials), {trial.id: trial for trial in trials})
            return self._packing.pack(pack_id, source, group, trials, epochs_ahead=ahead)
        return None

    def started(self, pack_id: str) -> None:
        """Note that a worker has begun a pack."""
        live = self._live.get(pack_id)
        if live is not None:
            live.is_started, live.charged_at = True, self._clock()
            self._patience.persist(lambda: self._writer.start(live.members.values()))

    def reported(self, pack_id: str, report: EpochReport, *, worker: str) -> None:
        """Record what a pack's members measured, and decide on those that came to a rung."""
        live = self._live.get(pack_id)
        if live is None:
            return
        fit = report.fit
        if fit is not None and self._packing.note(fit, live.source):
            self._patience.persist(lambda: self._writer.record_stack_width(fit.model_dump(mode="json")))
        charged_s = 0.0
        # A pack that leaves gives its last report again, and the store charges a report once.
        if report.epoch > live.last_epoch:
            live.last_epoch = report.epoch
            charged_s = live.charge_s(self._clock(), members=len(report.members))
        reports = [
            _as_report(member, worker=worker, pack_size=live.size, charged_s=charged_s)
            for member in report.members
        ]
        outages = self._patience.outages
        taken = self._patience.persist(lambda: self._writer.record(reports))
        if self._patience.outages > outages:
            # What was written though its answer was lost is dropped the second time.
            said = {(member.trial_id, member.attempt) for member in report.members}
            on_record = self._patience.persist(self._writer.trials)
            taken |= {t.id for t in on_record if (t.id, t.attempt) in said and t.epochs_done >= report.epoch}
        has_changed = False
        for member in report.members:
            trial = live.members.get(member.trial_id)
            if (
                trial is not None
                and member.trial_id in taken
                and self._take(live, trial, member, epoch=report.epoch)
            ):
                has_changed = True
                del live.members[trial.id]
        if has_changed:
            self._settle([live.source])

    def _take(self, live: _Live, trial: PendingTrial, member: MemberReport, *, epoch: int) -> bool:
        """Decide on what a member says that is on record; return whether this pack is over for it."""
        has_reached_rung = live.source.measured(trial, epoch, member.measurement.validation_metric)
        if member.outcome is not None:
            state = TrialState(member.outcome.state)
            if state is TrialState.COMPLETED and member.outcome.value is None:
                state = TrialState.DIVERGED
            self._end(live.source, trial, state, member.outcome.value)
            return True
        if member.checkpoint is None:
            return False
        if member.checkpoint != trial.checkpoint:
            self._forget(trial)
        if not has_reached_rung:
            # It keeps the epochs that it was handed out with: by those it is taken back.
            live.members[trial.id] = replace(trial, checkpoint=member.checkpoint)
            live.source.left(trial)
            return False
        rested = replace(trial, epochs_done=epoch, checkpoint=member.checkpoint)
        live.source.rested(rested, member.measurement.validation_metric)
        self._has_result = True
        # It got here, so it is not the one that kills its worker.
        self._suspects.clear(trial.id)
        return True

    def ended(
        self,
        pack_id: str,
        *,
        lost: WorkerFailure | None = None,
        failure: str | None = None,
        restart: str | None = None,
        unusable: Sequence[str] = (),
    ) -> None:
        """Note that a pack is over.

        Its unfinished members are queued again, or failed where trying again cannot help.

        A loss is charged, but nobody fails for one in company: whose tries are used up has a last one alone.

        Args:
            pack_id: the pack.
            lost: why it ended without an outcome; its members are tried again, from their checkpoints.
            failure: the Python error that ended it. Who was alone in the pack has failed with it; others are
                tried again alone, uncharged.
            restart: why members cannot go on from their checkpoints. Those begin again, uncharged: whoever
                does needs none to reach its next rung.
            unusable: ids of the trials whose checkpoints these are; the pack's others go on from theirs.
        """
        live = self._live.pop(pack_id, None)
        if live is None or not live.members:
            return
        members = list(live.members.values())
        charged_s = live.charge_s(self._clock(), members=len(members))
        if failure is not None and live.size > 1:
            self._suspects.failed(trial.id for trial in members)
            self._give_back(live.source, members, reason=failure, is_charged=False, charged_s=charged_s)
        elif failure is not None:
            self._give_back(live.source, members, reason=failure, max_retries=0, charged_s=charged_s)
        elif restart is not None:
            _log.warning("%d trials begin again: %s", len(unusable), restart)
            broken = [trial for trial in members if trial.id in unusable]
            self._give_back(
                live.source, broken, reason=restart, is_charged=False, from_start=True, charged_s=charged_s
            )
            self._give_back(
                live.source,
                [trial for trial in members if trial.id not in unusable],
                reason=restart,
                is_charged=False,
                charged_s=charged_s,
            )
        else:
            lost = lost or WorkerFailure("the pack ended without an outcome")
            if lost.is_charged:
                self._suspects.lost((trial.id for trial in members), is_certain=lost.is_own)
            most = _ANY if live.size > 1 else None
            self._give_back(
                live.source,
                members,
                reason=lost.reason,
                max_retries=most,
                is_charged=lost.is_charged,
                charged_s=charged_s,
            )
        self._settle([live.source])

    def hand_back(self, *, reason: str) -> None:
        """Queue whatever has been handed out again, uncharged: its workers are gone, and not by a fault."""
        while self._live:
            _, live = self._live.popitem()
            members = list(live.members.values())
            charged_s = live.charge_s(self._clock(), members=len(members))
            self._give_back(live.source, members, reason=reason, is_charged=False, charged_s=charged_s)
        self._note_wanted()

    @property
    def _is_hopeless(self) -> bool:
        """Whether so many trials failed, and nothing else ever happened, that the rest would fail too."""
        return self._failed >= _HOPELESS_AFTER and not self._has_result

    def _take_up(self) -> None:
        record, rung_values = self._writer.trials(), self._writer.rung_values()
        queued = {trial.id: trial for trial in self._writer.queued_trials()}
        for trial in sorted(record, key=lambda t: (t.arm, t.phase != "search", t.number)):
            if trial.state is TrialState.FAILED:
                self._failed, self._last_failure = self._failed + 1, trial.reason
            elif (
                trial.state in FINISHED_TRIAL_STATES and trial.state is not TrialState.CANCELLED
            ) or trial.is_waiting:
                self._has_result = True
            pending = queued.get(trial.id)
            if pending is not None and not pending.is_waiting:
                self._suspects.lost([trial.id], times=trial.retries)
            is_alone = self._suspects.is_alone(trial.id)
            self._arms[trial.arm].take_up(trial, pending, rung_values.get(trial.id, {}), is_alone=is_alone)
        self._settle(search for arm in self._arms.values() for search in arm.searches)

    def _next_source(self) -> TrialQueue | None:
        """Return the source whose turn it is; None when nothing is at hand."""
        places: list[tuple[tuple[bool, int, bool, float, float], TrialQueue]] = []
        for arm in self._arms.values():
            share = arm.share
            for source in arm.sources:
                if source.queued or source.drawable:
                    group = source.first_group()
                    begun, is_new = (0, True) if group is None else (-group.from_epoch, group.is_new)
                    places.append(((source.is_confirmation, begun, is_new, share, source.share), source))
        return min(places, key=lambda place: place[0], default=(None, None))[1]

    def _at_hand(self) -> int:
        """Return how many trials could be handed out now."""
        return sum(source.queued + source.drawable for arm in self._arms.values() for source in arm.sources)

    def _note_wanted(self) -> None:
        may_begin = (self.is_resting or not self.is_draining) and not self._is_hopeless
        self.wanted = self._packing.most_wanted(
            at_hand=self._at_hand() if may_begin else 0, out=len(self._live)
        )

    def _most_live(self) -> float:
        """Return how many packs may be out."""
        is_learning = self._learns and not all(
            search.is_spent for arm in self._arms.values() for search in arm.searches
        )
        return self._packing.most_out(has_spare=not is_learning and not self.is_sharing)

    def _draw(self, source: TrialQueue, size: int) -> None:
        """Make new trials, until a pack of such a size is at hand or no more can be made now."""
        new = source.draw(size)
        if new:
            source.enqueue(self._patience.persist(lambda: self._writer.create(new)))
        else:
            # With no more to come, some that wait may be let go.
            self._settle([source])

    def _settle(self, sources: Iterable[TrialQueue]) -> None:
        """Promote and prune the trials that wait, as far as is known by now."""
        promoted: list[tuple[PendingTrial, int]] = []
        pruned: list[PendingTrial] = []
        for source in sources:
            going, gone = source.settle()
            promoted += going
            pruned += gone
        if not promoted and not pruned:
            return
        on = [(trial.id, trial.attempt, to_epoch) for trial, to_epoch in promoted]
        off = [(trial.id, trial.attempt) for trial in pruned]
        self._patience.persist(lambda: self._writer.settle(promoted=on, pruned=off))
        # Not what the writer returns: a settling that was written though its answer was lost is passed over
        # the second time.
        for trial, to_epoch in promoted:
            self._arms[trial.arm].source(trial).enqueue(
                [replace(trial, to_epoch=to_epoch)], is_alone=self._suspects.is_alone(trial.id)
            )
        for trial in pruned:
            self._forget(trial, is_over=True)

    def _give_back(
        self,
        source: TrialQueue,
        trials: Sequence[PendingTrial],
        *,
        reason: str,
        max_retries: int | None = None,
        is_charged: bool = True,
        from_start: bool = False,
        charged_s: float = 0.0,
    ) -> None:
        """Queue trials again that were not trained to the epoch they were handed out for.

        Those that may not be tried again fail.
        """
        if not trials:
            return
        most = self._spec.max_retries if max_retries is None else max_retries
        lost = [(trial.id, trial.attempt) for trial in trials]
        level = logging.WARNING if is_charged else logging.INFO
        _log.log(level, "trials come back: %s", reason, extra={"trial_ids": [trial.id for trial in trials]})
        outages = self._patience.outages
        queued_again = self._patience.persist(
            lambda: self._writer.requeue(
                lost,
                reason=reason,
                max_retries=most,
                is_charged=is_charged,
                from_start=from_start,
                charged_s=charged_s,
            )
        )
        if self._patience.outages > outages:
            # Those given back though the answer was lost are passed over the second time.
            tries = {(trial.id, trial.attempt + 1) for trial in trials}
            queued_again = [
                trial
                for trial in self._patience.persist(self._writer.queued_trials)
                if (trial.id, trial.attempt) in tries
            ]
        again = {trial.id: trial for trial in queued_again}
        for trial in trials:
            queued = again.get(trial.id)
            source.taken_back(trial, epochs_done=trial.epochs_done if queued is None else queued.epochs_done)
            if queued is None:
                self._last_failure = reason
                self._end(source, trial, TrialState.FAILED, None)
                continue
            if from_start:
                source.restarted(trial)
                self._forget(trial)
            source.enqueue([queued], is_alone=self._suspects.is_alone(queued.id))

    def _end(self, source: TrialQueue, trial: PendingTrial, state: TrialState, value: float | None) -> None:
        source.ended(trial, state, value)
        self._failed += int(state is TrialState.FAILED)
        self._has_result |= state is not TrialState.FAILED
        self._forget(trial, is_over=True)

    def _forget(self, trial: PendingTrial, *, is_over: bool = False) -> None:
        """Let the checkpoint that a trial went on from be discarded.

        All else that is kept of one that is over goes too.
        """
        if trial.checkpoint is not None:
            self._outdated.append(trial.checkpoint)
        if is_over:
            self._suspects.clear(trial.id)


def _as_report(member: MemberReport, *, worker: str, pack_size: int, charged_s: float) -> Report:
    outcome = member.outcome
    report = Report(
        member.trial_id,
        member.attempt,
        member.measurement,
        worker=worker,
        checkpoint=member.checkpoint,
        pack_size=pack_size,
        charged_s=charged_s,
    )
    if outcome is None:
        return report
    return replace(
        report,
        ended=outcome.state,
        value=outcome.value,
        best_epoch=outcome.best_epoch,
        test_value=outcome.test_value,
        reason=outcome.reason,
    )
