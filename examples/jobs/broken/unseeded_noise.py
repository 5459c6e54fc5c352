"""Mistake: the noise that is added to each batch comes from a generator without a seed."""

from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np
import torch
from sound_digits import SoundDigits
from torch import Tensor, nn
from torch.nn import functional

from tangent import LoopWorkload

__all__ = ["UnseededNoise"]

DATA = SoundDigits().load_data(torch.device("cpu"))


class UnseededNoise(LoopWorkload):
    """Digits with noise, of which no two trials with one seed are the same."""

    card = SoundDigits.card

    def build_model(self) -> nn.Module:
        """Return the sound model."""
        return SoundDigits().build_model()

    def train_batches(self, *, batch_size: int, epoch: int) -> Iterable[tuple[Tensor, Tensor]]:
        """Yield shuffled batches with noise."""
        rng = np.random.default_rng()
        for rows in torch.randperm(len(DATA.train)).split(batch_size):
            pictures = DATA.train.inputs[rows]
            noise = torch.tensor(rng.normal(0, 0.1, pictures.shape), dtype=torch.float32)
            yield pictures + noise, DATA.train.targets[rows]

    def training_step(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Return the cross-entropy."""
        return functional.cross_entropy(model(batch[0]), batch[1])

    def evaluate(
        self, model: nn.Module, split: Literal["validation", "test"], *, device: torch.device
    ) -> Mapping[str, float]:
        """Return the accuracy."""
        part = (DATA.validation if split == "validation" else DATA.test).to(device)
        return {"accuracy": (model(part.inputs).argmax(1) == part.targets).float().mean().item()}
