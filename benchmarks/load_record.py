"""The database for the load test: studies run by the real scheduler and writer, then copied many times.

Every study is really submitted. A few of them, one of each kind, are then trained by simulated packs. Their
rows in the tables of trials, measurements and events are copied to the other studies of the same kind, with
new ids, numbers, times and values.
"""

__all__ = ["SMALL_SHAPES", "Contents", "Shape", "fill", "measure", "play", "train_more"]

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from postgres import Postgres
from simulated_runs import SimulatedPacks

from studies.actors import Actor
from studies.spec import parse_spec
from studies.states import StudyMove
from studies.store import RunWriter, Store
from studies.trials import Claim
from workers.recorder import PackRecorder
from workers.retry import DatabaseRetry
from workers.scheduler import PackScheduler

_WORKLOADS = ("digits-mlp", "digits-cnn", "mnist5k-cnn", "antipode-2d", "rosenbrock-3d")
_LEASE_S = 600.0
_SHARE_TRAINED = {"complete": math.inf, "cancel": 0.5, "pause": 0.5, "release": 0.9}
# Trial columns that are copied unchanged.
_AS_IT_IS = (
    "arm, phase, confirms, state, origin, parameters, replicate, seed, attempt, retries, "
    "best_epoch, epochs_done, to_epoch, bracket, checkpoint, checkpoint_epoch, pack_size, "
    "memory_bytes, device_memory_bytes, cost_s, reason, worker, copy_state"
)


@dataclass(frozen=True)
class Shape:
    """A kind of study.

    Attributes:
        name: its name.
        body: the submission without name, workload and suite.
        end: how its study ends: it completes, it is cancelled or paused when half of its trials have ended,
            or its run releases it when nine tenths have.
        share: one in this many studies is of this kind; 0 for kinds with a fixed number.
        copies: number of copies of the simulated trials in one study.
    """

    name: str
    body: dict[str, Any]
    end: str = "complete"
    share: float = 0.0
    copies: int = 1


def _body(arms: Sequence[str], trials: int, epochs: int, **more: Any) -> dict[str, Any]:
    base = {
        "sampler": "random",
        "search": {"paired": 0},
        "confirmation": {"seeds": 2},
        "resources": {"max_pack_size": 8},
    }
    return {"arms": list(arms), "budget": {"trials_per_arm": trials, "epochs": epochs}} | base | more


_FOUR = ("adamp", "sgdp", "adamw", "sgd")
SMALL_SHAPES = (
    Shape("two arms", _body(("adamp", "adamw"), 24, 12), share=0.45),
    Shape("four arms", _body(_FOUR, 12, 12), share=0.25),
    Shape(
        "pruned",
        _body(
            ("adamp", "adamw", "sgd"), 27, 9, pruner={"kind": "asha", "min_epochs": 1, "reduction_factor": 3}
        ),
        share=0.2,
    ),
    Shape("cancelled", _body(("adamp", "sgd"), 24, 12), end="cancel", share=0.07),
    Shape("paused", _body(("adamp", "sgd"), 24, 12), end="pause", share=0.03),
)
_LARGE = Shape("large", _body(_FOUR, 500, 12))


@dataclass(frozen=True)
class Contents:
    """The contents of the database.

    Attributes:
        studies, trials, measurements, events: the number of each.
        megabytes: total size, including indexes.
    """

    studies: int
    trials: int
    measurements: int
    events: int
    megabytes: float


def measure(server: Postgres) -> Contents:
    """Return the contents of the database."""
    with server.connect() as connection:
        counts = [
            connection.execute(f"SELECT count(*) FROM {name}".encode()).fetchone()
            for name in ("study", "trial", "measurement", "event")
        ]
        size = connection.execute("SELECT pg_database_size('tangent')").fetchone()
    numbers = [0 if row is None else int(row[0]) for row in (*counts, size)]
    return Contents(numbers[0], numbers[1], numbers[2], numbers[3], numbers[4] / 2**20)


def fill(
    store: Store,
    server: Postgres,
    *,
    studies: int,
    owners: Sequence[Actor],
    large: int = 10,
    giant_of: int = 10,
    seed: int = 0,
) -> None:
    """Fill an empty database.

    Args:
        store: the database, with a catalogue.
        server: the database's server.
        studies: number of studies.
        owners: users that submit them, in turn.
        large: number of these studies with 2,000 trials.
        giant_of: size of one additional study, in units of 2,000 trials; 0 for none.
        seed: seed of each study's kind.
    """
    rng = random.Random(seed)  # not for secrets
    kinds = [_LARGE] * large + (
        [Shape("giant", _body(_FOUR, 500 * giant_of, 12), copies=giant_of)] if giant_of else []
    )
    kinds += rng.choices(SMALL_SHAPES, [shape.share for shape in SMALL_SHAPES], k=studies - len(kinds))
    rng.shuffle(kinds)
    played: dict[str, str] = {}
    for shape in (*SMALL_SHAPES, _LARGE):
        if any(kind.name == shape.name for kind in kinds):
            kinds.remove(shape)
            played[shape.name] = play(store, shape, by=owners[0])
    played["giant"] = played.get("large", "")
    copies: list[tuple[str, str, int, int]] = []
    for n, shape in enumerate(kinds):
        study_id = _submit(store, shape, n, by=owners[n % len(owners)])
        copies += [
            (study_id, played[shape.name], copy, _trials_per_arm(shape) // shape.copies * copy)
            for copy in range(shape.copies)
        ]
    _copy(server, copies)


def _trials_per_arm(shape: Shape) -> int:
    return shape.body["budget"]["trials_per_arm"]


def _submit(store: Store, shape: Shape, n: int, *, by: Actor) -> str:
    named = {
        "name": f"Study {n}: {shape.name}",
        "workload": _WORKLOADS[n % len(_WORKLOADS)],
        "suite": f"suite-{n // 50}" if n % 3 == 0 else None,
    }
    return store.submit(parse_spec({**shape.body, **named}), by=by).id


def play(store: Store, shape: Shape, *, by: Actor) -> str:
    """Submit a study, train it by simulated packs, and return its id."""
    study_id = _submit(store, shape, 0, by=by)
    claim = store.claim_next(dispatcher="fill", lease_s=_LEASE_S)
    assert claim is not None, "one was just submitted"
    assert claim.study_id == study_id, "no other is queued"
    writer, scheduler = _train(store, claim, reports=_SHARE_TRAINED[shape.end] * _reports(shape))
    match shape.end:
        case "cancel":
            store.move(study_id, StudyMove.CANCEL, by=by)
            writer.close(StudyMove.FINISH)
        case "pause":
            store.move(study_id, StudyMove.PAUSE, by=by)
            scheduler.requeue_all(reason="the study was paused before it began")
            writer.report_progress()
            store.release(claim)
        case "release":
            _release(store, claim, writer, scheduler)
        case _:
            writer.close(StudyMove.FINISH)
    return study_id


def train_more(store: Store, *, reports: int) -> None:
    """Train a study that was released for as many reports of its packs, and release it again."""
    claim = store.claim_next(dispatcher="fill", lease_s=_LEASE_S)
    assert claim is not None, "a study was released"
    writer, scheduler = _train(store, claim, reports=reports)
    _release(store, claim, writer, scheduler)


def _release(store: Store, claim: Claim, writer: RunWriter, scheduler: PackScheduler) -> None:
    scheduler.requeue_all(reason="the run was released")
    writer.report_progress()
    store.release(claim)


def _reports(shape: Shape) -> float:
    """Return how many reports the packs of a whole study make, about."""
    budget, resources = shape.body["budget"], shape.body["resources"]
    trials = len(shape.body["arms"]) * budget["trials_per_arm"]
    return trials * budget["epochs"] / resources["max_pack_size"]


def _train(store: Store, claim: Claim, *, reports: float) -> tuple[RunWriter, PackScheduler]:
    """Train a claimed study by simulated packs until it is finished or they have made this many reports."""
    study_id = claim.study_id
    writer = store.run_writer(claim, lease_s=_LEASE_S)
    writer.record_environment({"python": "3.11", "torch": "2.13.0", "processor": "simulated"})
    spec = store.study(study_id).spec
    plan = writer.plan()
    scheduler = PackScheduler(
        spec,
        plan,
        PackRecorder(
            spec, plan, writer=writer, retry=DatabaseRetry(10.0), artifacts=f"memory://kept-files/{study_id}"
        ),
        checkpoints=f"memory://{study_id}",
        artifacts=f"memory://kept-files/{study_id}",
        slots=lambda: 4,
    )
    simulated = SimulatedPacks(every_s=0.0)
    progress_at = 0

    def is_over() -> bool:
        nonlocal progress_at
        # The same interval as a run whose trials take seconds.
        if simulated.reports >= progress_at + 20:
            progress_at = simulated.reports
            writer.report_progress()
        return simulated.reports >= reports

    simulated.run_packs(scheduler, spec, is_over=is_over)
    return writer, scheduler


def _copy(server: Postgres, copies: Sequence[tuple[str, str, int, int]]) -> None:
    """Copy the trials, measurements and events of the simulated studies to others.

    (study, of whom, which copy, by how much numbers are shifted).
    """
    with server.connect() as connection, connection.transaction():
        # Skip triggers and foreign keys: the rows are copies of rows that were checked.
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute(
            "CREATE TEMP TABLE wanted (study_id text, of text, copy int, shift int, delta "
            "double precision) ON COMMIT DROP"
        )
        with connection.cursor().copy("COPY wanted (study_id, of, copy, shift) FROM STDIN") as rows:
            for row in copies:
                rows.write_row(row)
        connection.execute(_DELTAS.encode())
        connection.execute("ANALYZE wanted")
        for statement in _STATEMENTS:
            connection.execute(statement.encode())
    with server.connect() as connection:
        connection.execute("VACUUM ANALYZE")


# Each study is a little better or worse than the one it copies; further copies within one study are always
# worse than the first.
_DELTAS = """
    UPDATE wanted w SET delta = (hashtext(w.study_id) % 1000) / 50000.0
        - 0.03 * w.copy * CASE s.resolved->'workload'->>'direction' WHEN 'minimize' THEN -1 ELSE 1 END
    FROM study s WHERE s.id = w.study_id
"""
_NEW_ID = (
    "w.study_id || '.' || t.arm || '.' || CASE t.phase WHEN 'search' THEN '' "
    "ELSE 'c' END || (t.number + w.shift)"
)
# One study per hour; the newest is an hour old.
_BACK = "(interval '1 hour' * (1 + abs(hashtext(w.study_id)) % 1000))"
_OTHERS = "FROM wanted w JOIN trial t ON t.study_id = w.of AND (w.copy = 0 OR t.phase = 'search')"

_STATEMENTS = (
    f"""
    INSERT INTO trial (id, study_id, number, value, test_value, created_at, started_at, ended_at, {_AS_IT_IS})
    SELECT {_NEW_ID}, w.study_id, t.number + w.shift, t.value + w.delta, t.test_value + w.delta,
        t.created_at - {_BACK}, t.started_at - {_BACK}, t.ended_at - {_BACK},
        {", ".join(f"t.{name.strip()}" for name in _AS_IT_IS.split(","))}
    {_OTHERS}
    """,
    f"""
    INSERT INTO measurement (trial_id, epoch, elapsed_s, lr, train_loss, validation_loss, validation_metric,
        weight_norm, effective_step, projected_fraction, gradient_cosine)
    SELECT {_NEW_ID}, m.epoch, m.elapsed_s, m.lr, m.train_loss, m.validation_loss,
        m.validation_metric + w.delta, m.weight_norm, m.effective_step,
        m.projected_fraction, m.gradient_cosine
    {_OTHERS} JOIN measurement m ON m.trial_id = t.id
    """,
    # Each study has its own first event, its submission. Between two copies within one study, the study
    # neither ends nor begins.
    f"""
    INSERT INTO event (study_id, number, kind, at, data)
    SELECT w.study_id, 1 + row_number() OVER (PARTITION BY w.study_id ORDER BY w.copy, e.number),
        e.kind, e.at - {_BACK},
        CASE WHEN w.copy > 0 AND e.data::jsonb ? 'number'
            THEN (replace(e.data::text, w.of || '.', w.study_id || '.')::jsonb || jsonb_build_object(
                'number', (e.data->>'number')::int + w.shift,
                'trial', w.study_id || '.' || (e.data->>'arm') || '.'
                    || ((e.data->>'number')::int + w.shift)))::json
            ELSE replace(e.data::text, w.of || '.', w.study_id || '.')::json END
    FROM wanted w JOIN event e ON e.study_id = w.of AND e.number > 1
    WHERE (w.copy = 0 OR (e.data->>'to') IS DISTINCT FROM 'running'
            AND (e.data->>'phase') IS DISTINCT FROM 'confirmation')
        AND ((e.data->>'to') IS DISTINCT FROM 'completed'
            OR w.copy = (SELECT max(copy) FROM wanted x WHERE x.study_id = w.study_id))
    """,
    f"""
    UPDATE study SET state = p.state, state_reason = p.state_reason, version = p.version,
        attempt = p.attempt, environment = p.environment,
        created_at = p.created_at - {_BACK}, started_at = p.started_at - {_BACK},
        ended_at = p.ended_at - {_BACK}, turn_at = p.turn_at - {_BACK},
        last_event = (SELECT max(number) FROM event e WHERE e.study_id = study.id)
    FROM wanted w JOIN study p ON p.id = w.of WHERE w.study_id = study.id AND w.copy = 0
    """,
    (
        f"UPDATE event SET at = at - {_BACK} FROM wanted w WHERE event.study_id = w.study_id "
        "AND event.number = 1 AND w.copy = 0"
    ),
)
