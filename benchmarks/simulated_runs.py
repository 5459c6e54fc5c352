"""Runs of studies without Ray: packs report on a clock, and the real scheduler and writer handle the reports.

    python benchmarks/simulated_runs.py DATABASE_URL STUDY ATTEMPT --packs 2 --every-s 1

The run is the same as one started by the dispatcher: `workers.study_run.StudyRun` with its lease, its
progress and its copy in Optuna's storage. Only Ray Tune is replaced: `run_packs` below simulates the workers.
"""

__all__ = ["SimulatedPacks"]

import argparse
import hashlib
import heapq
import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from postgres import Postgres

import workers.study_run
from studies.catalog import PackageVersion
from studies.spec import StudySpec
from studies.store import Store
from studies.trials import Claim, Measurement
from workers.pack_protocol import EpochReport, Member, MemberReport, Outcome, Pack
from workers.recorder import PackRecorder
from workers.scheduler import PackScheduler

_LEASE_S = 30.0
_IDLE_S = 0.05


def _noise(*of: object) -> float:
    """Return a number from -1 to 1 that depends only on the arguments."""
    return int.from_bytes(hashlib.blake2b(repr(of).encode(), digest_size=4).digest()) / 2**31 - 1


def _metric(pack: Pack, member: Member, epoch: int) -> float | None:
    """Return a noisy validation value that depends on the learning rate, or None for a diverged trial."""
    off = math.log10(float(member.parameters.get("lr") or 1e-3)) + 2.5 + 0.2 * _noise(pack.optimizer)
    if off > 2.2:
        return None
    reached = 0.97 - 0.06 * off * off + 0.01 * _noise(member.trial_id, member.seed)
    value = reached * (1 - 0.6 ** (epoch + 1)) + 0.004 * _noise(member.trial_id, epoch)
    return value if pack.maximize else 1.0 - value


def _report(pack: Pack, epoch: int, alive: list[Member]) -> EpochReport:
    members: list[MemberReport] = []
    for member in list(alive):
        value = _metric(pack, member, epoch)
        measurement = Measurement(
            epoch=epoch,
            elapsed_s=0.4 * epoch * (1 + 0.1 * _noise(member.trial_id)),
            lr=float(member.parameters.get("lr") or 1e-3),
            train_loss=2.0 / (epoch + 1),
            validation_loss=None if value is None else 1.1 - value,
            validation_metric=value,
            weight_norm=20.0 + epoch,
            effective_step=0.01,
            projected_fraction=0.8 if pack.optimizer.endswith("p") else None,
            gradient_cosine=0.02,
        )
        outcome = None
        if value is None:
            outcome = Outcome(
                state="diverged",
                reason=(
                    f"training loss became nan at epoch {epoch}, step 3; lr "
                    f"{measurement.lr:g} may be too high"
                ),
            )
            alive.remove(member)
        elif epoch == pack.epochs:
            outcome = Outcome(
                state="completed",
                value=value,
                best_epoch=epoch,
                test_value=value - 0.01 * (1 + _noise(member.trial_id, "test")),
            )
        checkpoint = (
            f"{pack.checkpoints}/{member.trial_id}-{epoch}"
            if outcome is None and epoch == pack.to_epoch
            else None
        )
        members.append(
            MemberReport(
                trial_id=member.trial_id,
                attempt=member.attempt,
                measurement=measurement,
                outcome=outcome,
                checkpoint=checkpoint,
            )
        )
    return EpochReport(pack_id=pack.pack_id, epoch=epoch, members=tuple(members))


@dataclass(order=True)
class _InTraining:
    due_s: float
    pack: Pack = field(compare=False)
    epoch: int = field(compare=False)
    alive: list[Member] = field(compare=False)


@dataclass
class SimulatedPacks:
    """The simulated workers of one run.

    Attributes:
        every_s: seconds of an epoch; 0 for packs that report as fast as reports are handled.
        packs, reports, members: number of packs begun, of reports, and of trials in all reports together.
        late_s: each report's delay in seconds from its due time until it was handled.
        took_s: the recorder's seconds for each report.
        counts_from, for_s, server, at_end: reports count from the moment when `counts_from` packs have begun,
            for `for_s` seconds; then `at_end` is called. `server` returns the processor seconds and commits
            of the database server.
        found: the figures of the counted reports.
    """

    every_s: float
    packs: int = 0
    reports: int = 0
    members: int = 0
    late_s: list[float] = field(default_factory=list[float])
    took_s: list[float] = field(default_factory=list[float])
    counts_from: int = 0
    for_s: float = math.inf
    server: Callable[[], tuple[float, int]] | None = None
    at_end: Callable[[], None] = lambda: None
    found: dict[str, Any] = field(default_factory=dict[str, Any])
    _began: tuple[float, float, tuple[float, int]] | None = None

    def run_packs(
        self,
        scheduler: PackScheduler,
        spec: StudySpec,
        *,
        is_over: Callable[[], bool],
        is_leaving: Callable[[], bool] = lambda: False,
        packages: Sequence[str] = (),
        versions: Mapping[str, PackageVersion] | None = None,
    ) -> None:
        """Run packs with the same interface as `workers.tune.run_packs`."""
        del spec, packages, versions
        going: list[_InTraining] = []
        while not is_over() and not is_leaving() and not scheduler.is_drained:
            while (pack := scheduler.next_pack(f"p{self.packs}")) is not None:
                scheduler.recorder.started(pack.pack_id)
                self.packs += 1
                # Spread the first reports, because real workers do not report at the same moment.
                first_s = time.monotonic() + self.every_s * (1 + 0.5 * _noise(pack.pack_id))
                heapq.heappush(going, _InTraining(first_s, pack, pack.from_epoch + 1, list(pack.members)))
            self._count()
            if not going:
                if scheduler.is_finished:
                    return
                time.sleep(_IDLE_S)
                continue
            wait_s = going[0].due_s - time.monotonic()
            if wait_s > 0:
                time.sleep(min(wait_s, _IDLE_S))
                continue
            self._take(scheduler.recorder, going, heapq.heappop(going))

    def _count(self) -> None:
        if self.server is None or self.packs < self.counts_from:
            return
        now = time.monotonic()
        if self._began is None:
            self.reports, self.members = 0, 0
            self.late_s.clear()
            self._began = now, time.process_time(), self.server()
        elif now - self._began[0] >= self.for_s and not self.found:
            wall_s, (cpu_s, commits) = now - self._began[0], self.server()
            self.found = {
                "wall_s": wall_s,
                "cpu_s": time.process_time() - self._began[1],
                "reports": self.reports,
                "members": self.members,
                "late_s": self.late_s,
                "postgres_cores": (cpu_s - self._began[2][0]) / wall_s,
                "commits_per_s": (commits - self._began[2][1]) / wall_s,
            }
            self.at_end()

    def _take(self, recorder: PackRecorder, going: list[_InTraining], one: _InTraining) -> None:
        began = time.monotonic()
        report = _report(one.pack, one.epoch, one.alive)
        recorder.reported(one.pack.pack_id, report, worker=f"simulated:{one.pack.pack_id}")
        is_over = one.epoch == one.pack.to_epoch or not one.alive
        if is_over:
            recorder.ended(one.pack.pack_id)
        else:
            heapq.heappush(going, _InTraining(one.due_s + self.every_s, one.pack, one.epoch + 1, one.alive))
        self.reports += 1
        self.members += len(report.members)
        self.late_s.append(began - one.due_s)
        self.took_s.append(time.monotonic() - began)


def main() -> int:
    """Run one claimed study and return 0 when it is closed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("database")
    parser.add_argument("study")
    parser.add_argument("attempt", type=int)
    parser.add_argument("--packs", type=int, default=2, help="packs trained at once (2)")
    parser.add_argument(
        "--every-s",
        type=float,
        default=1.0,
        help="seconds per epoch (1); 0: as fast as reports are handled",
    )
    parser.add_argument(
        "--for-s",
        type=float,
        default=math.inf,
        help="end this many seconds after all packs have started; by default never",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="file for the figures about the reports of these seconds"
    )
    given = parser.parse_args()
    simulated = SimulatedPacks(every_s=given.every_s, counts_from=given.packs, for_s=given.for_s)
    # The only replaced part of the product is the training of packs.
    workers.study_run.run_packs = simulated.run_packs
    store = Store.open(given.database, migrate=False)
    run = workers.study_run.StudyRun(
        store,
        Claim(given.study, given.attempt),
        lease_s=_LEASE_S,
        checkpoints=f"memory://simulated/{given.study}",
        artifacts=f"memory://kept-files/{given.study}",
        machines=f"simulated/{given.study}",
        turn_s=120.0,
        count_slots=lambda _cpus, _gpus, _processes: given.packs,
    )
    print("ready", flush=True)
    simulated.server = (lambda: _server(given.database)) if given.json is not None else None
    if given.for_s < math.inf:
        simulated.at_end = run.leave
    run.carry_out()
    store.close()
    if given.json is not None:
        given.json.write_text(json.dumps(simulated.found))
    return 0


def _server(url: str) -> tuple[float, int]:
    """Return a local server's processor seconds so far and its number of commits."""
    with psycopg.connect(url.replace("postgresql+psycopg", "postgresql")) as connection:
        row = connection.execute(
            "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()
        folder = connection.execute("SHOW data_directory").fetchone()
    assert row is not None, "this database has a row"
    assert folder is not None, "a setting has one too"
    pid = int(Path(str(folder[0]), "postmaster.pid").read_text().split()[0])
    return Postgres(Path(str(folder[0])).parent, pid).cpu_s, int(row[0])


if __name__ == "__main__":
    sys.exit(main())
