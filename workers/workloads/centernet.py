"""CenterNet: a head that finds objects as peaks of a heat map, its loss, and its boxes.

The model of Zhou, Wang and Krähenbühl, "Objects as Points" (2019), with the settings of their code
(github.com/xingyizhou/CenterNet): a peak per class at each object's centre, with the object's size and the
centre's offset within its cell.
"""

__all__ = ["STRIDE", "CenterNet", "CenterNetHead", "centernet_boxes", "centernet_loss"]

import torch
from torch import Tensor, nn
from torch.nn import functional

from workers.workloads.boxes import Truth

STRIDE = 4
"""Pixels of the picture in a cell of the heat map, in each direction."""

_PRIOR_LOGIT = -2.19  # A probability of 0.1, so that the first losses are not dominated by empty cells.
_OVERLAP = 0.7
_SIZE_WEIGHT = 1.0


class CenterNetHead(nn.Module):
    """Three branches of a 3x3 and a 1x1 convolution: heat map, size and offset.

    Args:
        channels: channels of its input.
        width: channels between the two convolutions.
        classes: kinds of objects.
        is_normalised: whether batch normalisation follows the 3x3 convolutions, unlike in the authors' code.
    """

    def __init__(self, channels: int, *, width: int, classes: int, is_normalised: bool = False) -> None:
        super().__init__()
        self.heat, self.size, self.offset = (
            nn.Sequential(
                nn.Conv2d(channels, width, kernel_size=3, padding=1, bias=not is_normalised),
                *([nn.BatchNorm2d(width)] if is_normalised else []),
                nn.ReLU(),
                nn.Conv2d(width, outputs, kernel_size=1),
            )
            for outputs in (classes, 2, 2)
        )
        nn.init.constant_(self.heat[-1].get_parameter("bias"), _PRIOR_LOGIT)

    def forward(self, features: Tensor) -> Tensor:
        """Return [B, classes + 4, H, W] for features [B, channels, H, W]: logits, width, height, x, y.

        Sizes and offsets are in cells.
        """
        return torch.cat([self.heat(features), self.size(features), self.offset(features)], dim=1)


class CenterNet(nn.Module):
    """A backbone, layers that enlarge its last features to a quarter of the picture, and the head.

    Args:
        backbone: returns features [B, channels, H / s, W / s] of pictures [B, C, H, W].
        neck: enlarges them to [B, channels, H / 4, W / 4].
        head: the head.
    """

    def __init__(self, backbone: nn.Module, neck: nn.Module, head: CenterNetHead) -> None:
        super().__init__()
        self.backbone, self.neck, self.head = backbone, neck, head

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the head's output [B, classes + 4, H / 4, W / 4] for pictures [B, C, H, W]."""
        return self.head(self.neck(self.backbone(pictures)))


def centernet_loss(output: Tensor, truth: Truth, *, size_weight: float = 0.1) -> dict[str, Tensor]:
    """Return the loss, and its parts `heat`, `size` and `offset`.

    Args:
        output: the head's output [B, classes + 4, H, W].
        truth: the boxes in pixels; none of them may be outside the picture.
        size_weight: weight of the error of sizes in cells; the paper's is for objects of up to 128 cells.
    """
    # In 16 bits cells beside a peak round to it.
    output = output.float()
    logits, (height, width) = output[:, :-4], output.shape[-2:]
    is_object = truth.labels >= 0
    cells = truth.boxes / STRIDE
    centres, sizes = (cells[..., :2] + cells[..., 2:]) / 2, cells[..., 2:] - cells[..., :2]
    x = centres[..., 0].long().clamp(0, width - 1)
    y = centres[..., 1].long().clamp(0, height - 1)
    heat = _heat_map(logits, truth.labels, x, y, _radius(sizes))
    item = torch.arange(len(output), device=output.device)[:, None].expand_as(x)
    found = output[item, -4:, y, x]  # [B, M, 4]
    wanted = torch.cat([sizes, centres - torch.stack([x, y], dim=-1)], dim=-1)
    # Both are means over the coordinates of all objects, as in the authors' code.
    distances = (found - wanted).abs() * is_object[..., None]
    objects = is_object.sum().clamp(min=1)
    losses = {
        "heat": _focal_loss(logits, heat),
        "size": size_weight * distances[..., :2].sum() / (2 * objects),
        "offset": distances[..., 2:].sum() / (2 * objects),
    }
    return {"loss": torch.stack(list(losses.values())).sum(), **losses}


def centernet_boxes(output: Tensor, *, most: int = 100) -> tuple[Tensor, Tensor, Tensor]:
    """Return the boxes [B, most, 4] in pixels, labels and scores [B, most] of the highest peaks.

    A peak is a cell with the largest value among its neighbours; so there is no other suppression.

    Args:
        output: the head's output [B, classes + 4, H, W].
        most: boxes of each picture, at most the number of cells times classes.
    """
    output = output.float()
    heat = output[:, :-4].sigmoid()
    peaks = heat * (functional.max_pool2d(heat, kernel_size=3, stride=1, padding=1) == heat)
    scores, at = peaks.flatten(start_dim=1).topk(most)
    labels, y, x = torch.unravel_index(at, peaks.shape[1:])
    item = torch.arange(len(output), device=output.device)[:, None].expand_as(x)
    sizes, offsets = torch.split(output[item, -4:, y, x], 2, dim=-1)
    centres = torch.stack([x, y], dim=-1) + offsets
    boxes = STRIDE * torch.cat([centres - sizes / 2, centres + sizes / 2], dim=-1)
    return boxes, labels, scores


def _radius(sizes: Tensor) -> Tensor:
    """Return the radius [...] of an object's bump in whole cells, for sizes [..., 2] in cells.

    It is CornerNet's as the authors' code computes it, of sizes in whole cells: about a quarter of the side
    of a square.
    """
    sizes = sizes.ceil()
    area, sides = sizes.prod(dim=-1), _OVERLAP * sizes.sum(dim=-1)
    radius = (sides.square() + 4 * _OVERLAP * (1 - _OVERLAP) * area).sqrt() - sides
    return radius.clamp(min=0).floor()


def _heat_map(logits: Tensor, labels: Tensor, x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    """Return the map [B, classes, H, W] with a Gaussian bump of height 1 at each object.

    Where two bumps of a class meet, the higher one counts.
    """
    heat = torch.zeros_like(logits)
    rows, columns = (torch.arange(n, device=logits.device) for n in logits.shape[-2:])
    scale = 2 * ((2 * radius + 1) / 6).square()
    bumps: list[Tensor] = []
    for at, places in ((y, rows), (x, columns)):
        distance = (places - at[..., None]).abs()  # [B, M, H] and [B, M, W]
        bump = (-distance.square() / scale[..., None]).exp()
        bumps.append(bump * (distance <= radius[..., None]) * (labels >= 0)[..., None])
    item = torch.arange(len(labels), device=logits.device)
    # One object of each picture at a time: all at once do not fit into memory.
    for number in range(labels.shape[1]):
        label = labels[:, number].clamp(min=0)
        bump = bumps[0][:, number, :, None] * bumps[1][:, number, None, :]
        heat[item, label] = torch.maximum(heat[item, label], bump)
    return heat


def _focal_loss(logits: Tensor, heat: Tensor) -> Tensor:
    """Return the penalty-reduced focal loss over all cells per object, with exponents 2 and 4."""
    is_peak = heat == 1
    here, elsewhere = functional.logsigmoid(logits), functional.logsigmoid(-logits)
    peaks = here * elsewhere.exp().square() * is_peak
    others = elsewhere * here.exp().square() * (1 - heat).pow(4)
    return -(peaks + others).sum() / is_peak.sum().clamp(min=1)
