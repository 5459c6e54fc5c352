"""The choice of the stack width: measured on the device in about a second, and kept for later packs."""

__all__ = ["MAX_WIDTH", "WidthTuner", "device_name", "one_by_one"]

import copy
import json
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import TypeVar, cast

import torch

from studies.searchable import stack_kind
from studies.space import Parameters
from studies.training_settings import training_parameters
from workers.memory import is_out_of_memory, spare_bytes
from workers.memory_meters import MemoryMeter
from workers.optimizers import OptimizerEntry
from workers.pack_protocol import Pack, StackWidth
from workers.solo import Solo
from workers.stacked.compiled import CompiledSteps
from workers.stacked.equivalence_check import describe_one_by_one, why_not_stackable
from workers.stacked.node_results import NodeResults
from workers.stacked.plan import NotStackable, StackPlan
from workers.stacked.stack import Stack
from workers.workloads import AnyWorkload, Data, TensorWorkload, configured

W = TypeVar("W", bound=AnyWorkload)
MAX_WIDTH = {"cpu": 32, "cuda": 64}
"""Largest stack: a wider one gains little, and stopping some of its trials early frees less."""

_MIN_GAIN = 1.05
"""Speed-up that makes a stack worth it over trials one by one, and a stack of twice the width over half."""
_AS_GOOD = 0.97
"""The smallest width that reaches this share of the best rate is chosen.

Smaller stacks mean more packs in parallel, and less work lost with one of them.
"""
_SECONDS_A_WIDTH, _SECONDS = 0.05, 3.0
_MIN_STEPS, _MAX_STEPS = 2, 32
_MOST_CONFIGURED = 64
_SCHEDULE = {"schedule", "warmup_fraction", "step_drops", "step_factor", "decay_fraction"} | {
    "cycles",
    "cycle_growth",
}
"""Settings on which neither the equivalence nor the speed of a stack depends."""
_OF_ROWS = {"clip_norm", "clip_value", "ema_decay"}
"""Settings of which only matters whether a row has them."""
_EPOCHS = 3
"""Epochs trained per measurement; the fastest counts.

The first one warms up, and other work on the machine may slow another one down.
"""


class WidthTuner:
    """The stack widths that a worker has measured; it keeps one tuner for its lifetime.

    Args:
        results: what the workers of this node have found out; by default the worker keeps its own alone.
        gpus: GPUs of each of the worker's packs, such as 0.5; a share of one has less memory and speed.

    Attributes:
        compiled: the steps that the worker has compiled, kept here for the same lifetime.
    """

    def __init__(self, results: NodeResults | None = None, *, gpus: float = 0.0) -> None:
        self._results = results
        self._gpus = gpus
        self.compiled = CompiledSteps()
        self._measured: dict[tuple[object, ...], StackWidth] = {}
        self._lowered: dict[tuple[object, ...], StackWidth] = {}
        self._reasons: dict[tuple[object, ...], str | None] = {}
        self._configured: dict[tuple[object, ...], AnyWorkload] = {}

    def configured(self, workload: W, parameters: Parameters) -> W:
        """Return a workload with the values of a configuration: the same one for the same values.

        What the worker has compiled for it can then be used again.
        """
        key = (workload.card.name, stack_kind(parameters))
        known = self._configured.get(key)
        if not workload.card.hyperparameters:
            return workload
        if known is None or type(known) is not type(workload):
            if len(self._configured) >= _MOST_CONFIGURED:
                self._configured.pop(next(iter(self._configured)))
            known = self._configured[key] = configured(workload, parameters)
        return cast("W", known)

    def choose(
        self, pack: Pack, *, workload: TensorWorkload, entry: OptimizerEntry, data: Data, device: torch.device
    ) -> StackWidth:
        """Return the stack width for this pack on this device.

        Every kind of pack goes through the equivalence check once on a node. A pack that specifies a width
        then gets it; for all others, widths are measured. No pack gets a width that has run out of memory
        here.
        """
        alone = one_by_one(pack, device=device)
        if pack.width == 1:
            return alone
        key = _key(alone, pack)
        reason = self._why_not(pack, workload, entry, data, device)
        if reason is not None:
            return alone.model_copy(
                update={
                    "reason": reason,
                    "is_for_own_seeds": _has_own_seeds(pack)
                    and self._why_not(_with_one_seed(pack), workload, entry, data, device) is None,
                }
            )
        lowered = self._lowered.get(key)
        if lowered is not None and (pack.width is None or pack.width > lowered.width):
            return lowered
        if pack.width is not None:
            return alone.model_copy(update={"width": pack.width})
        if key not in self._measured:
            try:
                measured = self._once(
                    ("width", self._gpus),
                    key,
                    lambda: _measure(
                        alone, pack, workload=copy.copy(workload), entry=entry, data=data, device=device
                    ),
                )
                self._measured[key] = StackWidth.model_validate_json(measured)
            except NotStackable as error:
                return self.train_one_by_one(alone, pack, error)
        return self._measured[key]

    def _why_not(
        self, pack: Pack, workload: TensorWorkload, entry: OptimizerEntry, data: Data, device: torch.device
    ) -> str | None:
        """Return why packs of this kind cannot be stacked; None if they can."""
        key = _key(one_by_one(pack, device=device), pack)
        if key not in self._reasons:
            found = self._once(
                "equivalence",
                key,
                lambda: (
                    json.dumps(
                        why_not_stackable(pack, workload=workload, entry=entry, data=data, device=device)
                    ),
                    True,
                ),
            )
            self._reasons[key] = json.loads(found)
        return self._reasons[key]

    def _once(self, what: object, key: tuple[object, ...], compute: Callable[[], tuple[str, bool]]) -> str:
        """Return what a worker of this node has found out about packs of a kind, or find it out."""
        if self._results is None:
            return compute()[0]
        workload, optimizer = map(str, key[:2])
        return self._results.once((what, *key), compute, workload=workload, optimizer=optimizer)

    def train_one_by_one(self, chosen: StackWidth, pack: Pack, error: NotStackable) -> StackWidth:
        """Return the width 1 for packs of this kind, because one of them turned out not to be stackable.

        Args:
            chosen: the result of `choose` for the pack.
            pack: the pack.
            error: why it cannot be stacked.
        """
        key = _key(chosen, pack)
        self._reasons[key] = describe_one_by_one(str(error))
        return chosen.model_copy(update={"width": 1, "reason": self._reasons[key]})

    def lower(self, chosen: StackWidth, pack: Pack, *, width: int, ran_out_with: int) -> StackWidth:
        """Return the width to use after a stack ran out of memory, and keep it for the next packs.

        Args:
            chosen: the result of `choose` for the pack.
            pack: the pack that was trained.
            width: the lowered width.
            ran_out_with: number of members in the stack that ran out of memory.
        """
        then = "they were trained one by one" if width == 1 else f"they were stacked {width} at a time"
        reason = f"A stack of {ran_out_with} trials ran out of memory; from then on {then}."
        key = _key(chosen, pack)
        # A width specified by the pack has no measured figures; it must not replace those measured here.
        self._lowered[key] = self._measured.get(key, chosen).model_copy(
            update={"width": width, "reason": reason}
        )
        return self._lowered[key]


def one_by_one(pack: Pack, *, device: torch.device, reason: str | None = None) -> StackWidth:
    """Return the width of a pack whose members are trained one by one, with the reason if there is one."""
    return StackWidth(
        workload=pack.workload,
        optimizer=pack.optimizer,
        batch_size=pack.training.batch_size,
        device=device_name(device),
        width=1,
        reason=reason,
    )


def device_name(device: torch.device) -> str:
    """Return the device name that is stored with a stack width: 'cpu', or the GPU's name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _has_own_seeds(pack: Pack) -> bool:
    return len({member.seed for member in pack.members}) > 1


def _with_one_seed(pack: Pack) -> Pack:
    seed = pack.members[0].seed
    members = tuple(member.model_copy(update={"seed": seed}) for member in pack.members)
    return pack.model_copy(update={"members": members})


def _key(chosen: StackWidth, pack: Pack) -> tuple[object, ...]:
    settings = [pack.settings_of(member) for member in pack.members]
    return (
        chosen.workload,
        chosen.optimizer,
        chosen.batch_size,
        chosen.device,
        stack_kind(pack.members[0].parameters),
        *pack.training.model_dump(exclude=_SCHEDULE | _OF_ROWS).values(),
        *(any(getattr(each, name) for each in settings) for name in sorted(_OF_ROWS)),
        _has_own_seeds(pack),
    )


def _measure(
    alone: StackWidth,
    pack: Pack,
    *,
    workload: TensorWorkload,
    entry: OptimizerEntry,
    data: Data,
    device: torch.device,
) -> tuple[str, bool]:
    """Return the width with the most steps per second over all trials, and whether to keep it for others.

    The width comes as JSON with the measured figures. It is not kept if memory ended the measurement, because
    that may have been short only for a moment.
    """
    clock = _clock(device)
    started = clock()
    trial = _TrialRun(pack, workload=workload, entry=entry, data=data, device=device)
    rates = {1: trial.rate_alone()}
    bytes_per_member, width = 0, 2
    limit: str | None = None
    while width <= MAX_WIDTH[device.type]:
        spare = spare_bytes(device)
        if width * bytes_per_member > spare:
            limit = (
                f"Memory limits the stack width: {width} trials of {_mebibytes(bytes_per_member)} each need "
                f"more than the {_mebibytes(spare)} available."
            )
            break
        try:
            rates[width], grown = trial.rate_stacked(width, step_s=1 / max(rates.values()))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            limit = f"Memory limits the stack width: a stack of {width} trials ran out of memory."
            break
        bytes_per_member = max(bytes_per_member, grown // width)
        # Stop only after two widths in a row without a gain, because one measurement is unreliable on a
        # shared machine.
        before = [rate for at, rate in rates.items() if 1 < at < width // 2]
        has_peaked = bool(before) and max(rates[width], rates[width // 2]) < _MIN_GAIN * max(before)
        if has_peaked or clock() - started > _SECONDS:
            break
        width *= 2
    if len(rates) > 1 and clock() - started < _SECONDS:
        # Measure both compared widths again, so that one busy moment does not decide.
        fastest = _fastest_stack(rates)
        rates[1] = max(rates[1], trial.rate_alone())
        rates[fastest] = max(rates[fastest], trial.rate_stacked(fastest, step_s=1 / max(rates.values()))[0])
    best = max(rates.values())
    reasons = [] if limit is None else [limit]
    chosen = min(width for width, rate in rates.items() if rate >= _AS_GOOD * best)
    if chosen > 1 and rates[chosen] < _MIN_GAIN * rates[1]:
        chosen = 1
    if chosen == 1 and len(rates) > 1:
        fastest = _fastest_stack(rates)
        reasons = [_describe_slow_stack(fastest, rates[fastest] / rates[1]), *reasons]
    found = alone.model_copy(
        update={
            "width": chosen,
            "reason": " ".join(reasons) or None,
            "bytes_per_member": bytes_per_member or None,
            "trial_steps_per_s": rates,
        }
    )
    return found.model_dump_json(), limit is None


def _clock(device: torch.device) -> Callable[[], float]:
    """Return the clock of the measurements.

    One thread on the CPU is timed by the processor time that it gets, because a width that was measured while
    other programs had the processor is kept.
    """
    is_single = device.type == "cpu" and torch.get_num_threads() == 1
    return time.process_time if is_single else time.perf_counter


def _fastest_stack(rates: dict[int, float]) -> int:
    return max((width for width in rates if width > 1), key=lambda width: rates[width])


def _describe_slow_stack(width: int, speed_up: float) -> str:
    how = "slower" if speed_up < 1 else "barely faster"
    return f"Trials are trained one by one: stacking {width} of them is {how} here ({speed_up:.2f}×)."


class _TrialRun:
    """A speed test that trains members for a few steps at the defaults, which are unlikely to diverge."""

    def __init__(
        self, pack: Pack, *, workload: TensorWorkload, entry: OptimizerEntry, data: Data, device: torch.device
    ) -> None:
        self._pack, self._workload, self._entry = pack, workload, entry
        self._data, self._device = data, device
        self._clock = _clock(device)
        self._step_size = pack.training.batch_size * pack.training.accumulation_steps
        self._max_steps = max(1, min(_MAX_STEPS, len(data.train) // self._step_size))

    def rate_alone(self) -> float:
        """Return the steps per second of one member alone."""
        steps = min(_MIN_STEPS, self._max_steps)
        while True:
            data, pack = self._shortened(1, steps)
            one = Solo(
                pack.members[0],
                pack=pack,
                workload=self._workload,
                entry=self._entry,
                data=data,
                device=self._device,
            )
            one.clock = self._clock
            # The lambda is called at once.
            step_s = self._fastest_epoch_s(lambda epoch: one.train_epoch(epoch).elapsed_s) / steps  # noqa: B023
            if steps * step_s * 2 * _EPOCHS > _SECONDS_A_WIDTH or 2 * steps > self._max_steps:
                return 1 / step_s
            steps *= 2

    def rate_stacked(self, width: int, *, step_s: float) -> tuple[float, int]:
        """Return the steps per second of all members of a stack together, and the bytes it used.

        Args:
            width: number of members.
            step_s: seconds per step of one member at the best width so far.
        """
        steps = max(_MIN_STEPS, min(self._max_steps, int(_SECONDS_A_WIDTH / _EPOCHS / (width * step_s))))
        data, pack = self._shortened(width, steps)
        meter = MemoryMeter(self._device)
        stack = Stack.initial(
            StackPlan(pack, workload=self._workload, entry=self._entry, data=data, device=self._device)
        )
        stack.clock = self._clock
        seconds = self._fastest_epoch_s(lambda epoch: width * stack.train_epoch(epoch)[0].elapsed_s)
        state = (stack.rows.weights, *stack.rows.moments.values(), *stack.rows.buffers.values())
        # Count the state twice, because an epoch begins with a copy to fall back on, plus a step's gradients
        # and updates.
        copies = 3 if stack.rows.average is None else 5
        least = sum(2 * tensor.nbytes for tensor in state) + copies * stack.rows.weights.nbytes
        return width * stack.plan.steps / seconds, max(meter.grown(), least)

    def _fastest_epoch_s(self, train_epoch: Callable[[int], float]) -> float:
        """Return the seconds of the fastest epoch.

        Args:
            train_epoch: trains the epoch with this number and returns the seconds of all epochs so far.
        """
        clocks = [0.0, *(train_epoch(epoch) for epoch in range(1, _EPOCHS + 1))]
        return min(after - before for before, after in pairwise(clocks))

    def _shortened(self, members: int, steps: int) -> tuple[Data, Pack]:
        """Return the first batches of the data, and a pack with this number of members and the same seeds."""
        data = replace(
            self._data,
            train=self._data.train.head(steps * self._step_size),
            validation=self._data.validation.head(self._pack.training.batch_size),
        )
        given = self._pack.members
        made = tuple(
            given[index % len(given)].model_copy(
                update={
                    "trial_id": str(index),
                    "checkpoint": None,
                    "parameters": {
                        **self._entry.card.defaults,
                        **training_parameters(given[index % len(given)].parameters),
                    },
                }
            )
            for index in range(members)
        )
        return data, self._pack.model_copy(
            update={
                "members": made,
                "from_epoch": 0,
                "to_epoch": _EPOCHS,
                "epochs": _EPOCHS,
                "interval_steps": None,
            }
        )


def _mebibytes(number: int) -> str:
    return f"{number / 2**20:,.0f} MiB"
