"""How many members to stack.

Measured in a second or so on the device itself, and kept for the worker's next packs.
"""

__all__ = ["MAX_WIDTH", "WidthTuner", "device_name"]

import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import torch

from workers.memory import MemoryMeter, is_out_of_memory, spare_bytes
from workers.optimizers import OptimizerEntry
from workers.pack_protocol import Pack, StackWidth
from workers.solo import Solo
from workers.stacked.compiled import Compiled
from workers.stacked.equivalence_check import refusal
from workers.stacked.plan import StackPlan
from workers.stacked.rows import Rows
from workers.stacked.stack import Stack
from workers.workloads import Data, Workload

MAX_WIDTH = {"cpu": 32, "cuda": 64}
"""Members that are stacked at most: beyond it a stack gains little, and stopping members early frees less."""

_PAYS = 1.05
"""How much faster a stack must be than members one by one.

The same goes for a stack of twice the width against one of half of it.
"""
_AS_GOOD = 0.97
"""Of two widths whose rates differ by less the smaller one is kept.

More packs at once, and less lost with one.
"""
_SECONDS_A_WIDTH, _SECONDS = 0.1, 3.0
_LEAST_STEPS, _MOST_STEPS = 2, 32
_TRIES = 3
"""Epochs of which the quickest counts.

The first one warms up, and what else the machine does may hold up another.
"""


class WidthTuner:
    """What a worker has measured and compiled; it keeps one as long as it lives.

    Attributes:
        compiled: the steps that it has compiled.
    """

    def __init__(self) -> None:
        self.compiled = Compiled()
        self._measured: dict[tuple[object, ...], StackWidth] = {}
        self._lowered: dict[tuple[object, ...], StackWidth] = {}
        self._refusals: dict[tuple[object, ...], str | None] = {}

    def fit(
        self, pack: Pack, *, workload: Workload, entry: OptimizerEntry, data: Data, device: torch.device
    ) -> StackWidth:
        """Return how this pack's members are best trained here.

        A pack that says its width is only checked with two members, once for each kind of pack; for one that
        does not, widths are tried. Neither gets more than memory has held here before.
        """
        alone = StackWidth(
            workload=pack.workload,
            optimizer=pack.optimizer,
            batch_size=pack.batch_size,
            device=device_name(device),
            width=1,
        )
        if pack.width == 1:
            return alone
        key = _key(alone, pack)
        if key not in self._refusals:
            self._refusals[key] = refusal(pack, workload=workload, entry=entry, data=data, device=device)
        why = self._refusals[key]
        if why is not None:
            return alone.model_copy(update={"reason": why})
        lowered = self._lowered.get(key)
        if lowered is not None and (pack.width is None or pack.width > lowered.width):
            return lowered
        if pack.width is not None:
            return alone.model_copy(update={"width": pack.width})
        if key not in self._measured:
            self._measured[key] = _measured(
                alone, pack, workload=workload, entry=entry, data=data, device=device
            )
        return self._measured[key]

    def lower(self, fit: StackWidth, pack: Pack, *, width: int, ran_out_with: int) -> StackWidth:
        """Return the fit after memory ran out with so many members in a stack and the width was lowered.

        This worker's next packs begin with it.
        """
        reason = (
            f"Memory ran out with {ran_out_with} members in a stack: "
            f"{'one by one' if width == 1 else f'{width} at a time'} from then on."
        )
        key = _key(fit, pack)
        # A pack that said its width has a fit without figures, which must not take the place of those that
        # were measured here.
        self._lowered[key] = self._measured.get(key, fit).model_copy(
            update={"width": width, "reason": reason}
        )
        return self._lowered[key]


def device_name(device: torch.device) -> str:
    """Return what a fit calls a device: 'cpu', or the GPU's name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _key(fit: StackWidth, pack: Pack) -> tuple[object, ...]:
    is_paired = len({member.seed for member in pack.members}) == 1
    return fit.workload, fit.optimizer, fit.batch_size, fit.device, pack.decay_1d, is_paired


def _measured(
    fit: StackWidth,
    pack: Pack,
    *,
    workload: Workload,
    entry: OptimizerEntry,
    data: Data,
    device: torch.device,
) -> StackWidth:
    """Return the fit with the width that trained the most steps of all members together in a second."""
    started = time.perf_counter()
    trial = _Trial(pack, workload=workload, entry=entry, data=data, device=device)
    rates = {1: trial.alone()}
    bytes_per_member, reason, width = 0, None, 2
    while width <= MAX_WIDTH[device.type]:
        spare = spare_bytes(device)
        if width * bytes_per_member > spare:
            reason = (
                f"Memory bounds the width: {width} members of {_mebibytes(bytes_per_member)} do not fit "
                f"into the {_mebibytes(spare)} to spare."
            )
            break
        try:
            rates[width], grown = trial.stacked(width, step_s=1 / max(rates.values()))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            reason = f"Memory bounds the width: it ran out with {width} members in a stack."
            break
        bytes_per_member = max(bytes_per_member, grown // width)
        # Twice, for one measurement on a machine that others use is a guess.
        before = [rate for at, rate in rates.items() if 1 < at < width // 2]
        has_peaked = bool(before) and max(rates[width], rates[width // 2]) < _PAYS * max(before)
        if has_peaked or time.perf_counter() - started > _SECONDS:
            break
        width *= 2
    if len(rates) > 1 and time.perf_counter() - started < _SECONDS:
        # Once more for the two that are weighed against each other, for one measurement in a busy moment
        # would decide for good.
        fastest = max((width for width in rates if width > 1), key=lambda width: rates[width])
        rates[1] = max(rates[1], trial.alone())
        rates[fastest] = max(rates[fastest], trial.stacked(fastest, step_s=1 / max(rates.values()))[0])
    best = max(rates.values())
    chosen = min(width for width, rate in rates.items() if rate >= _AS_GOOD * best)
    if chosen > 1 and rates[chosen] < _PAYS * rates[1]:
        chosen = 1
    if chosen == 1 and len(rates) > 1:
        fastest = max((width for width in rates if width > 1), key=lambda width: rates[width])
        reason = (
            f"Members are trained one by one: a stack of {fastest} does {rates[fastest] / rates[1]:.2f} "
            f"times as many steps in a second here, and must do {_PAYS:g} times as many to be worth it."
        )
    return fit.model_copy(
        update={
            "width": chosen,
            "reason": reason,
            "bytes_per_member": bytes_per_member or None,
            "trial_steps_per_s": rates,
        }
    )


class _Trial:
    """Trains members at the optimizer's defaults for a few steps.

    Those cannot diverge as an arm's own configurations may.
    """

    def __init__(
        self, pack: Pack, *, workload: Workload, entry: OptimizerEntry, data: Data, device: torch.device
    ) -> None:
        self._pack, self._workload, self._entry, self._data, self._device = (
            pack,
            workload,
            entry,
            data,
            device,
        )

    def alone(self) -> float:
        """Return the steps that one member does in a second."""
        steps = min(_LEAST_STEPS, self._most())
        while True:
            data, pack = self._of(1, steps)
            one = Solo(
                pack.members[0],
                pack=pack,
                workload=self._workload,
                entry=self._entry,
                data=data,
                device=self._device,
            )
            # Called at once.
            step_s = self._fastest(lambda epoch: one.train_epoch(epoch).elapsed_s) / steps  # noqa: B023
            if steps * step_s * 2 * _TRIES > _SECONDS_A_WIDTH or 2 * steps > self._most():
                return 1 / step_s
            steps *= 2

    def stacked(self, width: int, *, step_s: float) -> tuple[float, int]:
        """Return the steps that all members of a stack do together in a second, and the bytes that it took.

        Args:
            width: members.
            step_s: how long one step of one member took at the best width so far.
        """
        steps = max(_LEAST_STEPS, min(self._most(), int(_SECONDS_A_WIDTH / _TRIES / (width * step_s))))
        data, pack = self._of(width, steps)
        meter = MemoryMeter(self._device)
        plan = StackPlan(pack, workload=self._workload, entry=self._entry, data=data, device=self._device)
        stack = Stack(pack.members, plan=plan, rows=Rows.begun(pack.members, plan), done=0)
        seconds = self._fastest(lambda epoch: width * stack.train_epoch(epoch)[0].elapsed_s)
        state = (stack.rows.weights, *stack.rows.moments.values(), *stack.rows.buffers.values())
        # Twice, for an epoch begins with a copy to go back to, and the gradients and updates of a step.
        least = sum(2 * tensor.nbytes for tensor in state) + 3 * stack.rows.weights.nbytes
        return width * plan.steps / seconds, max(meter.grown(), least)

    def _fastest(self, clock: Callable[[int], float]) -> float:
        """Return the least seconds that an epoch took.

        The clock that is given trains one and tells all seconds so far.
        """
        clocks = [0.0, *(clock(epoch) for epoch in range(1, _TRIES + 1))]
        return min(after - before for before, after in pairwise(clocks))

    def _most(self) -> int:
        return max(1, min(_MOST_STEPS, len(self._data.train) // self._pack.batch_size))

    def _of(self, members: int, steps: int) -> tuple[Data, Pack]:
        """Return the pack's first batches, and a pack of so many members with the pattern of its seeds."""
        size = self._pack.batch_size
        data = replace(
            self._data,
            train=self._data.train.head(steps * size),
            validation=self._data.validation.head(size),
        )
        given = self._pack.members
        made = tuple(
            given[index % len(given)].model_copy(
                update={"trial_id": str(index), "checkpoint": None, "parameters": self._entry.card.defaults}
            )
            for index in range(members)
        )
        return data, self._pack.model_copy(
            update={"members": made, "from_epoch": 0, "to_epoch": _TRIES, "epochs": _TRIES}
        )


def _mebibytes(number: int) -> str:
    return f"{number / 2**20:,.0f} MiB"
