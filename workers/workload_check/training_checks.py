"""Checks of a few steps of training: repeatable, resumable, stackable, scale-invariant, and how fast."""

__all__ = ["check_training"]

import math
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from studies.formatting import duration, listed, number, plural
from studies.training_settings import TrainingSettings
from studies.trials import CheckResult
from workers.checkpoints import load, save
from workers.memory_meters import MemoryMeter
from workers.optimizers import OptimizerEntry
from workers.pack_protocol import Member, Pack
from workers.results import EpochResult
from workers.scale_invariance import find_scale_invariance
from workers.solo import Solo
from workers.stacked.equivalence_check import why_not_stackable
from workers.tensor_states import on_cpu
from workers.training_tasks import step_function
from workers.workload_check.check_result import about, calling
from workers.workload_check.shortened import interval_of, shortened, steps_of_epoch
from workers.workloads import Data, LoopWorkload, ModelWorkload, TensorWorkload

_SEED: Final = 0
_STEPS: Final = 2
_TIMED_STEPS: Final = 20
_SLOW: Final = 3.0


def check_training(
    workload: ModelWorkload,
    data: Data | None,
    device: torch.device,
    *,
    entry: OptimizerEntry,
    batch_size: int,
) -> Iterator[CheckResult]:
    """Yield the results about training with an optimizer at its defaults.

    Raises:
        CheckFailed: the workload's code raised an error.
    """
    pack = _pack(workload, entry, batch_size=batch_size)
    short, small = shortened(workload, data, steps=_STEPS, batch_size=pack.training.batch_size)
    with calling("training", workload=workload.card.name):
        short_pack = _in_intervals(pack, workload, steps=_STEPS)
        yield from _repeatable(short, short_pack, entry, small, device)
        if isinstance(workload, TensorWorkload) and small is not None:
            yield _stackable(workload, pack, entry, small, device)
        else:
            yield CheckResult("stacking", "note", "trials of a LoopWorkload are trained one by one")
        yield from _scale_invariance(workload, data, pack.training.batch_size, device)
        yield from _speed(workload, pack, entry, data, device)


def _pack(workload: ModelWorkload, entry: OptimizerEntry, *, batch_size: int) -> Pack:
    card = workload.card
    members = tuple(
        Member(trial_id=str(n), attempt=1, parameters=entry.card.defaults, seed=_SEED) for n in range(2)
    )
    return Pack(
        pack_id="check",
        workload=card.name,
        optimizer=entry.card.name,
        members=members,
        from_epoch=0,
        to_epoch=2,
        epochs=2,
        training=TrainingSettings(batch_size=batch_size),
        maximize=card.direction == "maximize",
    )


def _in_intervals(pack: Pack, workload: ModelWorkload, *, steps: int) -> Pack:
    """Return the pack with intervals of this many steps if the workload is a stream without an end."""
    interval = interval_of(workload, steps=steps, batch_size=pack.training.batch_size)
    return pack.model_copy(update={"interval_steps": interval})


def _repeatable(
    workload: ModelWorkload, pack: Pack, entry: OptimizerEntry, data: Data | None, device: torch.device
) -> Iterator[CheckResult]:
    """Train two epochs, again from the start, and again from a checkpoint after the first."""

    def start(pack: Pack = pack, state: Mapping[str, Any] | None = None) -> Solo:
        return Solo(
            pack.members[0], pack=pack, workload=workload, entry=entry, data=data, device=device, state=state
        )

    trained = start()
    first = trained.train_epoch(1)
    yield _first_epoch(workload, first, entry)
    if first.divergence is not None or first.fault is not None:
        return
    state = on_cpu(trained.checkpoint())
    second, after = trained.train_epoch(2), on_cpu(trained.checkpoint())
    again = start()
    is_same = _same(first, again.train_epoch(1)) and _same_tensors(
        state["model"], on_cpu(again.checkpoint()["model"])
    )
    yield (
        CheckResult("same training twice", "ok", "one seed gives the same results, bit for bit")
        if is_same
        else about(
            workload.train_batches if isinstance(workload, LoopWorkload) else step_function(workload),
            "same training twice",
            # Some operations of a GPU add up in any order.
            "error" if device.type == "cpu" else "warning",
            "expected the same results from one seed, got others; draw random numbers from torch's global "
            "generator, numpy's or `random`, and keep no state between trials",
        )
    )
    if not is_same:
        return
    with tempfile.TemporaryDirectory() as folder:
        url = str(Path(folder) / "state.pt")
        save(url, state)
        resumed = start(pack.model_copy(update={"from_epoch": 1}), load(url))
    is_resumed = _same(second, resumed.train_epoch(2)) and _same_tensors(
        after["model"], on_cpu(resumed.checkpoint()["model"])
    )
    yield (
        CheckResult(
            "resuming", "ok", "training that resumes from a checkpoint gives the same results, bit for bit"
        )
        if is_resumed
        else about(
            workload.build_model,
            "resuming",
            "error" if device.type == "cpu" else "warning",
            "expected the same results from a trial that resumes from its checkpoint, got others; keep all "
            "state of the model in parameters and persistent buffers",
        )
    )


def _first_epoch(workload: ModelWorkload, result: EpochResult, entry: OptimizerEntry) -> CheckResult:
    problem = result.divergence or result.fault
    if problem is not None:
        return about(
            type(workload), "two steps", "error", f"with {entry.card.title} at its defaults, the {problem}"
        )
    if not result.effective_step > 0 and not math.isnan(result.effective_step):
        return about(
            step_function(workload),
            "two steps",
            "error",
            "expected steps that move the weights, got none",
        )
    return CheckResult(
        "two steps", "ok", f"training loss {number(result.train_loss)}, finite values after two steps"
    )


def _same(one: EpochResult, other: EpochResult) -> bool:
    ones, others = (asdict(replace(result, elapsed_s=0.0)) | result.metrics for result in (one, other))
    return all(_is_same(value, others[name]) for name, value in ones.items() if name != "metrics")


def _is_same(one: object, other: object) -> bool:
    is_nan = isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other)
    return is_nan or one == other


def _same_tensors(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(tensor.nan_to_num(), other[name].nan_to_num()) for name, tensor in one.items())


def _stackable(
    workload: TensorWorkload, pack: Pack, entry: OptimizerEntry, data: Data, device: torch.device
) -> CheckResult:
    reason = why_not_stackable(pack, workload=workload, entry=entry, data=data, device=device)
    return (
        CheckResult("stacking", "ok", "trials can be stacked: two stacked give the results of each alone")
        if reason is None
        else CheckResult("stacking", "note", reason)
    )


def _scale_invariance(
    workload: ModelWorkload, data: Data | None, batch_size: int, device: torch.device
) -> Iterator[CheckResult]:
    """Yield which weights the loss depends on by their direction only, and which AdamP would project."""
    found = find_scale_invariance(
        workload,
        data,
        batch_size=batch_size,
        interval_steps=interval_of(workload, steps=1, batch_size=batch_size),
        device=device,
    )
    if not found.weights:
        yield CheckResult(
            "scale invariance", "note", "the model has no weights of two or more dimensions to project"
        )
        return
    invariant = [name for name, is_invariant in found.layers.items() if is_invariant]
    tested = len(found.layers)
    of = f"{tested}" + (f" tested, of {found.weights} in all" if tested < found.weights else "")
    yield CheckResult(
        "scale invariance",
        "note",
        f"scale-invariant weight tensors: {len(invariant)} of {of}{_named(invariant)}",
    )
    both = set(invariant) & set(found.projected)
    others = [name for name in found.projected if name not in both]
    yield CheckResult(
        "projection",
        "note",
        f"of these, AdamP (delta 0.1) projects {len(both)} in the first step"
        + (f"; it also projects {len(others)} others{_named(others)}" if others else ""),
    )


def _named(names: list[str]) -> str:
    return f" ({listed(names)})" if names else ""


def _speed(
    workload: ModelWorkload, pack: Pack, entry: OptimizerEntry, data: Data | None, device: torch.device
) -> Iterator[CheckResult]:
    size = pack.training.batch_size
    in_epoch = steps_of_epoch(workload, data, batch_size=size)
    steps = _TIMED_STEPS if in_epoch is None else max(1, min(_TIMED_STEPS, in_epoch))
    short, timed = shortened(workload, data, steps=steps, batch_size=size)
    meter = MemoryMeter(device)
    pack = _in_intervals(pack, workload, steps=steps)
    solo = Solo(pack.members[0], pack=pack, workload=short, entry=entry, data=timed, device=device)
    first = solo.train_epoch(1).elapsed_s
    step_s = (solo.train_epoch(2).elapsed_s - first) / steps
    epoch_s = None if in_epoch is None else step_s * in_epoch
    grown = meter.grown()
    yield CheckResult(
        "speed",
        "note",
        f"{number(1000 * step_s, 3)} ms for a step of {plural(size, 'example')}"
        + ("" if epoch_s is None else f", {duration(epoch_s)} for an epoch")
        + (f", {grown / 2**20:,.0f} MiB of memory" if grown else ""),
    )
    on_card = workload.card.epoch_s
    if on_card is None or epoch_s is None or device.type != "cpu":
        return
    if not on_card / _SLOW <= epoch_s <= on_card * _SLOW:
        yield about(
            type(workload),
            "card: epoch_s",
            "warning",
            f"the card says {duration(on_card)} for an epoch, and it took about {duration(epoch_s)} here; "
            "estimates of a study's time follow the card",
        )
