"""The parameters of the models in the step timings: shapes, order and scale invariance.

Sources: torchvision's resnet18 and resnet50; timm's vit_small_patch16_224 and vit_base_patch16_224;
karpathy/nanoGPT with its settings for Shakespeare characters (`gpt-10m`) and for GPT-2, whose head shares the
token embedding. Every linear weight is (out, in), as in nn.Linear.
"""

__all__ = ["CPU_SHAPES", "CUDA_SHAPES", "SHAPES", "Parameter", "parameters"]

from collections.abc import Callable, Mapping
from math import prod
from types import MappingProxyType
from typing import Literal, NamedTuple


class Parameter(NamedTuple):
    """One tensor of a model.

    Attributes:
        shape: as in the model's own code.
        view: the view that AdamP projects in training: "channel" for a weight before BatchNorm, which is
            exactly scale-invariant; "layer" for a weight that writes into a residual stream read by a
            LayerNorm, which is only nearly scale-invariant; "none" for all others.
    """

    shape: tuple[int, ...]
    view: Literal["channel", "layer", "none"] = "none"


def parameters(name: str) -> list[Parameter]:
    """Return the parameters of one of `SHAPES`, in the order of the model's `parameters()`.

    Raises:
        ValueError: there is no model with this name.
        AssertionError: the number of elements differs from the model's published number of parameters.
    """
    if name not in SHAPES:
        raise ValueError(f"expected one of the shapes {', '.join(SHAPES)}, got {name!r}")
    made, published = SHAPES[name]
    found = made()
    total = sum(prod(parameter.shape) for parameter in found)
    assert total == published, f"{name} has {published} parameters, and the shapes written here {total}"
    return found


def _normed_conv(out: int, inside: int, size: int) -> list[Parameter]:
    """Return a convolution without a bias and the BatchNorm after it."""
    return [Parameter((out, inside, size, size), "channel"), Parameter((out,)), Parameter((out,))]


def _linear(
    out: int, inside: int, view: Literal["layer", "none"] = "none", *, bias: bool = True
) -> list[Parameter]:
    return [Parameter((out, inside), view)] + ([Parameter((out,))] if bias else [])


def _norm(width: int, *, bias: bool = True) -> list[Parameter]:
    return [Parameter((width,))] * (2 if bias else 1)


def _resnet(
    widths: tuple[int, ...], blocks: tuple[int, ...], *, expansion: int, classes: int
) -> list[Parameter]:
    """Return a ResNet of basic blocks (`expansion` 1) or of bottlenecks (4)."""
    found = _normed_conv(widths[0], 3, 7)
    inside = widths[0]
    for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
        out = width * expansion
        for block in range(count):
            if expansion == 1:
                found += _normed_conv(width, inside, 3) + _normed_conv(width, width, 3)
            else:
                found += (
                    _normed_conv(width, inside, 1)
                    + _normed_conv(width, width, 3)
                    + _normed_conv(out, width, 1)
                )
            # The shortcut is a convolution if the block changes the resolution or the width.
            if block == 0 and (stage > 0 or inside != out):
                found += _normed_conv(out, inside, 1)
            inside = out
    return found + _linear(classes, inside)


def _transformer_block(width: int, *, bias: bool = True) -> list[Parameter]:
    attention = _linear(3 * width, width, bias=bias) + _linear(width, width, "layer", bias=bias)
    perceptron = _linear(4 * width, width, bias=bias) + _linear(width, 4 * width, "layer", bias=bias)
    return _norm(width, bias=bias) + attention + _norm(width, bias=bias) + perceptron


def _vit(width: int) -> list[Parameter]:
    """Return a ViT of 12 blocks for 14 x 14 patches of 16 x 16 pixels and 1000 classes."""
    found = [
        Parameter((1, 1, width)),
        Parameter((1, 197, width)),
        Parameter((width, 3, 16, 16), "layer"),
        Parameter((width,)),
    ]
    for _ in range(12):
        found += _transformer_block(width)
    return found + _norm(width) + _linear(1000, width)


def _gpt(width: int, blocks: int, *, vocabulary: int, context: int, bias: bool) -> list[Parameter]:
    found = [Parameter((vocabulary, width)), Parameter((context, width))]
    for _ in range(blocks):
        found += _transformer_block(width, bias=bias)
    return found + _norm(width, bias=bias)


SHAPES: Mapping[str, tuple[Callable[[], list[Parameter]], int]] = MappingProxyType(
    {
        "resnet50": (
            lambda: _resnet((64, 128, 256, 512), (3, 4, 6, 3), expansion=4, classes=1000),
            25_557_032,
        ),
        "resnet18": (
            lambda: _resnet((64, 128, 256, 512), (2, 2, 2, 2), expansion=1, classes=1000),
            11_689_512,
        ),
        "vit-s16": (lambda: _vit(384), 22_050_664),
        "gpt-10m": (lambda: _gpt(384, 6, vocabulary=65, context=256, bias=False), 10_745_088),
        # ResNet-18's 62 tensors with four channels each, to measure the cost of a step besides its
        # arithmetic.
        "tiny-62": (lambda: _resnet((4, 4, 4, 4), (2, 2, 2, 2), expansion=1, classes=10), 3_150),
        "vit-b16": (lambda: _vit(768), 86_567_656),
        "gpt-124m": (lambda: _gpt(768, 12, vocabulary=50_257, context=1024, bias=True), 124_439_808),
    }
)
CPU_SHAPES = ("resnet50", "resnet18", "vit-s16", "gpt-10m", "tiny-62")
CUDA_SHAPES = ("resnet50", "vit-b16", "gpt-124m", "tiny-62")
