"""Named metrics: recorded for every epoch, tested at the objective's epoch, alone and stacked alike."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from packs import CPU, OPTIMIZERS, member, pack_of
from torch import Tensor, nn

from studies.catalog import MetricCard, WorkloadCard
from workers.pack_protocol import EpochReport, Pack
from workers.stacked.equivalence_check import why_not_stackable
from workers.training import train_pack
from workers.workload_check import check_workload
from workers.workload_errors import CannotTrain
from workers.workloads import Data, Split, TensorWorkload

__all__: list[str] = []

TOP2 = MetricCard(name="top-2 accuracy", unit="fraction", direction="maximize")
ERROR = MetricCard(name="error", unit="none", direction="minimize")


class Classes(TensorWorkload):
    """Points of three classes, with the top-2 accuracy and the mean error beside the accuracy."""

    card = WorkloadCard(
        name="classes",
        title="Classes",
        description="Points of three classes.",
        source="made",
        metric="accuracy",
        unit="fraction",
        direction="maximize",
        target=0.9,
        metrics=(TOP2, ERROR),
        epochs=3,
        batch_size=8,
        examples={"train": 48, "validation": 24, "test": 24},
        parameters=12,
        epoch_s=0.05,
    )

    def load_data(self, device: torch.device) -> Data:
        def split(examples: int, seed: int) -> Split:
            generator = torch.Generator().manual_seed(seed)
            classes = torch.arange(examples) % 3
            points = torch.randn(examples, 3, generator=generator) + 2 * torch.eye(3)[classes]
            return Split(inputs=points, targets=classes).to(device)

        return Data(train=split(48, 1), validation=split(24, 2), test=split(24, 3))

    def build_model(self) -> nn.Module:
        return nn.Linear(3, 3)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, targets)

    def metric_sum(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.argmax(-1) == targets).sum()

    def further_metric_sums(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        chosen = outputs.topk(2).indices == targets.unsqueeze(-1)
        error = 1 - outputs.softmax(-1).gather(-1, targets.unsqueeze(-1))
        return {"top-2 accuracy": chosen.sum(), "error": error.sum()}


def pack(*, width: int, **changes: Any) -> Pack:
    members = (member("adamp", "a", lr=0.05), member("adamp", "b", lr=0.01))
    made = pack_of(Classes(), "adamp", *members, epochs=3, batch_size=8, width=width)
    return made.model_copy(update=changes)


def reports(made: Pack, workload: TensorWorkload | None = None) -> list[EpochReport]:
    workload = workload or Classes()
    data, entry = workload.load_data(CPU), OPTIMIZERS["adamp"]
    return list(train_pack(made, workload=workload, entry=entry, data=data, device=CPU))


def last(found: list[EpochReport], index: int = 0) -> Any:
    outcome = found[-1].members[index].outcome
    assert outcome is not None
    return outcome


def test_further_metrics_are_the_same_alone_and_stacked() -> None:
    alone, stacked = reports(pack(width=1)), reports(pack(width=2))
    for one, other in zip(alone, stacked, strict=True):
        for mine, theirs in zip(one.members, other.members, strict=True):
            assert list(mine.measurement.metrics) == ["top-2 accuracy", "error"]
            assert mine.measurement.metrics == pytest.approx(theirs.measurement.metrics, rel=1e-4)
            assert all(value is not None for value in mine.measurement.metrics.values())
    assert last(alone).test_metrics == pytest.approx(last(stacked).test_metrics, rel=1e-4)
    assert last(alone).test_metrics["top-2 accuracy"] >= last(alone).test_value


def test_a_workload_with_further_metrics_passes_the_equivalence_check() -> None:
    data = Classes().load_data(CPU)
    entry = OPTIMIZERS["adamp"]
    assert why_not_stackable(pack(width=2), workload=Classes(), entry=entry, data=data, device=CPU) is None


@pytest.mark.parametrize("width", [1, 2])
def test_a_further_metric_can_be_the_objective(width: int) -> None:
    by_accuracy = reports(pack(width=width))
    found = reports(pack(width=width, objective_metric="error", maximize=False, objective_at="best"))
    errors = [report.members[0].measurement.validation_metric or 0.0 for report in found]
    assert errors == [report.members[0].measurement.metrics["error"] for report in by_accuracy]
    assert list(found[0].members[0].measurement.metrics) == ["accuracy", "top-2 accuracy"]
    outcome = last(found)
    assert (outcome.value, outcome.best_epoch) == (min(errors), errors.index(min(errors)) + 1)
    assert outcome.test_value == last(by_accuracy).test_metrics["error"]
    assert outcome.test_metrics["accuracy"] == last(by_accuracy).test_value


def test_an_objective_that_the_workload_lacks_trains_nothing() -> None:
    with pytest.raises(CannotTrain, match="'f1'"):
        reports(pack(width=1, objective_metric="f1"))


class Without(Classes):
    def further_metric_sums(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        return {"error": super().further_metric_sums(outputs, targets)["error"]}


class Undefined(Classes):
    def further_metric_sums(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        found = super().further_metric_sums(outputs, targets)
        return {**found, "error": found["error"] * float("nan")}


def test_a_missing_metric_of_tensors_is_named_with_its_function() -> None:
    workload = Without()
    with pytest.raises(CannotTrain, match="'top-2 accuracy' is missing") as raised:
        reports(pack(width=1), workload)
    assert raised.value.function == workload.further_metric_sums


@pytest.mark.parametrize("width", [1, 2])
def test_a_further_metric_of_nan_fails_its_trial_with_file_and_line(width: int) -> None:
    outcome = last(reports(pack(width=width), Undefined()))
    assert outcome.state == "failed"
    assert "error is nan at epoch 1" in outcome.reason
    assert "(test_named_metrics.py, line " in outcome.reason


class Averaging(Classes):
    def further_metric_sums(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        found = super().further_metric_sums(outputs, targets)
        return {**found, "error": found["error"] / len(targets)}


def test_the_check_covers_every_metric() -> None:
    found = {result.check: result for result in check_workload(Classes(), device=CPU)}
    assert [found[f"{split} top-2 accuracy"].status for split in ("validation", "test")] == ["ok", "ok"]
    wrong = {result.check: result for result in check_workload(Averaging(), device=CPU)}
    assert (wrong["validation error"].status, wrong["validation metric"].status) == ("error", "ok")
    assert "further_metric_sums seems to return a mean" in wrong["validation error"].sentence
