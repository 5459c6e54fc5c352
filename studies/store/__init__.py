"""The store: all persistent state, in SQLite or PostgreSQL. Only this package uses SQLAlchemy.

The service, the command line and dispatchers use `Store`. A study's run writes with a `RunWriter`, which
`Store.run_writer` returns.
"""

__all__ = ["MetricsReader", "MetricsSnapshot", "RunWriter", "Store"]

import functools
import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Self

from sqlalchemy import Connection

from studies.actors import OPERATOR, Actor
from studies.artifacts import ArtifactKind, ArtifactView
from studies.catalog import Catalog
from studies.errors import StudyNotFound
from studies.extension import Extension
from studies.resolve import ResolvedStudy, resolve
from studies.spec import StudySpec
from studies.states import StudyMove, StudyState, TrialFilter, TrialState
from studies.store import (
    artifacts,
    catalog,
    events,
    extensions,
    study_queries,
    submissions,
    suites,
    summaries,
    trial_outputs,
    trial_queries,
)
from studies.store.accounts import Accounts
from studies.store.archive import Archive
from studies.store.database import LOCK_WAIT_S, Database, StatementWatcher, TransactionWatcher
from studies.store.dispatching import Dispatching
from studies.store.layers import Layers
from studies.store.metrics_snapshot import MetricsReader, MetricsSnapshot
from studies.store.progress import ProgressCache
from studies.store.runs import RunWriter
from studies.store.study_notes import Notes
from studies.store.verdict_phrases import Phrases
from studies.store.watching import Watching
from studies.store.webhook_queue import WebhookQueue
from studies.study_filter import StudyFilter
from studies.trials import Claim, Measurement, Phase
from studies.views import (
    ArmView,
    BestValue,
    Curve,
    EventView,
    Page,
    StudyRecord,
    StudySummary,
    StudyView,
    SuiteSummary,
    TrialList,
    TrialOutput,
    TrialView,
)

if TYPE_CHECKING:
    from studies.store.optuna_copy import OptunaCopy


_EVERY = StudyFilter()


class Store(Accounts, Archive, Dispatching, Layers, Notes, Phrases, Watching, WebhookQueue):
    """All studies, users and webhooks. Safe to share between threads; every method is one transaction.

    Every method raises `StoreUnavailable` if the database cannot be reached or written.
    """

    def __init__(self, database: Database) -> None:
        """Wrap an open database whose schema is up to date; most callers use `Store.open`."""
        super().__init__(database)
        self._progress_cache = ProgressCache()
        self._catalog: tuple[tuple[int, datetime | None], Catalog] | None = None

    @functools.cached_property
    def _optuna(self) -> "OptunaCopy":
        # The service never copies, and Optuna is slow to import.
        from studies.store.optuna_copy import OptunaCopy

        return OptunaCopy(self._database)

    @classmethod
    def open(cls, url: str, *, migrate: bool = True, lock_wait_s: float = LOCK_WAIT_S) -> Self:
        """Open the store at a database URL, and upgrade its schema if needed.

        Args:
            url: `sqlite:///PATH` or `postgresql+psycopg://USER:PASSWORD@HOST/NAME`.
            migrate: whether to upgrade the schema.
            lock_wait_s: the longest wait for a lock of another transaction.

        Raises:
            StoreUnavailable: the database cannot be reached, created or written.
        """
        database = Database(url, lock_wait_s=lock_wait_s)
        try:
            if migrate:
                database.migrate()
        except BaseException:
            database.close()
            raise
        return cls(database)

    def close(self) -> None:
        """Close every connection."""
        if "_optuna" in self.__dict__:
            self._optuna.close()
        self._database.close()

    def ping(self) -> None:
        """Raise StoreUnavailable unless the database answers."""
        self._database.look(lambda connection: connection.exec_driver_sql("SELECT 1"))

    def revisions(self) -> tuple[str | None, str]:
        """Return the schema's revision (None if it has none yet), and the newest that this version knows."""
        return self._database.revisions()

    def metrics_reader(self) -> MetricsReader:
        """Return a new reader of metrics snapshots, with a cache; not safe to share between threads."""
        return MetricsReader(self._database)

    def on_transaction(self, watcher: TransactionWatcher) -> None:
        """Call a watcher after each transaction from now on, with "read" or "write" and its seconds.

        The call comes from the transaction's own thread.
        """
        self._database.on_transaction(watcher)

    def on_statement(self, watcher: StatementWatcher) -> None:
        """Call a watcher before each statement from now on, with the statement but without its values.

        The watcher returns a function that is called with the error, or None, after the statement.
        """
        self._database.on_statement(watcher)

    def catalog(self) -> Catalog:
        """Return the cards that dispatchers have announced."""
        with self._database.read() as connection:
            return self._catalog_of(connection)

    def _catalog_of(self, connection: Connection) -> Catalog:
        """Return the announced cards, from the cache unless a dispatcher has announced some since."""
        stamp, cached = catalog.stamp(connection), self._catalog
        if cached is None or cached[0] != stamp:
            cached = self._catalog = stamp, catalog.catalog(connection)
        return cached[1]

    def submit(
        self, spec: StudySpec, *, by: Actor = OPERATOR, idempotency_key: str | None = None
    ) -> StudyView:
        """Check a study against the catalogue and store it as queued.

        Args:
            spec: the study.
            by: who submits the study, and owns it.
            idempotency_key: identifies the request; a repeated request of the same owner with the same key
                and the same spec returns the existing study.

        Raises:
            SpecInvalid: the spec does not fit the catalogue; the error holds every problem found.
            CatalogEmpty: no dispatcher has announced any cards yet.
            Forbidden: the actor's role is too low for studies, or for this priority.
            QuotaExceeded: the study exceeds the actor's quota.
            IdempotencyConflict: the key was used before with another spec.
        """
        with self._database.write() as connection:
            study_id = submissions.submit(
                connection,
                spec,
                lambda: resolve(spec, self._catalog_of(connection)),
                by=by,
                idempotency_key=idempotency_key,
            )
            return study_queries.study(connection, study_id)

    def move(
        self, study_id: str, verb: StudyMove, *, by: Actor = OPERATOR, if_version: int | None = None
    ) -> StudyView:
        """Pause, resume, stop or cancel a study.

        Raises:
            StudyNotFound: the study does not exist.
            Forbidden, NotOwner: the actor may not change the study.
            QuotaExceeded: the study is to be resumed, and its owner's GPU-hours are used up.
            IllegalMove: the study's state does not allow the verb.
            VersionConflict: the study changed since `if_version`.
        """
        with self._database.write() as connection:
            submissions.move(connection, study_id, verb, by=by, if_version=if_version)
            return study_queries.study(connection, study_id)

    def extend(
        self, study_id: str, extension: Extension, *, by: Actor = OPERATOR, if_version: int | None = None
    ) -> StudyView:
        """Add arms, trials, replicates or fresh seeds to a completed study, and queue it again.

        Its trials stay as they are. If the study was stopped before its budget was spent, its search goes on
        only if the extension adds trials or replicates; otherwise its budget becomes what it has begun.

        Raises:
            StudyNotFound: the study does not exist.
            Forbidden, NotOwner: the actor may not change the study.
            QuotaExceeded: the extended study exceeds its owner's quota.
            IllegalMove: the study has not completed.
            VersionConflict: the study changed since `if_version`.
            SpecInvalid: the extension is not valid; the error holds every problem found.
            CatalogEmpty: the extension adds arms, and no dispatcher has announced any cards yet.
        """
        with self._database.write() as connection:
            extensions.extend(
                connection, study_id, extension, catalog.catalog(connection), by=by, if_version=if_version
            )
            return study_queries.study(connection, study_id)

    def plan_extension(self, study_id: str, extension: Extension) -> tuple[StudySpec, ResolvedStudy]:
        """Return a study's spec and plan as an extension would make them, without storing anything.

        Raises:
            StudyNotFound, IllegalMove, SpecInvalid, CatalogEmpty: as `extend` does.
        """
        with self._database.read() as connection:
            return extensions.planned(connection, study_id, extension, catalog.catalog(connection))

    def study(self, study_id: str) -> StudyView:
        """Return a study.

        Raises:
            StudyNotFound: the study does not exist.
        """
        with self._database.read() as connection:
            return study_queries.study(connection, study_id)

    def studies(
        self, chosen: StudyFilter = _EVERY, *, page_size: int = 50, page_token: str | None = None
    ) -> Page[StudySummary]:
        """Return a page of the studies that pass a filter; by default all that are not archived.

        Raises:
            SpecInvalid: the page token is invalid or belongs to another query.
        """
        with self._database.read() as connection:
            return study_queries.studies(
                connection,
                chosen=chosen,
                page_size=page_size,
                page_token=page_token,
                cache=self._progress_cache,
            )

    def best_values(self, study_ids: Sequence[str]) -> dict[str, tuple[BestValue, ...]]:
        """Return the best validation values of each study's arms, by study id.

        An arm without a value and a study that does not exist are absent.
        """
        with self._database.read() as connection:
            return summaries.best_values(connection, study_ids, cache=self._progress_cache)

    def state(self, study_id: str) -> StudyState:
        """Return a study's state, at a tenth of the cost of the whole study.

        Raises:
            StudyNotFound: the study does not exist.
        """
        return self._database.look(lambda connection: summaries.state(connection, study_id))

    def closed_study_stamp(self, study_id: str) -> tuple[int, int, datetime | None] | None:
        """Return a value that changes whenever anything that can be read of a closed study changes.

        None if the study is open or does not exist.
        """
        return self._database.look(lambda connection: summaries.closed_study_stamp(connection, study_id))

    def suites(self) -> tuple[SuiteSummary, ...]:
        """Return all suites, ordered by their newest study, latest first."""
        with self._database.read() as connection:
            return suites.suites(connection)

    def study_ids_of_suite(self, suite: str) -> tuple[str, ...]:
        """Return the ids of a suite's studies, oldest first.

        Raises:
            SuiteNotFound: no study has this label.
        """
        with self._database.read() as connection:
            return suites.study_ids_of_suite(connection, suite)

    def change_stamps(self, study_ids: Sequence[str]) -> dict[str, tuple[int, int, bool]]:
        """Return version, number of events without notes and whether it is closed, of each study, by id.

        They change with everything in a study except its notes. A study that does not exist is absent.
        """
        return self._database.look(lambda connection: summaries.change_stamps(connection, study_ids))

    def study_record(self, study_id: str) -> StudyRecord:
        """Return everything that an analysis of a study reads, from one consistent state of the database.

        Raises:
            StudyNotFound: the study does not exist.
        """
        with self._database.read() as connection:
            return trial_queries.study_record(connection, study_id)

    def arms(self, study_id: str) -> tuple[ArmView, ...]:
        """Return a study's arms in order.

        Raises:
            StudyNotFound: the study does not exist.
        """
        with self._database.read() as connection:
            return study_queries.arms(connection, study_id)

    def trials_in_parts(
        self, study_id: str, *, arm: str | None, state: TrialFilter | None, phase: Phase, part: int = 500
    ) -> tuple[TrialList, Iterator[tuple[TrialView, ...]]]:
        """Return the list of a study's trials, and an iterator over the trials that reads a part at a time.

        Each part is read in a transaction of its own, so that a slow reader holds none: the trials of a
        running study are as they are when their part is read. The iterator raises StudyNotFound if the study
        was deleted meanwhile.

        Args:
            study_id: the study.
            arm: only this arm's trials.
            state: only trials in this state, or trials that wait at a rung.
            phase: the search, or the confirmation.
            part: number of trials in memory at a time.

        Raises:
            StudyNotFound: the study does not exist.
        """
        with self._database.read() as connection:
            listed = trial_queries.listed_trials(connection, study_id, arm=arm, state=state, phase=phase)

        def parts() -> Iterator[tuple[TrialView, ...]]:
            for first in range(0, len(listed.ids), part):
                with self._database.read() as connection:
                    trials = trial_queries.trials_by_id(connection, listed.ids[first : first + part])
                if len(trials) < len(listed.ids[first : first + part]):
                    raise StudyNotFound(study_id)
                yield trials

        return listed, parts()

    def trials(
        self,
        study_id: str,
        *,
        arm: str | None = None,
        state: TrialState | TrialFilter | None = None,
        phase: Phase | None = "search",
        order: str = "created",
        page_size: int = 100,
        page_token: str | None = None,
    ) -> Page[TrialView]:
        """Return a page of a study's trials.

        Args:
            study_id: the study.
            arm: only this arm's trials.
            state: only trials in this state; `TrialFilter.WAITING` selects queued trials that wait at a rung.
            phase: the search, the confirmation, or None for both.
            order: created, number, value (best first), cost or ended; a leading `-` reverses it.
            page_size: number of trials at most.
            page_token: the `next_page_token` of the previous page.

        Raises:
            StudyNotFound, ArmNotFound: the study or the arm does not exist.
            SpecInvalid: the order is unknown, or the page token is invalid.
        """
        state_filter = None if state is None else TrialFilter(state)
        with self._database.read() as connection:
            return trial_queries.trials(
                connection,
                study_id,
                arm=arm,
                state=state_filter,
                phase=phase,
                order=order,
                page_size=page_size,
                page_token=page_token,
            )

    def pair(self, trial: TrialView) -> tuple[TrialView, ...]:
        """Return the trials of a paired trial's pair, one of each arm, itself among them, by arm."""
        with self._database.read() as connection:
            return trial_queries.pair(connection, trial)

    def every_trial(self, study_id: str, *, phase: Phase | None = "search") -> tuple[TrialView, ...]:
        """Return all trials of a study's search, of its confirmation, or of both (None), oldest first.

        Raises:
            StudyNotFound: the study does not exist.
        """
        with self._database.read() as connection:
            return trial_queries.every_trial(connection, study_id, phase=phase)

    def trial(self, trial_id: str) -> TrialView:
        """Return a trial.

        Raises:
            TrialNotFound: the trial does not exist.
        """
        return self._database.look(lambda connection: trial_queries.trial(connection, trial_id))

    def measurements(self, trial_id: str) -> tuple[Measurement, ...]:
        """Return a trial's measurements in order of their epochs.

        Raises:
            TrialNotFound: the trial does not exist.
        """
        found = self._database.look(lambda connection: trial_queries.measurements_of(connection, [trial_id]))
        if not found:
            self.trial(trial_id)
        return found.get(trial_id, ())

    def trial_output(self, trial_id: str) -> TrialOutput:
        """Return the end of what a trial's worker printed.

        Raises:
            TrialNotFound: the trial does not exist.
        """
        with self._database.read() as connection:
            return trial_outputs.read(connection, trial_queries.trial(connection, trial_id))

    def artifacts(
        self, study_id: str, *, kind: ArtifactKind | None = None, most: int | None = None
    ) -> tuple[ArtifactView, ...]:
        """Return the files of a study's trials that it keeps, or could not keep.

        Args:
            study_id: the study.
            kind: only files of this kind.
            most: only this many files.

        Raises:
            StudyNotFound: the study does not exist.
        """
        with self._database.read() as connection:
            summaries.state(connection, study_id)
            return artifacts.read(connection, study_id=study_id, kind=kind, most=most)

    def trial_artifacts(self, trial_id: str) -> tuple[ArtifactView, ...]:
        """Return the files of a trial that its study keeps, or could not keep.

        Raises:
            TrialNotFound: the trial does not exist.
        """
        with self._database.read() as connection:
            return artifacts.read(connection, trial_id=trial_queries.trial(connection, trial_id).id)

    def artifact_location(self, artifact_id: str) -> tuple[ArtifactView, str]:
        """Return a kept file and its URL.

        Raises:
            ArtifactNotFound: it does not exist, or was not kept.
        """
        with self._database.read() as connection:
            return artifacts.location(connection, artifact_id)

    def kept_artifact_ids(self, study_id: str) -> frozenset[str] | None:
        """Return the ids of a closed study's artifacts; None if the study is open or does not exist."""
        with self._database.read() as connection:
            return artifacts.kept_ids(connection, study_id)

    def expire_artifacts(self) -> int:
        """Delete the artifacts of studies that say for how long they are kept, and return their number.

        A dispatcher deletes their files.
        """
        with self._database.write() as connection:
            return artifacts.expire(connection)

    def measurements_of(self, trial_ids: Sequence[str]) -> dict[str, tuple[Measurement, ...]]:
        """Return the measurements of these trials in order of their epochs, by trial id.

        A trial without a measurement is absent.
        """
        with self._database.read() as connection:
            return trial_queries.measurements_of(connection, trial_ids)

    def curves(self, study_id: str) -> tuple[Curve, ...]:
        """Return the best value so far of each arm's search, as curves over trials.

        Raises:
            StudyNotFound: the study does not exist.
        """
        with self._database.read() as connection:
            return trial_queries.curves(connection, study_id)

    def events(self, study_id: str, *, after: int = 0, limit: int = 500) -> tuple[EventView, ...]:
        """Return a study's events numbered above `after`, oldest first.

        Raises:
            StudyNotFound: the study does not exist.
        """
        found = self._database.look(
            lambda connection: events.read_events(connection, study_id, after=after, limit=limit)
        )
        if not found:
            self.state(study_id)
        return found

    def requeue_events(self, trial_id: str) -> tuple[EventView, ...]:
        """Return the events that say why a trial was requeued, oldest first.

        Raises:
            TrialNotFound: the trial does not exist.
        """
        with self._database.read() as connection:
            return events.requeue_events(
                connection, trial_queries.trial(connection, trial_id).study_id, trial_id
            )

    def run_writer(self, claim: Claim, *, lease_s: float) -> RunWriter:
        """Return the writer of a claimed study."""
        return RunWriter(self._database, claim, lease_s=lease_s)

    def complete_copies(self) -> int:
        """Copy trials of closed studies that have no copy in Optuna's storage yet, because a run was killed.

        Return the number of trials copied.
        """
        return sum(self._optuna.copy_finished(study_id) for study_id in self._optuna.closed_with_missing())

    def remove_deleted_copies(self) -> int:
        """Delete the copies of deleted studies in Optuna's tables, and return the number of arms."""
        return self._optuna.remove_deleted()

    def copy_to_optuna(self, study_id: str, *, within_s: float = math.inf) -> int:
        """Copy finished trials that have no copy yet into Optuna's storage in the same database.

        Return the number of trials copied.

        Args:
            study_id: the study.
            within_s: start no further batch after this many seconds; the next call copies the rest.
        """
        return self._optuna.copy_finished(study_id, within_s=within_s)
