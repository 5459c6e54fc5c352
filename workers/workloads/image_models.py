"""Small image classifiers with residual branches; CutMix and stochastic depth for them and for others."""

__all__ = [
    "CutMix",
    "StochasticDepth",
    "cifar_resnet18",
    "mixed_cross_entropy",
    "small_mobilenet",
    "small_resnet",
    "with_stochastic_depth",
]

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm


class StochasticDepth(nn.Module):
    """Sets a branch to 0 for some examples of a batch in training, and scales it up for the others.

    Source: Huang et al. (2016), Deep Networks with Stochastic Depth, arXiv:1603.09382.

    Args:
        rate: the probability of 0, below 1.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the branch [B, ...], or in evaluation the same."""
        if not self.training:
            return inputs
        drawn = torch.rand(len(inputs), *[1] * (inputs.dim() - 1), device=inputs.device)
        return inputs * (drawn >= self.rate) / (1 - self.rate)


class CutMix(nn.Module):
    """Pastes in training a box of each image's neighbour in the batch over the image.

    The box is the same for a whole batch; its share of the area is uniform, as with alpha = 1 in the paper,
    and it is cut off at the edges. The outputs then have one more column, the share of the image that is
    left, with which `mixed_cross_entropy` weighs both labels. Source: Yun et al. (2019), arXiv:1905.04899.

    Args:
        model: returns logits [B, classes] of images [B, C, H, W].
        probability: of a batch being mixed.
    """

    def __init__(self, model: nn.Module, probability: float) -> None:
        super().__init__()
        self.model, self.probability = model, probability

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, in training with the share of each image in one more column."""
        if not self.training:
            return self.model(images)
        height, width = images.shape[-2:]
        draw, area, row, column = torch.rand(4, device=images.device).unbind()
        half = area.sqrt() / 2
        rows = (torch.arange(height, device=images.device) + 0.5) / height
        columns = (torch.arange(width, device=images.device) + 0.5) / width
        is_pasted = ((rows - row).abs() < half)[:, None] & ((columns - column).abs() < half)
        is_pasted = is_pasted & (draw < self.probability)
        logits = self.model(torch.where(is_pasted, images.roll(1, 0), images))
        left = 1 - is_pasted.float().mean()
        return torch.cat([logits, left.expand(len(images), 1)], dim=1)


def mixed_cross_entropy(
    outputs: Tensor, targets: Tensor, *, classes: int, label_smoothing: float = 0.0
) -> Tensor:
    """Return the mean cross-entropy in nats, of images that `CutMix` has mixed too.

    Args:
        outputs: logits [B, classes], or with the share of each image in one more column.
        targets: classes, int64 [B].
        classes: the number of classes.
        label_smoothing: the share of the label that is divided among all classes.
    """
    logits = outputs[:, :classes]
    own = functional.cross_entropy(logits, targets, reduction="none", label_smoothing=label_smoothing)
    if outputs.shape[1] == classes:
        return own.mean()
    pasted = functional.cross_entropy(
        logits, targets.roll(1, 0), reduction="none", label_smoothing=label_smoothing
    )
    left = outputs[:, classes]
    return (left * own + (1 - left) * pasted).mean()


class _Residual(nn.Module):
    """A branch that is added to its input, or to a shortcut of it.

    Args:
        branch: the layers of the branch.
        shortcut: changes the shape of the input.
        last: follows the sum.
    """

    def __init__(self, branch: nn.Module, shortcut: nn.Module, last: nn.Module) -> None:
        super().__init__()
        self.branch, self.shortcut, self.last = branch, shortcut, last

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the sum [B, C, H, W]."""
        return self.last(self.shortcut(inputs) + self.branch(inputs))


def _convolution(
    channels_in: int,
    channels_out: int,
    *,
    size: int = 3,
    stride: int = 1,
    groups: int = 1,
    weight_normed: bool,
) -> list[nn.Module]:
    """Return a convolution with batch normalisation, or one with weight normalisation and a bias instead."""
    layer = nn.Conv2d(
        channels_in,
        channels_out,
        size,
        stride=stride,
        padding=size // 2,
        groups=groups,
        bias=weight_normed,
    )
    return [weight_norm(layer)] if weight_normed else [layer, nn.BatchNorm2d(channels_out)]


def _basic_block(channels_in: int, channels_out: int, *, stride: int, weight_normed: bool) -> _Residual:
    branch = nn.Sequential(
        *_convolution(channels_in, channels_out, stride=stride, weight_normed=weight_normed),
        nn.ReLU(),
        *_convolution(channels_out, channels_out, weight_normed=weight_normed),
    )
    is_same = stride == 1 and channels_in == channels_out
    shortcut = (
        nn.Identity()
        if is_same
        else nn.Sequential(
            *_convolution(channels_in, channels_out, size=1, stride=stride, weight_normed=weight_normed)
        )
    )
    return _Residual(branch, shortcut, nn.ReLU())


def small_resnet(
    classes: int,
    *,
    widths: Sequence[int],
    blocks: int,
    channels: int = 3,
    stem_stride: int = 1,
    weight_normed: bool = False,
) -> nn.Sequential:
    """Return a ResNet of basic blocks with a 3x3 stem, for small images.

    Source: He et al. (2016), Deep Residual Learning for Image Recognition, arXiv:1512.03385.

    Args:
        classes: the number of logits.
        widths: channels of each stage; every stage but the first halves height and width.
        blocks: blocks in each stage.
        channels: channels of the images.
        stem_stride: stride of the first convolution.
        weight_normed: whether convolutions have weight normalisation instead of batch normalisation.
    """
    layers: list[nn.Module] = [
        *_convolution(channels, widths[0], stride=stem_stride, weight_normed=weight_normed),
        nn.ReLU(),
    ]
    for stage, (channels_in, width) in enumerate(pairwise((widths[0], *widths))):
        for block in range(blocks):
            is_first = block == 0
            layers.append(
                _basic_block(
                    channels_in if is_first else width,
                    width,
                    stride=2 if is_first and stage else 1,
                    weight_normed=weight_normed,
                )
            )
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], classes))


def cifar_resnet18(classes: int) -> nn.Sequential:
    """Return the usual ResNet-18 for 32x32 images: a 3x3 stem without pooling, four stages of two blocks."""
    return small_resnet(classes, widths=(64, 128, 256, 512), blocks=2)


def small_mobilenet(classes: int, *, stages: Iterable[tuple[int, int]], channels: int = 1) -> nn.Sequential:
    """Return inverted residuals with depthwise convolutions, each expanded fourfold, after a 3x3 stem.

    Source: Sandler et al. (2018), MobileNetV2, arXiv:1801.04381.

    Args:
        classes: the number of logits.
        stages: output channels and stride of each block; the first block's channels are the stem's too.
        channels: channels of the images.
    """
    shapes = list(stages)
    width = shapes[0][0]
    layers: list[nn.Module] = [*_convolution(channels, width, stride=2, weight_normed=False), nn.ReLU6()]
    for channels_out, stride in shapes:
        inner = 4 * width
        branch = nn.Sequential(
            *_convolution(width, inner, size=1, weight_normed=False),
            nn.ReLU6(),
            *_convolution(inner, inner, stride=stride, groups=inner, weight_normed=False),
            nn.ReLU6(),
            *_convolution(inner, channels_out, size=1, weight_normed=False),
        )
        is_same = stride == 1 and width == channels_out
        layers.append(_Residual(branch, nn.Identity(), nn.Identity()) if is_same else branch)
        width = channels_out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))


def with_stochastic_depth(model: nn.Module, rate: float) -> nn.Module:
    """Return a model with stochastic depth in its residual branches, up to `rate` at the last one.

    The rate grows linearly from branch to branch. It changes the model: ours, or a ResNet or MobileNetV2 of
    torchvision.

    Args:
        model: the model.
        rate: the probability of leaving out the last branch.
    """
    # torch leaves it partly untyped.
    modules = list(cast("Iterable[nn.Module]", model.modules()))
    branches = [(module, name) for module in modules if (name := _end_of_branch(module)) is not None]
    for number, (module, name) in enumerate(branches, start=1):
        depth = StochasticDepth(rate * number / len(branches))
        setattr(module, name, nn.Sequential(getattr(module, name), depth))
    return model


def _end_of_branch(module: nn.Module) -> str | None:
    """Return the name of the last layer of a block's residual branch; None if it has no such branch."""
    if isinstance(module, _Residual):
        return "branch"
    match type(module).__name__:
        case "BasicBlock":
            return "bn2"
        case "Bottleneck":
            return "bn3"
        case "InvertedResidual" if getattr(module, "use_res_connect", False):
            return "conv"
        case _:
            return None
