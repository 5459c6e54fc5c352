"""Continue from the best weights of a study of job-adversarial, on clean pictures; logs for TensorBoard."""

import os
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.tensorboard.writer import SummaryWriter

from tangent import load_weights
from tangent_jobs.adversarial import Adversarial


class FineTune(Adversarial):
    card = Adversarial.card.by_metric("clean_accuracy").model_copy(
        update={"name": "job-fine-tune", "title": "job-fine-tune", "epochs": 3}
    )
    epoch = 0

    def build_model(self) -> nn.Module:
        model = super().build_model()
        model.load_state_dict(load_weights(Path(os.environ["TANGENT_DATA"]) / "start.pt")["model"])
        return model

    def train_batches(self, *, batch_size: int, epoch: int) -> Iterable[list[Tensor]]:
        self.epoch = epoch
        return super().train_batches(batch_size=batch_size, epoch=epoch)

    def training_step(self, model: nn.Module, batch: list[Tensor]) -> Tensor:
        return cross_entropy(model(batch[0]), batch[1])

    def evaluate(self, model: nn.Module, split: str, *, device: torch.device) -> dict[str, float]:
        found = super().evaluate(model, split, device=device)
        with SummaryWriter(self.folder) as writer:
            for name, value in found.items():
                writer.add_scalar(f"{split}/{name}", value, self.epoch)
        return found
