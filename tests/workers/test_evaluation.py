"""The loss of a split is the true mean of its terms, however the split is cut into batches."""

from collections.abc import Callable

import pytest
import torch
from packs import CPU, OPTIMIZERS, WORKLOADS, member, pack_of
from torch import Tensor, nn
from torch.nn import functional

from workers.pack_protocol import Pack
from workers.results import EVALUATION_BATCH
from workers.solo import Solo
from workers.stacked.engine import StackedEngine
from workers.training import Engine, OneByOneEngine
from workers.workloads import Data, Split, TensorWorkload

__all__: list[str] = []

IGNORED, TOKENS, LENGTH = -100, 5, 4


class Padded(TensorWorkload):
    """Token prediction where most examples after the first batch are mostly padding."""

    card = WORKLOADS["pydoc-lm"].card

    def load_data(self, device: torch.device) -> Data:
        generator = torch.Generator().manual_seed(0)
        inputs = torch.randint(TOKENS, (3 * EVALUATION_BATCH, LENGTH), generator=generator)
        targets = inputs.clone()
        targets[EVALUATION_BATCH : 2 * EVALUATION_BATCH, 1:] = IGNORED
        targets[2 * EVALUATION_BATCH :] = IGNORED
        split = Split(inputs=inputs, targets=targets)
        return Data(train=split.head(64), validation=split, test=split).to(device)

    def build_model(self) -> nn.Module:
        return nn.Embedding(TOKENS, TOKENS)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)

    def loss_weight(self, targets: Tensor) -> Tensor | float:
        return (targets != IGNORED).sum()

    def metric_sum(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.argmax(dim=-1) == targets).any(dim=-1).to(outputs.dtype).sum()


class Unweighted(Padded):
    """A workload without a loss weight."""

    def loss_weight(self, targets: Tensor) -> Tensor | float:
        return super(Padded, self).loss_weight(targets)


def pack() -> Pack:
    members = (member("adamw", "a", lr=0.1), member("adamw", "b", lr=0.02))
    return pack_of(Padded(), "adamw", *members, epochs=1, batch_size=16, width=2)


def one_by_one(workload: TensorWorkload) -> Engine:
    settings = {"workload": workload, "entry": OPTIMIZERS["adamw"], "data": workload.load_data(CPU)}
    return OneByOneEngine(pack(), device=CPU, states=[None, None], **settings)


def stacked(workload: TensorWorkload) -> Engine:
    settings = {"workload": workload, "entry": OPTIMIZERS["adamw"], "data": workload.load_data(CPU)}
    return StackedEngine(pack(), device=CPU, states=[None, None], width=2, **settings)


@pytest.mark.parametrize("engine_of", [one_by_one, stacked])
def test_the_validation_loss_is_the_mean_over_tokens_that_are_not_padding(
    engine_of: Callable[[TensorWorkload], Engine],
) -> None:
    workload = Padded()
    engine, validation = engine_of(workload), workload.load_data(CPU).validation
    for index, result in enumerate(engine.train_epoch(1, alive=[0, 1])):
        weights = engine.checkpoint(index)["model"]["weight"]
        true_mean = workload.loss(functional.embedding(validation.inputs, weights), validation.targets)
        assert result.validation_loss == pytest.approx(true_mean.item(), rel=1e-5)
        assert result.divergence is None


def test_a_loss_without_a_weight_averages_over_examples() -> None:
    workload = Unweighted()
    validation = workload.load_data(CPU).validation.head(2 * EVALUATION_BATCH)
    data = Data(train=validation.head(64), validation=validation, test=validation)
    one = pack()
    solo = Solo(one.members[0], pack=one, workload=workload, entry=OPTIMIZERS["adamw"], data=data, device=CPU)
    result = solo.train_epoch(1)
    outputs = functional.embedding(validation.inputs, solo.checkpoint()["model"]["weight"])
    halves = zip(outputs.split(EVALUATION_BATCH), validation.targets.split(EVALUATION_BATCH), strict=True)
    mean_of_batches = torch.stack([workload.loss(*half) for half in halves]).mean()
    assert result.validation_loss == pytest.approx(mean_of_batches.item(), rel=1e-5)


class HalfPrecision(Padded):
    """A workload with a loss in half precision and batches of more terms than it can hold."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return super().loss(outputs, targets).half()

    def loss_weight(self, targets: Tensor) -> Tensor | float:
        return 100 * super().loss_weight(targets)


@pytest.mark.parametrize("engine_of", [one_by_one, stacked])
def test_a_loss_in_half_precision_may_average_over_many_terms(
    engine_of: Callable[[TensorWorkload], Engine],
) -> None:
    results = engine_of(HalfPrecision()).train_epoch(1, alive=[0, 1])
    assert [result.divergence for result in results] == [None, None]


class Bfloat16Outputs(Padded):
    """A workload that counts in the dtype of its outputs, which holds no odd number above 256."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return super().loss(outputs.float(), targets)

    def build_model(self) -> nn.Module:
        return Narrow()

    def metric_sum(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return torch.ones(len(targets) - 1, dtype=outputs.dtype).sum()


class Narrow(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(TOKENS, TOKENS)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.table(inputs).bfloat16()


@pytest.mark.parametrize("engine_of", [one_by_one, stacked])
def test_a_metric_of_outputs_in_bfloat16_is_summed_in_float32(
    engine_of: Callable[[TensorWorkload], Engine],
) -> None:
    results = engine_of(Bfloat16Outputs()).train_epoch(1, alive=[0, 1])
    share = (EVALUATION_BATCH - 1) / EVALUATION_BATCH
    assert [result.validation_metric for result in results] == [pytest.approx(share, abs=1e-6)] * 2
