"""The projection of tensors that are split over processes: sums of rows and of the layer cross them.

Each process holds a part of a DTensor, as after torch's `fully_shard`. Everything elementwise needs only that
part. The cosine test and the projection need sums over whole rows and over the whole layer: each process adds
up its part in float64, and the processes then add up these sums, with one all-reduce per split tensor, and
one more if rows themselves are split. No Python branch reads a tensor's value.

Letters as in `adamp._projection`.
"""

__all__ = ["ShardLayout", "check_split", "decide_split", "local_part", "project_split", "split_of"]

import math
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

_NARROW = (torch.bfloat16, torch.float16)
# torch has no type stub for it.
_norm = cast("Any", torch.linalg.vector_norm)  # pyright: ignore[reportUnknownMemberType]


class ShardLayout(NamedTuple):
    """How a DTensor is split over processes.

    Attributes:
        shape: the shape of the whole tensor, [out, ...].
        row_groups: process groups whose members hold parts of the same rows.
        channel_groups: process groups whose members hold other rows.
    """

    shape: torch.Size
    row_groups: tuple[Any, ...]
    channel_groups: tuple[Any, ...]


def split_of(weight: Tensor) -> ShardLayout | None:
    """Return how a parameter is split, or None for a tensor that is not a DTensor."""
    if not _is_dtensor(weight):
        return None
    tensor = cast("Any", weight)
    mesh = tensor.device_mesh
    rows: list[Any] = []
    channels: list[Any] = []
    for dim, placement in enumerate(tensor.placements):
        # `Shard` and the strided shards of FSDP over tensor parallelism have `dim`; `Replicate` has none.
        split_dim = getattr(placement, "dim", None)
        if split_dim is not None and mesh.size(dim) > 1:
            (channels if split_dim == 0 else rows).append(mesh.get_group(dim))
    return ShardLayout(tensor.shape, tuple(rows), tuple(channels))


def local_part(tensor: Tensor, weight: Tensor) -> Tensor:
    """Return this process's part of a DTensor that is split as the weight is, or after it has been.

    A gradient that is still a sum over processes is added up.
    """
    found, like = cast("Any", tensor), cast("Any", weight)
    if found.placements != like.placements:
        found = found.redistribute(placements=like.placements)
    return found.to_local()


def check_split(
    optimizer: str, weight: Tensor, grad: Tensor, moments: Sequence[Tensor], *, projects: bool
) -> None:
    """Raise RuntimeError if a step would have to compute with an unknown part of a parameter.

    A flattened part is accepted if `projects` is false, because the rest of a step is elementwise.

    Raises:
        RuntimeError: the parameter is a flattened part of others, as in torch's older
            `FullyShardedDataParallel`; it is a partial sum; or its gradient or moments are not split as it
            is.
    """
    if projects and getattr(weight, "_fsdp_flattened", False) and weight.dim() < 2:
        raise RuntimeError(
            f"{optimizer} expects parameters with the shape of their layer, got a flattened part of "
            f"{weight.numel()} elements, as FullyShardedDataParallel keeps them: whole rows, to which the "
            "projection applies, cannot be found in it; use torch.distributed.fsdp.fully_shard, "
            "DistributedDataParallel or ZeroRedundancyOptimizer, or set delta=0"
        )
    if not _is_dtensor(weight):
        return
    tensor = cast("Any", weight)
    if any(placement.is_partial() for placement in tensor.placements):
        raise RuntimeError(
            f"{optimizer} expects a DTensor parameter to be sharded or replicated, got placements "
            f"{tensor.placements}; redistribute it before the optimizer is built"
        )
    for name, other in (("gradient", grad), *[("moment", moment) for moment in moments]):
        found = cast("Any", other)
        if (
            not _is_dtensor(other)
            or found.device_mesh != tensor.device_mesh
            or (name == "moment" and found.placements != tensor.placements)
        ):
            kind = f"placements {found.placements}" if _is_dtensor(other) else "a tensor that is not split"
            raise RuntimeError(
                f"{optimizer} expects the {name} of a DTensor parameter of shape {tuple(weight.shape)} to be "
                f"split as it is, with placements {tensor.placements}, got {kind}; load a checkpoint with "
                "torch.distributed.checkpoint.state_dict.set_optimizer_state_dict"
            )


def project_split(
    update: Tensor, weight: Tensor, grad: Tensor, *, split: ShardLayout, delta: float, eps: float
) -> Tensor:
    """Project this process's part of `update` in place as `project` does the whole tensor's.

    All processes of the tensor's mesh must call this for the same tensors in the same order.

    Args:
        update: [part] this process's part, which may be empty; changed in place.
        weight: [part] before decay and step.
        grad: [part] the raw gradient.
        split: how the whole tensor, of two dimensions or more and not empty, is split.
        delta: threshold of `decide`.
        eps: floor of the norms in `decide`, and added to norm(w) here.

    Returns:
        Whether the tensor was projected, [] bool, the same in all processes.
    """
    if update.dtype in _NARROW:
        wide = update.float()
        projected = project_split(wide, weight.float(), grad.float(), split=split, delta=delta, eps=eps)
        update.copy_(wide)
        return projected
    channel, layer, row_sums, layer_sums = _compare(weight, grad, update, split, delta, eps)
    norm = torch.where(channel, row_sums[0], layer_sums[0]).sqrt().add(eps)
    dot = torch.where(channel, row_sums[3], layer_sums[3])
    projected = channel | layer
    scale = torch.where(projected, dot / norm / norm, 0.0).to(update.dtype)
    update.addcmul_(weight, scale.view(-1, *[1] * (weight.dim() - 1)), value=-1.0)
    return projected


def decide_split(weight: Tensor, grad: Tensor, *, delta: float, eps: float) -> tuple[Tensor, Tensor]:
    """Return whether the channels and the layer of a DTensor pass the test, [] bool each.

    All processes of its mesh must call this, and get the same.
    """
    split = split_of(weight)
    assert split is not None, "the weight is a DTensor"
    parts = [local_part(tensor, weight) for tensor in (weight, grad)]
    wide = [part.float() if part.dtype in _NARROW else part for part in parts]
    channel, layer, _, _ = _compare(wide[0], wide[1], wide[1], split, delta, eps)
    return channel, layer


def _compare(
    weight: Tensor, grad: Tensor, update: Tensor, split: ShardLayout, delta: float, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return whether the channels and the layer pass, [] bool each, and the sums of both.

    The sums are those of w w, g g, g w and w u: [4, rows] for this process's rows, [4] for the layer.
    """
    dims = tuple(range(1, weight.dim()))
    # Norms are squared in float64, where the square of a float32 can neither overflow nor vanish.
    squares = [_norm(tensor, dim=dims).double().square() for tensor in (weight, grad)]
    dots = [(weight * other).sum(dims, dtype=torch.float64) for other in (grad, update)]
    row_sums = torch.stack([*squares, *dots])
    for group in split.row_groups:
        _add_up(row_sums, group)
    threshold = delta / math.sqrt(split.shape.numel() // split.shape[0])
    # A NaN is not below the threshold. A count crosses processes where a maximum would lose the NaN.
    failing = (~(_cosine(row_sums, eps) < threshold)).sum(dtype=torch.float64)
    sums = torch.cat([row_sums.sum(1), failing.view(1)])
    for group in split.channel_groups:
        _add_up(sums, group)
    channel = sums[4] == 0
    layer = (_cosine(sums, eps) < delta / math.sqrt(split.shape.numel())) & ~channel
    return channel, layer, row_sums, sums[:4]


def _cosine(sums: Tensor, eps: float) -> Tensor:
    return (sums[2] / sums[0].sqrt().clamp_min(eps) / sums[1].sqrt().clamp_min(eps)).abs()


def _add_up(sums: Tensor, group: Any) -> None:
    torch.distributed.all_reduce(sums, group=group)  # pyright: ignore[reportUnknownMemberType]


def _is_dtensor(tensor: Tensor) -> bool:
    # A program that has not imported the module has no DTensors, and torch may be built without it.
    module = cast("Any", sys.modules.get("torch.distributed.tensor"))
    return module is not None and isinstance(tensor, module.DTensor)
