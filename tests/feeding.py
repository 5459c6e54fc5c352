"""A study on record and the feed of its run, its packs trained by hand.

Reports come from a rule, without torch and without Ray.
"""

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
from workers.scheduler import PackScheduler

__all__ = ["Running"]


class Running:
    """A study on record and the feed of its run."""

    def __init__(self, store: Store, *, slots: int = 2, **fields: Any) -> None:
        """Submit a study, claim it and take it up.

        Its search alone, unless the fields ask for a confirmation.
        """
        self.store = store
        self.slots = slots
        self.seconds = 0.0
        self.study = store.submit(
            parse_spec(study_body(**{"sampler": "random", "confirmation": {"seeds": 0}, **fields}))
        )
        self.feed = self.claimed()

    def claimed(self) -> PackScheduler:
        """Claim the study and return its feed."""
        claim = self.store.claim_next(dispatcher="here", lease_s=600.0)
        assert claim is not None
        self.claim: Claim = claim
        return self.take_up()

    def close(self) -> None:
        """End the study, as its run does."""
        self.writer.close(StudyMove.FINISH)

    def extend(self, **totals: Any) -> None:
        """Give the study, which must be closed, more of something, and take it up again."""
        self.study = self.store.extend(self.study.id, parse_extension(totals))
        self.feed = self.claimed()

    def take_up(self) -> PackScheduler:
        """Return a feed made from the record alone."""
        self.writer = self.store.run_writer(self.claim, lease_s=600.0)
        return PackScheduler(
            self.study.spec,
            self.writer.plan(),
            writer=self.writer,
            checkpoints="/checkpoints/here",
            slots=lambda: self.slots,
            patience_s=1.0,
            clock=lambda: self.seconds,
        )

    def begin(self, pack_id: str) -> Pack:
        """Hand out the next pack and start it."""
        pack = self.feed.next_pack(pack_id)
        assert pack is not None
        self.feed.started(pack_id)
        return pack

    def report(
        self,
        pack: Pack,
        *,
        epoch: int,
        value: Callable[[str, int], float | None],
        fit: StackWidth | None = None,
        leaves: bool = False,
    ) -> None:
        """Report one epoch of a pack's members, with their checkpoints if it `leaves` any.

        A trial whose value is None diverges then, and has no later report.
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
            elif leaves or epoch == pack.to_epoch:
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
        self.feed.reported(
            pack.pack_id,
            EpochReport(pack_id=pack.pack_id, epoch=epoch, members=tuple(members), fit=fit),
            worker="here:1",
        )

    def finish(
        self, pack: Pack, *, value: Callable[[str, int], float | None] = lambda _trial, _epoch: 0.5
    ) -> None:
        """Report every epoch of a pack and end it."""
        for epoch in range(pack.from_epoch + 1, pack.to_epoch + 1):
            self.report(pack, epoch=epoch, value=value)
        self.feed.ended(pack.pack_id)

    def train_all(self, *, value: Callable[[str, int], float | None], at_once: int = 2) -> list[Pack]:
        """Train packs until none is left, so many at once, the one that began first ending first.

        Return them in the order they were handed out.
        """
        packs: list[Pack] = []
        going: list[Pack] = []
        while True:
            while len(going) < at_once and (pack := self.feed.next_pack(f"p{len(packs)}")) is not None:
                self.feed.started(pack.pack_id)
                packs.append(pack)
                going.append(pack)
            if not going:
                return packs
            self.finish(going.pop(0), value=value)

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
