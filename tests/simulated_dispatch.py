"""Simulated runs: send to the store what a dispatcher, a run and its workers would send."""

__all__ = ["SimulatedDispatcher", "SimulatedRun", "report"]

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from catalogs import study_body

from studies.extension import parse_extension
from studies.seeds import confirmation_seed
from studies.spec import parse_spec
from studies.store import RunWriter, Store
from studies.trials import Claim, Measurement, NewTrial, PendingTrial, Report
from studies.views import StudyView, TrialView

LEASE_S = 60.0


def report(
    trial: PendingTrial,
    epoch: int,
    *,
    elapsed_s: float | None = None,
    validation_metric: float | None = 0.5,
    **fields: Any,
) -> Report:
    """Return a trial's report of one epoch."""
    measurement = {
        "epoch": epoch,
        "elapsed_s": 0.5 * epoch if elapsed_s is None else elapsed_s,
        "validation_metric": validation_metric,
    }
    return Report(trial.id, trial.attempt, Measurement.model_validate(measurement), **fields)


@dataclass(frozen=True)
class SimulatedRun:
    """A claimed study and the actions of its run."""

    store: Store
    claim: Claim
    writer: RunWriter

    @property
    def study(self) -> StudyView:
        """The current view of the study."""
        return self.store.study(self.claim.study_id)

    def trial(self, trial: PendingTrial) -> TrialView:
        """Return the current view of a trial."""
        return self.store.trial(trial.id)

    def lapse(self) -> None:
        """Let the lease expire."""
        self.store.run_writer(self.claim, lease_s=-1.0).renew()

    def create(self, *numbers: int, arm: str = "adamp") -> tuple[PendingTrial, ...]:
        """Create trials of an arm; number 0 has the arm's defaults."""
        defaults = next(a.defaults for a in self.writer.plan().arms if a.name == arm)
        return self.writer.create(
            [
                NewTrial(
                    arm,
                    n,
                    "default" if n == 0 else "sampled",
                    defaults if n == 0 else defaults | {"lr": 1e-3 * (n + 1)},
                    seed=7,
                )
                for n in numbers
            ]
        )

    def confirm(
        self, *numbers: int, seeds: int = 2, first: int = 0, arm: str = "adamp"
    ) -> tuple[PendingTrial, ...]:
        """Create confirmation trials for trials with these numbers, each on `seeds` fresh seeds.

        The new trials are numbered from `first`.
        """
        found = {
            trial.number: trial for trial in self.store.every_trial(self.claim.study_id) if trial.arm == arm
        }
        pairs = [
            (found[n], confirmation_seed(self.study.spec.seed, index))
            for n in numbers
            for index in range(seeds)
        ]
        return self.writer.create(
            [
                NewTrial(
                    arm,
                    n,
                    of.origin,
                    of.parameters,
                    seed,
                    of.replicate,
                    phase="confirmation",
                    confirms=of.number,
                )
                for n, (of, seed) in enumerate(pairs, start=first)
            ]
        )

    def begin(self, *numbers: int, arm: str = "adamp") -> tuple[PendingTrial, ...]:
        """Create and start trials of an arm."""
        pending = self.create(*numbers, arm=arm)
        self.writer.start(pending)
        return pending

    def complete(
        self, trial: PendingTrial, value: float, *, cost_s: float = 1.0, charged_s: float = 1.0
    ) -> None:
        """Report both epochs of a trial; the second completes it."""
        half = {"charged_s": charged_s / 2}
        self.writer.record([report(trial, 1, elapsed_s=cost_s / 2, validation_metric=value / 2, **half)])
        ended = {"ended": "completed", "value": value, "best_epoch": 2, "test_value": value - 0.01}
        self.writer.record(
            [report(trial, 2, elapsed_s=cost_s, validation_metric=value, worker="host:1", **half, **ended)]
        )

    def diverge(self, trial: PendingTrial) -> None:
        """Report that a trial diverged in its first epoch."""
        self.writer.record(
            [report(trial, 1, validation_metric=None, ended="diverged", reason="the loss became nan")]
        )

    def every_event(self) -> Sequence[tuple[str, dict[str, object]]]:
        """Return kind and data of all events of the study."""
        return [(event.kind, event.data) for event in self.store.events(self.claim.study_id)]


@dataclass(frozen=True)
class SimulatedDispatcher:
    """A store in which studies are submitted and claimed."""

    store: Store

    def submit(self, **fields: Any) -> str:
        """Submit a study and return its id."""
        return self.store.submit(parse_spec(study_body(**fields))).id

    def claim(self, *, dispatcher: str = "here", lease_s: float = LEASE_S) -> SimulatedRun:
        """Claim the next study; there must be one."""
        claim = self.store.claim_next(dispatcher=dispatcher, lease_s=lease_s)
        assert claim is not None
        return self.of(claim)

    def extend(self, study_id: str, **fields: Any) -> StudyView:
        """Extend a study by the given fields."""
        return self.store.extend(study_id, parse_extension(fields))

    def of(self, claim: Claim) -> SimulatedRun:
        """Return the run of a claim."""
        return SimulatedRun(self.store, claim, self.store.run_writer(claim, lease_s=LEASE_S))

    def run(self, **fields: Any) -> SimulatedRun:
        """Submit a study and claim it."""
        study_id = self.submit(**fields)
        run = self.claim()
        assert run.claim.study_id == study_id
        return run
