"""The dispatcher: claims studies, starts a run for each and watches over it.

What should be stands in SQL; this makes it so.
"""

__all__ = ["Dispatcher", "announced"]

import logging
import math
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from studies.catalog import Catalog
from studies.errors import StoreUnavailable
from studies.logs import message_of
from studies.store import Store
from studies.trials import Claim
from workers.checkpoint_gc import remove_closed_checkpoints
from workers.optimizers import load_optimizers
from workers.run import NO_RAY, READY
from workers.settings import DispatcherSettings
from workers.study_run import NO_DATABASE
from workers.workloads import load_workloads

_log = logging.getLogger("tangent.dispatcher")
_LOOK_EVERY_S = 0.25
_BEAT_EVERY_S = 5.0
_END_WITHIN_S = 8.0
_CALM_AFTER_S = 5.0
_READY_WITHIN_S = 90.0
_MAX_FRUITLESS_RUNS = 3
_TIDY_EVERY_S = 600.0
# A run whose study is closed has copies left to write and checkpoints to remove.
_TIDY_UP_WITHIN_S = 600.0


def announced() -> Catalog:
    """Return the cards of every optimizer and workload that this installation can run."""
    return Catalog(
        optimizers={name: entry.card for name, entry in load_optimizers().items()},
        workloads={name: workload.card for name, workload in load_workloads().items()},
    )


@dataclass(frozen=True)
class _Run:
    """A run in its own process."""

    claim: Claim
    process: subprocess.Popen[str]


class _Candidate:
    """A process that gets ready to run whatever study it will be told."""

    def __init__(self, environment: dict[str, str]) -> None:
        command = [sys.executable, "-m", "workers.run"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.is_ready = threading.Event()
        self._since = time.monotonic()
        threading.Thread(target=self._listen, name="candidate", daemon=True).start()

    @property
    def is_stuck(self) -> bool:
        """Whether it should have been ready long ago."""
        return not self.is_ready.is_set() and time.monotonic() - self._since > _READY_WITHIN_S

    def tell(self, claim: Claim) -> None:
        """Let it run a study."""
        assert self.process.stdin is not None, "it is started with a pipe"
        try:
            self.process.stdin.write(f"{claim.study_id} {claim.attempt}\n")
            self.process.stdin.close()
        except BrokenPipeError:
            _log.warning(
                "study %s: the process that was to run it has just ended",
                claim.study_id,
                extra={"study_id": claim.study_id},
            )

    def end(self) -> None:
        """End it at once; it has nothing to lose."""
        self.process.kill()
        self.process.wait()

    def _listen(self) -> None:
        assert self.process.stdout is not None, "it is started with a pipe"
        # Whatever else its imports may print is passed over.
        for line in self.process.stdout:
            if line.strip() == READY:
                self.is_ready.set()


class Dispatcher:
    """Reconciles studies with runs until it is asked to end.

    A study is claimed only when a process stands ready to run it: its lease would else run out while imports
    are made.
    """

    def __init__(self, settings: DispatcherSettings, store: Store, *, ray_address: str) -> None:
        """Make a dispatcher; nothing is claimed before `serve`."""
        self._settings = settings
        self._store = store
        self.ray_address = ray_address
        self._runs: list[_Run] = []
        # Those that were ended here: what kept them from ending by themselves may be a database that was
        # away.
        self._killed: set[Claim] = set()
        self._next: _Candidate | None = None
        self._last_start = -math.inf
        # Runs of a study that broke down, one after the other, without finishing a single trial.
        self._fruitless: Counter[str] = Counter()
        self._is_ending = threading.Event()
        self._is_to_tidy = threading.Event()
        self.has_lost_ray = False

    def end(self) -> None:
        """Ask the dispatcher to end: its runs hand their studies over first."""
        self._is_ending.set()

    def end_without_ray(self) -> None:
        """Ask the dispatcher to end because the Ray that was started with it is gone."""
        _log.error("the Ray that was started on this machine has ended; this dispatcher ends, start it again")
        self.has_lost_ray = True
        self.end()

    def serve(self) -> None:
        """Claim and watch until `end`."""
        threading.Thread(target=self._keep_tidy, name="tidy", daemon=True).start()
        last_beat = -math.inf
        try:
            while not self._is_ending.is_set():
                try:
                    if time.monotonic() - last_beat > _BEAT_EVERY_S:
                        self._store.heartbeat(self._settings.name)
                        self._store.settle_lapsed_leases()
                        self._end_overdue()
                        last_beat = time.monotonic()
                    self._reap()
                    self._make_ready()
                    self._claim()
                except StoreUnavailable as error:
                    # Runs keep or lose their own leases; when the database is back, what it says is what
                    # counts.
                    _log.warning("%s; trying again", error)
                    self._is_ending.wait(2.0)
                self._is_ending.wait(_LOOK_EVERY_S)
        finally:
            self._hand_over()

    def _make_ready(self) -> None:
        """See to it that a process waits for the next study, where there is room for one."""
        if self._next is None:
            # Getting ready costs seconds of a core: not while the first trials of another study begin.
            is_calm = not self._runs or time.monotonic() - self._last_start > _CALM_AFTER_S
            if is_calm and len(self._runs) < self._settings.max_runs:
                self._next = _Candidate(self._environment())
            return
        code = self._next.process.poll()
        if code is not None:
            self._next = None
            if code == NO_RAY:
                self._lose_ray()
            else:
                _log.error("a run ended with code %d before it was given a study; trying again", code)
                self._is_ending.wait(2.0)
        elif self._next.is_stuck:
            _log.error("a run was not ready after %g s; trying again with another", _READY_WITHIN_S)
            self._next.end()
            self._next = None

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "TANGENT_HOME": str(self._settings.home),
            # Without a password that lies in a file: the run reads it there.
            "TANGENT_DATABASE_URL": self._settings.database_url or self._settings.database,
            "TANGENT_CHECKPOINTS": self._settings.checkpoint_folder,
            "TANGENT_RAY_ADDRESS": self.ray_address,
            "TANGENT_LEASE_S": str(self._settings.lease_s),
            "TANGENT_PARENT_PID": str(os.getpid()),
        }

    def _claim(self) -> None:
        """Claim a study for the process that stands ready, if there is one of either."""
        if self._next is None or not self._next.is_ready.is_set():
            return
        claim = self._store.claim_next(dispatcher=self._settings.name, lease_s=self._settings.lease_s)
        if claim is None:
            return
        # No call of the database comes between the claim and the run: were it to fail, the study would wait
        # for its lease to lapse.
        candidate, self._next = self._next, None
        self._runs.append(_Run(claim, candidate.process))
        self._last_start = time.monotonic()
        candidate.tell(claim)
        about = {"study_id": claim.study_id, "attempt": claim.attempt}
        _log.info("study %s: run started, attempt %d", claim.study_id, claim.attempt, extra=about)
        self._end_overdue()

    def _end_overdue(self) -> None:
        """End runs that hang.

        They live though their lease has lapsed or their study is closed, and keep a place and machines that
        others need.
        """
        if not self._runs:
            return
        overdue = self._store.overdue_claims(
            [run.claim for run in self._runs], closed_for_s=_TIDY_UP_WITHIN_S
        )
        for run in self._runs:
            if run.claim in overdue:
                _log.warning(
                    "study %s: its run should have ended and is killed",
                    run.claim.study_id,
                    extra={"study_id": run.claim.study_id},
                )
                run.process.kill()
                self._killed.add(run.claim)

    def _reap(self) -> None:
        """Give back the studies whose runs have ended, and give up those whose runs only ever break down."""
        for run in list(self._runs):
            code = run.process.poll()
            if code is None:
                continue
            study_id = run.claim.study_id
            fruitless, failure = 0, None
            if code == NO_DATABASE or run.claim in self._killed:
                fruitless = self._fruitless[study_id]
            elif code != 0:
                _log.warning(
                    "study %s: its run ended with code %d",
                    study_id,
                    code,
                    extra={"study_id": study_id, "attempt": run.claim.attempt},
                )
                has_progressed = self._store.finished_trials(study_id) > run.claim.finished_trials
                fruitless = 0 if has_progressed else self._fruitless[study_id] + 1
                if fruitless >= _MAX_FRUITLESS_RUNS:
                    log = self._settings.log_of(study_id)
                    failure = (
                        f"its run broke down {fruitless} times without finishing a "
                        f"trial: {_last_line(log)} (see {log})"
                    )
            self._store.release(run.claim, failure=failure)
            self._fruitless[study_id] = fruitless
            self._runs.remove(run)
            self._killed.discard(run.claim)
            if code != 0:
                self._is_to_tidy.set()

    def _keep_tidy(self) -> None:
        """See to what runs that were killed, and studies that ended without a run, have left.

        Missing copies, checkpoints that nobody needs.

        Apart from everything else: the place of the checkpoints may answer late or never.
        """
        while True:
            for do, failure in (
                (self._complete_copies, "copies in Optuna's storage stay incomplete"),
                (self._discard, "old checkpoints stay"),
            ):
                try:
                    do()
                # Whatever the database or the place answers, nothing depends on it.
                except Exception as error:  # noqa: BLE001
                    _log.warning("%s for now: %s", failure, error)
            self._is_to_tidy.wait(_TIDY_EVERY_S)
            self._is_to_tidy.clear()

    def _complete_copies(self) -> None:
        if copied := self._store.complete_copies():
            _log.info("%d trials of closed studies copied to Optuna's storage", copied)

    def _discard(self) -> None:
        remove_closed_checkpoints(self._store, self._settings.checkpoint_folder)

    def _lose_ray(self) -> None:
        """Wait for a cluster's Ray to come back.

        One that was started here cannot be started twice in one process, so end with it.
        """
        if self._settings.owns_ray:
            self.end_without_ray()
        else:
            _log.warning("no Ray cluster answers at %s; trying again", self.ray_address)
            self._is_ending.wait(2.0)

    def _hand_over(self) -> None:
        if self._next is not None:
            self._next.end()
        for run in self._runs:
            run.process.terminate()
        deadline = time.monotonic() + _END_WITHIN_S
        for run in self._runs:
            try:
                run.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                run.process.kill()
                run.process.wait()
        try:
            self._reap()
            self._store.sign_off(self._settings.name)
        except StoreUnavailable as error:
            _log.warning("%s; the leases of this dispatcher's studies will lapse by themselves", error)


def _last_line(log: Path) -> str:
    if not log.exists():
        return "it ended before it began"
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return message_of(lines[-1])[:300] if lines else "it said nothing"
