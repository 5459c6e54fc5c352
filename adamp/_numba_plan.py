"""Plans for the CPU kernel: tensor addresses, the division of the work, and memory kept between steps."""

__all__ = ["GradientComparison", "NumbaPlan", "NumbaPlans", "have_equal_strides"]

import functools
import itertools
import math
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter

from adamp import _numba_kernels as kernels
from adamp._numba_loops import TILE

_DTYPES = (torch.float32, torch.float64)
_PLAIN_TYPES = {Tensor, Parameter}
_Run = tuple[int, int]
_MAX_PLANS = 32
_LINE = 64  # bytes
_ITEM = 1 << 16  # elements of one item, the unit of work of a thread
_shape, _dtype, _layout, _is_cpu = (
    attrgetter("shape"),
    attrgetter("dtype"),
    attrgetter("layout"),
    attrgetter("is_cpu"),
)


class GradientComparison(NamedTuple):
    """A weight and its gradient in one step, as whole tensors.

    Attributes:
        dot: their dot product.
        weight_norm: the weight's norm before the step.
        grad_norm: the gradient's norm.
        view: in which view the update was projected: 0 in none, 1 by channel, 2 as a whole layer.
    """

    dot: float
    weight_norm: float
    grad_norm: float
    view: int


class NumbaPlan:
    """The kernel's tables for one list of tensors.

    Attributes:
        table: [tensors, 10] int64: the addresses of weight, gradient and moments; the number of rows, their
            length, the slot of their first sum, and the segments per row; the first item and the one after
            the last.
        scalars: [tensors, 3] float64: length of the step, factor on the root of the second moment, the
            layer's coefficient.
        items: [items, 4] int64: tensor, begin, end and shape, as in `adamp._numba_kernels`.
        memory: each tensor's last decision; the sums and states of its rows; flags for the kernel's own use.
        elements: number of elements of all tensors.
        dtype: dtype of the weights.
        strides: strides of the weights.
        compared: places of the weights that the kernel compares with their gradients.
    """

    def __init__(self, weights: Sequence[Tensor], *, projects: bool) -> None:
        """Cut the tensors into items; the cut depends on their shapes alone."""
        self.table = np.zeros((len(weights), 10), np.int64)
        self.scalars = np.zeros((len(weights), 3))
        self.elements = sum(weight.numel() for weight in weights)
        self._wide = [weight.dim() > 1 for weight in weights]
        self._sizes = [weight.numel() for weight in weights]
        self._shapes = [weight.shape for weight in weights if weight.dim() > 1]
        self.dtype = weights[0].dtype
        self.strides = [weight.stride() for weight in weights]
        items: list[tuple[int, int, int, int]] = []
        slots, self._longest = 0, TILE
        for index, weight in enumerate(weights):
            count, begun = weight.numel(), len(items)
            if weight.dim() < 2 or not projects or count == 0:
                items += [
                    (index, begin, min(begin + _ITEM, count), kernels.FLAT)
                    for begin in range(0, count, _ITEM)
                ]
            else:
                rows, length = weight.size(0), count // weight.size(0)
                segments = -(-length // kernels.SEGMENT_LENGTH)
                if segments > 1:
                    items += [
                        (index, row, segment, kernels.SEGMENT)
                        for row in range(rows)
                        for segment in range(segments)
                    ]
                else:
                    step = max(1, _ITEM // length)
                    items += [
                        (index, begin, min(begin + step, rows), kernels.ROWS)
                        for begin in range(0, rows, step)
                    ]
                self.table[index, 4:8] = rows, length, slots, segments
                slots += rows * segments
                self._longest = max(
                    self._longest, count if count <= kernels.KEPT else min(length, kernels.SEGMENT_LENGTH)
                )
            self.table[index, 8:] = begun, len(items)
        self.items = np.array(items, np.int64).reshape(-1, 4)
        self.memory = (
            np.zeros(len(weights), np.uint8),
            np.zeros((slots, 4)),
            np.zeros(slots, np.uint8),
            np.zeros((2, len(weights)), np.uint8),
        )
        self._scratch: list[np.ndarray[Any, Any]] = []
        self._parts: dict[int, tuple[list[_Run], list[_Run], list[int]]] = {}
        self.compared: list[int] = np.flatnonzero(self.table[:, 7]).tolist()

    def comparisons(self) -> list[GradientComparison]:
        """Return what the last step has found of each weight in `compared`."""
        if not self.compared:
            return []
        views, sums = self.memory[:2]
        totals: list[list[float]] = np.add.reduceat(sums, self.table[self.compared, 6]).tolist()
        projected: list[int] = views[self.compared].tolist()
        return [
            GradientComparison(dot, math.sqrt(weights), math.sqrt(grads), view)
            for (dot, weights, grads, _), view in zip(totals, projected, strict=True)
        ]

    def still_fits(self, weights: Sequence[Tensor]) -> bool:
        """Return whether the tensors still have the shapes, strides and dtype that the plan was made for."""
        return (
            [*map(Tensor.stride, weights)] == self.strides
            and self.has_sizes(weights)
            and [*map(_shape, itertools.compress(weights, self._wide))] == self._shapes
            and {*map(_dtype, weights)} == {self.dtype}
        )

    def fits(
        self, weights: Sequence[Tensor], grads: Sequence[Tensor], moments: Sequence[Sequence[Tensor]]
    ) -> bool:
        """Return whether the tensors are certainly still as the kernel needs them, by checks on whole lists.

        Checking tensor by tensor would take longer than a small step. False does not mean that the kernel
        cannot step them.
        """
        if not self.still_fits(weights) or not {*map(type, weights), *map(type, grads)} <= _PLAIN_TYPES:
            return False
        if {*map(_dtype, grads)} != {self.dtype} or {*map(_layout, grads)} != {torch.strided}:
            return False
        if not all(all(map(_is_cpu, each)) for each in (weights, grads, *moments)) or not self.has_sizes(
            grads
        ):
            return False
        return all(
            {*map(_dtype, each)} == {self.dtype}
            and self.has_sizes(each)
            and [*map(Tensor.stride, each)] == self.strides
            for each in moments
        )

    def has_sizes(self, tensors: Sequence[Tensor]) -> bool:
        """Return whether each tensor has as many elements as the plan was made for."""
        return [*map(Tensor.numel, tensors)] == self._sizes

    def parts(self, count: int) -> tuple[list[_Run], list[_Run], list[int]]:
        """Return the parts of a step that threads share, each of at most a `count`th of the elements.

        A thread takes a tensor that fits in a part through its whole step, while the cache may still hold it.

        Returns:
            Runs of such tensors, the largest first; runs of items of the other tensors; the other tensors. A
            run is its first place and the one after its last.
        """
        if count not in self._parts:
            size = -(-self.elements // count)
            whole: list[list[int]] = []
            split: list[_Run] = []
            large: list[int] = []
            for tensor, elements in enumerate(self._sizes):
                if elements > size:
                    large.append(tensor)
                    first, last = (int(place) for place in self.table[tensor, 8:])
                    pieces = min(last - first, -(-elements // size))
                    edges = [first + (last - first) * piece // pieces for piece in range(pieces + 1)]
                    split += itertools.pairwise(edges)
                elif whole and whole[-1][1] == tensor and whole[-1][2] + elements <= size:
                    whole[-1][1:] = tensor + 1, whole[-1][2] + elements
                else:
                    whole.append([tensor, tensor + 1, elements])
            whole.sort(key=lambda run: -run[2])
            self._parts[count] = [(first, last) for first, last, _ in whole], split, large
        return self._parts[count]

    def scratch(self, threads: int) -> list[np.ndarray[Any, Any]]:
        """Return scratch memory for each thread: a spare tile, then the updates of a row or a tensor.

        It begins with a line of the cache, so that no vector lies in two. Pages that are never used cost no
        memory.
        """
        dtype = np.dtype(np.float64 if self.dtype == torch.float64 else np.float32)
        size = (TILE + self._longest) * dtype.itemsize
        while len(self._scratch) < threads:
            memory = np.zeros(size + _LINE, np.uint8)
            begin = -memory.ctypes.data % _LINE
            self._scratch.append(memory[begin : begin + size].view(dtype))
        return self._scratch


class NumbaPlans:
    """The plans that the CPU path keeps for one optimizer between steps.

    Copies and pickles of it are empty. The numbers computed do not depend on it.
    """

    def __init__(self) -> None:
        """Start without plans."""
        self._plans: dict[tuple[int, ...], NumbaPlan] = {}

    def __reduce__(self) -> tuple[type["NumbaPlans"], tuple[()]]:
        """Make copies start empty, because their tensors have other addresses."""
        return NumbaPlans, ()

    def known(self, weights: Sequence[Tensor], *, projects: bool) -> NumbaPlan | None:
        """Return the plan made for these tensors in this order, if there is one.

        The tensors may have changed since then.
        """
        return self._plans.get((projects, *map(id, weights)))

    def plan(self, weights: Sequence[Tensor], *, projects: bool) -> NumbaPlan:
        """Return the plan of these tensors, in this order."""
        plan = self.known(weights, projects=projects)
        if plan is None or not plan.still_fits(weights):
            key = (projects, *map(id, weights))
            if key not in self._plans and len(self._plans) >= _MAX_PLANS:
                del self._plans[next(iter(self._plans))]
            plan = self._plans[key] = NumbaPlan(weights, projects=projects)
        return plan


@functools.lru_cache(maxsize=4096)
def _has_rows(shape: torch.Size, stride: tuple[int, ...]) -> bool:
    """Return whether a tensor of this shape and stride fills its memory without gaps, row after row."""
    expected = 1
    for step, size in sorted((step, size) for step, size in zip(stride, shape, strict=True) if size > 1):
        if step != expected:
            return False
        expected *= size
    return len(shape) < 2 or shape[0] <= 1 or stride[0] * shape[0] == expected


def have_equal_strides(weight: Tensor, *moments: Tensor) -> bool:
    """Return whether the kernel may read the tensors' memory as consecutive rows of float32 or float64.

    All tensors must have the same layout. The kernel works on addresses: a moment on another device, or with
    the shape the weight had before it grew, would be read past its end.
    """
    dtype, stride = weight.dtype, weight.stride()
    if dtype not in _DTYPES:
        return False
    for moment in moments:
        if (
            moment.dtype != dtype
            or moment.stride() != stride
            or moment.shape != weight.shape
            or not moment.is_cpu
        ):
            return False
    return weight.is_contiguous() or weight.numel() == 0 or _has_rows(weight.shape, stride)
