"""The dispatcher: claims studies, starts a run for each and restarts runs that fail.

It compares the studies in the database with its run processes and acts on the difference.
"""

__all__ = ["Dispatcher"]

import logging
import math
import os
import threading
import time
from collections import Counter
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from studies.child_environment import service_environment
from studies.errors import StoreUnavailable
from studies.logs import message_of
from studies.store import Store
from studies.trials import Claim
from workers.checkpoint_gc import remove_closed_checkpoints, remove_logs_of_deleted, remove_unkept_files
from workers.managed_ray import ManagedRay
from workers.node_process import WORKER_ENVIRONMENT
from workers.run import NO_RAY
from workers.run_process import RunProcess, SpareRun, stop_all
from workers.run_server import RunServer
from workers.settings import DispatcherSettings
from workers.study_run import NO_DATABASE

_log = logging.getLogger("tangent.dispatcher")
_POLL_S = 0.1
_HEARTBEAT_EVERY_S = 5.0
_RETRY_AFTER_S = 2.0
_MAX_RETRY_AFTER_S = 30.0
_CALM_AFTER_S = 5.0
_READY_WITHIN_S = 90.0
# Runs of one study that may fail in a row without finishing a trial.
_MAX_FAILED_RUNS = 3
_CLEAN_UP_EVERY_S = 600.0
_MAX_RUNS_WITHOUT_RAY = 3
# A run whose study is closed still writes copies and deletes checkpoints.
_FINISH_WITHIN_S = 600.0
_LOG_TAIL_BYTES = 8192


class Dispatcher:
    """Claims studies and keeps a run going for each until it is asked to end.

    A study is claimed only when a process is ready to run it: otherwise its lease would expire while the
    process imports its libraries.
    """

    def __init__(self, settings: DispatcherSettings, store: Store, *, ray: ManagedRay) -> None:
        """Make a dispatcher on a Ray that has started; `serve` claims the first study."""
        self._settings = settings
        self._store = store
        self._ray = ray
        self._runs: list[RunProcess] = []
        # Runs that were killed here. They may not have ended by themselves because the database was away.
        self._killed: set[Claim] = set()
        self._spare: SpareRun | None = None
        self._server: RunServer | None = None
        self._is_without_server = False
        self._last_start = -math.inf
        self._beat_at = -math.inf
        self._stored_problem: str | None = None
        # Why the last spare run ended before it had a study; None once another one is ready.
        self._run_problem: str | None = None
        self._start_spare_at = -math.inf
        self._spare_delay_s = _RETRY_AFTER_S
        # Spare runs that in a row could not join Ray.
        self._runs_without_ray = 0
        # By study: runs that failed in a row without finishing a trial.
        self._failed_runs: Counter[str] = Counter()
        self._is_ending = threading.Event()
        self._must_clean_up = threading.Event()
        self._deletions_seen: datetime | None = None
        self.has_lost_ray = False

    def end(self) -> None:
        """Ask the dispatcher to end; its runs hand their studies over first."""
        self._is_ending.set()

    def serve(self) -> None:
        """Claim studies and watch their runs until `end`."""
        threading.Thread(target=self._keep_clean, name="clean-up", daemon=True).start()
        try:
            while not self._is_ending.is_set():
                try:
                    self._watch_ray()
                    self._beat()
                    self._reap()
                    self._prepare_spare()
                    self._claim()
                except StoreUnavailable as error:
                    # Runs keep or lose their own leases. Once the database is back, its state decides.
                    _log.warning("%s; trying again", error)
                    self._is_ending.wait(_RETRY_AFTER_S)
                self._is_ending.wait(_POLL_S)
        finally:
            self._hand_over()

    def _beat(self) -> None:
        """Store a heartbeat every few seconds, and as soon as there is a problem or none any more."""
        problem = self._ray.problem or self._run_problem
        if problem == self._stored_problem and time.monotonic() - self._beat_at < _HEARTBEAT_EVERY_S:
            return
        self._store.heartbeat(self._settings.name, problem=problem, machine=self._ray.measure_machine())
        self._stored_problem = problem
        self._store.settle_lapsed_leases()
        self._notice_deletions()
        self._kill_overdue()
        self._beat_at = time.monotonic()

    def _notice_deletions(self) -> None:
        """Delete the files of studies that were deleted since the last heartbeat."""
        last = self._store.last_deleted_at()
        if last != self._deletions_seen:
            self._deletions_seen = last
            self._must_clean_up.set()

    def _watch_ray(self) -> None:
        """If the Ray that was started here has ended, end everything that used it and replace it."""
        if not self._ray.has_ended:
            return
        if not self._ray.is_replaceable:
            _log.error(
                "the Ray node of this dispatcher has ended, so the dispatcher ends too; start it again"
            )
            self.has_lost_ray = True
            self.end()
            return
        self._replace_ray("Ray has ended")

    def _replace_ray(self, problem: str) -> None:
        _log.error("%s; starting it again", problem)
        if self._spare is not None:
            self._spare.kill()
            self._spare = None
        for run in self._runs:
            # It would wait for its packs forever.
            run.process.kill()
            self._killed.add(run.claim)
        self._ray.replace(f"{problem} and is being started again")

    def _prepare_spare(self) -> None:
        """Start a process for the next study if there may be another run."""
        if self._ray.problem is not None:
            return
        if self._spare is None and time.monotonic() < self._start_spare_at:
            return
        if self._spare is None:
            # Its start takes seconds of a core, so not while the first trials of another study start.
            is_calm = not self._runs or time.monotonic() - self._last_start > _CALM_AFTER_S
            if is_calm and len(self._runs) < self._settings.max_runs:
                self._spare = self._start_spare()
            return
        code = self._spare.process.poll()
        if code == NO_RAY:
            self._spare.kill()
            self._spare = None
            self._wait_for_ray()
        elif code is not None:
            self._abandon_spare(self._spare, f"a run exited with status {code} before it had a study")
        elif self._spare.is_ready.is_set():
            self._run_problem, self._spare_delay_s = None, _RETRY_AFTER_S
        elif self._spare.is_late(_READY_WITHIN_S):
            self._abandon_spare(self._spare, f"a run was not ready after {_READY_WITHIN_S:g} s")

    def _start_spare(self) -> SpareRun | None:
        """Have a run forked, or start one; return None while the server of runs is not ready."""
        environment = self._run_environment()
        if self._is_without_server:
            return SpareRun.start(environment)
        server = self._server
        if server is not None and server.environment != environment:
            # Another Ray.
            server.end()
            server = None
        if server is None:
            server = self._server = RunServer(environment)
        if server.is_ready():
            with suppress(OSError):
                return SpareRun(server.fork())
        elif not server.is_late(_READY_WITHIN_S):
            return None
        # Whatever is wrong with the server: the run that is started will show it.
        self._is_without_server = server.is_unfit
        server.end()
        self._server = None
        return SpareRun.start(environment)

    def _abandon_spare(self, spare: SpareRun, what: str) -> None:
        """End a run that cannot take a study, report why, and start the next one after a delay."""
        spare.kill()
        self._spare = None
        self._run_problem = f"{what}: {spare.last_error}"
        _log.error("%s; starting another in %g s", self._run_problem, self._spare_delay_s)
        self._start_spare_at = time.monotonic() + self._spare_delay_s
        self._spare_delay_s = min(_MAX_RETRY_AFTER_S, 2 * self._spare_delay_s)

    def _run_environment(self) -> dict[str, str]:
        return {
            **WORKER_ENVIRONMENT,
            **service_environment(os.environ),
            **self._ray.environment,
            "TANGENT_HOME": str(self._settings.home),
            # If the password is in a file, the run reads it there.
            "TANGENT_DATABASE_URL": self._settings.database_url or self._settings.database,
            "TANGENT_CHECKPOINTS": self._settings.checkpoint_folder,
            "TANGENT_RAY_ADDRESS": self._ray.address,
            "TANGENT_LEASE_S": str(self._settings.lease_s),
            "TANGENT_PARENT_PID": str(os.getpid()),
        }

    def _claim(self) -> None:
        """Claim a study if one is queued and a process is ready for it."""
        if self._spare is None or not self._spare.is_ready.is_set():
            return
        claim = self._store.claim_next(dispatcher=self._settings.name, lease_s=self._settings.lease_s)
        if claim is None:
            return
        # Do not call the database between the claim and the start of the run: if the call failed, the study
        # would not run until its lease expired.
        spare, self._spare = self._spare, None
        self._runs_without_ray = 0
        self._runs.append(spare.assign(claim))
        self._last_start = time.monotonic()
        about = {"study_id": claim.study_id, "attempt": claim.attempt}
        _log.info("study %s: run started, attempt %d", claim.study_id, claim.attempt, extra=about)
        self._kill_overdue()

    def _kill_overdue(self) -> None:
        """Kill runs that hang: their lease has expired or their study is closed, but they hold machines."""
        if not self._runs:
            return
        overdue = self._store.overdue_claims([run.claim for run in self._runs], closed_for_s=_FINISH_WITHIN_S)
        for run in self._runs:
            if run.claim in overdue:
                _log.warning(
                    "study %s: its run is overdue and is killed",
                    run.claim.study_id,
                    extra={"study_id": run.claim.study_id},
                )
                run.process.kill()
                self._killed.add(run.claim)

    def _reap(self) -> None:
        """Release the studies whose runs have ended, and fail those whose runs keep failing."""
        for run in list(self._runs):
            code = run.process.poll()
            if code is None:
                continue
            study_id = run.claim.study_id
            failed_runs, failure = 0, None
            if code == NO_DATABASE or run.claim in self._killed:
                failed_runs = self._failed_runs[study_id]
            elif code != 0:
                _log.warning(
                    "study %s: its run exited with status %d",
                    study_id,
                    code,
                    extra={"study_id": study_id, "attempt": run.claim.attempt},
                )
                has_progressed = self._store.finished_trials(study_id) > run.claim.finished_trials
                failed_runs = 0 if has_progressed else self._failed_runs[study_id] + 1
                if failed_runs >= _MAX_FAILED_RUNS:
                    log = self._settings.log_of(study_id)
                    failure = (
                        f"its run failed {failed_runs} times in a row without finishing a trial: "
                        f"{_last_message(log)} (see {log})"
                    )
            self._store.release(run.claim, failure=failure)
            self._failed_runs[study_id] = failed_runs
            self._runs.remove(run)
            self._killed.discard(run.claim)
            if code != 0:
                self._must_clean_up.set()

    def _keep_clean(self) -> None:
        """Finish what killed runs, studies that ended without a run, and deleted studies have left behind.

        This has a thread of its own because the checkpoints' storage may answer late or never.
        """
        while True:
            for clean_up, failure in (
                (self._complete_copies, "cannot complete copies in Optuna's storage"),
                (self._delete_checkpoints, "cannot delete old checkpoints"),
                (self._delete_unkept_files, "cannot delete files that are no longer kept"),
                (self._delete_rest_of_deleted, "cannot delete logs and copies of deleted studies"),
            ):
                try:
                    clean_up()
                # Whatever the database or the storage answers: nothing depends on it.
                except Exception as error:  # noqa: BLE001
                    _log.warning("%s for now: %s", failure, error)
            self._must_clean_up.wait(_CLEAN_UP_EVERY_S)
            self._must_clean_up.clear()

    def _complete_copies(self) -> None:
        if copied := self._store.complete_copies():
            _log.info("copied trials of closed studies to Optuna's storage: %d", copied)

    def _delete_checkpoints(self) -> None:
        remove_closed_checkpoints(self._store, self._settings.checkpoint_folder)

    def _delete_unkept_files(self) -> None:
        remove_unkept_files(self._store, self._settings.artifact_folder)

    def _delete_rest_of_deleted(self) -> None:
        remove_logs_of_deleted(self._store, self._settings.home / "logs")
        self._store.remove_deleted_copies()

    def _wait_for_ray(self) -> None:
        """Wait for a cluster's Ray to come back; replace a local one that repeatedly accepts no run."""
        self._runs_without_ray += 1
        if self._ray.is_replaceable and self._runs_without_ray >= _MAX_RUNS_WITHOUT_RAY:
            self._runs_without_ray = 0
            self._replace_ray("Ray accepts no run")
            return
        # Without the address, which `/readyz` must not show.
        self._run_problem = "no Ray cluster answers at this dispatcher's address"
        _log.warning("no Ray cluster answers at %s; trying again", self._ray.address)
        self._is_ending.wait(_RETRY_AFTER_S)

    def _hand_over(self) -> None:
        if self._spare is not None:
            self._spare.kill()
        if self._server is not None:
            self._server.end()
        stop_all(self._runs)
        try:
            self._reap()
            self._store.sign_off(self._settings.name)
        except StoreUnavailable as error:
            _log.warning("%s; the leases of this dispatcher's studies will expire by themselves", error)


def _last_message(log: Path) -> str:
    """Return the last message in a run's log."""
    if not log.exists():
        return "it ended before it began"
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _LOG_TAIL_BYTES))
        text = file.read().decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return message_of(lines[-1])[:300] if lines else "it printed nothing"
