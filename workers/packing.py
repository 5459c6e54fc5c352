"""How trials are packed: how many together, how many stacked at once, and how many packs at a time.

No SQL, no Ray.
"""

__all__ = ["MeasuredWidths", "Packing"]

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from studies.resolve import ResolvedStudy
from studies.searchable import stack_kind
from studies.space import Parameters
from studies.spec import StudySpec
from studies.training_settings import TrainingSettings, settings_of
from studies.trials import PendingTrial
from studies.views import StackWidthView
from workers.pack_protocol import Keeping, Member, Pack, StackWidth
from workers.trial_queue import TrialGroup, TrialQueue

# Pack size while the best stack width has not been measured.
_UNMEASURED_SIZE = 16
# Near the end of a study, packs shrink so that all workers finish together, but not below this size, nor
# below the one whose stack reaches this share of the best rate: many small packs take longer than a few.
_MIN_SIZE = 4
_MIN_RATE = 0.5
# The first epoch of a pack may load data over a network and compile. The card's epoch time is a rough
# estimate, and for a single trial.
_EPOCH_TIMEOUT_S = 3600.0
_EPOCH_TIMEOUT_FACTOR = 20


@dataclass(frozen=True)
class _Width:
    """A measured stack width, and the size below which packs should not shrink."""

    width: int
    least: int


class MeasuredWidths:
    """The stack widths that workers have measured for a study's workload, by optimizer.

    Paired trials and confirmation runs have seeds of their own, and other trials share theirs. A width is
    used for packs of both kinds until a worker reports another one for the second kind. Some models can only
    be stacked with one seed; their workers say so. Each batch size has its own width.
    """

    def __init__(self, stored: Sequence[StackWidthView], *, has_gpu: bool) -> None:
        """Use the newest width for each batch size and this kind of device.

        Args:
            stored: widths that were measured earlier, the newest first.
            has_gpu: whether the study's packs get a GPU.
        """
        applicable = [width for width in stored if (width.device != "cpu") == has_gpu]
        self._shared: dict[tuple[object, ...], _Width] = {}
        self._own: dict[tuple[object, ...], _Width] = {}
        for width in reversed(applicable):
            _put(self._shared, (width.optimizer, width.batch_size, ()), width)

    def add(self, width: StackWidth, parameters: Parameters, *, has_own_seeds: bool) -> bool:
        """Use a new measurement from now on; return whether it also holds for other studies.

        Args:
            width: the measurement.
            parameters: the configuration of a member of the pack that made it.
            has_own_seeds: whether the pack's members differ in their seeds.
        """
        kind = stack_kind(parameters)
        key = (width.optimizer, width.batch_size, kind)
        is_first = key not in self._shared and not width.is_for_own_seeds
        if has_own_seeds:
            _put(self._own, key, width)
        if is_first or not has_own_seeds:
            _put(self._shared, key, width)
        return not kind and (is_first or not has_own_seeds)

    def of(
        self, queue: TrialQueue, group: TrialGroup | None, *, batch_size: int, has_own_seeds: bool
    ) -> int | None:
        """Return the stack width for a queue's packs of a batch size; None if it has not been measured.

        Args:
            queue: the queue.
            group: what a pack's trials have in common; None if they are still to be created.
            batch_size: examples per step.
            has_own_seeds: whether the pack's trials differ in their seeds.
        """
        found = self._find(queue, group, batch_size=batch_size, has_own_seeds=has_own_seeds)
        return None if found is None else found.width

    def least(
        self, queue: TrialQueue, group: TrialGroup | None, *, batch_size: int, has_own_seeds: bool
    ) -> int:
        """Return the size below which a queue's packs of a batch size should not shrink.

        Args:
            queue: the queue.
            group: what a pack's trials have in common; None if they are still to be created.
            batch_size: examples per step.
            has_own_seeds: whether the pack's trials differ in their seeds.
        """
        found = self._find(queue, group, batch_size=batch_size, has_own_seeds=has_own_seeds)
        return _MIN_SIZE if found is None else found.least

    def _find(
        self, queue: TrialQueue, group: TrialGroup | None, *, batch_size: int, has_own_seeds: bool
    ) -> _Width | None:
        kind = stack_kind({**queue.plan.defaults, **dict(group.shared if group is not None else ())})
        key = (queue.plan.card.name, batch_size, kind)
        shared = self._shared.get(key)
        return self._own.get(key, shared) if has_own_seeds else shared


def _put(
    widths: dict[tuple[object, ...], _Width], key: tuple[object, ...], measured: StackWidth | StackWidthView
) -> None:
    """Replace a width; one without rates, such as a lowered one, keeps the least size known before."""
    rates, known = measured.trial_steps_per_s, widths.get(key)
    least = _MIN_SIZE if known is None else known.least
    if rates:
        enough = _MIN_RATE * max(rates.values())
        least = max(_MIN_SIZE, min(width for width in rates if rates[width] >= enough))
    widths[key] = _Width(measured.width, least)


class Packing:
    """Decides the size and number of packs, and builds each from its trials."""

    def __init__(
        self,
        spec: StudySpec,
        plan: ResolvedStudy,
        *,
        checkpoints: str,
        artifacts: str,
        slots: Callable[[], int],
        widths: MeasuredWidths,
    ) -> None:
        """Pack the trials of one study.

        Args:
            spec: the study as submitted.
            plan: the study as resolved.
            checkpoints: folder (any fsspec URL) for this study's checkpoints.
            artifacts: folder (any fsspec URL) for the files that this study keeps.
            slots: returns how many packs can train at once.
            widths: measured stack widths.
        """
        self._spec = spec
        self._keeping = (
            None
            if spec.keep.weights == "none" and not spec.keep.files
            else Keeping(
                folder=artifacts,
                max_weights_bytes=math.ceil(spec.keep.max_weights_mb * 1e6),
                files=spec.keep.files,
                max_files_bytes=math.ceil(spec.keep.max_files_mb * 1e6),
            )
        )
        self._plan = plan
        self._training = spec.training.settings(batch_size=plan.batch_size)
        self._checkpoints = checkpoints
        self._slots = slots
        self._widths = widths

    def max_in_flight(self, *, has_spare: bool) -> float:
        """Return how many packs may be in flight.

        As many as train at once; with `has_spare` one more, which waits for the next free worker.
        """
        limit = self._spec.resources.max_concurrent_packs
        if not has_spare:
            return self._max_training()
        return min(self._slots() + 1, limit or math.inf)

    def wanted(self, *, available: int, in_flight: int) -> int:
        """Return how many packs could train at once if the study had all machines to itself.

        Each available trial could be a pack.

        Args:
            available: trials that could be dispatched now, over all queues.
            in_flight: packs in flight.
        """
        limit = self._spec.resources.max_concurrent_packs
        return int(min(in_flight + available, limit or math.inf))

    def size(self, queue: TrialQueue, group: TrialGroup | None, *, available: int, in_flight: int) -> int:
        """Return the size of a queue's next pack, which may not have that many trials.

        It is the fastest width, or less if larger packs would leave workers idle. It is 1 if no two trials
        can be expected to have in common what a pack's members share.

        Args:
            queue: the pack's queue.
            group: what the pack's trials have in common; None if they are still to be created.
            available: trials that could be dispatched now, over all queues.
            in_flight: packs in flight.
        """
        if self._spec.resources.processes_per_trial > 1 or (
            queue.is_confirmation and self._spec.confirmation.solo
        ):
            return 1
        if not queue.is_confirmation and math.isinf(queue.groups_of_values):
            return 1
        slots = self._max_training()
        free = max(1, slots - in_flight)
        if self._plan.workload.kind != "tensors":
            return 1
        batch_size = self._settings_of(group).batch_size
        own = queue.has_own_seeds(group)
        width = self._widths.of(queue, group, batch_size=batch_size, has_own_seeds=own)
        largest = width or _UNMEASURED_SIZE
        largest = min(largest, self._spec.resources.max_pack_size or largest)
        even = math.ceil(available / free)
        if free == 1:
            least = self._widths.least(queue, group, batch_size=batch_size, has_own_seeds=own)
            even = min(even, max(math.ceil(available / slots), least))
        return max(1, min(largest, even))

    def pack(
        self,
        pack_id: str,
        queue: TrialQueue,
        group: TrialGroup,
        trials: Sequence[PendingTrial],
        *,
        epochs_ahead: int,
    ) -> Pack:
        """Build a pack from trials of one group.

        Args:
            pack_id: a unique name.
            queue: the trials' queue.
            group: what the trials have in common.
            trials: its members.
            epochs_ahead: epochs that remain to be dispatched in this phase of the arm, these included.
        """
        is_stackable = self._plan.workload.kind == "tensors"
        training = self._settings_of(group)
        own = len(trials) * (group.to_epoch - group.from_epoch)
        batches = self._plan.workload.examples.get("train", 1) // training.batch_size
        steps = self._plan.interval_steps or max(1, batches // training.accumulation_steps)
        # The other epochs are spread over all values that packs share.
        others = math.ceil(epochs_ahead / queue.groups_of_values)
        return Pack(
            pack_id=pack_id,
            workload=self._plan.workload.name,
            optimizer=queue.plan.card.name,
            members=tuple(
                Member(
                    trial_id=t.id,
                    attempt=t.attempt,
                    parameters=t.parameters,
                    seed=t.seed,
                    checkpoint=t.checkpoint,
                    keep_weights=queue.weights_of(t),
                    measures_layers=queue.measures_layers(t),
                )
                for t in trials
            ),
            from_epoch=group.from_epoch,
            to_epoch=group.to_epoch,
            epochs=self._plan.epochs,
            interval_steps=self._plan.interval_steps,
            training=training,
            objective_metric=self._spec.objective.metric,
            objective_at=self._spec.objective.at,
            maximize=self._plan.workload.direction == "maximize",
            checkpoints=self._checkpoints,
            keeping=self._keeping,
            # A trial that trains alone has nothing to measure. Why no trial of this workload is stacked is
            # recorded once.
            width=1
            if len(trials) == 1 and is_stackable
            else self._widths.of(
                queue,
                group,
                batch_size=training.batch_size,
                has_own_seeds=len({trial.seed for trial in trials}) > 1,
            ),
            processes=self._spec.resources.processes_per_trial,
            shard_optimizer=self._spec.resources.shard_optimizer,
            steps_ahead=steps * max(own, others),
            # A script that cannot resume repeats the epochs before its next report.
            epoch_timeout_s=self._epoch_timeout_s(len(trials))
            * (group.from_epoch + 1 if self._plan.workload.kind == "script" else 1),
        )

    def _settings_of(self, group: TrialGroup | None) -> TrainingSettings:
        """Return the settings of a group's packs."""
        return self._training if group is None else settings_of(self._training, dict(group.shared))

    def _epoch_timeout_s(self, members: int) -> float:
        """Return how long a pack may go without a report.

        By default an hour, or far longer than all its members' epochs should take.
        """
        configured = self._spec.resources.epoch_timeout_s
        if configured is not None:
            return configured
        expected = members * (self._plan.epoch_s(self._training) or 0.0)
        return max(_EPOCH_TIMEOUT_S, _EPOCH_TIMEOUT_FACTOR * expected)

    def _max_training(self) -> int:
        """Return how many packs train at once."""
        limit = self._spec.resources.max_concurrent_packs
        return max(1, self._slots() if limit is None else min(limit, self._slots()))
