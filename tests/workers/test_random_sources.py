"""A member's random numbers come from its seed alone: those of torch, of numpy and of `random`."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from packs import CPU, WORKLOADS, data_of, member, pack_of, rungs, shortened, story, train
from torch import Tensor, nn

from workers.pack_protocol import EpochReport
from workers.seeding import generator_states, noise_seed, seeded
from workers.workloads import Data, TensorWorkload

__all__: list[str] = []

pytestmark = pytest.mark.usefixtures("one_thread")

MLP = WORKLOADS["digits-mlp"]


def drawn() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), torch.rand(()).item()  # noqa: NPY002 # as models do


def test_a_seeded_block_draws_the_same_numbers_from_every_generator() -> None:
    found: list[tuple[float, float, float]] = []
    for seed in (3, 3, 4):
        drawn()
        with seeded(seed, device=CPU):
            found.append(drawn())
    assert found[0] == found[1]
    assert all(one != other for one, other in zip(found[0], found[2], strict=True))


def test_epochs_of_a_trial_draw_different_numbers() -> None:
    found: set[tuple[float, float, float]] = set()
    for epoch in range(1, 20):
        with seeded(noise_seed(0, epoch=epoch), device=CPU):
            found.add(drawn())
    assert [len(set(column)) for column in zip(*found, strict=True)] == [19, 19, 19]


def test_a_seeded_block_restores_every_generator_after_an_error() -> None:
    before = generator_states(CPU)
    with pytest.raises(ZeroDivisionError), seeded(3, device=CPU):
        _ = sum(drawn()) / 0
    assert generator_states(CPU) == before
    for generator in range(3):
        (random.random, np.random.rand, lambda: torch.rand(()))[generator]()
        assert generator_states(CPU) != before
        before = generator_states(CPU)


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.tensor(random.gauss(0.0, 1.0)))

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training:
            return inputs * self.start
        noise = float(np.random.normal()) + random.gauss(0.0, 1.0)  # noqa: NPY002
        return inputs * self.start * (1 + 0.5 * noise)


class NoisyDigits(TensorWorkload):
    """Draws from numpy and from `random`, at the start and in every step."""

    card = MLP.card

    def load_data(self, device: torch.device) -> Data:
        return shortened(data_of(MLP), 160, 60).to(device)

    def build_model(self) -> nn.Module:
        return nn.Sequential(nn.Flatten(), Noisy(), nn.Linear(64, 10))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return MLP.loss(outputs, targets)

    def metric_sum(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return MLP.metric_sum(outputs, targets)


def losses(reports: list[EpochReport], trial_id: str) -> list[float]:
    measured = [measurement for measurement, _ in story(reports, trial_id)]
    return [loss for each in measured for loss in (each.train_loss, each.validation_loss) if loss is not None]


@pytest.mark.parametrize("seeds", [(1, 1), (1, 2)])
@pytest.mark.parametrize("width", [1, 2])
def test_a_model_that_draws_from_numpy_and_random_trains_alike_alone_in_a_pack_and_after_a_resume(
    seeds: tuple[int, int], width: int, tmp_path: Path
) -> None:
    workload = NoisyDigits()
    data = workload.load_data(CPU)
    first, second = member("adamp", "a", seed=seeds[0]), member("adamp", "b", seed=seeds[1], lr=0.01)
    one = second.model_copy(update={"trial_id": "t"})
    alone = train(pack_of(MLP, "adamp", one, epochs=2), workload, data)
    drawn()
    pack = pack_of(MLP, "adamp", first, second, epochs=2, width=width)
    together = train(pack, workload, data)
    resumed = rungs(pack, tmp_path, 1, workload=workload, data=data)
    assert losses(together, "b") == losses(resumed, "b")
    assert losses(together, "b") == pytest.approx(losses(alone, "t"), rel=1e-5)
    assert losses(together, "a") != losses(together, "b")
