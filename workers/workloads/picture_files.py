"""Images in the user's files, decoded and cropped as for ImageNet; needs the extra `vision`."""

__all__ = ["PictureFiles", "missing_vision", "missing_weights"]

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from workers.workloads.requirements import missing_extra

_RESIZED, _CROPPED = 256, 224
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def missing_vision() -> str | None:
    """Return the command that installs what reads the images and builds the networks, or None."""
    return missing_extra("vision", "torchvision", "PIL")


def missing_weights(model: str, file: str) -> str | None:
    """Return the command that downloads torchvision's ImageNet weights of a model, or None.

    Args:
        model: a function of `torchvision.models`, such as `resnet50`.
        file: the name of its `IMAGENET1K_V1`.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / file
    if path.exists():
        return None
    return (
        f"expected torchvision's ImageNet weights of {model} in {path}; download them with `python -c "
        f"\"import torchvision.models as m; m.{model}(weights='IMAGENET1K_V1')\"`"
    )


class PictureFiles(Dataset[tuple[Tensor, int]]):
    """Standardised images of 224x224 pixels, [3, 224, 224], with their classes.

    Args:
        paths: the files.
        labels: the class of each.
        is_training: whether to crop and flip at random; otherwise the centre is cut out.
    """

    def __init__(self, paths: Sequence[Path], labels: Sequence[int], *, is_training: bool) -> None:
        # Importing torchvision takes seconds, and not every installation has it.
        transforms: Any = import_module("torchvision.transforms")
        self._paths, self._labels = paths, labels
        cut = (
            [transforms.RandomResizedCrop(_CROPPED), transforms.RandomHorizontalFlip()]
            if is_training
            else [transforms.Resize(_RESIZED), transforms.CenterCrop(_CROPPED)]
        )
        self._transform: Any = transforms.Compose(
            [*cut, transforms.ToTensor(), transforms.Normalize(_MEAN, _DEVIATION)]
        )

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return an image and its class."""
        from PIL import Image

        with Image.open(self._paths[index]) as picture:
            return self._transform(picture.convert("RGB")), self._labels[index]
