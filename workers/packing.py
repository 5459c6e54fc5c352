"""How packs are made up: how many trials, stacked how wide, and how many packs are out at once.

No SQL, no Ray.
"""

__all__ = ["Packing"]

import math
from collections.abc import Callable, Sequence

from studies.resolve import ResolvedStudy
from studies.spec import StudySpec
from studies.trials import PendingTrial
from studies.views import StackWidthView
from workers.pack_protocol import Member, Pack, StackWidth
from workers.trial_queue import TrialGroup, TrialQueue

# Members of a pack whose best width no worker has measured yet.
_UNMEASURED_SIZE = 16
# Near the end packs shrink so that all workers end together, but not to less: many small packs take longer
# than a few.
_LEAST_SIZE = 4
# The first epoch of a pack may load data over a network and compile. What a card says of an epoch is rough,
# and of one member alone.
_EPOCH_TIMEOUT_S = 3600.0
_SLOWER = 20


class Packing:
    """Makes packs of trials that were chosen already.

    The members of a search's pack share their seed, those of a confirmation's differ in it. What a worker
    measured of the former holds for the latter until a worker says otherwise; the other way round it never
    does, for a model that draws random numbers is stacked with one seed only.
    """

    def __init__(
        self,
        spec: StudySpec,
        plan: ResolvedStudy,
        *,
        checkpoints: str,
        slots: Callable[[], int],
        fits: Sequence[StackWidthView],
    ) -> None:
        """Make a packing.

        Args:
            spec: what was submitted.
            plan: the same, resolved.
            checkpoints: folder (any fsspec URL) for the checkpoints of this study alone.
            slots: tells how many packs can be trained at once.
            fits: what workers have measured of this workload, the newest first.
        """
        self._spec = spec
        self._plan = plan
        self._checkpoints = checkpoints
        self._slots = slots
        has_gpu = spec.resources.gpus_per_pack > 0
        known = [
            fit for fit in fits if fit.batch_size == plan.batch_size and (fit.device != "cpu") == has_gpu
        ]
        # By optimizer; of those on such a device the newest counts.
        self._widths = {fit.optimizer: fit.width for fit in reversed(known)}
        self._confirmation_widths: dict[str, int] = {}

    def note(self, fit: StackWidth, source: TrialQueue) -> bool:
        """Use what a worker measured of a source's pack from now on.

        Return whether it holds for other studies as well.
        """
        widths = self._confirmation_widths if source.is_confirmation else self._widths
        widths[fit.optimizer] = fit.width
        return not source.is_confirmation

    def most_out(self, *, has_spare: bool) -> float:
        """Return how many packs may be handed out.

        As many as are trained, and with a spare one more, to wait for its worker.
        """
        limit = self._spec.resources.max_concurrent_packs
        if not has_spare:
            return self._workers()
        return min(self._slots() + 1, limit or math.inf)

    def most_wanted(self, *, at_hand: int, out: int) -> int:
        """Return how many packs could be trained at once, had they all machines to themselves.

        At the least each trial is one.

        Args:
            at_hand: trials that could be handed out now, of all sources.
            out: packs that are out.
        """
        limit = self._spec.resources.max_concurrent_packs
        return int(min(out + at_hand, limit or math.inf))

    def size(self, source: TrialQueue, *, at_hand: int, out: int) -> int:
        """Return how many trials the next pack of a source has, as far as they are there.

        As many as train fastest together; fewer where the rest would leave workers idle.

        Args:
            source: where they come from.
            at_hand: trials that could be handed out now, of all sources.
            out: packs that are out.
        """
        if source.is_confirmation and self._spec.confirmation.solo:
            return 1
        slots = self._workers()
        free = max(1, slots - out)
        most = self._width(source) or _UNMEASURED_SIZE
        most = min(most, self._spec.resources.max_pack_size or most)
        fair = math.ceil(at_hand / free)
        if free == 1:
            fair = min(fair, max(math.ceil(at_hand / slots), _LEAST_SIZE))
        return max(1, min(most, fair))

    def pack(
        self,
        pack_id: str,
        source: TrialQueue,
        group: TrialGroup,
        trials: Sequence[PendingTrial],
        *,
        epochs_ahead: int,
    ) -> Pack:
        """Return trials of one group as a pack.

        Args:
            pack_id: a name unlike any other.
            source: where they come from.
            group: what they have in common.
            trials: its members.
            epochs_ahead: epochs that trials like these, they among them, still have to be given to workers
                for.
        """
        training = self._spec.training
        own = len(trials) * (group.to_epoch - group.from_epoch)
        steps = max(1, self._plan.workload.examples.get("train", 1) // self._plan.batch_size)
        return Pack(
            pack_id=pack_id,
            workload=self._plan.workload.name,
            optimizer=source.plan.card.name,
            members=tuple(
                Member(
                    trial_id=t.id,
                    attempt=t.attempt,
                    parameters=t.parameters,
                    seed=t.seed,
                    checkpoint=t.checkpoint,
                )
                for t in trials
            ),
            from_epoch=group.from_epoch,
            to_epoch=group.to_epoch,
            epochs=self._plan.epochs,
            batch_size=self._plan.batch_size,
            schedule=training.schedule,
            warmup_fraction=training.warmup_fraction,
            decay_1d=training.decay_1d,
            objective_at=self._spec.objective.at,
            maximize=self._plan.workload.direction == "maximize",
            checkpoints=self._checkpoints,
            # Who trains alone gains nothing from knowing.
            width=1 if len(trials) == 1 else self._width(source),
            steps_ahead=steps * max(own, epochs_ahead),
            epoch_timeout_s=self._epoch_timeout_s(len(trials)),
        )

    def _epoch_timeout_s(self, members: int) -> float:
        """Return how long a pack may be silent.

        As the study says, else an hour, or far longer than all its members' epochs ought to take.
        """
        given = self._spec.resources.epoch_timeout_s
        return (
            max(_EPOCH_TIMEOUT_S, _SLOWER * members * self._plan.workload.epoch_s) if given is None else given
        )

    def _width(self, source: TrialQueue) -> int | None:
        """Return how many members of a source's packs are stacked at once.

        None where no worker has measured it.
        """
        name = source.plan.card.name
        found = self._widths.get(name)
        return self._confirmation_widths.get(name, found) if source.is_confirmation else found

    def _workers(self) -> int:
        """Return how many packs are trained at once."""
        limit = self._spec.resources.max_concurrent_packs
        return max(1, self._slots() if limit is None else min(limit, self._slots()))
