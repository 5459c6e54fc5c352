"""A network trained by two processes with DistributedDataParallel; each reads its own part of every batch."""

from collections.abc import Iterable

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, DistributedSampler, Subset, TensorDataset

from tangent import LoopWorkload, WorkloadCard

PICTURES, LABELS = (torch.tensor(part) for part in load_digits(return_X_y=True))
DATA = TensorDataset(PICTURES.float().view(-1, 1, 8, 8) / 16, LABELS)
ROWS = {"train": range(1077), "validation": range(1077, 1437), "test": range(1437, 1797)}


class TwoProcesses(LoopWorkload):
    splits_batches = True
    card = WorkloadCard(
        name="job-two-processes",
        metric="accuracy",
        unit="fraction",
        direction="maximize",
        epochs=5,
        examples={"train": 1077},
    )

    def build_model(self) -> nn.Module:
        convolution = nn.Sequential(nn.Conv2d(1, 32, 3), nn.BatchNorm2d(32), nn.ReLU())
        return nn.Sequential(convolution, nn.Flatten(), nn.Linear(32 * 6 * 6, 10))

    def train_batches(self, *, batch_size: int, epoch: int) -> Iterable[list[Tensor]]:
        train = Subset(DATA, ROWS["train"])
        mine = DistributedSampler(train, self.world_size, self.rank, seed=int(torch.randint(2**31, ())))
        return DataLoader(train, batch_size // self.world_size, sampler=mine)

    def training_step(self, model: nn.Module, batch: list[Tensor]) -> Tensor:
        return cross_entropy(model(batch[0]), batch[1])

    def evaluate(self, model: nn.Module, split: str, *, device: torch.device) -> dict[str, Tensor]:
        inputs, labels = DATA[list(ROWS[split])]
        return {"accuracy": (model(inputs.to(device)).argmax(1).cpu() == labels).float().mean()}
