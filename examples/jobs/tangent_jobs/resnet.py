"""ResNet-18 with random crops and flips of the pictures in `TANGENT_DATA/pictures/SPLIT/CLASS/*.png`."""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad
from torch.utils.data import DataLoader, Dataset
from torchmetrics.classification import MulticlassAccuracy
from transformers import ResNetConfig, ResNetForImageClassification

from tangent import LoopWorkload, MetricCard, WorkloadCard, to_device


class Pictures(Dataset[tuple[Tensor, int]]):
    def __init__(self, split: str) -> None:
        self.moves = split == "train"
        self.files = sorted((Path(os.environ["TANGENT_DATA"]) / "pictures" / split).glob("*/*.png"))
        self.classes = sorted({file.parent.name for file in self.files})

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        file = self.files[number]
        picture = torch.tensor(np.asarray(Image.open(file).convert("RGB"))).permute(2, 0, 1) / 255
        if self.moves:
            x, y = torch.randint(9, (2,)).tolist()
            picture = pad(picture, (4, 4, 4, 4))[:, y : y + picture.shape[1], x : x + picture.shape[2]]
            picture = picture.flip(2) if torch.rand(()) < 0.5 else picture
        return picture, self.classes.index(file.parent.name)


class ResNet18(LoopWorkload):
    card = WorkloadCard(
        name="job-resnet",
        metric="top_1",
        metrics=(MetricCard(name="top_5", unit="fraction", direction="maximize"),),
        unit="fraction",
        direction="maximize",
        epochs=10,
        batch_size=64,
    )

    def build_model(self) -> nn.Module:
        widths, classes = [64, 128, 256, 512], len(Pictures("train").classes)
        config = ResNetConfig(depths=[2] * 4, hidden_sizes=widths, layer_type="basic", num_labels=classes)  # pyright: ignore[reportCallIssue]
        return ResNetForImageClassification(config)

    def steps_per_epoch(self, batch_size: int) -> int:
        return len(Pictures("train")) // batch_size

    def train_batches(self, *, batch_size: int, epoch: int) -> Iterable[list[Tensor]]:
        return DataLoader(Pictures("train"), batch_size, shuffle=True, num_workers=2)

    def training_step(self, model: nn.Module, batch: list[Tensor], label_smoothing: float = 0.0) -> Tensor:
        return cross_entropy(model(batch[0]).logits, batch[1], label_smoothing=label_smoothing)

    def evaluate(
        self, model: nn.Module, split: str, *, device: torch.device
    ) -> dict[str, MulticlassAccuracy]:
        pictures = Pictures(split)
        found = {
            f"top_{k}": MulticlassAccuracy(len(pictures.classes), top_k=k, average="micro").to(device)
            for k in (1, 5)
        }
        for batch in DataLoader(pictures, 256, num_workers=2):
            inputs, labels = to_device(batch, device)
            for metric in found.values():
                metric.update(model(inputs).logits, labels)
        return found
