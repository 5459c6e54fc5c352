"""Checks of a workload's model, loss and metric on a few batches, without an optimizer."""

__all__ = ["check_model"]

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Self

import torch
from torch import Tensor, nn

from studies.catalog import WorkloadCard
from studies.formatting import count, listed, metric, number, plural
from studies.training_settings import TrainingSettings
from studies.trials import CheckResult
from workers.named_metrics import named_metrics
from workers.results import batch_sums
from workers.seeding import seeded
from workers.training_tasks import TrainingTask, step_function, training_task
from workers.workload_check.check_result import about, calling
from workers.workload_check.evaluation_batches import EvaluationBatches
from workers.workload_check.shortened import interval_of
from workers.workloads import Data, LoopWorkload, ModelWorkload, Split, SplitName, TensorWorkload
from workers.workloads.card_differences import row_hashes

_SEED: Final = 0
_STEPS: Final = 3
_FEW: Final = 8
_MOST_INPUTS: Final = 200_000
_LR: Final = 0.01
_TOLERANCE: Final = 1e-3
"""Relative difference allowed between sums over the same examples in batches of different sizes."""


def check_model(
    workload: ModelWorkload, data: Data | None, device: torch.device, *, batch_size: int
) -> Iterator[CheckResult]:
    """Yield the results about the model, its gradients, the loss and the metric.

    Args:
        workload: what to check.
        data: the data of a workload of tensors, on `device`; None for any other.
        device: where to train.
        batch_size: examples in a batch.

    Raises:
        CheckFailed: the workload's code raised an error, or the loss has no gradient.
    """
    with calling("model", workload=workload.card.name):
        model, twin = (_built(workload) for _ in range(2))
    yield from _construction(workload, model, twin)
    model.to(device)
    with calling("batches", workload=workload.card.name):
        settings = TrainingSettings(batch_size=batch_size)
        task = training_task(
            workload,
            model,
            data=data,
            seed=_SEED,
            settings=settings,
            interval_steps=interval_of(workload, steps=_STEPS, batch_size=batch_size),
            device=device,
        )
    yield from _gradients(workload, task, model, device)
    if isinstance(workload, TensorWorkload):
        assert data is not None, "a workload of tensors has data"
        yield from _evaluation(workload, model, data, batch_size=batch_size)
    else:
        with _InputsSeen(model) as seen:
            yield from _own_evaluation(workload, task, model, device, seen)
        yield seen.compared(workload)


def _built(workload: ModelWorkload) -> nn.Module:
    with seeded(_SEED, device=torch.device("cpu")):
        return workload.build_model()


def _construction(workload: ModelWorkload, model: nn.Module, twin: nn.Module) -> Iterator[CheckResult]:
    found = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    yield CheckResult("model", "ok", f"{plural(found, 'trainable parameter')}")
    on_card = workload.card.parameters
    if on_card is not None and found != on_card:
        yield about(
            type(workload),
            "card: parameters",
            "warning",
            f"expected the card's number of trainable parameters, {count(on_card)}, got "
            f"{count(found)}; correct `parameters` on the card",
        )
    ones, others = model.state_dict(), twin.state_dict()
    if any(not torch.equal(one, others[name]) for name, one in ones.items()):
        yield about(
            workload.build_model,
            "same model twice",
            "error",
            "expected the same initial values from one seed, got others; initialise with torch's global "
            "generator",
        )
    else:
        yield CheckResult("same model twice", "ok", "one seed gives the same initial values")


def _gradients(
    workload: ModelWorkload, task: TrainingTask, model: nn.Module, device: torch.device
) -> Iterator[CheckResult]:
    step = step_function(workload)
    model.train()
    with seeded(_SEED, device=device):
        with calling("batches", workload=workload.card.name):
            batch = next(task.batches(1))
        with calling("loss", workload=workload.card.name):
            loss = task.loss(batch)
    value = loss.item()
    if not torch.isfinite(loss):
        yield about(step, "loss", "error", f"expected a finite loss of the new model, got {value}")
        return
    yield CheckResult("loss", "ok", f"{number(value)} on the first batch")
    with calling("gradients", workload=workload.card.name):
        loss.backward()  # pyright: ignore[reportUnknownMemberType]  # torch leaves its arguments untyped
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    unreached = [name for name, weight in trained.items() if weight.grad is None]
    wrong = [
        name
        for name, weight in trained.items()
        if weight.grad is not None and not torch.isfinite(weight.grad).all()
    ]
    if unreached:
        yield about(
            workload.build_model,
            "gradients",
            "error",
            f"expected a gradient for every trainable parameter, got none for {listed(unreached)}; use "
            "them in forward, or set requires_grad=False",
        )
    if wrong:
        yield about(
            step,
            "gradients",
            "error",
            f"expected finite gradients, got NaN or infinity in {listed(wrong)}",
        )
    if unreached or wrong:
        return
    zero = _always_zero(task, model, trained, device) if _zero(trained) else []
    yield (
        about(
            workload.build_model,
            "gradients",
            "warning",
            f"the gradient of {listed(zero)} is zero in each of {plural(_STEPS, 'step')}: the loss does not "
            "seem to depend on them",
        )
        if zero
        else CheckResult(
            "gradients", "ok", f"tensors with a finite gradient: {len(trained)} of {len(trained)}"
        )
    )


def _zero(weights: Mapping[str, nn.Parameter]) -> list[str]:
    return [name for name, weight in weights.items() if weight.grad is None or not weight.grad.any()]


def _always_zero(
    task: TrainingTask, model: nn.Module, weights: Mapping[str, nn.Parameter], device: torch.device
) -> list[str]:
    """Return the weights whose gradients stay zero over a few steps, after which the model is as before.

    A layer behind one that is initialised with zeros has a gradient only after the first step.
    """
    before = copy.deepcopy(model.state_dict())
    zero = _zero(weights)
    batches = task.batches(1)
    with seeded(_SEED, device=device):
        for _, batch in zip(range(_STEPS), batches, strict=False):
            with torch.no_grad():
                for weight in weights.values():
                    if weight.grad is not None:
                        weight -= _LR * weight.grad
            model.zero_grad()
            task.loss(batch).backward()  # pyright: ignore[reportUnknownMemberType]  # torch leaves its arguments untyped
            zero = [name for name in _zero(weights) if name in zero]
    model.load_state_dict(before)
    return zero


def _own_evaluation(
    workload: LoopWorkload,
    task: TrainingTask,
    model: nn.Module,
    device: torch.device,
    seen: "_InputsSeen",
) -> Iterator[CheckResult]:
    """Yield whether the workload's own evaluation returns finite metrics, the same ones each time."""
    model.eval()
    function = workload.evaluate
    splits: tuple[SplitName, ...] = ("validation", "test")
    for split in splits:
        seen.split = split
        values, sizes = _measured(task, split, workload, device, divide=False)
        # Only batches of different sizes give another mean than the split itself.
        others, _ = _measured(task, split, workload, device, divide=len(set(sizes)) > 1)
        again = others if values == others else _measured(task, split, workload, device, divide=False)[0]
        for n, name in enumerate(("loss", *task.metrics.names)):
            check, what = f"{split} {'metric' if n == 1 else name}", "metric" if n else "loss"
            found, other, repeated = values[n], others[n], again[n]
            if n == 0 and not task.has_validation_loss:
                continue
            if not math.isfinite(found) or not math.isfinite(repeated):
                yield about(function, check, "error", f"expected a finite {what}, got {found}")
            elif found != repeated:
                yield about(
                    function,
                    check,
                    "error",
                    f"expected the same {what} from two evaluations, got {number(found)} "
                    f"and {number(repeated)}; change no state in evaluate",
                )
            elif not _close(found, other):
                yield about(
                    function,
                    check,
                    "warning",
                    f"expected the same {what} from batches of other sizes, got "
                    f"{number(found)} and {number(other)}; the last batch is smaller than the others: weight "
                    "each by its number of examples, or divide a sum over the split by theirs",
                )
            elif n:
                yield _in_range(workload.card.by_metric(name), function, check, found)


def _measured(
    task: TrainingTask, split: SplitName, workload: LoopWorkload, device: torch.device, *, divide: bool
) -> tuple[list[float], list[int]]:
    """Return the loss and the metrics of a split, and the sizes of the batches that were drawn."""
    with (
        calling(f"{split} metric", workload=workload.card.name),
        seeded(_SEED, device=device),
        EvaluationBatches(divide=divide) as batches,
    ):
        return [value.item() for value in task.evaluate(split)], batches.sizes


class _InputsSeen:
    """Notes which examples a model is given in the evaluation of each split.

    A workload with its own evaluation does not show its splits in any other way.

    Attributes:
        split: the split that is being evaluated.
    """

    def __init__(self, model: nn.Module) -> None:
        self.split: SplitName = "validation"
        self._rows: dict[SplitName, set[int]] = {"validation": set(), "test": set()}
        self._handle = model.register_forward_pre_hook(self._note, with_kwargs=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._handle.remove()

    def compared(self, workload: LoopWorkload) -> CheckResult:
        """Return whether the two splits share examples."""
        check, validation, test = "separate splits", self._rows["validation"], self._rows["test"]
        if min(len(validation), len(test)) < _FEW:
            return CheckResult(check, "note", "not compared: the model is given too few different inputs")
        shared = len(validation & test)
        if not shared:
            return CheckResult(check, "ok", "no input occurs in both the validation and the test split")
        return about(
            workload.evaluate,
            check,
            "warning",
            f"{plural(shared, 'different input')} of {count(len(test))} in the evaluation of the test split "
            f"also {'occurs' if shared == 1 else 'occur'} in that of the validation split",
        )

    def _note(self, _model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        first = next((value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), None)
        if first is not None and first.ndim and len(self._rows[self.split]) < _MOST_INPUTS:
            self._rows[self.split] |= row_hashes(first)


def _in_range(card: WorkloadCard, function: Callable[..., object], check: str, value: float) -> CheckResult:
    if card.unit == "fraction" and not 0 <= value <= 1:
        return about(
            function,
            check,
            "error",
            f"expected a fraction between 0 and 1 as the card says, got {number(value)}",
        )
    return CheckResult(check, "ok", f"{card.metric} {metric(value, card.unit)} before training")


@torch.no_grad()
def _evaluation(
    workload: TensorWorkload, model: nn.Module, data: Data, *, batch_size: int
) -> Iterator[CheckResult]:
    """Yield whether loss and metrics of a split depend on how it is divided into batches."""
    model.eval()
    metrics = named_metrics(workload, None)
    size = max(2, batch_size)
    for name, split in (("validation", data.validation), ("test", data.test)):
        part = split.head(4 * size)
        halves = [
            part.head(len(part) // 2),
            Split(inputs=part.inputs[len(part) // 2 :], targets=part.targets[len(part) // 2 :]),
        ]
        with calling(f"{name} metric", workload=workload.card.name):
            whole, *pieces = [
                batch_sums(workload, model(piece.inputs), piece.targets, metrics=metrics)
                for piece in (part, *halves)
                if len(piece)
            ]
        for n, (own, function) in enumerate(zip(metrics.names, metrics.functions, strict=True)):
            check = f"{name} {own if n else 'metric'}"
            sums = [each[2 + n].item() for each in (whole, *pieces)]
            yield _metric(workload.card.by_metric(own), function, check, part, sums)
        if name == "validation":
            yield _loss(workload, whole, pieces)


def _metric(
    card: WorkloadCard, function: Callable[..., object], check: str, part: Split, sums: list[float]
) -> CheckResult:
    """Return whether a metric's sum over a part of a split is that of the part's two halves."""
    total, *parts = sums
    if not all(map(math.isfinite, sums)):
        return about(function, check, "error", f"expected a finite sum from {function.__name__}, got {total}")
    if not _close(total, sum(parts)):
        meant = (
            f"; {function.__name__} seems to return a mean: return the sum over the batch"
            if _close(total, sum(parts) / len(parts))
            else f"; {function.__name__} must add up over examples"
        )
        return about(
            function,
            check,
            "error",
            f"expected the sum over {plural(len(part), 'example')} to be that of their two halves, "
            f"{number(sum(parts))}, got {number(total)}{meant}",
        )
    return _in_range(card, function, check, total / len(part))


def _loss(workload: TensorWorkload, whole: Tensor, pieces: list[Tensor]) -> CheckResult:
    check = "validation loss"
    total, parts = whole[0].item(), sum(piece[0].item() for piece in pieces)
    if _close(total, parts):
        return CheckResult(check, "ok", "it is the same mean for batches of different sizes")
    unweighted = [(sums[0] / sums[1]).item() for sums in (whole, *pieces)]
    meant = (
        "loss seems to return a sum: return the mean over the batch"
        if _close(unweighted[0], sum(unweighted[1:]))
        else "let no example's loss depend on the others in its batch, as operations over dimension 0 do; "
        "return a mean over the batch, and from loss_weight the number of terms that it averages over"
    )
    mean = parts / whole[1].item()
    return about(
        workload.loss,
        check,
        "error",
        f"expected the same mean loss from one batch and from its two halves, {number(mean)}, got "
        f"{number(unweighted[0])}; {meant}",
    )


def _close(one: float, other: float) -> bool:
    return abs(one - other) <= _TOLERANCE * max(abs(one), abs(other), 1e-6)
