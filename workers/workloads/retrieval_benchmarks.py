"""Image retrieval on CUB-200-2011, Cars-196, InShop and Stanford Online Products: AdamP's Table 6.

The classes of training and test are the published ones. None of these data sets has validation classes: the
last fifth of the training classes is held out for them, so the training set is smaller than the paper's.
"""

__all__ = ["RETRIEVAL_BENCHMARKS", "RetrievalBenchmark"]

from abc import abstractmethod
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from studies.catalog import PublishedResult, WorkloadCard
from workers.workloads.loop_workload import READERS, SplitName
from workers.workloads.picture_files import PictureFiles, missing_vision, missing_weights
from workers.workloads.requirements import data_folder, missing_files
from workers.workloads.retrieval import LOSS, LabelledImages, Retrieval

_HELD_OUT = 5
"""One training class in this many is a validation class."""

Files = list[tuple[Path, int]]
"""Files with their classes."""


@dataclass(frozen=True, kw_only=True)
class Lists:
    """The files of a data set: of its training classes, and of its test classes as queries and gallery."""

    train: Files
    test: Files
    gallery: Files | None = None


class RetrievalBenchmark(Retrieval):
    """A ResNet-50, pretrained on ImageNet, on a data set in the layout in which it is published.

    Attributes:
        data_set: its folder under TANGENT_DATA.
        layout: what it holds and where it is published.
        files: files and folders in it.
    """

    size = 512
    per_class = 4
    evaluation_batch = 120
    data_set: str
    layout: str
    files: tuple[str, ...]

    @property
    def loaders(self) -> int:
        """As many as the other workloads of files have."""
        return READERS

    @staticmethod
    @abstractmethod
    def read(folder: Path) -> Lists:
        """Return the files in a folder."""

    def missing(self) -> str | None:
        """Return what is missing of packages, images and pretrained weights, or None."""
        return (
            super().missing()
            or missing_vision()
            or missing_files(data_folder(self.data_set), self.layout, *self.files)
            or missing_weights("resnet50", "resnet50-0676ba61.pth")
        )

    def train_images(self) -> LabelledImages:
        """Return the images of the first four fifths of the training classes."""
        files, classes = self._divided()
        kept = set(classes[: -(len(classes) // _HELD_OUT) or None])
        return _labelled([each for each in files.train if each[1] in kept], is_training=True)

    def query_images(self, split: SplitName) -> LabelledImages:
        """Return the images of the last fifth of the training classes, or the test's queries."""
        files, classes = self._divided()
        if split == "test":
            return _labelled(files.test)
        held_out = set(classes[-(len(classes) // _HELD_OUT) :])
        return _labelled([each for each in files.train if each[1] in held_out])

    def gallery_images(self, split: SplitName) -> LabelledImages | None:
        """Return the test's gallery, if it has one."""
        gallery = self._divided()[0].gallery
        return None if split != "test" or gallery is None else _labelled(gallery)

    def build_body(self) -> nn.Module:
        """Return a pretrained ResNet-50 whose last layer returns embeddings."""
        # Importing torchvision takes seconds, and not every installation has it.
        body: Any = import_module("torchvision.models").resnet50(weights="IMAGENET1K_V1")
        body.fc = nn.Linear(body.fc.in_features, self.size, bias=False)
        return body

    def _divided(self) -> tuple[Lists, list[int]]:
        """Return the files, and the training classes in order."""
        files = _read(type(self), data_folder(self.data_set))
        return files, sorted({label for _, label in files.train})


@cache
def _read(workload: type[RetrievalBenchmark], folder: Path) -> Lists:
    return workload.read(folder)


def _labelled(files: Files, *, is_training: bool = False) -> LabelledImages:
    """Return images whose classes count from 0 if they are for training."""
    numbers = {label: number for number, label in enumerate(sorted({label for _, label in files}))}
    labels = [numbers[label] if is_training else label for _, label in files]
    pictures = PictureFiles([path for path, _ in files], labels, is_training=is_training)
    return LabelledImages(images=pictures, labels=torch.tensor(labels))


def _lines(file: Path) -> list[list[str]]:
    """Return the words of each line that has any."""
    return [line.split() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]


def _published(*results: tuple[str, float, float]) -> tuple[PublishedResult, ...]:
    return tuple(
        PublishedResult(
            optimizer=optimizer,
            value=value,
            setting=f"loss={loss}, ResNet-50 pretrained on ImageNet",
            source="Heo et al., AdamP (ICLR 2021), Table 6, project page clovaai.github.io/AdamP",
        )
        for loss, adam, adamp in results
        for optimizer, value in (("adam", adam), ("adamp", adamp))
    )


def _card(
    name: str, title: str, data: str, source: str, published: tuple[PublishedResult, ...], *, epochs: int = 60
) -> WorkloadCard:
    return WorkloadCard(
        name=name,
        title=title,
        description=(
            f"{data} A fifth of the training classes is held out for validation. ResNet-50, pretrained on "
            "ImageNet, with embeddings of 512 numbers of length 1; ProxyAnchor loss or semi-hard triplets. "
            "Size, batch size and epochs are those of tjddus9597/Proxy-Anchor-CVPR2020."
        ),
        source=source,
        metric="recall@1",
        unit="fraction",
        direction="maximize",
        epochs=epochs,
        batch_size=120,
        hyperparameters=(LOSS,),
        groups=("proxies",),
        published=published,
    )


class CubRetrieval(RetrievalBenchmark):
    """Birds: the first 100 classes are for training, the others for the test."""

    data_set = "CUB_200_2011"
    layout = "the unpacked CUB_200_2011.tgz of https://data.caltech.edu/records/65de6-vp158"
    files = ("images.txt", "image_class_labels.txt", "images")
    card = _card(
        "cub-retrieval",
        "CUB-200-2011, retrieval",
        "11,788 photographs of 200 kinds of bird, the first 100 for training, the others for the test.",
        "CUB-200-2011 (Wah et al., 2011), the user's copy",
        _published(("triplet", 0.579, 0.582), ("proxy-anchor", 0.693, 0.695)),
    )

    @staticmethod
    def read(folder: Path) -> Lists:
        """Return the images by `images.txt` and `image_class_labels.txt`."""
        paths = dict(_lines(folder / "images.txt"))
        files = [
            (folder / "images" / paths[number], int(label))
            for number, label in _lines(folder / "image_class_labels.txt")
        ]
        return Lists(
            train=[each for each in files if each[1] <= 100], test=[each for each in files if each[1] > 100]
        )


class Cars196Retrieval(RetrievalBenchmark):
    """Cars: the first 98 classes are for training, the others for the test."""

    data_set = "cars196"
    layout = "cars_annos.mat and the unpacked car_ims.tgz of Stanford's Cars-196"
    files = ("cars_annos.mat", "car_ims")
    card = _card(
        "cars196-retrieval",
        "Cars-196, retrieval",
        "16,185 photographs of 196 models of car, the first 98 for training, the others for the test.",
        "Cars-196 (Krause et al., 2013), the user's copy",
        _published(("triplet", 0.598, 0.599), ("proxy-anchor", 0.867, 0.869)),
    )

    @staticmethod
    def read(folder: Path) -> Lists:
        """Return the images by `cars_annos.mat`."""
        # scipy.io takes a moment to import.
        matlab: Any = import_module("scipy.io")
        # Each annotation is the path, four corners of a box, the class from 1, and the split of another task.
        annotations = matlab.loadmat(folder / "cars_annos.mat")["annotations"].ravel()
        files: Files = [(folder / each[0].item(), int(each[5].item())) for each in annotations]
        return Lists(
            train=[each for each in files if each[1] <= 98], test=[each for each in files if each[1] > 98]
        )


class InshopRetrieval(RetrievalBenchmark):
    """Clothes: the published partition has training images, queries and a gallery."""

    data_set = "inshop"
    layout = "the folders Eval and Img of DeepFashion's In-shop Clothes Retrieval Benchmark"
    files = ("Eval/list_eval_partition.txt", "Img")
    card = _card(
        "inshop-retrieval",
        "InShop, retrieval",
        "52,712 pictures of 7,982 pieces of clothing by the published partition into training, queries and "
        "gallery.",
        "In-shop Clothes Retrieval (Liu et al., DeepFashion, CVPR 2016), the user's copy",
        _published(("triplet", 0.627, 0.628), ("proxy-anchor", 0.852, 0.874)),
    )

    @staticmethod
    def read(folder: Path) -> Lists:
        """Return the images by `list_eval_partition.txt`, whose first two lines are a count and names."""
        parts: dict[str, Files] = {"train": [], "query": [], "gallery": []}
        for path, item, part in _lines(folder / "Eval" / "list_eval_partition.txt")[2:]:
            parts[part].append((folder / "Img" / path, int(item.removeprefix("id_"))))
        return Lists(train=parts["train"], test=parts["query"], gallery=parts["gallery"])


class SopRetrieval(RetrievalBenchmark):
    """Products: the published lists of training and test images."""

    data_set = "Stanford_Online_Products"
    layout = "the unpacked Stanford_Online_Products.zip"
    files = ("Ebay_train.txt", "Ebay_test.txt")
    card = _card(
        "sop-retrieval",
        "Stanford Online Products, retrieval",
        "120,053 photographs of 22,634 products by the published lists of training and test.",
        "Stanford Online Products (Song et al., CVPR 2016), the user's copy",
        _published(("triplet", 0.620, 0.626), ("proxy-anchor", 0.765, 0.780)),
    )

    @staticmethod
    def read(folder: Path) -> Lists:
        """Return the images by `Ebay_train.txt` and `Ebay_test.txt`, whose first line names the columns."""
        train, test = (
            [(folder / path, int(label)) for _, label, _, path in _lines(folder / f"Ebay_{split}.txt")[1:]]
            for split in ("train", "test")
        )
        return Lists(train=train, test=test)


RETRIEVAL_BENCHMARKS = (CubRetrieval(), Cars196Retrieval(), InshopRetrieval(), SopRetrieval())
"""The workloads of this module."""
