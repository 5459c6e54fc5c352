"""Decides which pack of a study trains next. It writes nothing itself and knows nothing of Ray."""

__all__ = ["PackScheduler", "RunMode"]

from collections.abc import Callable
from dataclasses import dataclass

from studies.resolve import ResolvedStudy
from studies.spec import ADAPTIVE_SAMPLERS, StudySpec
from workers.pack_protocol import Pack
from workers.packing import Packing
from workers.recorder import PackRecorder
from workers.trial_queue import TrialQueue


@dataclass(frozen=True)
class RunMode:
    """What a run currently asks of its scheduler. By default it dispatches packs without restraint.

    Attributes:
        is_paused: the owner has paused the study.
        is_yielding: the run must make room for another study's run.
        is_leaving: the run is about to end, so packs in flight must end after their current epoch.
        has_no_share: the study's fair share of the machines is zero for now.
        is_sharing: other studies want the same machines. No pack may then wait for a free worker, because it
            would take the next one from them.
    """

    is_paused: bool = False
    is_yielding: bool = False
    is_leaving: bool = False
    has_no_share: bool = False
    is_sharing: bool = False

    @property
    def is_draining(self) -> bool:
        """Whether no more packs may be dispatched for now."""
        return self.is_paused or self.is_yielding or self.is_leaving or self.has_no_share


class PackScheduler:
    """Chooses the next pack of a study.

    Requeued and promoted trials go before new ones, the most advanced first. Among arms, the one with the
    smallest part of its trials created goes first; likewise among its replicates. Confirmation trials run
    when there are no others, so that no worker is idle.

    Attributes:
        recorder: records what the packs report.
        wanted: packs that could train at once if there were room; another thread reads it.
    """

    def __init__(
        self,
        spec: StudySpec,
        plan: ResolvedStudy,
        recorder: PackRecorder,
        *,
        checkpoints: str,
        artifacts: str,
        slots: Callable[[], int],
        mode: Callable[[], RunMode] = RunMode,
    ) -> None:
        """Schedule the trials that a recorder has loaded.

        Args:
            spec: the study as submitted.
            plan: the study as resolved.
            recorder: holds the queues of the study's arms.
            checkpoints: folder (any fsspec URL) for this study's checkpoints.
            artifacts: folder (any fsspec URL) for the files that this study keeps.
            slots: returns how many packs can train at once.
            mode: returns what the run asks for at the moment.
        """
        self.recorder = recorder
        self._arms = recorder.arms
        self._mode = mode
        self._packing = Packing(
            spec, plan, checkpoints=checkpoints, artifacts=artifacts, slots=slots, widths=recorder.widths
        )
        # Whether the choice of the next trial depends on results that are still to come.
        self._is_adaptive = spec.sampler in ADAPTIVE_SAMPLERS or spec.pruner.kind != "none"
        self.wanted = 0
        self._update_wanted()

    @property
    def mode(self) -> RunMode:
        """What the run asks for at the moment."""
        return self._mode()

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to dispatch and nothing is in flight."""
        return not self.recorder.in_flight and (
            self.recorder.is_hopeless or all(arm.is_exhausted for arm in self._arms.values())
        )

    @property
    def is_drained(self) -> bool:
        """Whether it is draining and no worker trains a pack any more.

        A dispatched pack may still wait for a worker.
        """
        return self.mode.is_draining and not self.recorder.is_training

    @property
    def is_at_its_share(self) -> bool:
        """Whether other studies want the machines and this one trains all the packs that it may.

        An idle worker of its own would then only keep a core or GPU from them.
        """
        return self.mode.is_sharing and self.recorder.in_flight >= self._max_in_flight()

    def next_pack(self, pack_id: str) -> Pack | None:
        """Dispatch and return the next pack; None if there is none to dispatch now."""
        pack = self._choose(pack_id)
        self._update_wanted()
        return pack

    def requeue_all(self, *, reason: str) -> None:
        """Requeue all packs in flight, uncharged: their workers are gone, but not because of a failure."""
        self.recorder.requeue_all(reason=reason)
        self._update_wanted()

    def _choose(self, pack_id: str) -> Pack | None:
        # The order matters: computing the limit asks for the current share, which may turn out to be zero.
        while self.recorder.in_flight < self._max_in_flight() and self._may_dispatch():
            queue = self._next_queue()
            if queue is None:
                return None
            available, in_flight = self._available(), self.recorder.in_flight
            group = queue.next_group()
            size = self._packing.size(queue, group, available=available, in_flight=in_flight)
            if group is None or group.is_new:
                self._create(queue, size)
                group = queue.next_group()
                size = self._packing.size(queue, group, available=available, in_flight=in_flight)
            if group is None:
                # The arm's space has just turned out to be exhausted.
                continue
            epochs_ahead = self._arms[queue.plan.name].epochs_ahead(queue)
            trials = queue.dispatch(group, 1 if group.alone is not None else size)
            self.recorder.dispatched(pack_id, queue, trials)
            pack = self._packing.pack(pack_id, queue, group, trials, epochs_ahead=epochs_ahead)
            if self.recorder.needs_scale_invariance(pack):
                pack = pack.model_copy(update={"finds_scale_invariance": True})
            not_on = self.recorder.unfit_machines.hosts(trial.id for trial in trials)
            return pack.model_copy(update={"not_on": not_on}) if not_on else pack
        return None

    def _may_dispatch(self) -> bool:
        return not self.mode.is_draining and not self.recorder.is_hopeless

    def _next_queue(self) -> TrialQueue | None:
        """Return the queue to dispatch from; None if no trial is available."""
        places: list[tuple[tuple[bool, int, bool, float, float], TrialQueue]] = []
        for arm in self._arms.values():
            arm_fraction = arm.created_fraction
            for queue in arm.queues:
                if queue.queued or queue.proposable:
                    group = queue.next_group()
                    epochs, is_new = (0, True) if group is None else (group.from_epoch, group.is_new)
                    place = (queue.is_confirmation, -epochs, is_new, arm_fraction, queue.created_fraction)
                    places.append((place, queue))
        return min(places, key=lambda place: place[0], default=(None, None))[1]

    def _available(self) -> int:
        """Return how many trials could be dispatched now."""
        return sum(queue.queued + queue.proposable for arm in self._arms.values() for queue in arm.queues)

    def _update_wanted(self) -> None:
        mode = self.mode
        may_dispatch = (mode.has_no_share or not mode.is_draining) and not self.recorder.is_hopeless
        self.wanted = self._packing.wanted(
            available=self._available() if may_dispatch else 0, in_flight=self.recorder.in_flight
        )

    def _max_in_flight(self) -> float:
        """Return how many packs may be in flight."""
        is_learning = self._is_adaptive and any(
            search.needs_results for arm in self._arms.values() for search in arm.searches
        )
        return self._packing.max_in_flight(has_spare=not is_learning and not self.mode.is_sharing)

    def _create(self, queue: TrialQueue, size: int) -> None:
        """Create new trials until a pack of `size` is queued or no more may be created."""
        new = queue.propose(size)
        if new:
            self.recorder.create(queue, new)
        else:
            # Now that no more trials can come, some that wait at a rung may be decided.
            self.recorder.settle([queue])
