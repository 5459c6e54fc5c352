"""The store: everything Tangent remembers, in SQLite or PostgreSQL. SQLAlchemy does not leave this package.

`Store` is what users of studies see; `RunWriter`, from `Store.run_writer`, is what a study's run writes with.
"""

__all__ = ["MetricsReader", "MetricsSnapshot", "RunWriter", "Store"]

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Self

from sqlalchemy import Connection

from studies.actors import OPERATOR, Actor
from studies.catalog import Catalog
from studies.extension import Extension
from studies.resolve import ResolvedStudy, resolve
from studies.spec import StudySpec
from studies.states import StudyMove, StudyState, TrialFilter, TrialState
from studies.store import catalog, events, exports, extensions, queries, submissions, suites, summaries
from studies.store.accounts import Accounts
from studies.store.dispatching import Dispatching
from studies.store.engine import Database, StatementWatcher, TransactionWatcher
from studies.store.metrics_snapshot import MetricsReader, MetricsSnapshot
from studies.store.optuna_copy import OptunaCopy
from studies.store.progress import ProgressCache
from studies.store.runs import RunWriter
from studies.store.webhook_queue import WebhookQueue
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
    TrialView,
)


class Store(Accounts, Dispatching, WebhookQueue):
    """The record of all studies. Safe to share between threads; every method is one transaction.

    Every method raises `StoreUnavailable` when the database cannot be reached or written.
    """

    def __init__(self, database: Database) -> None:
        """Wrap an open database whose schema is up to date; most callers want `Store.open`."""
        super().__init__(database)
        self._optuna = OptunaCopy(database)
        self._progress_cache = ProgressCache()
        self._catalog: tuple[tuple[int, datetime | None], Catalog] | None = None

    @classmethod
    def open(cls, url: str, *, migrate: bool = True) -> Self:
        """Return the store at a database URL, its schema brought up to date.

        Args:
            url: `sqlite:///PATH` or `postgresql+psycopg://USER:PASSWORD@HOST/NAME`.
            migrate: False leaves the schema as it is.

        Raises:
            StoreUnavailable: the database cannot be reached, made or written.
        """
        database = Database(url)
        try:
            if migrate:
                database.migrate()
        except BaseException:
            database.close()
            raise
        return cls(database)

    def close(self) -> None:
        """Give every connection back."""
        self._optuna.close()
        self._database.close()

    def ping(self) -> None:
        """Return when the database answers."""
        with self._database.read() as connection:
            connection.exec_driver_sql("SELECT 1")

    def revisions(self) -> tuple[str | None, str | None]:
        """Return the database's revision, and the one that this version of Tangent makes.

        The former is None before its first.
        """
        return self._database.revisions()

    def metrics_reader(self) -> MetricsReader:
        """Return a counter of studies and trials, which remembers what cannot change.

        Each of its users has one of their own.
        """
        return MetricsReader(self._database)

    def on_transaction(self, watcher: TransactionWatcher) -> None:
        """Tell a watcher of each transaction from now on: "read" or "write", and its seconds.

        From the transaction's own thread.
        """
        self._database.on_transaction(watcher)

    def on_statement(self, watcher: StatementWatcher) -> None:
        """Tell a watcher of each statement from now on, without its values.

        It returns what is called with the error, or None, at the end.
        """
        self._database.on_statement(watcher)

    def catalog(self) -> Catalog:
        """Return the cards on offer."""
        with self._database.read() as connection:
            return self._catalog_of(connection)

    def _catalog_of(self, connection: Connection) -> Catalog:
        """Return the cards on offer; reading them anew only where some dispatcher has announced since."""
        stamp, known = catalog.stamp(connection), self._catalog
        if known is None or known[0] != stamp:
            known = self._catalog = stamp, catalog.catalog(connection)
        return known[1]

    def submit(
        self, spec: StudySpec, *, by: Actor = OPERATOR, idempotency_key: str | None = None
    ) -> StudyView:
        """Check a study against the catalogue and store it as queued.

        Args:
            spec: what to run.
            by: who submits it; the study is theirs.
            idempotency_key: the same key, of the same owner and with the same spec, returns the study it made
                before.

        Raises:
            SpecInvalid: with every fault found.
            CatalogEmpty: nothing has been announced yet.
            Forbidden: the actor's role is too low, for any study or for its priority.
            QuotaExceeded: it is more than the actor may have.
            IdempotencyConflict: the key came before with another spec.
        """
        with self._database.write() as connection:
            study_id = submissions.submit(
                connection,
                spec,
                lambda: resolve(spec, self._catalog_of(connection)),
                by=by,
                idempotency_key=idempotency_key,
            )
            return queries.study(connection, study_id)

    def move(
        self, study_id: str, verb: StudyMove, *, by: Actor = OPERATOR, if_version: int | None = None
    ) -> StudyView:
        """Pause, resume, stop or cancel a study.

        Raises:
            StudyNotFound: there is none.
            Forbidden, NotOwner: the actor may not change it.
            QuotaExceeded: it is to be resumed, and its owner's GPU-hours are used up.
            IllegalMove: its state does not allow the verb.
            VersionConflict: it changed since `if_version`.
        """
        with self._database.write() as connection:
            submissions.move(connection, study_id, verb, by=by, if_version=if_version)
            return queries.study(connection, study_id)

    def extend(
        self, study_id: str, extension: Extension, *, by: Actor = OPERATOR, if_version: int | None = None
    ) -> StudyView:
        """Give a study that has completed more arms, trials, replicates or fresh seeds, and queue it again.

        Its trials stay as they are.

        A study whose search ended before its budget was spent, because it was stopped, goes on with the
        search only where more trials or replicates are asked for; else its budget is what it has begun.

        Raises:
            StudyNotFound: there is none.
            Forbidden, NotOwner: the actor may not change it.
            QuotaExceeded: it is more than its owner may have.
            IllegalMove: it has not completed.
            VersionConflict: it changed since `if_version`.
            SpecInvalid: with every fault found.
            CatalogEmpty: arms are to be added, and nothing has been announced yet.
        """
        with self._database.write() as connection:
            extensions.extend(
                connection, study_id, extension, catalog.catalog(connection), by=by, if_version=if_version
            )
            return queries.study(connection, study_id)

    def plan_extension(self, study_id: str, extension: Extension) -> tuple[StudySpec, ResolvedStudy]:
        """Return a study and its plan as an extension would make them; nothing is stored.

        Raises:
            StudyNotFound, IllegalMove, SpecInvalid, CatalogEmpty: as `extend` does.
        """
        with self._database.read() as connection:
            return extensions.planned(connection, study_id, extension, catalog.catalog(connection))

    def study(self, study_id: str) -> StudyView:
        """Return a study.

        Raises:
            StudyNotFound: there is none.
        """
        with self._database.read() as connection:
            return queries.study(connection, study_id)

    def studies(
        self,
        *,
        state: StudyState | None = None,
        workload: str | None = None,
        suite: str | None = None,
        page_size: int = 50,
        page_token: str | None = None,
    ) -> Page[StudySummary]:
        """Return a page of studies, newest first.

        Raises:
            SpecInvalid: the page token is none of ours.
        """
        with self._database.read() as connection:
            return queries.studies(
                connection,
                state=state,
                workload=workload,
                suite=suite,
                page_size=page_size,
                page_token=page_token,
                cache=self._progress_cache,
            )

    def best_values(self, study_ids: Sequence[str]) -> dict[str, tuple[BestValue, ...]]:
        """Return the best validation value of each arm's search that has one, by study id.

        A study that does not exist is absent.
        """
        with self._database.read() as connection:
            return summaries.best_values(connection, study_ids, cache=self._progress_cache)

    def state(self, study_id: str) -> StudyState:
        """Return where a study stands, at a tenth of the price of the whole study.

        Raises:
            StudyNotFound: there is none.
        """
        with self._database.read() as connection:
            return summaries.state(connection, study_id)

    def closed_study_stamp(self, study_id: str) -> tuple[int, int, datetime | None] | None:
        """Return what changes with all that can be read of a closed study.

        None while it is open, or where there is none.
        """
        with self._database.read() as connection:
            return summaries.closed_study_stamp(connection, study_id)

    def suites(self) -> tuple[SuiteSummary, ...]:
        """Return all suites, the one with the newest study first."""
        with self._database.read() as connection:
            return suites.suites(connection)

    def study_ids_of_suite(self, suite: str) -> tuple[str, ...]:
        """Return the ids of a suite's studies, oldest first.

        Raises:
            SuiteNotFound: no study has this label.
        """
        with self._database.read() as connection:
            return suites.study_ids_of_suite(connection, suite)

    def change_stamps(self, study_ids: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Return version and last event of those of the studies that exist, by id.

        They change with all that happens to a study.
        """
        with self._database.read() as connection:
            return summaries.change_stamps(connection, study_ids)

    def study_record(self, study_id: str) -> StudyRecord:
        """Return all that an analysis of a study rests on, as it stands at one moment.

        Raises:
            StudyNotFound: there is none.
        """
        with self._database.read() as connection:
            return queries.study_record(connection, study_id)

    def arms(self, study_id: str) -> tuple[ArmView, ...]:
        """Return a study's arms in order.

        Raises:
            StudyNotFound: there is none.
        """
        with self._database.read() as connection:
            return queries.arms(connection, study_id)

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

        `order` is created, number, value (best first), cost or ended, with `-` for the reverse.

        They are those of its search unless another phase, or None for both, is asked for.
        With `TrialFilter.WAITING` as `state` those that wait at a rung, which are queued.

        Raises:
            StudyNotFound, ArmNotFound: there is none.
            SpecInvalid: an unknown order, or a page token that is none of ours.
        """
        asked = None if state is None else TrialFilter(state)
        with self._database.read() as connection:
            return queries.trials(
                connection,
                study_id,
                arm=arm,
                state=asked,
                phase=phase,
                order=order,
                page_size=page_size,
                page_token=page_token,
            )

    def every_trial(self, study_id: str, *, phase: Phase | None = "search") -> tuple[TrialView, ...]:
        """Return all trials of a study's search, or of another phase, or of both (None), oldest first.

        Raises:
            StudyNotFound: there is none.
        """
        with self._database.read() as connection:
            return queries.every_trial(connection, study_id, phase=phase)

    def trial(self, trial_id: str) -> TrialView:
        """Return a trial.

        Raises:
            TrialNotFound: there is none.
        """
        with self._database.read() as connection:
            return queries.trial(connection, trial_id)

    def measurements(self, trial_id: str) -> tuple[Measurement, ...]:
        """Return a trial's measurements, epoch by epoch.

        Raises:
            TrialNotFound: there is no such trial.
        """
        with self._database.read() as connection:
            return queries.measurements(connection, trial_id)

    def measurements_of(self, trial_ids: Sequence[str]) -> dict[str, tuple[Measurement, ...]]:
        """Return what these trials measured, epoch by epoch, by trial id.

        A trial without a measurement is absent.
        """
        with self._database.read() as connection:
            return exports.measurements_of(connection, trial_ids)

    def curves(self, study_id: str) -> tuple[Curve, ...]:
        """Return the best value so far of each arm's search.

        Raises:
            StudyNotFound: there is none.
        """
        with self._database.read() as connection:
            return queries.curves(connection, study_id)

    def events(self, study_id: str, *, after: int = 0, limit: int = 500) -> tuple[EventView, ...]:
        """Return a study's events numbered above `after`, oldest first.

        Raises:
            StudyNotFound: there is no such study.
        """
        with self._database.read() as connection:
            found = events.read_events(connection, study_id, after=after, limit=limit)
            if not found:
                queries.resolved(connection, study_id)
            return found

    def requeue_events(self, trial_id: str) -> tuple[EventView, ...]:
        """Return the events that tell why a trial was queued again, oldest first.

        Raises:
            TrialNotFound: there is no such trial.
        """
        with self._database.read() as connection:
            return events.requeue_events(connection, queries.trial(connection, trial_id).study_id, trial_id)

    def run_writer(self, claim: Claim, *, lease_s: float) -> RunWriter:
        """Return the writer of a claimed study."""
        return RunWriter(self._database, claim, lease_s=lease_s)

    def complete_copies(self) -> int:
        """Copy what closed studies lack in Optuna's storage, because their runs were killed too soon.

        Return how many trials.
        """
        return sum(self._optuna.copy_finished(study_id) for study_id in self._optuna.closed_with_missing())

    def copy_to_optuna(self, study_id: str, *, within_s: float = math.inf) -> int:
        """Copy finished trials that are not there yet into Optuna's storage in the same database.

        Return how many.

        Args:
            study_id: the study.
            within_s: begin no more of them after so many seconds; the next call goes on.
        """
        return self._optuna.copy_finished(study_id, within_s=within_s)
