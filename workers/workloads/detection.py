"""Object detection: scenes composed of scanned digits, and COCO."""

__all__ = ["DETECTION", "DigitsCenterNet", "DigitsSsd"]

import functools
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from studies.catalog import WorkloadCard
from workers.workloads.boxes import Found, Truth, average_precision, ground_truth, numbers
from workers.workloads.centernet import CenterNet, CenterNetHead, centernet_boxes, centernet_loss
from workers.workloads.classification import read_images
from workers.workloads.coco import CocoCenterNet, CocoSsd
from workers.workloads.loop_workload import LoopWorkload, SplitName, diverged_if_nan, to_device
from workers.workloads.requirements import missing_extra
from workers.workloads.ssd import Level, Ssd, default_boxes, ssd_boxes, ssd_loss

_SplitOfScenes = Literal["train", "validation", "test"]
SCENES: dict[_SplitOfScenes, int] = {"train": 600, "validation": 200, "test": 200}
SIZE = 48  # pixels
SIDES = (10, 20)  # of a digit, in pixels
CLASSES = 10
_SEED = 20210503

_DESCRIPTION = (
    "Pictures of 48x48 pixels with one to four scanned digits in random places, each enlarged to 10 to 20 "
    "pixels; the splits share no digit. "
)
_SOURCE = (
    "composed from scikit-learn's load_digits (UCI Optical Recognition of Handwritten Digits, Alpaydin and "
    "Kaynak), BSD-3-Clause"
)


class _DigitScenes(LoopWorkload):
    def missing(self) -> str | None:
        """Return how to install the extra, if it is missing."""
        return missing_extra("detection", "faster_coco_eval")

    def train_batches(self, *, batch_size: int, epoch: int) -> Iterable[tuple[Tensor, Truth]]:
        """Return pictures [B, 1, 48, 48] and their objects, in a random order."""
        del epoch
        pictures, truth = _scenes("train")
        for rows in torch.split(torch.randperm(len(pictures)), batch_size):
            yield pictures[rows], Truth(boxes=truth.boxes[rows], labels=truth.labels[rows])

    def evaluate(self, model: nn.Module, split: SplitName, *, device: torch.device) -> Mapping[str, float]:
        """Return the average precision over a split."""
        pictures, _ = _scenes(split)
        found: list[Found] = []
        for batch in torch.split(pictures, 50):
            for boxes, labels, scores in self._found(model(to_device(batch, device))):
                found.append(Found(picture=len(found), boxes=boxes, labels=labels, scores=scores))
        return diverged_if_nan({"average precision": average_precision(_truth(split), found)})

    @abstractmethod
    def _found(self, output: Tensor) -> Iterable[tuple[Tensor, Tensor, Tensor]]:
        """Return boxes, labels and scores of each picture for a model's output."""


class DigitsCenterNet(_DigitScenes):
    """A small CenterNet: every weight before the head is followed by batch normalisation."""

    card = WorkloadCard(
        name="digits-centernet",
        title="Digits in scenes, CenterNet",
        description=(
            f"{_DESCRIPTION}Convolutions of 16, 32, 64 and 64 channels and one transposed one of 32, whose "
            "output is added to that of the second, and a CenterNet head at a quarter of the resolution; "
            "batch normalisation and ReLU throughout."
        ),
        source=_SOURCE,
        metric="average precision",
        unit="fraction",
        direction="maximize",
        chance=0.0,
        epochs=8,
        batch_size=10,
        examples=SCENES,
        parameters=121_534,
        epoch_s=1.0,
    )

    def build_model(self) -> nn.Module:
        """Return the network with torch's default initialisation."""
        backbone = nn.Sequential(*_convolution(1, 16, stride=2), *_convolution(16, 32, stride=2))
        neck = _Added(
            *_convolution(32, 64, stride=2),
            *_convolution(64, 64),
            nn.ConvTranspose2d(64, 32, kernel_size=4, stride=2, padding=1, bias=False),
            *(nn.BatchNorm2d(32), nn.ReLU()),
        )
        head = CenterNetHead(32, width=32, classes=CLASSES, is_normalised=True)
        return CenterNet(backbone, neck, head)

    def training_step(self, model: nn.Module, batch: tuple[Tensor, Truth]) -> dict[str, Tensor]:
        """Return the loss and its parts."""
        pictures, truth = batch
        return centernet_loss(model(pictures), truth, size_weight=1.0)

    def _found(self, output: Tensor) -> Iterable[tuple[Tensor, Tensor, Tensor]]:
        return zip(*centernet_boxes(output, most=20), strict=True)


class DigitsSsd(_DigitScenes):
    """A small SSD: boxes from two levels of a network with batch normalisation."""

    card = WorkloadCard(
        name="digits-ssd",
        title="Digits in scenes, SSD",
        description=(
            f"{_DESCRIPTION}Convolutions of 16, 32, 64, 64 and 64 channels, each with batch normalisation "
            "and ReLU, with default boxes of 11 and 14 pixels at a quarter of the resolution and of 18 "
            "pixels at an eighth."
        ),
        source=_SOURCE,
        metric="average precision",
        unit="fraction",
        direction="maximize",
        chance=0.0,
        epochs=8,
        batch_size=10,
        examples=SCENES,
        parameters=123_357,
        epoch_s=1.1,
    )

    def build_model(self) -> nn.Module:
        """Return the network with torch's default initialisation."""
        fine = nn.Sequential(
            *_convolution(1, 16, stride=2), *_convolution(16, 32, stride=2), *_convolution(32, 64)
        )
        coarse = nn.Sequential(*_convolution(64, 64, stride=2), *_convolution(64, 64))
        return Ssd((fine, coarse), (64, 64), _LEVELS, classes=CLASSES)

    def training_step(self, model: nn.Module, batch: tuple[Tensor, Truth]) -> dict[str, Tensor]:
        """Return the loss and its parts."""
        pictures, truth = batch
        return ssd_loss(model(pictures), truth, _defaults().to(pictures.device))

    def _found(self, output: Tensor) -> Iterable[tuple[Tensor, Tensor, Tensor]]:
        return ssd_boxes(output, _defaults().to(output.device), most=40)


DETECTION = (CocoCenterNet(), CocoSsd(), DigitsCenterNet(), DigitsSsd())

_LEVELS = (Level(cells=12, sides=(11, 14)), Level(cells=6, sides=(18,)))


@functools.cache
def _defaults() -> Tensor:
    return default_boxes(_LEVELS, size=SIZE)


class _Added(nn.Module):
    """Layers whose output is added to their input."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        return features + self.layers(features)


def _convolution(channels_in: int, channels_out: int, *, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(channels_in, channels_out, kernel_size=3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    ]


@functools.cache
def _scenes(split: _SplitOfScenes) -> tuple[Tensor, Truth]:
    """Return the pictures [N, 1, 48, 48] of a split, standardised, and their objects."""
    digits = getattr(read_images("sklearn", "datasets/data/digits.csv.gz", size=8), split)
    draw = torch.Generator().manual_seed(_SEED + list(SCENES).index(split))
    background = digits.inputs.min()
    pictures = torch.full((SCENES[split], 1, SIZE, SIZE), background.item())
    all_boxes: list[Tensor] = []
    all_labels: list[Tensor] = []
    half = SIZE // 2
    for picture in pictures:
        # At most one digit in each quarter, so that none covers another.
        quarters = torch.randperm(4, generator=draw)[: int(torch.randint(1, 5, (), generator=draw))]
        rows = torch.randint(len(digits), (len(quarters),), generator=draw)
        sides = torch.randint(SIDES[0], SIDES[1] + 1, (len(quarters),), generator=draw)
        free = (half - sides + 1)[:, None]
        corners = (torch.rand(len(quarters), 2, generator=draw) * free).long()
        corners += half * torch.stack([quarters % 2, quarters // 2], dim=1)
        for row, side, (x, y) in zip(rows, numbers(sides), numbers(corners), strict=True):
            digit = functional.interpolate(digits.inputs[row][None], side, mode="bilinear")[0]
            picture[:, y : y + side, x : x + side] = digit
        all_boxes.append(torch.cat([corners, corners + sides[:, None]], dim=1).float())
        all_labels.append(digits.targets[rows])
    return pictures, Truth.of(all_boxes, all_labels)


@functools.cache
def _truth(split: _SplitOfScenes) -> object:
    _, truth = _scenes(split)
    return ground_truth(
        range(SCENES[split]),
        range(CLASSES),
        (
            {
                "image_id": number,
                "category_id": label,
                "bbox": [left, top, right - left, bottom - top],
                "area": (right - left) * (bottom - top),
                "iscrowd": 0,
            }
            for number, (boxes, labels) in enumerate(
                zip(numbers(truth.boxes), numbers(truth.labels), strict=True)
            )
            for (left, top, right, bottom), label in zip(boxes, labels, strict=True)
            if label >= 0
        ),
    )
