"""One study's run: `python -m workers.run`.

It is told its study on a line of standard input, `STUDY ATTEMPT`.

So a dispatcher can keep one ready, its imports done and Ray joined. Then the main thread trains packs through
Ray Tune; a second keeps the lease and hears what the study's owner wants; a third copies trials to Optuna's
tables and removes checkpoints that nobody needs any more.
"""

__all__ = ["NO_DATABASE", "NO_RAY", "READY", "StudyRun", "main"]

import logging
import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from studies.errors import StoreUnavailable, Superseded
from studies.logs import write_logs
from studies.states import CLOSED_STUDY_STATES, StudyMove, StudyState
from studies.store import Store
from studies.trials import Claim
from workers.checkpoints import discard
from workers.environment import environment
from workers.local_ray import RayUnavailable, accelerators, join_ray, lacking, leave_ray, slots
from workers.parent_watchdog import exit_with_parent
from workers.retry import DatabaseRetry
from workers.scheduler import PackScheduler
from workers.settings import DispatcherSettings
from workers.tune import run_packs

_log = logging.getLogger("tangent.run")
NO_RAY = 75
"""Exit code of a run that found no Ray: the fault lies with neither the study nor the run."""

NO_DATABASE = 74
"""Exit code of a run that the database was away from for too long.

No fault of the study or the run either.
"""

READY = "ready"
"""What a run says on standard output when it can be told a study."""

_RENEW_EVERY_S = 0.5
# For packs to finish their present epoch and leave their states: a dispatcher that ends gives its runs 8 s in
# all. Packs whose epochs take longer have left their states after each.
_LEAVE_WITHIN_S = 4.5
# For what is being trained to be ended, once a stop or cancel was heard of; then the dispatcher closes the
# study.
_END_WITHIN_S = 7.0
_COPY_EVERY_S = 3.0
_COPY_SHARE = 0.2
_ENDING = frozenset({StudyState.STOPPING, StudyState.CANCELLING})
_SAY_EVERY_S = 1.0
# Telling the progress reads every trial: of the run's time it may take one part in so many.
_SAY_SHARE = 50
_COUNT_SLOTS_EVERY_S = 2.0
_LOOK_EVERY_S = 0.25


class StudyRun:
    """Carries one claimed study as far as its owner wants it."""

    def __init__(
        self,
        store: Store,
        claim: Claim,
        *,
        lease_s: float,
        checkpoints: str,
        machines: str,
        turn_s: float,
        fitting: Callable[[float, float], int] = slots,
    ) -> None:
        """Take up the study; nothing runs yet.

        Args:
            store: the record.
            claim: the study and this attempt at it.
            lease_s: seconds without a sign of life after which the run counts as lost.
            checkpoints: folder for the checkpoints of this study alone, a path or URL.
            machines: name of the Ray that it trains on: of studies on one Ray each has its share.
            turn_s: seconds of a turn, where studies take turns.
            fitting: tells how many packs that need so many CPUs and GPUs fit on that Ray.
        """
        self._count_fitting = fitting
        self._store = store
        self._claim = claim
        self._writer = store.run_writer(claim, lease_s=lease_s)
        self._lease_s = lease_s
        self._patience = DatabaseRetry(lease_s)
        self._checkpoints = checkpoints
        self._machines = machines
        self._turn_s = turn_s
        self._slots = (-math.inf, 1)
        self._wanted = StudyState.RUNNING
        # When packs that have not left by themselves are ended, once the run was asked to leave.
        self._leave_by: float | None = None
        # When a run that is to stop or cancel and cannot is ended.
        self._end_by = math.inf
        self._is_yielding = False
        self._is_resting = False
        self._fitting = 1
        self._is_done = threading.Event()
        self._feed: PackScheduler | None = None
        self.spec = store.study(claim.study_id).spec

    def leave(self) -> None:
        """Hand the study over: trials in flight go back to the queue, uncharged.

        They wait for whoever claims it next, with what they have trained by then.
        """
        if self._leave_by is None:
            self._leave_by = time.monotonic() + _LEAVE_WITHIN_S
            if self._feed is not None:
                self._feed.is_draining = self._feed.is_leaving = True

    def give_up(self, reason: str) -> StudyState:
        """Close the study as failed, for a reason that its owner can act on; return its state."""
        return self._writer.close(StudyMove.FAIL, reason=reason)

    def carry_out(self) -> StudyState:
        """Run until the study is closed, paused or handed over; return its state.

        Raises:
            Superseded: another attempt has taken over.
            StoreUnavailable: the database was away for longer than a lease.
        """
        threads = [
            threading.Thread(target=self._keep, name="lease", daemon=True),
            threading.Thread(target=self._copy, name="copies", daemon=True),
        ]
        for thread in threads:
            thread.start()
        try:
            self._writer.record_environment(
                environment(accelerators=accelerators() if self.spec.resources.gpus_per_pack > 0 else ())
            )
            # Taking up a long record needs a lease that is kept.
            feed = self._feed = PackScheduler(
                self.spec,
                self._writer.plan(),
                writer=self._writer,
                checkpoints=self._checkpoints,
                slots=self._count_slots,
                patience_s=self._lease_s,
            )
            # It may have been asked to leave meanwhile.
            feed.is_leaving = self._is_leaving
            state = self._train(feed)
            if state in CLOSED_STUDY_STATES:
                self._discard([self._checkpoints])
            return state
        finally:
            self._is_done.set()
            for thread in threads:
                thread.join()
            self._copy_once()

    def _count_slots(self) -> int:
        """Return how many packs this study may have on Ray at once: its share of those that fit.

        Asked for each pack, counted now and then.
        """
        counted_at, count = self._slots
        if time.monotonic() - counted_at > _COUNT_SLOTS_EVERY_S:
            self._fitting = fitting = self._count_fitting(
                self.spec.resources.cpus_per_pack, self.spec.resources.gpus_per_pack
            )
            try:
                count, is_to_yield = self._writer.pack_limit(slots=fitting, time_slice_s=self._turn_s)
                self._is_yielding = self._is_yielding or is_to_yield
                self._is_resting = count < min(1, fitting)
                if self._feed is not None:
                    self._feed.is_sharing, self._feed.is_resting = count < fitting, self._is_resting
                    self._feed.is_draining = self._is_to_drain
            except StoreUnavailable as error:
                # What it had is still its share, as far as anybody knows.
                _log.warning("%s; trying again", error)
            self._slots = (time.monotonic(), count)
        return count

    @property
    def _is_to_drain(self) -> bool:
        """Whether no more packs are to be begun for now."""
        return self._is_leaving or self._wanted is StudyState.PAUSED or self._is_yielding or self._is_resting

    @property
    def _is_leaving(self) -> bool:
        return self._leave_by is not None

    def _rest(self) -> None:
        """Return once this study has a share of the machines, or its run has something else to do.

        To keep an actor would be to keep its machine.
        """
        self._count_slots()
        while self._is_resting and not (
            self._is_leaving or self._is_over() or self._is_yielding or self._wanted is StudyState.PAUSED
        ):
            time.sleep(_LOOK_EVERY_S)
            self._count_slots()

    def _train(self, feed: PackScheduler) -> StudyState:
        while True:
            self._rest()
            run_packs(feed, self.spec, is_over=self._is_over)
            # The owner may change their mind at any moment: what is decided here rests on one reading.
            wanted = self._wanted = self._patience.persist(self._writer.resume_running)
            if wanted in _ENDING:
                return self._close(feed, wanted)
            feed.hand_back(reason=self._why_handed_back())
            if feed.is_spent:
                return self._close(feed, wanted)
            if self._is_leaving or self._is_yielding or wanted is StudyState.PAUSED:
                self._patience.persist(self._writer.report_progress)
                return wanted
            feed.is_draining = self._is_to_drain

    def _why_handed_back(self) -> str:
        if self._is_leaving:
            return "its run was asked to leave"
        made_room = self._is_yielding or self._is_resting
        return "its run made room for another study" if made_room else "the study was paused before it began"

    def _close(self, feed: PackScheduler, wanted: StudyState) -> StudyState:
        # From here on a lease may be refused because the study is closed, and that is no loss.
        self._is_done.set()
        is_early = wanted in _ENDING
        failure = None if is_early else feed.failure()
        outcome = StudyMove.FINISH if failure is None else StudyMove.FAIL
        outages = self._patience.outages
        try:
            return self._patience.persist(lambda: self._writer.close(outcome, reason=failure))
        except Superseded:
            state = self._patience.persist(lambda: self._store.study(self._claim.study_id)).state
            # It may have been closed though the answer was lost.
            if self._patience.outages == outages or state not in CLOSED_STUDY_STATES:
                raise
            return state

    def _is_over(self) -> bool:
        is_late = self._leave_by is not None and time.monotonic() > self._leave_by
        return is_late or self._wanted in _ENDING

    def _keep(self) -> None:
        """Keep the lease; end this process when it is lost, for then every word of it would be refused."""
        last_kept = last_said = time.monotonic()
        say_after_s = _SAY_EVERY_S
        while not self._is_done.wait(_RENEW_EVERY_S):
            now = time.monotonic()
            try:
                packs = None if self._feed is None else min(self._feed.wanted, self._fitting)
                wanted = self._writer.renew(wanted=packs, machines=self._machines)
                last_kept = now
                self._wanted = self._writer.resume_running() if wanted is StudyState.QUEUED else wanted
                if self._feed is not None:
                    self._feed.is_draining = self._is_to_drain
                self._end_if_stuck(now)
                if now - last_said > say_after_s:
                    self._writer.report_progress()
                    last_said = time.monotonic()
                    say_after_s = max(_SAY_EVERY_S, _SAY_SHARE * (last_said - now))
            except Superseded as error:
                if not self._is_done.is_set():
                    _log.warning("this run ends: %s", error)
                    os._exit(0)
            except StoreUnavailable as error:
                if now - last_kept > self._lease_s:
                    _log.warning("this run ends, its lease has lapsed: %s", error)
                    os._exit(NO_DATABASE)
            except Exception:  # noqa: BLE001 # whatever it is, it ends the run
                # Without this thread the run would train on without a lease, and nothing it said would be
                # taken.
                _log.exception("this run ends, it cannot keep its lease")
                os._exit(1)

    def _end_if_stuck(self, now: float) -> None:
        """End this process when what is being trained should have been ended and has not.

        Its dispatcher then closes the study.
        """
        if self._wanted in _ENDING:
            self._end_by = min(self._end_by, now + _END_WITHIN_S)
        if now > self._end_by and not self._is_done.is_set():
            _log.error("this run ends: Ray does not let it end what is being trained")
            os._exit(1)

    def _copy(self) -> None:
        wait_s = _COPY_EVERY_S
        while not self._is_done.wait(wait_s):
            began = time.monotonic()
            self._copy_once(within_s=_COPY_EVERY_S * _COPY_SHARE)
            # SQLite has one writer at a time, and what packs report goes first; what is left is copied when
            # the study ends.
            wait_s = max(_COPY_EVERY_S, (time.monotonic() - began) / _COPY_SHARE)
            if self._feed is not None:
                self._discard(self._feed.outdated_checkpoints())

    def _discard(self, urls: Iterable[str]) -> None:
        for url in urls:
            try:
                discard(url)
            # Whatever the place answers, a study does not end for what it leaves behind.
            except Exception as error:  # noqa: BLE001
                _log.warning("%s stays behind: %s", url, error)

    def _copy_once(self, *, within_s: float = math.inf) -> None:
        try:
            self._store.copy_to_optuna(self._claim.study_id, within_s=within_s)
        except Exception:  # noqa: BLE001 # the record stands; only the copy for Optuna's tools is behind
            _log.exception("the copy in Optuna's storage is behind; it is tried again")


def _machines(ray_address: str) -> str:
    """Return a name by which runs on one Ray know that they share it.

    A loopback address is another Ray's on every machine.
    """
    host = ray_address.rpartition(":")[0]
    is_loopback = host.startswith("127.") or host in {"localhost", "[::1]"}
    return f"{socket.gethostname()}/{ray_address}" if is_loopback else ray_address


def _redirect(log: Path) -> None:
    """Send everything this process says from now on to a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())


def main() -> int:
    """Get ready, wait to be told a study, run it.

    Return 0 when its state is settled, whatever it is, or none was told.
    """
    settings = DispatcherSettings()
    exit_with_parent(settings.parent_pid)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    write_logs(settings.log_format, process="run")
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    store = Store.open(settings.database, migrate=False)
    try:
        join_ray(settings.ray_address)
    except RayUnavailable as error:
        _log.warning("this run ends: %s", error)
        return NO_RAY
    sys.stdout.write(f"{READY}\n")
    sys.stdout.flush()
    told = sys.stdin.readline().split()
    if len(told) != 2:
        return 0
    study_id, attempt = told[0], int(told[1])
    _redirect(settings.log_of(study_id))
    write_logs(settings.log_format, process="run", study_id=study_id, attempt=attempt)
    try:
        checkpoints, machines = settings.checkpoints_of(study_id), _machines(settings.ray_address)
        claim = Claim(study_id, attempt)
        run = StudyRun(
            store,
            claim,
            lease_s=settings.lease_s,
            checkpoints=checkpoints,
            machines=machines,
            turn_s=settings.turn_s,
        )

        def leave(_signal: int, _frame: Any) -> None:
            run.leave()

        signal.signal(signal.SIGTERM, leave)
        wanting = lacking(run.spec.resources.cpus_per_pack, run.spec.resources.gpus_per_pack)
        state = run.give_up(wanting) if wanting is not None else run.carry_out()
    except Superseded as error:
        _log.warning("this run ends: %s", error)
        return 0
    except StoreUnavailable as error:
        _log.warning("this run ends: %s", error)
        return NO_DATABASE
    _log.info("study %s is %s", study_id, state.value)
    leave_ray()
    return 0


if __name__ == "__main__":
    sys.exit(main())
