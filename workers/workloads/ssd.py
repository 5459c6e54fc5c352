"""SSD: a head that classifies and shifts boxes of fixed places and sizes, its loss, and its boxes.

The detector of Liu et al., "SSD: Single Shot MultiBox Detector" (2016), small enough to read. At paper scale
torchvision has it.
"""

__all__ = ["Level", "Ssd", "default_boxes", "ssd_boxes", "ssd_loss"]

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from workers.workloads.boxes import Truth, overlaps, suppressed

_MATCH_OVERLAP = 0.5
_NEGATIVES = 3  # background boxes in the loss for each matched one
_VARIANCES = (0.1, 0.2)  # of centres and of sizes
_SUPPRESSION_OVERLAP = 0.45
_LARGEST = 4.0  # The logarithm of a side over that of its default box, so that none is infinite.


class Level(NamedTuple):
    """One of the maps of features from which boxes are predicted.

    Attributes:
        cells: its height and width.
        sides: sides of the square default boxes at each cell, in pixels.
    """

    cells: int
    sides: Sequence[float]


class Ssd(nn.Module):
    """Stages whose features each give the boxes of one level.

    Args:
        stages: networks in sequence.
        channels: channels of the output of each.
        levels: the default boxes of each.
        classes: kinds of objects, without the background.
    """

    def __init__(
        self,
        stages: Sequence[nn.Module],
        channels: Sequence[int],
        levels: Sequence[Level],
        *,
        classes: int,
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.heads = nn.ModuleList(
            nn.Conv2d(width, len(level.sides) * (classes + 5), kernel_size=3, padding=1)
            for width, level in zip(channels, levels, strict=True)
        )
        self._outputs = classes + 5

    def forward(self, pictures: Tensor) -> Tensor:
        """Return [B, default boxes, 4 + 1 + classes]: shifts, and logits with the background's first."""
        features, found = pictures, list[Tensor]()
        for stage, head in zip(self.stages, self.heads, strict=True):
            features = stage(features)
            found.append(head(features).permute(0, 2, 3, 1).reshape(len(pictures), -1, self._outputs))
        return torch.cat(found, dim=1)


def default_boxes(levels: Sequence[Level], *, size: int) -> Tensor:
    """Return the default boxes [N, 4] of square pictures, as centre x, centre y, width and height in pixels.

    Args:
        levels: the maps of features, in the order of the model's stages.
        size: height and width of a picture in pixels.
    """
    boxes: list[Tensor] = []
    for level in levels:
        centres = (torch.arange(level.cells) + 0.5) * size / level.cells
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        sides = torch.tensor(level.sides).expand(level.cells, level.cells, -1)
        each = [part[..., None].expand_as(sides) for part in (x, y)]
        boxes.append(torch.stack([*each, sides, sides], dim=-1).reshape(-1, 4))
    return torch.cat(boxes)


def ssd_loss(output: Tensor, truth: Truth, defaults: Tensor) -> dict[str, Tensor]:
    """Return the loss, and its parts `place` and `class`.

    An object is matched with the default box that overlaps it most, and with all that overlap it by half. Of
    the others the three with the largest loss for each match count as background.

    Args:
        output: the model's output [B, N, 5 + classes].
        truth: the objects.
        defaults: the default boxes [N, 4].
    """
    output = output.float()
    is_object = truth.labels >= 0
    overlap = overlaps(truth.boxes, _edges(defaults)).masked_fill(~is_object[..., None], -1)  # [B, M, N]
    best, matched = overlap.max(dim=1)  # [B, N]
    own = overlap.argmax(dim=2)  # [B, M]
    item, number = is_object.nonzero(as_tuple=True)
    matched[item, own[item, number]] = number
    best[item, own[item, number]] = 1
    is_matched = best >= _MATCH_OVERLAP
    rows = torch.arange(len(output), device=output.device)[:, None]
    wanted = _shifts(truth.boxes[rows, matched], defaults)
    labels = torch.where(is_matched, truth.labels[rows, matched] + 1, 0)
    matches = is_matched.sum().clamp(min=1)
    distances = functional.smooth_l1_loss(output[..., :4], wanted, reduction="none").sum(dim=-1)
    entropy = functional.cross_entropy(output[..., 4:].flatten(0, 1), labels.flatten(), reduction="none")
    entropy = entropy.view_as(labels)
    hardest = entropy.detach().masked_fill(is_matched, -1).argsort(dim=1, descending=True).argsort(dim=1)
    is_counted = is_matched | (hardest < _NEGATIVES * is_matched.sum(dim=1, keepdim=True))
    losses = {
        "place": (distances * is_matched).sum() / matches,
        "class": (entropy * is_counted).sum() / matches,
    }
    return {"loss": torch.stack(list(losses.values())).sum(), **losses}


def ssd_boxes(output: Tensor, defaults: Tensor, *, most: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return boxes [n, 4] in pixels, labels and scores [n] of each picture, after suppression in each class.

    Args:
        output: the model's output [B, N, 5 + classes].
        defaults: the default boxes [N, 4].
        most: candidates of each picture before suppression.
    """
    output = output.float()
    centres = defaults[:, :2] + output[..., :2] * _VARIANCES[0] * defaults[:, 2:]
    sizes = defaults[:, 2:] * (output[..., 2:4] * _VARIANCES[1]).clamp(max=_LARGEST).exp()
    boxes = torch.cat([centres - sizes / 2, centres + sizes / 2], dim=-1)
    scores = output[..., 4:].softmax(dim=-1)[..., 1:]
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for own, of_classes in zip(boxes, scores, strict=True):
        best, at = of_classes.flatten().topk(most)
        row, label = torch.unravel_index(at, of_classes.shape)
        # Boxes of different classes are moved apart, so that one pass suppresses within each class.
        apart = own[row] + (label * 4 * own.abs().max())[:, None]
        kept = suppressed(apart, best, overlap=_SUPPRESSION_OVERLAP)
        found.append((own[row][kept], label[kept], best[kept]))
    return found


def _edges(boxes: Tensor) -> Tensor:
    return torch.cat([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], dim=-1)


def _shifts(boxes: Tensor, defaults: Tensor) -> Tensor:
    """Return where boxes [..., N, 4] are from the default boxes [N, 4], as the model predicts it."""
    centres, sizes = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
    near = (centres - defaults[:, :2]) / defaults[:, 2:] / _VARIANCES[0]
    # Padding has no size.
    return torch.cat([near, (sizes.clamp(min=1e-3) / defaults[:, 2:]).log() / _VARIANCES[1]], dim=-1)
