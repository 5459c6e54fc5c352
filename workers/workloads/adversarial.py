"""Adversarial training (Madry et al., ICLR 2018): learn from images that an attack has changed.

The attack is projected gradient descent (PGD): steps that raise the loss, from a random start, within a ball
around each image. Each step is a quarter of the ball's radius, as in the configuration of
MadryLab/cifar10_challenge (radius 8, step 2, 10 steps). The attack sees the network as it is trained, with
the batch statistics of its normalisation, whose running means count the images of its steps too, as there.
"""

__all__ = ["ADVERSARIAL", "AdversarialTraining", "attacked", "wide_resnet"]

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from studies.catalog import Hyperparameter, MetricCard, PublishedResult, WorkloadCard
from studies.space import Choices
from workers.workloads.cifar10 import cropped_and_flipped, missing_cifar10, read_cifar10
from workers.workloads.classification import digit_images, mnist5k_images, split_images
from workers.workloads.digits import DigitsCnn
from workers.workloads.loop_workload import LoopWorkload, SplitName, own_generator, to_device
from workers.workloads.mnist5k import Mnist5kCnn
from workers.workloads.tensor_workload import Data

Norm = Literal["linf", "l2"]
_EVALUATION_BATCH = 500
_STEP = 0.25
"""A step of the attack as a part of the radius."""

_NORM = Hyperparameter(
    name="norm",
    description="Norm of the ball in which the attack may change an image: maximum (linf) or Euclidean (l2).",
    default="linf",
    search=Choices(choices=("linf", "l2")),
    source="Heo et al. (ICLR 2021), Table 4, has both",
)
_CLEAN = MetricCard(
    name="clean accuracy",
    description="Accuracy on the images as they are.",
    unit="fraction",
    direction="maximize",
    chance=0.1,
)


class AdversarialTraining(LoopWorkload):
    """A classifier of images that is trained on attacked ones, and judged by attacked and clean ones.

    Attributes:
        radii: the ball's radius in each norm, for pixels from 0 to 1.
        steps: the attack's steps, in training and in evaluation.
    """

    radii: ClassVar[Mapping[Norm, float]]
    steps: int

    @abstractmethod
    def images(self) -> Data:
        """Return the splits: images [N, C, H, W], floats from 0 to 1 or uint8, and classes [N]."""

    def augmented(self, images: Tensor, draws: torch.Generator) -> Tensor:
        """Return training images as an epoch sees them, changed by random draws; by default unchanged."""
        del draws
        return images

    def steps_per_epoch(self, batch_size: int) -> int:
        """Return the number of full batches."""
        return len(self.images().train) // batch_size

    def train_batches(self, *, batch_size: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images, [B, C, H, W], and classes, [B], in random order."""
        del epoch
        train, draws = self.images().train, own_generator()
        for rows in torch.split(torch.randperm(len(train), generator=draws), batch_size):
            yield self.augmented(train.inputs[rows], draws), train.targets[rows]

    def training_step(
        self, model: nn.Module, batch: tuple[Tensor, Tensor], *, label_smoothing: float = 0.0
    ) -> Tensor:
        """Return the mean cross-entropy on attacked images, in nats."""
        images, labels = _as_fractions(batch[0]), batch[1]
        return functional.cross_entropy(
            model(self._attacked(model, images, labels)), labels, label_smoothing=label_smoothing
        )

    def evaluate(self, model: nn.Module, split: SplitName, *, device: torch.device) -> dict[str, float]:
        """Return the accuracies, and the mean loss on attacked images."""
        data = self.images()
        examples = data.validation if split == "validation" else data.test
        sums = {"loss": 0.0, "attacked accuracy": 0.0, "clean accuracy": 0.0}
        for batch in zip(
            *(torch.split(part, _EVALUATION_BATCH) for part in (examples.inputs, examples.targets)),
            strict=True,
        ):
            images, labels = to_device(batch, device)
            images = _as_fractions(images)
            clean, harmed = model(images), model(self._attacked(model, images, labels))
            sums["loss"] += functional.cross_entropy(harmed, labels, reduction="sum").item()
            sums["attacked accuracy"] += (harmed.argmax(1) == labels).sum().item()
            sums["clean accuracy"] += (clean.argmax(1) == labels).sum().item()
        return {name: value / len(examples) for name, value in sums.items()}

    def _attacked(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        norm: Norm = self.config["norm"]
        return attacked(model, images, labels, norm=norm, radius=self.radii[norm], steps=self.steps)


@torch.enable_grad()
def attacked(
    model: nn.Module, images: Tensor, labels: Tensor, *, norm: Norm, radius: float, steps: int
) -> Tensor:
    """Return images near the given ones that raise the cross-entropy of a model, by PGD.

    It is computed in float32 under any precision of the training: in 16 bits the slopes of confident
    predictions vanish.

    Args:
        model: returns logits [B, classes]; its parameters get no gradients.
        images: floats from 0 to 1, [B, C, H, W].
        labels: classes [B].
        norm: the norm of the ball around each image.
        radius: its radius.
        steps: steps of `radius / 4`.
    """

    def nearest_allowed(changed: Tensor) -> Tensor:
        change = changed - images
        change = change.renorm(2, 0, radius) if norm == "l2" else change.clamp(-radius, radius)
        return (images + change).clamp(0.0, 1.0)

    found = nearest_allowed(images + torch.empty_like(images).uniform_(-radius, radius))
    for _ in range(steps):
        found.requires_grad_()
        with torch.autocast(images.device.type, enabled=False):
            loss = functional.cross_entropy(model(found), labels, reduction="sum")
            (slope,) = torch.autograd.grad(loss, found)
        uphill = functional.normalize(slope.flatten(1)).view_as(slope) if norm == "l2" else slope.sign()
        found = nearest_allowed(found.detach() + _STEP * radius * uphill)
    return found.detach()


def _as_fractions(images: Tensor) -> Tensor:
    return images / 255 if images.dtype == torch.uint8 else images


_PAPER = "Heo et al., AdamP (ICLR 2021), Table 4a, project page clovaai.github.io/AdamP"


def _published(
    norm: str, radius: int, metric: str | None, adam: float, adamp: float
) -> list[PublishedResult]:
    return [
        PublishedResult(
            optimizer=optimizer,
            value=value,
            metric=metric,
            setting=f"norm={norm}, radius {radius}/255, PGD with 10 steps",
            source=_PAPER,
        )
        for optimizer, value in (("adam", adam), ("adamp", adamp))
    ]


class Cifar10Adversarial(AdversarialTraining):
    """A Wide ResNet on CIFAR-10, attacked as in AdamP's Table 4a."""

    radii: ClassVar[Mapping[Norm, float]] = {"linf": 4 / 255, "l2": 80 / 255}
    steps = 10
    card = WorkloadCard(
        name="cifar10-adversarial",
        title="CIFAR-10, adversarial training of a Wide ResNet",
        description=(
            "32x32 colour images in ten classes, shifted and flipped at random. Wide ResNet 28-10, trained "
            "on images that PGD with 10 steps has changed within a radius of 4/255 (linf) or 80/255 (l2); "
            "cross-entropy loss. AdamP's project page names neither depth nor width; 28-10 is that of "
            "MadryLab/cifar10_challenge, as is the batch size; its 80,000 steps are 205 epochs of all 50,000 "
            "training images."
        ),
        source="CIFAR-10 (Krizhevsky, 2009), the user's copy; no licence is stated",
        metric="attacked accuracy",
        unit="fraction",
        direction="maximize",
        metrics=(_CLEAN,),
        chance=0.1,
        epochs=200,
        batch_size=128,
        examples={"train": 45000, "validation": 5000, "test": 10000},
        parameters=36479194,
        hyperparameters=(_NORM,),
        published=(
            *_published("linf", 4, None, 0.5658, 0.6628),
            *_published("linf", 4, "clean accuracy", 0.8012, 0.8985),
            *_published("l2", 80, None, 0.7033, 0.8359),
            *_published("l2", 80, "clean accuracy", 0.8414, 0.9346),
        ),
    )

    def missing(self) -> str | None:
        """Return what is missing of CIFAR-10, or None."""
        return missing_cifar10()

    def images(self) -> Data:
        """Return 45,000, 5,000 and 10,000 images, uint8 [N, 3, 32, 32]."""
        return read_cifar10()

    def augmented(self, images: Tensor, draws: torch.Generator) -> Tensor:
        """Return the images shifted by up to 4 pixels, and half of them flipped."""
        return cropped_and_flipped(images, generator=draws)

    def build_model(self) -> nn.Module:
        """Return a Wide ResNet 28-10."""
        return wide_resnet(depth=28, width=10, classes=10)


class DigitsAdversarial(AdversarialTraining):
    """The network of `digits-cnn`, attacked."""

    radii: ClassVar[Mapping[Norm, float]] = {"linf": 0.15, "l2": 0.6}
    steps = 5
    card = WorkloadCard(
        name="digits-adversarial",
        title="Digits, adversarial training",
        description=(
            "8x8 greyscale digits in ten classes. The network of digits-cnn, trained on "
            "images that PGD with 5 steps has changed within a radius of 0.15 (linf) or 0.6 (l2) of pixels "
            "from 0 to 1; cross-entropy loss."
        ),
        source=DigitsCnn.card.source,
        metric="attacked accuracy",
        unit="fraction",
        direction="maximize",
        metrics=(_CLEAN,),
        target=0.79,
        chance=0.1,
        epochs=12,
        batch_size=32,
        examples=DigitsCnn.card.examples,
        parameters=3842,
        hyperparameters=(_NORM,),
        epoch_s=0.3,
    )

    def images(self) -> Data:
        """Return 1,077, 360 and 360 images, floats [N, 1, 8, 8]."""
        return split_images(*digit_images())

    def build_model(self) -> nn.Module:
        """Return the network of `digits-cnn`."""
        return DigitsCnn().build_model()


class Mnist5kAdversarial(AdversarialTraining):
    """The network of `mnist5k-cnn`, attacked."""

    radii: ClassVar[Mapping[Norm, float]] = {"linf": 0.15, "l2": 1.5}
    steps = 5
    card = WorkloadCard(
        name="mnist5k-adversarial",
        title="MNIST 5k, adversarial training",
        description=(
            "5,000 MNIST images of 28x28 pixels in ten classes. The network of mnist5k-cnn, trained on "
            "images that PGD with 5 steps has changed within a radius of 0.15 (linf) or 1.5 (l2) of pixels "
            "from 0 to 1; cross-entropy loss."
        ),
        source=Mnist5kCnn.card.source,
        metric="attacked accuracy",
        unit="fraction",
        direction="maximize",
        metrics=(_CLEAN,),
        target=0.9,
        chance=0.1,
        epochs=10,
        batch_size=64,
        examples=Mnist5kCnn.card.examples,
        parameters=11074,
        hyperparameters=(_NORM,),
        epoch_s=2.0,
    )

    def images(self) -> Data:
        """Return 3,000, 1,000 and 1,000 images, floats [N, 1, 28, 28]."""
        return split_images(*mnist5k_images())

    def build_model(self) -> nn.Module:
        """Return the network of `mnist5k-cnn`."""
        return Mnist5kCnn().build_model()


def wide_resnet(*, depth: int, width: int, classes: int) -> nn.Module:
    """Return a Wide ResNet for images of 32x32 pixels (Zagoruyko and Komodakis, BMVC 2016), without dropout.

    Args:
        depth: layers with weights, 6 n + 4.
        width: the factor by which its layers are wider than those of a ResNet.
        classes: number of classes.
    """
    blocks: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1, bias=False)]
    channels = 16
    for stage, base in enumerate((16, 32, 64)):
        for number in range((depth - 4) // 6):
            stride = 2 if stage and not number else 1
            blocks.append(_WideBlock(channels, base * width, stride=stride))
            channels = base * width
    model = nn.Sequential(
        *blocks,
        *(nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        nn.Linear(channels, classes),
    )
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model


class _WideBlock(nn.Module):
    """Two 3x3 convolutions, each behind its normalisation, and a shortcut."""

    def __init__(self, channels_in: int, channels: int, *, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.BatchNorm2d(channels_in), nn.ReLU())
        self.body = nn.Sequential(
            nn.Conv2d(channels_in, channels, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        )
        self.shortcut = (
            nn.Conv2d(channels_in, channels, 1, stride=stride, bias=False)
            if channels_in != channels
            else None
        )

    def forward(self, inputs: Tensor) -> Tensor:  # [B, C, H, W]
        active = self.first(inputs)
        return self.body(active) + (inputs if self.shortcut is None else self.shortcut(active))


ADVERSARIAL = (Cifar10Adversarial(), DigitsAdversarial(), Mnist5kAdversarial())
"""The workloads of this module."""
