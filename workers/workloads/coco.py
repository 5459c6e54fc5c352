"""COCO at the paper's scale: CenterNet on ResNet-18 and torchvision's SSD on VGG-16.

Both need the extra `detection`, and read the published archives as they unpack.
"""

__all__ = ["CocoCenterNet", "CocoSsd"]

import functools
import json
import math
import socket
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from studies.catalog import Hyperparameter, PublishedResult, WorkloadCard
from studies.space import Choices
from workers.workload_errors import MachineUnfit
from workers.workloads.boxes import Found, Truth, average_precision, ground_truth
from workers.workloads.centernet import CenterNet, CenterNetHead, centernet_boxes, centernet_loss
from workers.workloads.loop_workload import READERS, LoopWorkload, SplitName, diverged_if_nan, to_device
from workers.workloads.picture_files import missing_weights
from workers.workloads.requirements import data_folder, missing_extra, missing_files

CLASSES = 80
HELD_OUT = 5000
"""Pictures of train2017 in the validation split; the published val2017 is the test split."""
_SEED = 20210503
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's channels, as torchvision's weights expect them."""

_LAYOUT = (
    "annotations/instances_train2017.json, annotations/instances_val2017.json and the pictures in train2017/ "
    "and val2017/, as the archives from https://cocodataset.org unpack"
)
_SOURCE = "COCO 2017 (Lin et al.), https://cocodataset.org; annotations CC-BY-4.0, pictures by their owners"
_SPLITS = (
    "Trained on train2017 without 5,000 pictures that are the validation split; the test split is val2017."
)
_PAPER = "Heo et al., AdamP (ICLR 2021), Table 3, project page clovaai.github.io/AdamP"
_PRETRAINED = Hyperparameter(
    name="pretrained",
    description=(
        "Whether the backbone starts from torchvision's ImageNet weights, which must lie in TORCH_HOME on "
        "every machine that trains; docs/benchmarks.md has the commands that download them."
    ),
    default=False,
    search=Choices(choices=(False, True)),
    source=f"{_PAPER} has both",
)


def _published(scratch: tuple[float, float], pretrained: tuple[float, float]) -> tuple[PublishedResult, ...]:
    """Return results for Adam and AdamP, given in percent."""
    return tuple(
        PublishedResult(optimizer=optimizer, value=round(value / 100, 4), setting=setting, source=_PAPER)
        for setting, values in (("from scratch", scratch), ("backbone pretrained on ImageNet", pretrained))
        for optimizer, value in zip(("adam", "adamp"), values, strict=True)
    )


class Annotations(NamedTuple):
    """The pictures of one file of COCO, and the objects in them.

    Attributes:
        files: names of the pictures' files by their ids.
        categories: ids of the categories in ascending order; a class is a position in it.
        objects: by a picture's id, float64 [n, 7]: x, y, width, height, area, category's id, and whether it
            is a crowd.
    """

    files: Mapping[int, str]
    categories: tuple[int, ...]
    objects: Mapping[int, NDArray[np.float64]]


@functools.cache
def read_annotations(file: Path) -> Annotations:
    """Return what an `instances_*.json` holds.

    Raises:
        ValueError: it has more categories than COCO.
    """
    content: dict[str, list[dict[str, Any]]] = json.loads(file.read_bytes())
    categories = tuple(sorted(each["id"] for each in content["categories"]))
    if len(categories) > CLASSES:
        raise ValueError(f"expected at most {CLASSES} categories in {file}, got {len(categories)}")
    files = {each["id"]: each["file_name"] for each in sorted(content["images"], key=lambda each: each["id"])}
    table = np.array(
        [
            [each["image_id"], *each["bbox"], each["area"], each["category_id"], each["iscrowd"]]
            for each in content["annotations"]
        ],
        dtype=np.float64,
    ).reshape(-1, 8)
    table = table[np.argsort(table[:, 0], kind="stable")]
    ids = np.array(list(files))
    starts = np.searchsorted(table[:, 0], ids)
    ends = np.searchsorted(table[:, 0], ids, side="right")
    parts = zip(files, starts, ends, strict=True)
    return Annotations(files, categories, {each: table[start:end, 1:] for each, start, end in parts})


class _Part(NamedTuple):
    """The pictures of a split: their folder, their file's annotations, and their ids."""

    folder: Path
    annotations: Annotations
    ids: tuple[int, ...]


@functools.cache
def coco_split(folder: Path, split: str) -> _Part:
    """Return the pictures of a split; a fifth of a training set of fewer than 25,000 is held out."""
    year = "val2017" if split == "test" else "train2017"
    annotations = read_annotations(folder / "annotations" / f"instances_{year}.json")
    ids = np.array(list(annotations.files))
    if split != "test":
        held_out = min(HELD_OUT, len(ids) // 5)
        order = np.random.default_rng(_SEED).permutation(len(ids))
        ids = np.sort(ids[order[:held_out] if split == "validation" else order[held_out:]])
    return _Part(folder / year, annotations, tuple(ids.tolist()))


@functools.cache
def _truth(folder: Path, split: str) -> Any:
    part = coco_split(folder, split)
    return ground_truth(
        part.ids,
        part.annotations.categories,
        (
            {
                "image_id": picture,
                "category_id": int(category),
                "bbox": box,
                "area": area,
                "iscrowd": int(is_crowd),
            }
            for picture in part.ids
            for *box, area, category, is_crowd in part.annotations.objects[picture].tolist()
        ),
    )


class _Pictures(Dataset[tuple[Tensor, Tensor, Tensor, int]]):
    """Pictures of a split, transformed, with their boxes [n, 4], classes [n], and id."""

    def __init__(self, part: _Part, transform: Callable[[Any], Any]) -> None:
        self._part, self._transform = part, transform

    def __len__(self) -> int:
        return len(self._part.ids)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor, int]:
        tv_tensors = _torchvision("tv_tensors")
        folder, annotations, ids = self._part
        picture = _torchvision("io").decode_image(str(folder / annotations.files[ids[index]]), mode="RGB")
        objects = annotations.objects[ids[index]]
        # A crowd has one box around many objects.
        objects = objects[objects[:, 6] == 0]
        item = {
            "picture": tv_tensors.Image(picture),
            "boxes": tv_tensors.BoundingBoxes(
                torch.tensor(objects[:, :4], dtype=torch.float32),
                format=tv_tensors.BoundingBoxFormat.XYWH,
                canvas_size=picture.shape[-2:],
            ),
            "labels": torch.tensor(np.searchsorted(annotations.categories, objects[:, 5])),
        }
        item = self._transform(item)
        plain = {name: tensor.as_subclass(Tensor) for name, tensor in item.items()}
        return plain["picture"], plain["boxes"], plain["labels"], ids[index]


def _batch(items: list[tuple[Tensor, Tensor, Tensor, int]]) -> tuple[Tensor, Truth]:
    pictures, boxes, labels, _ = zip(*items, strict=True)
    return torch.stack(pictures), Truth.of(boxes, labels)


class _Coco(LoopWorkload):
    def missing(self) -> str | None:
        """Return what of the extra and the data this machine lacks."""
        return missing_extra("detection", "faster_coco_eval", "torchvision") or missing_files(
            data_folder("coco"),
            _LAYOUT,
            *(f"annotations/instances_{year}.json" for year in ("train2017", "val2017")),
            *("train2017", "val2017"),
        )

    def steps_per_epoch(self, batch_size: int) -> int:
        """Return the number of full batches of this copy's training pictures."""
        return len(coco_split(data_folder("coco"), "train").ids) // batch_size

    def train_batches(self, *, batch_size: int, epoch: int) -> Iterable[tuple[Tensor, Truth]]:
        """Return pictures [B, 3, H, W] and their objects."""
        del epoch
        pictures = _Pictures(coco_split(data_folder("coco"), "train"), self._training_transform())
        return DataLoader(
            pictures,
            batch_size,
            shuffle=True,
            drop_last=True,
            collate_fn=_batch,
            num_workers=READERS,
            pin_memory=torch.cuda.is_available(),
        )

    def evaluate(self, model: nn.Module, split: SplitName, *, device: torch.device) -> Mapping[str, float]:
        """Return COCO's average precision on the pictures in their own size."""
        if not all(bool(weight.isfinite().all()) for weight in model.parameters()):
            # torchvision drops boxes whose score is NaN, so a diverged SSD would only find nothing.
            return diverged_if_nan({"average precision": math.nan})
        v2 = _torchvision("transforms.v2")
        part = coco_split(data_folder("coco"), split)
        transform = v2.Compose([v2.ConvertBoundingBoxFormat("XYXY"), v2.ToDtype(torch.float32, scale=True)])
        loader = DataLoader(_Pictures(part, transform), batch_size=16, collate_fn=list, num_workers=READERS)
        categories = torch.tensor(part.annotations.categories)
        found: list[Found] = []
        for items in loader:
            pictures = [to_device(item[0], device) for item in items]
            for (*_, picture), each in zip(items, self._found(model, pictures), strict=True):
                boxes, labels, scores = (tensor.cpu() for tensor in each)
                # A model that has seen less than all categories may still name the others.
                known = labels < len(categories)
                found.append(Found(picture, boxes[known], categories[labels[known]], scores[known]))
        precision = average_precision(_truth(data_folder("coco"), split), found)
        return diverged_if_nan({"average precision": precision})

    def _backbone(self, model: str, file: str) -> Any:
        """Return a network of torchvision, with the ImageNet weights of a file if the configuration says so.

        Raises:
            MachineUnfit: the file is not on this machine. A trial does not download: not every machine has
                a network, and trials that start together would write the same file.
        """
        is_pretrained = bool(self.config["pretrained"])
        missing = missing_weights(model, file) if is_pretrained else None
        if missing is not None:
            raise MachineUnfit(f"{missing} on {socket.gethostname()}", function=type(self).build_model)
        return getattr(_torchvision("models"), model)(weights="IMAGENET1K_V1" if is_pretrained else None)

    @abstractmethod
    def _training_transform(self) -> Callable[[Any], Any]:
        """Return the augmentation, which ends with pictures of one size as the model takes them."""

    @abstractmethod
    def _found(self, model: Any, pictures: list[Tensor]) -> Iterable[tuple[Tensor, Tensor, Tensor]]:
        """Return boxes [n, 4] in pixels, classes [n] and scores [n] of pictures [3, H, W] from 0 to 1."""


class CocoCenterNet(_Coco):
    """CenterNet on ResNet-18 with deformable convolutions, trained on crops of 512x512 pixels."""

    card = WorkloadCard(
        name="coco-centernet",
        title="COCO detection, CenterNet on ResNet-18",
        description=(
            "COCO 2017 in 80 classes. torchvision's ResNet-18, three deformable and transposed convolutions "
            "of 256, 128 and 64 channels, and a CenterNet head; crops of 512x512 pixels in training. "
            f"{_SPLITS}"
        ),
        source=_SOURCE,
        metric="average precision",
        unit="fraction",
        direction="maximize",
        epochs=140,
        batch_size=114,
        examples={"train": 113287, "validation": HELD_OUT, "test": 5000},
        parameters=14_437_349,
        hyperparameters=(_PRETRAINED,),
        published=_published(scratch=(26.57, 27.11), pretrained=(28.29, 29.05)),
    )

    def build_model(self) -> nn.Module:
        """Return the network of the authors' code, `resdcn_18`.

        Raises:
            MachineUnfit: it starts from ImageNet weights, which are not on this machine.
        """
        resnet = self._backbone("resnet18", "resnet18-f37072fd.pth")
        *backbone, _pool, _classifier = resnet.children()
        neck: list[nn.Module] = []
        for channels_in, channels_out in ((512, 256), (256, 128), (128, 64)):
            neck += [
                *(_Deformable(channels_in, channels_out), nn.BatchNorm2d(channels_out), nn.ReLU()),
                nn.ConvTranspose2d(
                    channels_out, channels_out, kernel_size=4, stride=2, padding=1, bias=False
                ),
                *(nn.BatchNorm2d(channels_out), nn.ReLU()),
            ]
        head = CenterNetHead(64, width=64, classes=CLASSES)
        return CenterNet(nn.Sequential(*backbone), nn.Sequential(*neck), head)

    def training_step(self, model: nn.Module, batch: tuple[Tensor, Truth]) -> dict[str, Tensor]:
        """Return the loss and its parts."""
        pictures, truth = batch
        return centernet_loss(model(pictures), truth)

    def _training_transform(self) -> Callable[[Any], Any]:
        v2 = _torchvision("transforms.v2")
        return v2.Compose(
            [
                v2.ConvertBoundingBoxFormat("XYXY"),
                v2.RandomHorizontalFlip(),
                v2.ScaleJitter((512, 512), scale_range=(0.6, 1.4)),
                v2.RandomCrop((512, 512), pad_if_needed=True),
                v2.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4),
                v2.SanitizeBoundingBoxes(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(_MEAN, _DEVIATION),
            ]
        )

    def _found(self, model: Any, pictures: list[Tensor]) -> Iterable[tuple[Tensor, Tensor, Tensor]]:
        for picture in pictures:
            mean, deviation = (picture.new_tensor(of)[:, None, None] for of in (_MEAN, _DEVIATION))
            below, right = (-length % 32 for length in picture.shape[-2:])
            # Black, as in training and in the authors' code.
            padded = functional.pad(picture, (0, right, 0, below))
            boxes, labels, scores = centernet_boxes(model(((padded - mean) / deviation)[None]))
            yield boxes[0], labels[0], scores[0]


class CocoSsd(_Coco):
    """torchvision's SSD300 on VGG-16 with batch normalisation."""

    card = WorkloadCard(
        name="coco-ssd",
        title="COCO detection, SSD300 on VGG-16",
        description=(
            "COCO 2017 in 80 classes. torchvision's SSD with its own default boxes and augmentation, on "
            f"VGG-16 with batch normalisation; pictures of 300x300 pixels. {_SPLITS}"
        ),
        source=_SOURCE,
        metric="average precision",
        unit="fraction",
        direction="maximize",
        epochs=120,
        batch_size=32,
        examples={"train": 113287, "validation": HELD_OUT, "test": 5000},
        parameters=34_313_654,
        hyperparameters=(_PRETRAINED,),
        published=_published(scratch=(27.10, 27.97), pretrained=(28.39, 28.67)),
    )

    def build_model(self) -> nn.Module:
        """Return torchvision's `ssd300_vgg16`, whose backbone has batch normalisation here.

        Raises:
            MachineUnfit: it starts from ImageNet weights, which are not on this machine.
        """
        features = self._backbone("vgg16_bn", "vgg16_bn-6c64b313.pth").features
        ssd = _torchvision("models.detection.ssd")
        backbone = ssd.SSDFeatureExtractorVGG(features, highres=False)
        # Those of torchvision's ssd300_vgg16.
        defaults = ssd.DefaultBoxGenerator(
            [[2], [2, 3], [2, 3], [2, 3], [2], [2]],
            scales=[0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05],
            steps=[8, 16, 32, 64, 100, 300],
        )
        return ssd.SSD(backbone, defaults, (300, 300), CLASSES + 1)

    def training_step(self, model: Any, batch: tuple[Tensor, Truth]) -> dict[str, Tensor]:
        """Return the loss and its parts."""
        pictures, truth = batch
        targets = [
            {"boxes": boxes[labels >= 0], "labels": labels[labels >= 0] + 1}
            for boxes, labels in zip(truth.boxes, truth.labels, strict=True)
        ]
        losses: dict[str, Tensor] = model(list(pictures), targets)
        return {"loss": torch.stack(list(losses.values())).sum(), **losses}

    def _training_transform(self) -> Callable[[Any], Any]:
        v2 = _torchvision("transforms.v2")
        return v2.Compose(
            [
                v2.ConvertBoundingBoxFormat("XYXY"),
                v2.RandomPhotometricDistort(),
                v2.RandomZoomOut(fill=[round(255 * mean) for mean in _MEAN]),
                v2.RandomIoUCrop(),
                v2.RandomHorizontalFlip(),
                v2.Resize((300, 300)),
                v2.SanitizeBoundingBoxes(),
                v2.ToDtype(torch.float32, scale=True),
            ]
        )

    def _found(self, model: Any, pictures: list[Tensor]) -> Iterable[tuple[Tensor, Tensor, Tensor]]:
        return [(each["boxes"], each["labels"] - 1, each["scores"]) for each in model(pictures)]


class _Deformable(nn.Module):
    """A modulated deformable 3x3 convolution, whose offsets start at 0 (Zhu et al. 2019)."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.shifts = nn.Conv2d(channels_in, 27, kernel_size=3, padding=1)
        nn.init.zeros_(self.shifts.weight)
        assert self.shifts.bias is not None, "it has one by default"
        nn.init.zeros_(self.shifts.bias)
        self.convolution = _torchvision("ops").DeformConv2d(
            channels_in, channels_out, kernel_size=3, padding=1
        )

    def forward(self, features: Tensor) -> Tensor:  # [B, channels, H, W]
        shifts, weights = torch.split(self.shifts(features), [18, 9], dim=1)
        return self.convolution(features, shifts, weights.sigmoid())


def _torchvision(module: str) -> Any:
    """Return a module of torchvision, which takes seconds to import, and which not every installation has."""
    return import_module(f"torchvision.{module}")
