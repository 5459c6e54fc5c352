"""A study under faults, observed by an event reader, a polling client, and the database."""

__all__ = ["Again", "Answer", "Probe", "Story"]

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from cluster.lab import Lab
from invariants import ClientView, broken

from service.client import ProblemError, ServiceUnreachable
from studies.states import CLOSED_STUDY_STATES, StudyState
from studies.views import EventView, StudyView, TrialView

_CLOSED_WITHIN_S = 180.0
_COPIED_WITHIN_S = 30.0
_ASK_EVERY_S = 0.25
_GIVE_UP_AFTER_S = 30.0


@dataclass(frozen=True)
class Answer:
    """A response that a client received; status 0 for no answer."""

    asked_at: float
    took_s: float
    status: int


@dataclass(frozen=True)
class Again:
    """A requeued trial, as the database saw it."""

    trial_id: str
    attempt: int
    is_charged: bool
    epochs_before: int
    epochs_after: int
    at: float


class Probe:
    """Polls the service for a study."""

    def __init__(self, lab: Lab, study_id: str) -> None:
        """Start polling."""
        self.answers: list[Answer] = []
        self._lab = lab
        self._path = f"/v1/studies/{study_id}"
        self._is_done = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="probe", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Stop polling."""
        self._is_done.set()
        self._thread.join(_GIVE_UP_AFTER_S)

    def since(self, at: float) -> list[Answer]:
        """Return the answers received after a time."""
        return [answer for answer in list(self.answers) if answer.asked_at >= at]

    def _ask(self) -> None:
        while not self._is_done.wait(_ASK_EVERY_S):
            asked_at = time.time()
            status, _ = self._lab.asked(self._path, timeout_s=_GIVE_UP_AFTER_S)
            self.answers.append(Answer(asked_at, time.time() - asked_at, status))


class Story:
    """A study, from its submission to the checks after its end."""

    def __init__(self, lab: Lab, body: Mapping[str, Any]) -> None:
        """Submit the study and start watching."""
        self._lab = lab
        self.told = ClientView()
        self.events: list[EventView] = []
        self.watching_failed: str | None = None
        self.seen: tuple[TrialView, ...] = ()
        lab.healed()
        with lab.client() as client:
            self.id = self.told.accepted(client.submit(body))
        self.probe = Probe(lab, self.id)
        self._watcher = threading.Thread(target=self._watch, name="watcher", daemon=True)
        self._watcher.start()

    def _watch(self) -> None:
        try:
            with self._lab.client() as client:
                # After a lost connection it resumes with Last-Event-ID.
                for event in client.watch(self.id):
                    self.events.append(event)
        except (ProblemError, ServiceUnreachable) as error:
            self.watching_failed = str(error)

    @property
    def state(self) -> StudyState:
        """Its state in the database."""
        return StudyState(self.rows("SELECT state FROM study WHERE id = %s", self.id)[0][0])

    @property
    def is_closed(self) -> bool:
        """Whether it is closed."""
        return self.state in CLOSED_STUDY_STATES

    @property
    def is_held(self) -> bool:
        """Whether a live run has leased it: the ten-second lease was renewed a moment ago."""
        fresh = "SELECT lease_expires_at > clock_timestamp() + interval '8 seconds' FROM study WHERE id = %s"
        return bool(self.rows(fresh, self.id)[0][0])

    def rows(self, query: str, *values: Any) -> list[Any]:
        """Return the result of a query; waits until the database answers."""
        return self._lab.until(lambda: (self._rows(query, values),), what="the database to answer")[0]

    def _rows(self, query: str, values: tuple[Any, ...]) -> list[Any]:
        with self._lab.sql() as connection:
            return connection.execute(query.encode(), values).fetchall()

    def victim(self) -> str | None:
        """Return a node that trains a trial beyond its checkpoint while more work remains, or None."""
        query = (
            "SELECT split_part(worker, ':', 1) FROM trial WHERE study_id = %s AND state = 'running' "
            "AND epochs_done > checkpoint_epoch"
            " ORDER BY checkpoint_epoch DESC LIMIT 1"
        )
        found = self.rows(query, self.id)
        return found[0][0] if found else None

    def again(self, since: float) -> list[Again]:
        """Return the trials that were requeued after a time, oldest first."""
        query = (
            "SELECT trial_id, attempt, is_charged, epochs_before, epochs_after, extract(epoch FROM "
            "at)::float8 FROM witness.attempt"
            " WHERE trial_id LIKE %s AND at > to_timestamp(%s) ORDER BY at"
        )
        return [Again(*row) for row in self.rows(query, f"{self.id}.%", since)]

    def was_hit(self, since: float) -> bool:
        """Return whether a trial is in flight, or was requeued since a fault."""
        return bool(
            self.rows("SELECT 1 FROM trial WHERE study_id = %s AND state = 'running'", self.id)
            or self.again(since)
        )

    def reasons(self, trials: list[Again]) -> set[str]:
        """Return why these trials were requeued, according to the study's events."""
        query = (
            "SELECT data ->> 'reason' FROM event WHERE study_id = %s AND kind = 'trial.requeued'"
            " AND data ->> 'trial' = %s AND data ->> 'attempt' = %s"
        )
        return {
            row[0]
            for trial in trials
            for row in self.rows(query, self.id, trial.trial_id, str(trial.attempt))
        }

    def trained_again(self, trials: list[Again]) -> float | None:
        """Return when one of these trials had trained one more epoch; None before that."""
        query = (
            "SELECT extract(epoch FROM min(e.at))::float8 FROM witness.epoch e JOIN witness.attempt a ON "
            "a.trial_id = e.trial_id AND e.at > a.at"
            " WHERE a.trial_id = ANY(%s) AND a.at >= to_timestamp(%s)"
        )
        # Converting to a float may round by a microsecond.
        return (
            self.rows(query, [trial.trial_id for trial in trials], trials[0].at - 0.001)[0][0]
            if trials
            else None
        )

    def see(self) -> None:
        """Read all trials as a client, and record the response."""
        with contextlib.suppress(ServiceUnreachable, ProblemError), self._lab.client() as client:
            self.seen = tuple(client.every_trial(self.id))
            self.told.saw(self.seen)

    def finish(self) -> StudyView:
        """Wait until the study is closed, and return it."""
        self._lab.until(
            lambda: self.is_closed,
            what=f"study {self.id} to close: {self._status()}",
            timeout_s=_CLOSED_WITHIN_S,
        )
        self._lab.healed()
        self._watcher.join(30.0)
        self.probe.end()
        self.see()
        with self._lab.client() as client:
            return client.study(self.id)

    def stop(self) -> None:
        """Stop the study, keeping its results."""
        self._lab.healed()
        with self._lab.client() as client:
            client.stop(self.id)

    def give_up(self) -> None:
        """End the study, so that it does not disturb other tests."""
        with contextlib.suppress(ServiceUnreachable, ProblemError), self._lab.client() as client:
            client.cancel(self.id)
        self.probe.end()

    def faults(self) -> list[str]:
        """Return the violated guarantees, one sentence each."""
        deadline = time.monotonic() + _COPIED_WITHIN_S
        while True:
            self._lab.supervise()
            found = [
                said for said in broken(self._lab.url, self.told, are_copies_due=True) if self.id in said
            ]
            if not found or time.monotonic() > deadline:
                break
            time.sleep(0.5)
        if self._watcher.is_alive() or self.watching_failed is not None:
            found.append(
                "the client that watched it did not hear of its end: "
                f"{self.watching_failed or 'it still waits'}"
            )
        ids = [event.id for event in self.events]
        last = self.rows("SELECT last_event FROM study WHERE id = %s", self.id)[0][0]
        if ids != list(range(1, last + 1)):
            found.append(f"the client that watched it heard of the events {ids}, and there are {last}")
        return [*found, *self._missing_from_pages()]

    def _missing_from_pages(self) -> Iterator[str]:
        """Yield faults that the pages of the study and of a requeued trial do not show."""
        status, page = self._lab.asked(f"/studies/{self.id}", timeout_s=_GIVE_UP_AFTER_S)
        if status != HTTPStatus.OK or self.state.value not in page:
            yield f"the study's page answers {status} and does not say that it is {self.state.value}"
        for trial_id, attempt in {again.trial_id: again.attempt for again in self.again(0.0)[-1:]}.items():
            status, page = self._lab.asked(f"/trials/{trial_id}", timeout_s=_GIVE_UP_AFTER_S)
            if (
                status != HTTPStatus.OK
                or f"<dt>Attempt</dt><dd>{attempt}</dd>" not in page
                or f"<li>Attempt {attempt - 1} ended" not in page
            ):
                yield (
                    f"the page of trial {trial_id} answers {status} and does not say that it "
                    f"is at attempt {attempt}, and why"
                )
        requeued = [event for event in self.events if event.kind == "trial.requeued"]
        if len(requeued) != len(self.again(0.0)) or not all(event.data["reason"] for event in requeued):
            yield (
                f"{len(self.again(0.0))} times a trial was queued again, and "
                f"the events tell of {len(requeued)}"
            )

    def _status(self) -> str:
        return str(self.rows("SELECT state, count(*) FROM trial WHERE study_id = %s GROUP BY state", self.id))
