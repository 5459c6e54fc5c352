"""Image retrieval: embeddings of length 1, learned on some classes and judged by the nearest image of others.

The losses are those of pytorch-metric-learning (extra `metric-learning`): triplets with semi-hard negatives
(Schroff et al., FaceNet, CVPR 2015) and ProxyAnchor (Kim et al., CVPR 2020), each with the settings of its
paper.
"""

__all__ = ["LOSS", "RETRIEVAL", "Embedder", "LabelledImages", "Retrieval", "recall_at_1"]

import math
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset

from studies.catalog import Hyperparameter, WorkloadCard
from studies.space import Choices
from workers.workloads.classification import digit_images, mnist5k_images
from workers.workloads.digits import DigitsCnn
from workers.workloads.loop_workload import LoopWorkload, SplitName, diverged_if_nan, to_device
from workers.workloads.mnist5k import Mnist5kCnn
from workers.workloads.requirements import missing_extra

_TRIPLET_MARGIN = 0.2  # Schroff et al., section 3.1, of squared distances
_ANCHOR_MARGIN, _ANCHOR_SCALE = 0.1, 32  # Kim et al., section 4.1.4
_QUERIES = 1000

LOSS = Hyperparameter(
    name="loss",
    description="ProxyAnchor, with a learned proxy of each class, or triplets with semi-hard negatives.",
    default="proxy-anchor",
    search=Choices(choices=("proxy-anchor", "triplet")),
    source="Heo et al. (ICLR 2021), Table 6, has both",
)
"""The loss as a hyperparameter."""


@dataclass(frozen=True, kw_only=True)
class LabelledImages:
    """Images with their classes.

    Attributes:
        images: returns an image [C, H, W] and its class.
        labels: the class of each image, int64 [N].
    """

    images: Dataset[Any]
    labels: Tensor


class Embedder(nn.Module):
    """A network that returns embeddings of length 1, with the loss that it is trained with.

    Args:
        body: returns embeddings of any length, [B, E].
        criterion: returns the loss of embeddings and classes; its proxies are trained too.
    """

    def __init__(self, body: nn.Module, criterion: nn.Module) -> None:
        super().__init__()
        self.body, self.criterion = body, criterion

    def forward(self, images: Tensor) -> Tensor:
        """Return embeddings of length 1, [B, E]."""
        # 16 bits cannot tell cosines near 1 from each other.
        return functional.normalize(self.body(images).float())


class Retrieval(LoopWorkload):
    """Embeddings that are trained with a loss of metric learning.

    Attributes:
        size: numbers in an embedding.
        per_class: images of each class in a batch of triplets.
        evaluation_batch: images in a batch of an evaluation.
        loaders: processes that read images.
    """

    size: int
    per_class: int
    evaluation_batch: int = 500

    @property
    def loaders(self) -> int:
        """The number of processes that read images; 0 where they are in memory."""
        return 0

    @abstractmethod
    def train_images(self) -> LabelledImages:
        """Return the training images with classes from 0."""

    @abstractmethod
    def query_images(self, split: SplitName) -> LabelledImages:
        """Return the images of a split whose nearest image counts."""

    def gallery_images(self, split: SplitName) -> LabelledImages | None:
        """Return the images among which the nearest is sought; None for the other queries."""
        del split
        return None

    @abstractmethod
    def build_body(self) -> nn.Module:
        """Return a network from images to embeddings [B, size], not yet of length 1."""

    def missing(self) -> str | None:
        """Return the command that installs the losses, or None."""
        return missing_extra("metric-learning", "pytorch_metric_learning")

    def build_model(self) -> Embedder:
        """Return the network and the loss."""
        body = self.build_body()
        if self.config["loss"] == "triplet":
            return Embedder(body, _semi_hard_triplets())
        classes = int(self.train_images().labels.max()) + 1
        return Embedder(body, _proxy_anchor(classes=classes, size=self.size))

    def parameter_groups(self, model: nn.Module) -> dict[str, list[nn.Parameter]]:
        """Return the proxies as a group, which Kim et al. train with 100 times the learning rate."""
        return {"proxies": list(cast("Embedder", model).criterion.parameters())}

    def steps_per_epoch(self, batch_size: int) -> int:
        """Return the number of full batches of all images."""
        return len(self.train_images().labels) // batch_size

    def train_batches(self, *, batch_size: int, epoch: int) -> Iterable[list[Tensor]]:
        """Return batches in random order, or for triplets batches with `per_class` images of each class.

        Raises:
            ValueError: a batch of triplets cannot hold as many images of each of its classes.
        """
        del epoch
        train, steps = self.train_images(), self.steps_per_epoch(batch_size)
        if self.config["loss"] == "triplet":
            batches = list(_by_class(train.labels, batch_size, steps=steps, per_class=self.per_class))
        else:
            order = torch.randperm(len(train.labels))[: steps * batch_size]
            batches = cast("Any", order.view(steps, batch_size)).tolist()
        return DataLoader(train.images, batch_sampler=batches, num_workers=self.loaders)

    def training_step(self, model: Embedder, batch: Sequence[Tensor]) -> Tensor:
        """Return the loss of a batch of images and classes."""
        images, labels = batch
        embeddings = model(images)
        with torch.autocast(embeddings.device.type, enabled=False):
            return model.criterion(embeddings, labels)

    def evaluate(self, model: Embedder, split: SplitName, *, device: torch.device) -> dict[str, float]:
        """Return recall@1: the part of the queries whose nearest image is of their class."""
        queries, labels = self._embedded(model, self.query_images(split), device)
        gallery = self.gallery_images(split)
        others = None if gallery is None else self._embedded(model, gallery, device)
        return diverged_if_nan({"recall@1": recall_at_1(queries, labels, gallery=others)})

    def _embedded(
        self, model: Embedder, images: LabelledImages, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Return embeddings and classes, on the device."""
        batches: Iterable[list[Tensor]] = DataLoader(
            images.images, self.evaluation_batch, num_workers=self.loaders
        )
        found = [model(to_device(each, device)) for each, _ in batches]
        return torch.cat(found), images.labels.to(device)


def recall_at_1(queries: Tensor, labels: Tensor, *, gallery: tuple[Tensor, Tensor] | None = None) -> float:
    """Return the part of the queries whose nearest image, by the cosine, is of their class.

    It is NaN if an embedding is not finite, as those of a diverged model.

    Args:
        queries: embeddings of length 1, [N, E].
        labels: their classes, [N].
        gallery: the images among which the nearest is sought, with their classes; None for the other queries.
    """
    images, classes = gallery or (queries, labels)
    if not (queries.isfinite().all() and images.isfinite().all()):
        return math.nan
    right = 0
    for start in range(0, len(queries), _QUERIES):
        with torch.autocast(queries.device.type, enabled=False):
            cosines = queries[start : start + _QUERIES] @ images.T
        if gallery is None:
            rows = torch.arange(len(cosines), device=cosines.device)
            cosines[rows, start + rows] = -torch.inf
        right += int((classes[cosines.argmax(1)] == labels[start : start + _QUERIES]).sum())
    return right / len(queries)


def _by_class(labels: Tensor, batch_size: int, *, steps: int, per_class: int) -> Iterator[list[int]]:
    """Yield the images of each batch: `per_class` of each class in it, some repeated if a class has fewer."""
    members = [(labels == label).nonzero()[:, 0] for label in range(int(labels.max()) + 1)]
    if batch_size % per_class or not 2 <= batch_size // per_class <= len(members):
        raise ValueError(
            f"expected a batch size that is a multiple of {per_class}, the images of each class in a batch "
            f"of triplets, from {2 * per_class} to {per_class * len(members)}, got {batch_size}; change it"
        )
    for _ in range(steps):
        chosen = torch.randperm(len(members))[: batch_size // per_class]
        drawn = [_drawn(members[int(label)], per_class) for label in chosen]
        yield cast("Any", torch.cat(drawn)).tolist()


def _drawn(rows: Tensor, count: int) -> Tensor:
    """Return some of the rows at random, which repeat only if there are fewer."""
    order = torch.randperm(len(rows)) if len(rows) >= count else torch.randint(len(rows), (count,))
    return rows[order[:count]]


def _library(module: str) -> Any:
    """Return a module of pytorch-metric-learning, which takes seconds to import and may not be installed."""
    return import_module(f"pytorch_metric_learning.{module}")


def _proxy_anchor(*, classes: int, size: int) -> nn.Module:
    return _library("losses").ProxyAnchorLoss(classes, size, margin=_ANCHOR_MARGIN, alpha=_ANCHOR_SCALE)


def _semi_hard_triplets() -> nn.Module:
    distance, margin = _library("distances").LpDistance(power=2), _TRIPLET_MARGIN
    return _Mined(
        _library("losses").TripletMarginLoss(margin=margin, distance=distance),
        _library("miners").TripletMarginMiner(margin=margin, type_of_triplets="semihard", distance=distance),
    )


class _Mined(nn.Module):
    """A loss of the pairs or triplets that a miner chooses."""

    def __init__(self, loss: nn.Module, miner: nn.Module) -> None:
        super().__init__()
        self.loss, self.miner = loss, miner

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return self.loss(embeddings, labels, self.miner(embeddings, labels))


def _in_memory(images: Tensor, labels: Tensor, classes: tuple[int, ...]) -> LabelledImages:
    """Return the images of some classes, whose labels count from 0."""
    rows = torch.isin(labels, torch.tensor(classes))
    own = torch.searchsorted(torch.tensor(classes), labels[rows])
    return LabelledImages(images=TensorDataset(images[rows], own), labels=own)


class _SmallRetrieval(Retrieval):
    """Digits whose classes are divided between the splits, so that each holds some that look alike."""

    classes: ClassVar = {"train": (0, 1, 2, 4, 6), "validation": (3, 5, 8), "test": (7, 9)}

    @abstractmethod
    def digits(self) -> tuple[Tensor, Tensor]:
        """Return all images and their classes."""

    def train_images(self) -> LabelledImages:
        """Return the images of five classes."""
        return _in_memory(*self.digits(), self.classes["train"])

    def query_images(self, split: SplitName) -> LabelledImages:
        """Return the images of the three or two classes of a split."""
        return _in_memory(*self.digits(), self.classes[split])


class DigitsRetrieval(_SmallRetrieval):
    """The convolutions of `digits-cnn` with an embedding."""

    size = 8
    per_class = 8
    card = WorkloadCard(
        name="digits-retrieval",
        title="Digits, retrieval of held-out classes",
        description=(
            "8x8 greyscale digits: 0, 1, 2, 4 and 6 in training, 3, 5 and 8 in validation, 7 and 9 in the "
            "test. The convolutions of digits-cnn and a linear layer to 8 numbers, scaled to length 1; "
            "ProxyAnchor loss or semi-hard triplets."
        ),
        source=DigitsCnn.card.source,
        metric="recall@1",
        unit="fraction",
        direction="maximize",
        target=0.79,
        chance=0.5,
        epochs=12,
        batch_size=32,
        examples={"train": 899, "validation": 539, "test": 359},
        parameters=3360,
        hyperparameters=(LOSS,),
        groups=("proxies",),
        epoch_s=0.1,
    )

    def digits(self) -> tuple[Tensor, Tensor]:
        """Return the 1,797 digits."""
        return digit_images()

    def build_body(self) -> nn.Module:
        """Return the convolutions of `digits-cnn` and a linear layer without bias."""
        return _embedding_of(DigitsCnn().build_model(), size=self.size)


class Mnist5kRetrieval(_SmallRetrieval):
    """The convolutions of `mnist5k-cnn` with an embedding."""

    size = 8
    per_class = 8
    card = WorkloadCard(
        name="mnist5k-retrieval",
        title="MNIST 5k, retrieval of held-out classes",
        description=(
            "MNIST images of 28x28 pixels: 0, 1, 2, 4 and 6 in training, 3, 5 and 8 in validation, 7 and 9 "
            "in the test. The convolutions of mnist5k-cnn and a linear layer to 8 numbers, scaled to length "
            "1; ProxyAnchor loss or semi-hard triplets."
        ),
        source=Mnist5kCnn.card.source,
        metric="recall@1",
        unit="fraction",
        direction="maximize",
        target=0.71,
        chance=0.5,
        epochs=10,
        batch_size=40,
        examples={"train": 2500, "validation": 1500, "test": 1000},
        parameters=10080,
        hyperparameters=(LOSS,),
        groups=("proxies",),
        epoch_s=0.4,
    )

    def digits(self) -> tuple[Tensor, Tensor]:
        """Return the 5,000 images."""
        return mnist5k_images()

    def build_body(self) -> nn.Module:
        """Return the convolutions of `mnist5k-cnn` and a linear layer without bias."""
        return _embedding_of(Mnist5kCnn().build_model(), size=self.size)


def _embedding_of(classifier: nn.Module, *, size: int) -> nn.Module:
    """Return a classifier whose last layer returns embeddings: without bias, so that its scale is free."""
    *body, last = classifier.children()
    return nn.Sequential(*body, nn.Linear(cast("nn.Linear", last).in_features, size, bias=False))


RETRIEVAL = (DigitsRetrieval(), Mnist5kRetrieval())
"""The small workloads."""
