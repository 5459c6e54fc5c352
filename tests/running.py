"""A stored study with the scheduler and recorder of its run, and synthetic reports, without Ray."""

from collections.abc import Callable
from typing import Any

from catalogs import study_body

from studies.extension import parse_extension
from studies.spec import parse_spec
from studies.states import StudyMove
from studies.store import Store
from studies.trials import Claim, Measurement
from studies.views import TrialView
from workers.pack_protocol import EpochReport, MemberReport, Outcome, Pack, StackWidth
from workers.recorder import PackRecorder
from workers.retry import DatabaseRetry
from workers.scheduler import PackScheduler, RunMode
from workers.workload_errors import WorkloadFault

__all__ = ["BROKEN", "Running"]

BROKEN = WorkloadFault("ValueError: no such layer", "Traceback of the layer", is_for_all=False)
"""An error that may depend on a trial's configuration."""


class Running:
    """A stored study with the scheduler and the recorder of its run."""

    def __init__(self, store: Store, *, slots: int = 2, **fields: Any) -> None:
        """Submit a study and claim it; it has no confirmation unless `fields` ask for one."""
        self.store = store
        self.slots = slots
        # The time by which packs are charged.
        self.seconds = 0.0
        self.mode = RunMode()
        self.machines = 1
        self.study = store.submit(
            parse_spec(study_body(**{"sampler": "random", "confirmation": {"seeds": 0}, **fields}))
        )
        self.claim_next()

    def claim_next(self) -> None:
        """Claim the study and load it."""
        claim = self.store.claim_next(dispatcher="here", lease_s=600.0)
        assert claim is not None
        self.claim: Claim = claim
        self.reload()

    def close(self) -> None:
        """Close the study, as its run does."""
        self.writer.close(StudyMove.FINISH)

    def extend(self, **totals: Any) -> None:
        """Extend the study, which must be closed, and claim it again."""
        self.study = self.store.extend(self.study.id, parse_extension(totals))
        self.claim_next()

    def reload(self) -> None:
        """Make scheduler and recorder anew, from the database alone."""
        self.writer = self.store.run_writer(self.claim, lease_s=600.0)
        plan = self.writer.plan()
        self.recorder = PackRecorder(
            self.study.spec,
            plan,
            writer=self.writer,
            retry=DatabaseRetry(1.0),
            artifacts="/kept-files/here",
            clock=lambda: self.seconds,
            count_machines=lambda: self.machines,
        )
        self.scheduler = PackScheduler(
            self.study.spec,
            plan,
            self.recorder,
            checkpoints="/checkpoints/here",
            artifacts="/kept-files/here",
            slots=lambda: self.slots,
            mode=lambda: self.mode,
        )

    def begin(self, pack_id: str) -> Pack:
        """Dispatch the next pack and start it."""
        pack = self.scheduler.next_pack(pack_id)
        assert pack is not None
        self.recorder.started(pack_id)
        return pack

    def report(
        self,
        pack: Pack,
        *,
        epoch: int,
        value: Callable[[str, int], float | None],
        fit: StackWidth | None = None,
        with_checkpoints: bool = False,
    ) -> None:
        """Report one epoch of a pack's members.

        A trial whose value is None diverges, and has no later report.
        """
        members: list[MemberReport] = []
        for member in pack.members:
            if any(value(member.trial_id, before) is None for before in range(1, epoch)):
                continue
            metric = value(member.trial_id, epoch)
            outcome, checkpoint = None, None
            if metric is None:
                outcome = Outcome(state="diverged", reason="training loss became nan")
            elif epoch == pack.epochs:
                outcome = Outcome(state="completed", value=metric, best_epoch=epoch, test_value=metric)
            elif with_checkpoints or epoch == pack.to_epoch:
                checkpoint = f"{pack.checkpoints}/{member.trial_id}-{member.attempt}-{epoch}"
            measurement = Measurement(epoch=epoch, elapsed_s=float(epoch), validation_metric=metric)
            members.append(
                MemberReport(
                    trial_id=member.trial_id,
                    attempt=member.attempt,
                    measurement=measurement,
                    outcome=outcome,
                    checkpoint=checkpoint,
                )
            )
        self.recorder.reported(
            pack.pack_id,
            EpochReport(pack_id=pack.pack_id, epoch=epoch, members=tuple(members), stack_width=fit),
            worker="here:1",
        )

    def finish(
        self, pack: Pack, *, value: Callable[[str, int], float | None] = lambda _trial, _epoch: 0.5
    ) -> None:
        """Report every epoch of a pack and end it."""
        for epoch in range(pack.from_epoch + 1, pack.to_epoch + 1):
            self.report(pack, epoch=epoch, value=value)
        self.recorder.ended(pack.pack_id)

    def train_reloading(self, *, value: Callable[[str, int], float | None]) -> list[Pack]:
        """Train pack after pack, make scheduler and recorder anew after each, and return the packs."""
        packs: list[Pack] = []
        while (pack := self.scheduler.next_pack(f"p{len(packs)}")) is not None:
            self.recorder.started(pack.pack_id)
            self.finish(pack, value=value)
            self.reload()
            packs.append(pack)
        return packs

    def train_all(self, *, value: Callable[[str, int], float | None], at_once: int = 2) -> list[Pack]:
        """Train packs until none is left, `at_once` at a time; the one that started first ends first.

        Return them in the order of dispatch.
        """
        packs: list[Pack] = []
        in_flight: list[Pack] = []
        while True:
            while (
                len(in_flight) < at_once and (pack := self.scheduler.next_pack(f"p{len(packs)}")) is not None
            ):
                self.recorder.started(pack.pack_id)
                packs.append(pack)
                in_flight.append(pack)
            if not in_flight:
                return packs
            self.finish(in_flight.pop(0), value=value)

    def trials(self) -> list[TrialView]:
        """Return the search's trials, by arm and number."""
        return sorted(self.store.every_trial(self.study.id), key=lambda t: (t.arm, t.number))

    def confirmations(self, arm: str | None = None) -> list[TrialView]:
        """Return the confirmation trials, of an arm or of all, by arm and number."""
        found = self.store.every_trial(self.study.id, phase="confirmation")
        return sorted((t for t in found if arm in {None, t.arm}), key=lambda t: (t.arm, t.number))

    def states(self) -> list[str]:
        """Return the states of the search's trials, by arm and number."""
        return [t.state.value for t in self.trials()]
