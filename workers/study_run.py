"""One claimed study while it runs: its packs, its lease and its end.

The main thread trains packs through Ray Tune. A second thread renews the lease and reads what the study's
owner wants. A third copies trials to Optuna's tables and removes checkpoints that are no longer needed.
"""

__all__ = ["NO_DATABASE", "StudyRun"]

import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from studies.cluster_views import NodesView
from studies.errors import StoreUnavailable, Superseded
from studies.resolve import ResolvedStudy
from studies.states import CLOSED_STUDY_STATES, StudyMove, StudyState
from studies.store import Store
from studies.trials import Claim
from workers.checkpoint_gc import remove_unkept_files_of
from workers.environment import environment
from workers.first_check import FirstCheck
from workers.local_ray import accelerators, slots, training_machines
from workers.output_collector import OutputCollector
from workers.package_versions import package_versions
from workers.packages import use_packages
from workers.recorder import PackRecorder
from workers.retry import DatabaseRetry
from workers.scheduler import PackScheduler, RunMode
from workers.storage import discard
from workers.tune import run_packs

_log = logging.getLogger("tangent.run")
NO_DATABASE = 74
"""Exit code of a run whose database was unavailable for too long. Neither study nor run is at fault."""

_RENEW_EVERY_S = 0.5
# For packs to finish their current epoch and save checkpoints; a dispatcher that stops gives its runs 8 s in
# all. Packs with longer epochs have saved a checkpoint after each.
_LEAVE_WITHIN_S = 4.5
# For training to end after a stop or cancel. After that the run exits and its dispatcher closes the study.
_END_WITHIN_S = 7.0
_COPY_EVERY_S = 3.0
_COPY_FRACTION = 0.2
_ENDING = frozenset({StudyState.STOPPING, StudyState.CANCELLING})
_PROGRESS_EVERY_S = 1.0
# Computing progress reads every trial, so it may take at most this fraction of the run's time.
_PROGRESS_FRACTION = 1 / 50
_COUNT_SLOTS_EVERY_S = 2.0
_REPORT_NODES_EVERY_S = 10.0
_POLL_S = 0.25
_LOST_RECENTLY_S = 3.0


class StudyRun:
    """Runs one claimed study until it closes, is paused or is handed over."""

    def __init__(
        self,
        store: Store,
        claim: Claim,
        *,
        lease_s: float,
        checkpoints: str,
        artifacts: str,
        machines: str,
        turn_s: float,
        packages: Sequence[str] = (),
        count_slots: Callable[[float, float, int], int] = slots,
        count_machines: Callable[[], int] = training_machines,
        lent: Callable[[], NodesView] | None = None,
    ) -> None:
        """Prepare the run; nothing trains yet.

        Args:
            store: the database.
            claim: the study and the number of this attempt.
            lease_s: seconds without a heartbeat after which the run counts as lost.
            checkpoints: folder for this study's checkpoints, a path or URL.
            artifacts: folder for the files that this study keeps, a path or URL.
            machines: name of its Ray cluster; the studies on one cluster share it fairly.
            turn_s: seconds of a time slice, where studies take turns.
            packages: folders from which the workers import packages besides the installed ones.
            count_slots: returns how many packs of this many CPUs, GPUs and processes fit on the cluster.
            count_machines: returns how many machines of the cluster train.
            lent: returns what the cluster lends to trials, for the page; None reports nothing.
        """
        self._lent, self._reported_at = lent, -math.inf
        self._count_cluster_slots, self._count_machines = count_slots, count_machines
        self._store = store
        self._claim = claim
        self._writer = store.run_writer(claim, lease_s=lease_s)
        self._lease_s = lease_s
        self._retry = DatabaseRetry(lease_s)
        self._checkpoints = checkpoints
        self._artifacts = artifacts
        self._output = OutputCollector(checkpoints, writer=self._writer)
        self._machines = machines
        self._turn_s = turn_s
        self._packages = packages
        use_packages(packages)
        self._versions = package_versions()
        self._slots, self._slots_counted_at = 1, -math.inf
        self._cluster_slots = 1
        self._wanted = StudyState.RUNNING
        # When packs are ended that have not left by themselves, after the run was asked to leave.
        self._leave_by: float | None = None
        # When the process ends if training does not, after a stop or cancel.
        self._end_by = math.inf
        self._is_yielding = False
        self._is_done = threading.Event()
        self._scheduler: PackScheduler | None = None
        self.spec = store.study(claim.study_id).spec

    @property
    def mode(self) -> RunMode:
        """What the run asks of its scheduler at the moment."""
        return RunMode(
            is_paused=self._wanted is StudyState.PAUSED,
            is_yielding=self._is_yielding,
            is_leaving=self._leave_by is not None,
            has_no_share=self._slots < min(1, self._cluster_slots),
            is_sharing=self._slots < self._cluster_slots,
        )

    def leave(self) -> None:
        """Hand the study over: end packs after their current epoch, and requeue their trials uncharged."""
        if self._leave_by is None:
            self._leave_by = time.monotonic() + _LEAVE_WITHIN_S

    def fail(self, reason: str) -> StudyState:
        """Close the study as failed, for a reason that its owner can act on; return its state."""
        return self._writer.close(StudyMove.FAIL, reason=reason)

    def carry_out(self) -> StudyState:
        """Run until the study is closed, paused or handed over; return its state.

        Raises:
            Superseded: another attempt has taken over.
            StoreUnavailable: the database was unavailable for longer than a lease.
        """
        threads = [
            threading.Thread(target=self._keep_lease, name="lease", daemon=True),
            threading.Thread(target=self._keep_copies, name="copies", daemon=True),
            threading.Thread(
                target=self._output.collect_until, args=(self._is_done,), name="output", daemon=True
            ),
        ]
        for thread in threads:
            thread.start()
        try:
            self._writer.record_environment(
                environment(accelerators=accelerators() if self.spec.resources.gpus_per_pack > 0 else ())
            )
            # Loading a large study takes time, so the lease is being renewed by now.
            plan = self._writer.plan()
            state = self._train(self._make_scheduler(plan), self._make_check(plan))
            if state in CLOSED_STUDY_STATES:
                self._discard([self._checkpoints])
                self._remove_unkept_files()
            return state
        finally:
            self._is_done.set()
            for thread in threads:
                thread.join()
            self._copy_to_optuna()

    def _make_check(self, plan: ResolvedStudy) -> FirstCheck:
        return FirstCheck(
            self.spec,
            plan,
            writer=self._writer,
            retry=self._retry,
            packages=self._packages,
            versions=self._versions,
        )

    def _make_scheduler(self, plan: ResolvedStudy) -> PackScheduler:
        self._scheduler = PackScheduler(
            self.spec,
            plan,
            PackRecorder(
                self.spec,
                plan,
                writer=self._writer,
                retry=self._retry,
                artifacts=self._artifacts,
                count_machines=self._count_machines,
            ),
            checkpoints=self._checkpoints,
            artifacts=self._artifacts,
            slots=self._count_slots,
            mode=lambda: self.mode,
        )
        return self._scheduler

    def _count_slots(self) -> int:
        """Return how many packs this study may train at once: its fair share of the cluster's slots.

        The count is cached for a while, because the scheduler asks before each pack.
        """
        if time.monotonic() - self._slots_counted_at > _COUNT_SLOTS_EVERY_S:
            cluster_slots = self._count_cluster_slots(
                self.spec.resources.cpus_per_pack,
                self.spec.resources.gpus_per_pack,
                self.spec.resources.processes_per_trial,
            )
            try:
                share, must_yield = self._writer.pack_limit(slots=cluster_slots, time_slice_s=self._turn_s)
                self._slots, self._cluster_slots = share, cluster_slots
                self._is_yielding = self._is_yielding or must_yield
            except StoreUnavailable as error:
                # Its last share remains valid as far as anyone knows.
                _log.warning("%s; trying again", error)
            self._report_nodes()
            self._slots_counted_at = time.monotonic()
        return self._slots

    def _report_nodes(self) -> None:
        """Store what the cluster lends, every few seconds; nothing depends on it."""
        if self._lent is None or time.monotonic() - self._reported_at < _REPORT_NODES_EVERY_S:
            return
        self._reported_at = time.monotonic()
        try:
            self._store.report_nodes(self._lent(), cluster=self._machines)
        # Whatever Ray or the database answers: a later report will do.
        except Exception as error:  # noqa: BLE001
            _log.warning("cannot report the cluster's machines for now: %s", error)

    def _wait_for_share(self) -> None:
        """Wait until the study has a share of the machines, or the run has something else to do.

        It holds no actor meanwhile: an actor would occupy its machine.
        """
        self._count_slots()
        while not self._is_over():
            mode = self.mode
            if not mode.has_no_share or mode.is_leaving or mode.is_yielding or mode.is_paused:
                return
            time.sleep(_POLL_S)
            self._count_slots()

    def _train(self, scheduler: PackScheduler, check: FirstCheck) -> StudyState:
        while True:
            self._wait_for_share()
            if check.is_due:
                check.carry_out(is_interrupted=lambda: self._is_over() or self.mode.is_draining)
            if check.failure is None and not check.is_due:
                run_packs(
                    scheduler,
                    self.spec,
                    is_over=self._is_over,
                    packages=self._packages,
                    versions=self._versions,
                )
            self._output.collect_last(lost_packs=scheduler.recorder.lost_packs(_LOST_RECENTLY_S))
            # The owner may change their mind at any moment: everything below uses this one reading.
            wanted = self._wanted = self._retry.persist(self._writer.resume_running)
            if wanted in _ENDING:
                return self._close(scheduler, wanted)
            if check.failure is not None:
                return self._close(scheduler, wanted, failure=check.failure)
            scheduler.requeue_all(reason=self._requeue_reason())
            if scheduler.is_finished:
                return self._close(scheduler, wanted)
            mode = self.mode
            if mode.is_leaving or mode.is_yielding or wanted is StudyState.PAUSED:
                self._retry.persist(self._writer.report_progress)
                return wanted

    def _requeue_reason(self) -> str:
        mode = self.mode
        if mode.is_leaving:
            return "its run was asked to leave"
        made_room = mode.is_yielding or mode.has_no_share
        return "its run made room for another study" if made_room else "the study was paused before it began"

    def _close(
        self, scheduler: PackScheduler, wanted: StudyState, *, failure: str | None = None
    ) -> StudyState:
        # From here on a renewal may be rejected because the study is closed; the lease is not lost then.
        self._is_done.set()
        if failure is None and wanted not in _ENDING:
            failure = scheduler.recorder.failure_reason()
        move = StudyMove.FINISH if failure is None else StudyMove.FAIL
        outages = self._retry.outages
        try:
            return self._retry.persist(lambda: self._writer.close(move, reason=failure))
        except Superseded:
            state = self._retry.persist(lambda: self._store.study(self._claim.study_id)).state
            # If a try was interrupted, it may have closed the study although its answer was lost.
            if self._retry.outages == outages or state not in CLOSED_STUDY_STATES:
                raise
            return state

    def _is_over(self) -> bool:
        is_late = self._leave_by is not None and time.monotonic() > self._leave_by
        return is_late or self._wanted in _ENDING

    def _keep_lease(self) -> None:
        """Renew the lease. End this process if the lease is lost, because its writes would be rejected."""
        renewed_at = progress_at = time.monotonic()
        progress_after_s = _PROGRESS_EVERY_S
        while not self._is_done.wait(_RENEW_EVERY_S):
            now = time.monotonic()
            try:
                packs = None if self._scheduler is None else min(self._scheduler.wanted, self._cluster_slots)
                wanted = self._writer.renew(wanted=packs, machines=self._machines)
                renewed_at = now
                self._wanted = self._writer.resume_running() if wanted is StudyState.QUEUED else wanted
                self._exit_if_stuck(now)
                if now - progress_at > progress_after_s:
                    self._writer.report_progress()
                    progress_at = time.monotonic()
                    progress_after_s = max(_PROGRESS_EVERY_S, (progress_at - now) / _PROGRESS_FRACTION)
            except Superseded as error:
                if not self._is_done.is_set():
                    _log.warning("run ends: %s", error)
                    os._exit(0)
            except StoreUnavailable as error:
                if now - renewed_at > self._lease_s:
                    _log.warning("run ends because its lease has expired: %s", error)
                    os._exit(NO_DATABASE)
            except Exception:  # noqa: BLE001 # whatever it is, the run cannot continue
                # Without this thread the run would train without a lease, and its reports would be rejected.
                _log.exception("run ends because it cannot renew its lease")
                os._exit(1)

    def _exit_if_stuck(self, now: float) -> None:
        """End this process if training has not ended in time after a stop or cancel.

        Its dispatcher then closes the study.
        """
        if self._wanted in _ENDING:
            self._end_by = min(self._end_by, now + _END_WITHIN_S)
        if now > self._end_by and not self._is_done.is_set():
            _log.error("run ends because Ray does not stop its packs")
            os._exit(1)

    def _keep_copies(self) -> None:
        wait_s = _COPY_EVERY_S
        while not self._is_done.wait(wait_s):
            began = time.monotonic()
            self._copy_to_optuna(within_s=_COPY_EVERY_S * _COPY_FRACTION)
            # SQLite has one writer at a time, and reports of packs go first. What remains is copied when the
            # study ends.
            wait_s = max(_COPY_EVERY_S, (time.monotonic() - began) / _COPY_FRACTION)
            if self._scheduler is not None:
                self._discard(self._scheduler.recorder.outdated_checkpoints())

    def _remove_unkept_files(self) -> None:
        try:
            remove_unkept_files_of(self._store, self._claim.study_id, self._artifacts)
        # Whatever the storage answers: the dispatcher tries again later.
        except Exception as error:  # noqa: BLE001
            _log.warning("cannot delete files that are not kept: %s", error)

    def _discard(self, urls: Iterable[str]) -> None:
        for url in urls:
            try:
                discard(url)
            # Whatever the storage answers: a study does not end because of a leftover file.
            except Exception as error:  # noqa: BLE001
                _log.warning("cannot delete checkpoint %s: %s", url, error)

    def _copy_to_optuna(self, *, within_s: float = math.inf) -> None:
        try:
            self._store.copy_to_optuna(self._claim.study_id, within_s=within_s)
        except Exception:  # noqa: BLE001 # only the copy for Optuna's tools is behind
            _log.exception("cannot copy trials to Optuna's storage; trying again")
