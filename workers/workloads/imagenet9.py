"""9-class ImageNet (Bahng et al., ICML 2020): animals whose texture gives the class away in most images.

The classes are those of clovaai/rebias, as is the grouping of ImageNet's validation images by texture, with
which the unbiased accuracy is computed. These images serve for the validation and the test split in turn: no
other images are grouped.
"""

__all__ = ["CLASSES", "IMAGENET9", "bagnet18", "class_images", "grouped_images", "unbiased_accuracy"]

import csv
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from studies.catalog import MetricCard, PublishedResult, WorkloadCard
from workers.workloads.biased import REBIAS, NetworkPair
from workers.workloads.loop_workload import READERS, LoopWorkload, SplitName, to_device
from workers.workloads.picture_files import PictureFiles, missing_vision
from workers.workloads.requirements import data_folder, missing_files

CLASSES: Mapping[str, Sequence[str]] = {
    "dog": ("n02085620", "n02099601", "n02106550", "n02106662", "n02110958"),
    "cat": ("n02123045", "n02123159", "n02123394", "n02123597", "n02124075"),
    "frog": ("n01641577", "n01644373", "n01644900"),
    "turtle": ("n01664065", "n01665541", "n01667114", "n01667778", "n01669191"),
    "bird": ("n01819313", "n01820546", "n01833805", "n01843383", "n01847000"),
    "primate": ("n02486410", "n02487347", "n02488291", "n02488702", "n02492035"),
    "fish": ("n02607072", "n02640242", "n02641379", "n02643566", "n02655020"),
    "crab": ("n01978287", "n01978455", "n01980166", "n01981276"),
    "insect": ("n02174001", "n02177972", "n02190166", "n02206856", "n02219486"),
}
"""The classes of ImageNet in each of the nine, from clovaai/rebias."""
_NUMBERS = {folder: number for number, folders in enumerate(CLASSES.values()) for folder in folders}
_GROUPS = "9class_imagenet_val.csv"
_LEAST = 5
"""Images of a class and texture that count; 10 in clovaai/rebias, which has all images in one split."""

Files = Sequence[tuple[Path, int]]
"""Images with their classes."""

_PAPER = "Heo et al., AdamP (ICLR 2021), Table 4c, project page clovaai.github.io/AdamP"
_METRICS = (
    MetricCard(
        name="biased accuracy",
        description="Accuracy on all images, most of which have the texture of their class.",
        unit="fraction",
        direction="maximize",
    ),
    MetricCard(
        name="ImageNet-A accuracy",
        description="Accuracy on the images of these classes in ImageNet-A.",
        unit="fraction",
        direction="maximize",
    ),
)


class ImageNet9(LoopWorkload):
    """A ResNet-18 on nine groups of ImageNet's classes, as in AdamP's Table 4c."""

    card = WorkloadCard(
        name="imagenet9",
        title="9-class ImageNet",
        description=(
            "Photographs of animals in nine groups of ImageNet's classes. ResNet-18, trained with ReBias "
            "beside a BagNet-18, or plainly. Unbiased accuracy is the mean over classes and textures. Even "
            "images of ImageNet's validation set are for validation, odd ones for the test. Batch size and "
            "epochs are those of clovaai/rebias."
        ),
        source="ImageNet (Russakovsky et al., 2015) and ImageNet-A (Hendrycks et al., 2021), user's copies",
        metric="unbiased accuracy",
        unit="fraction",
        direction="maximize",
        metrics=_METRICS,
        epochs=120,
        batch_size=128,
        hyperparameters=(REBIAS,),
        published=tuple(
            PublishedResult(
                optimizer=optimizer, value=value, metric=metric, setting="rebias=true", source=_PAPER
            )
            for metric, adam, adamp in (
                (None, 0.926, 0.945),
                ("biased accuracy", 0.938, 0.952),
                ("ImageNet-A accuracy", 0.312, 0.329),
            )
            for optimizer, value in (("adam", adam), ("adamp", adamp))
        ),
    )

    def missing(self) -> str | None:
        """Return what is missing of packages and images, or None."""
        return (
            missing_vision()
            or missing_files(
                data_folder("imagenet"),
                "the folders train and val, with a folder for each class,",
                "train",
                "val",
            )
            or missing_files(
                data_folder("imagenet-a"),
                "the unpacked imagenet-a.tar, with a folder for each class,",
                "n01641577",
            )
            or missing_files(
                data_folder("rebias"), f"clusters/{_GROUPS} of https://github.com/clovaai/rebias", _GROUPS
            )
        )

    def build_model(self) -> NetworkPair:
        """Return a ResNet-18, and with `rebias` a BagNet-18."""
        # Importing torchvision takes seconds, and not every installation has it.
        network: Any = import_module("torchvision.models").resnet18()
        width = network.fc.in_features
        network.fc = nn.Identity()
        biased = _Features(bagnet18(), width) if self.config["rebias"] else None
        return NetworkPair(_Features(network, width), biased, is_adaptive=True)

    def steps_per_epoch(self, batch_size: int) -> int:
        """Return the number of full batches."""
        return len(class_images(data_folder("imagenet") / "train")) // batch_size

    def train_batches(self, *, batch_size: int, epoch: int) -> Iterable[list[Tensor]]:
        """Return batches of images [B, 3, 224, 224] and classes [B], in random order."""
        del epoch
        train = _pictures(class_images(data_folder("imagenet") / "train"), is_training=True)
        return DataLoader(train, batch_size, shuffle=True, num_workers=READERS)

    def training_step(self, model: NetworkPair, batch: Sequence[Tensor]) -> Tensor:
        """Return the mean loss of both networks."""
        images, labels = batch
        return model.loss(images, labels)

    def evaluate(self, model: NetworkPair, split: SplitName, *, device: torch.device) -> dict[str, float]:
        """Return the accuracies, and the mean loss on ImageNet's own images."""
        rows = slice(split == "test", None, 2)
        files, groups = grouped_images(data_folder("imagenet") / "val", data_folder("rebias") / _GROUPS)
        right, loss = _right(model, files[rows], device)
        labels = torch.tensor([label for _, label in files[rows]])
        harder, _ = _right(model, class_images(data_folder("imagenet-a"))[rows], device)
        return {
            "loss": loss,
            "unbiased accuracy": unbiased_accuracy(right, labels, groups[rows]),
            "biased accuracy": right.float().mean().item(),
            "ImageNet-A accuracy": harder.float().mean().item(),
        }


def _right(model: NetworkPair, files: Files, device: torch.device) -> tuple[Tensor, float]:
    """Return whether each image is classified correctly, bool [N], and the mean loss."""
    right: list[Tensor] = []
    loss = 0.0
    for batch in DataLoader(_pictures(files), 128, num_workers=READERS):
        images, labels = to_device(batch, device)
        logits = model(images)
        right.append((logits.argmax(1) == labels).cpu())
        loss += functional.cross_entropy(logits, labels, reduction="sum").item()
    return torch.cat(right), loss / len(files)


def _pictures(files: Files, *, is_training: bool = False) -> Dataset[Any]:
    return PictureFiles([path for path, _ in files], [label for _, label in files], is_training=is_training)


def unbiased_accuracy(right: Tensor, labels: Tensor, groups: Tensor) -> float:
    """Return the mean, over several groupings, of the mean accuracy of the images of a class and group.

    A class and group with fewer than five images is left out.

    Args:
        right: whether each image is classified correctly, bool [N].
        labels: classes, [N].
        groups: the group of each image in each grouping, [N, groupings].
    """
    means: list[Tensor] = []
    for grouping in groups.T:
        cells = labels * (int(grouping.max()) + 1) + grouping
        counts, sums = torch.bincount(cells), torch.bincount(cells, weights=right.double())
        kept = counts >= min(_LEAST, int(counts.max()))
        means.append((sums[kept] / counts[kept]).mean())
    return torch.stack(means).mean().item()


@cache
def class_images(folder: Path) -> Files:
    """Return the images in the folders of our classes, in the order of their names."""
    return [
        (path, _NUMBERS[name.name])
        for name in sorted(folder.iterdir())
        if name.name in _NUMBERS
        for path in sorted(name.iterdir())
    ]


@cache
def grouped_images(folder: Path, listed: Path) -> tuple[Files, Tensor]:
    """Return the images that are grouped by texture, and their three groups, [N, 3]."""
    with listed.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    files = [(folder / row["path"], _NUMBERS[row["path"].partition("/")[0]]) for row in rows]
    return files, torch.tensor([[int(row[f"cluster{n}"]) for n in (1, 2, 3)] for row in rows])


class _Features(nn.Module):
    """A network that returns features, with a linear layer for the nine classes."""

    def __init__(self, body: nn.Module, width: int) -> None:
        super().__init__()
        self.body, self.logits = body, nn.Linear(width, len(CLASSES))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(images)
        return features, self.logits(features)


def bagnet18() -> nn.Module:
    """Return a ResNet-18 whose convolutions are 1x1 but for two of 3x3, up to the mean over pixels, [B, 512].

    Source: BagNet-18 of clovaai/rebias, after Brendel and Bethge (ICLR 2019).
    """
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 1, bias=False),
        nn.Conv2d(64, 64, 3, bias=False),
        nn.BatchNorm2d(64, momentum=0.001),
        nn.ReLU(),
    ]
    channels = 64
    for number, (width, stride) in enumerate(((64, 2), (128, 2), (256, 2), (512, 1))):
        layers += [
            _NarrowBlock(channels, width, kernel=1 if number else 3, stride=stride),
            _NarrowBlock(width, width, kernel=1, stride=1),
        ]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


class _NarrowBlock(nn.Module):
    """A residual block without padding, whose shortcut is cut to the size of the rest."""

    def __init__(self, channels_in: int, channels: int, *, kernel: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels_in, channels, kernel, stride=stride, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, inputs: Tensor) -> Tensor:  # [B, C, H, W]
        found = self.body(inputs)
        return functional.relu(found + self.shortcut(inputs)[..., : found.shape[2], : found.shape[3]])


IMAGENET9 = (ImageNet9(),)
"""The workload of this module."""
