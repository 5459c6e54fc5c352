"""Invariants that must hold after any fault.

Compares one snapshot of a database with the responses that clients received. The service may be running or
stopped.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, inspect, select
from trial_invariants import FINISHED, Copy, of_copies, of_trial, read_copies

from studies.resolve import ResolvedArm, ResolvedStudy
from studies.seeds import confirmation_seed
from studies.spec import StudySpec
from studies.states import CLOSED_STUDY_STATES, FINISHED_TRIAL_STATES, StudyState, TrialState
from studies.store import Store, tables
from studies.views import StudyView, TrialView

__all__ = ["ClientView", "broken"]

_CLOSED = frozenset(state.value for state in CLOSED_STUDY_STATES)
_NO_RESULT = frozenset({"failed", "cancelled"})
_CUT_SHORT = frozenset({"stopping", "cancelling", "failed", "cancelled"})
# Fields of a trial that cannot change after its end.
_FINAL = tuple(
    name for name in TrialView.model_fields if name not in {"id", "created_at", "started_at", "ended_at"}
)


@dataclass
class ClientView:
    """The responses that clients received and may rely on, even if machines fail afterwards.

    Attributes:
        studies: the spec of each accepted study by id; None if only the id is known.
        finished: ended trials by id, as a client first saw them.
        contradictions: facts that clients received in two versions.
    """

    studies: dict[str, StudySpec | None] = field(default_factory=dict[str, StudySpec | None])
    finished: dict[str, TrialView] = field(default_factory=dict[str, TrialView])
    contradictions: list[str] = field(default_factory=list[str])

    def accepted(self, study: StudyView) -> str:
        """Record the response to a submission or an extension, and return the study's id."""
        self.studies[study.id] = study.spec
        return study.id

    def saw(self, trials: Iterable[TrialView]) -> None:
        """Record trials as a client sees them; trials that have not ended may still change."""
        for trial in trials:
            before = self.finished.get(trial.id)
            if before is not None:
                self.contradictions += [
                    f"{violation}, as a client saw it later" for violation in _changed(before, trial)
                ]
            elif trial.state in FINISHED_TRIAL_STATES:
                self.finished[trial.id] = trial


@dataclass(frozen=True)
class _Record:
    """Everything that the database stores about one study, as rows."""

    row: Any
    spec: StudySpec
    plan: ResolvedStudy
    arms: Sequence[Any]
    trials: Sequence[Any]
    events: Sequence[Any]
    measured: Mapping[str, Sequence[Any]]
    copies: Mapping[str, Sequence[Copy]]

    @property
    def ran_to_its_end(self) -> bool:
        """Whether it completed and its owner has not stopped it since it was last queued."""
        begun = max(
            (n for n, event in enumerate(self.events) if event.kind in {"study.submitted", "study.extended"}),
            default=0,
        )
        states = {event.data["to"] for event in self.events[begun:] if event.kind == "study.state"}
        return self.row.state == StudyState.COMPLETED.value and not states & _CUT_SHORT


def broken(
    source: Store | str, client: ClientView | None = None, *, are_copies_due: bool = False
) -> list[str]:
    """Return the violated invariants, one sentence each.

    Args:
        source: a store or a database URL.
        client: the responses that clients received.
        are_copies_due: whether Optuna's tables must be complete for closed studies by now. Otherwise they may
            be incomplete, but never wrong.
    """
    client = client or ClientView()
    store = Store.open(source, migrate=False) if isinstance(source, str) else source
    try:
        with store._database.read() as connection:
            records = _records(connection)
    finally:
        if isinstance(source, str):
            store.close()
    found = [
        f"study {record.row.id}: {violation}"
        for record in records
        for violation in _of_study(record, are_copies_due=are_copies_due)
    ]
    return [
        *client.contradictions,
        *_of_clients(client, {record.row.id: record for record in records}),
        *found,
    ]


def _records(connection: Connection) -> list[_Record]:
    def grouped(query: Any, by: str) -> dict[Any, list[Any]]:
        found: defaultdict[Any, list[Any]] = defaultdict(list)
        for row in connection.execute(query):
            found[getattr(row, by)].append(row)
        return found

    s, a, t, e, m = tables.study.c, tables.arm.c, tables.trial.c, tables.event.c, tables.measurement.c
    arms = grouped(select(tables.arm).order_by(a.position), "study_id")
    trials = grouped(select(tables.trial).order_by(t.arm, t.phase.desc(), t.number), "study_id")
    events = grouped(select(tables.event).order_by(e.number), "study_id")
    measured = grouped(select(tables.measurement).order_by(m.trial_id, m.epoch), "trial_id")
    has_copies = inspect(connection).has_table("trial_user_attributes")
    return [
        _Record(
            row=row,
            spec=StudySpec.model_validate(row.spec),
            plan=ResolvedStudy.model_validate(row.resolved),
            arms=arms.get(row.id, []),
            trials=trials.get(row.id, []),
            events=events.get(row.id, []),
            measured={trial.id: measured.get(trial.id, []) for trial in trials.get(row.id, [])},
            copies={
                arm.name: read_copies(connection, f"tangent/{row.id}/{arm.name}") if has_copies else []
                for arm in arms.get(row.id, [])
            },
        )
        for row in connection.execute(select(tables.study).order_by(s.created_at, s.id)).all()
    ]


def _of_clients(client: ClientView, records: Mapping[str, _Record]) -> Iterator[str]:
    for study_id, spec in client.studies.items():
        record = records.get(study_id)
        if record is None:
            yield f"study {study_id}: it was accepted but does not exist"
        elif (
            spec is not None
            and spec != record.spec
            and not any(event.kind == "study.extended" for event in record.events)
        ):
            yield f"study {study_id}: it differs from the accepted study"
    there = Counter(trial.id for record in records.values() for trial in record.trials)
    rows = {trial.id: trial for record in records.values() for trial in record.trials}
    for trial_id, seen in client.finished.items():
        if there[trial_id] != 1:
            yield (
                f"trial {trial_id}: a client saw it {seen.state.value}, but it exists {there[trial_id]} times"
            )
        else:
            fields = {name: getattr(rows[trial_id], name) for name in TrialView.model_fields}
            yield from _changed(seen, TrialView(**{**fields, "test_metrics": fields["test_metrics"] or {}}))


def _changed(seen: TrialView, now: TrialView) -> Iterator[str]:
    for name in _FINAL:
        if getattr(seen, name) != getattr(now, name):
            yield (
                f"trial {seen.id}: a client saw it {seen.state.value} with {name} {getattr(seen, name)!r}, "
                f"but now it is {getattr(now, name)!r}"
            )


def _of_study(record: _Record, *, are_copies_due: bool) -> Iterator[str]:
    yield from _whole(record)
    yield from _settled(record)
    yield from _events_in_order(record)
    for trial in record.trials:
        about = [event for event in record.events if event.data.get("trial") == trial.id]
        of_this = of_trial(trial, about, record.measured[trial.id], spec=record.spec, plan=record.plan)
        yield from (f"trial {trial.id}: {violation}" for violation in of_this)
    for arm in record.plan.arms:
        searched = {
            trial.id: trial for trial in record.trials if trial.arm == arm.name and trial.phase == "search"
        }
        are_due = are_copies_due and record.row.state in _CLOSED
        of_arm = of_copies(record.copies.get(arm.name, []), searched, record.measured, are_due=are_due)
        yield from (f"Optuna's copy of arm {arm.name}: {violation}" for violation in of_arm)


def _whole(record: _Record) -> Iterator[str]:
    """Every planned trial exists once, and no other trial exists."""
    replicates = record.spec.budget.replicates
    planned = [(arm.name, arm.trials * replicates) for arm in record.plan.arms]
    if [(arm.name, arm.trials) for arm in record.arms] != planned:
        yield f"its arms are {[(arm.name, arm.trials) for arm in record.arms]}, but its plan has {planned}"
    for place, count in Counter((trial.arm, trial.phase, trial.number) for trial in record.trials).items():
        if count > 1:
            yield f"{count} trials are number {place[2]} of arm {place[0]}'s {place[1]}"
    known = {arm.name for arm in record.plan.arms}
    yield from (
        f"trial {trial.id} belongs to no arm of its plan" for trial in record.trials if trial.arm not in known
    )
    for arm in record.plan.arms:
        mine = [trial for trial in record.trials if trial.arm == arm.name]
        searched = [trial for trial in mine if trial.phase == "search"]
        by_replicate = Counter(trial.replicate for trial in searched)
        yield from _searched(record, arm, by_replicate)
        yield from _confirmed(
            record, arm, searched, [trial for trial in mine if trial.phase == "confirmation"]
        )
        for phase in ("search", "confirmation"):
            numbers = sorted({trial.number for trial in mine if trial.phase == phase})
            if numbers != list(range(len(numbers))):
                yield f"the numbers of arm {arm.name}'s {phase} are {numbers}, with gaps"


def _searched(record: _Record, arm: ResolvedArm, by_replicate: Mapping[int, int]) -> Iterator[str]:
    # A finite space may hold fewer configurations than its size, because constraints exclude some; and paired
    # trials may repeat configurations.
    is_uncertain = bool(arm.card.constraints) or record.spec.search.paired > 0
    may_be_fewer = is_uncertain and arm.configurations() < float("inf")
    for replicate in sorted({*range(record.spec.budget.replicates), *by_replicate}):
        count = by_replicate.get(replicate, 0)
        most = arm.trials if replicate < record.spec.budget.replicates else 0
        if count > most:
            yield f"replicate {replicate} of arm {arm.name}: expected at most {most} trials, found {count}"
        elif count < most and record.ran_to_its_end and not may_be_fewer:
            yield (
                f"it has completed, but arm {arm.name} has only {count} of {most} "
                f"trials in replicate {replicate}"
            )


def _confirmed(
    record: _Record, arm: ResolvedArm, searched: Sequence[Any], runs: Sequence[Any]
) -> Iterator[str]:
    seeds = [confirmation_seed(record.spec.seed, index) for index in range(record.spec.confirmation.seeds)]
    # Runs that were cancelled by a stop are repeated.
    made = Counter(
        (_key(run.parameters), run.seed) for run in runs if run.state != TrialState.CANCELLED.value
    )
    yield from (
        f"arm {arm.name} confirms {dict(key)} on seed {seed} {count} times"
        for (key, seed), count in made.items()
        if count > 1
    )
    numbers = {trial.number: trial for trial in searched}
    for run in runs:
        origin = numbers.get(run.confirms)
        if (origin is None or origin.parameters != run.parameters) and _key(run.parameters) != _key(
            arm.defaults
        ):
            yield (
                f"trial {run.id} confirms trial {run.confirms} of arm {arm.name}, which has "
                "another configuration or does not exist"
            )
    if not record.ran_to_its_end or all(trial.state in _NO_RESULT for trial in searched):
        return
    is_maximized = record.plan.workload.direction == "maximize"
    wanted = {_key(arm.defaults)}
    for replicate in range(record.spec.budget.replicates):
        valued = [
            trial
            for trial in searched
            if trial.replicate == replicate and trial.state == "completed" and trial.value is not None
        ]
        wanted |= (
            {
                _key(
                    min(
                        valued,
                        key=lambda trial: (-trial.value if is_maximized else trial.value, trial.number),
                    ).parameters
                )
            }
            if valued
            else set()
        )
    for key, seed in itertools.product(wanted, seeds):
        if not made[key, seed]:
            yield f"it has completed, but arm {arm.name} does not confirm {dict(key)} on seed {seed}"


def _key(parameters: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(parameters.items()))


def _settled(record: _Record) -> Iterator[str]:
    """A closed study has no lease and no open trial; without a lease no trial is running."""
    row = record.row
    if (row.lease_owner is None) != (row.lease_expires_at is None):
        yield "only one of lease_owner and lease_expires_at is set"
    if row.state in _CLOSED and row.lease_owner is not None:
        yield f"it is {row.state}, but {row.lease_owner} holds a lease"
    if (row.state in _CLOSED) != (row.ended_at is not None):
        yield f"it is {row.state}, but ended_at is {row.ended_at}"
    for trial in record.trials:
        if trial.state not in FINISHED and row.state in _CLOSED:
            yield f"it is {row.state}, but trial {trial.id} is {trial.state}"
        elif trial.state == TrialState.RUNNING.value and row.lease_owner is None:
            yield f"trial {trial.id} is running, but no run holds the lease"
        elif trial.state == TrialState.CANCELLED.value and not any(
            event.kind == "study.state" and event.data["to"] in _CUT_SHORT for event in record.events
        ):
            yield f"trial {trial.id} is cancelled, but the study was never stopped"


def _events_in_order(record: _Record) -> Iterator[str]:
    """The events have no gap and lead to the current state."""
    row = record.row
    ids = [event.number for event in record.events]
    if ids != list(range(1, len(ids) + 1)) or row.last_event != len(ids):
        yield f"its events are numbered {ids}, but last_event is {row.last_event}"
    if [event.number for event in record.events if event.kind == "study.submitted"] != [1]:
        yield "its first event must be its submission, and no other event may be"
    state, changes = StudyState.QUEUED.value, 0
    for event in record.events:
        if event.kind == "study.state":
            if event.data["from"] != state:
                yield f"event {event.number} leaves {event.data['from']}, but the state was {state}"
            state, changes = event.data["to"], changes + 1
    if (state, changes + 1) != (row.state, row.version):
        yield (
            f"its events end at {state} after {changes} changes, but it is "
            f"{row.state} at version {row.version}"
        )
    known = {trial.id for trial in record.trials}
    unknown = {event.data["trial"] for event in record.events if "trial" in event.data} - known
    yield from (f"its events name trial {trial_id}, which does not exist" for trial_id in sorted(unknown))
    finished = 0
    for event in record.events:
        if event.kind == "progress":
            now = event.data["study"]["finished"]
            if now < finished:
                yield f"event {event.number} counts {now} finished trials, an earlier one {finished}"
            finished = now
