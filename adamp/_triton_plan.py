"""The Triton kernels' tables (tensor addresses, division of the rows) and their asynchronous transfer."""

__all__ = ["Launch", "TritonPlan"]

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

# Most tiles hold 2,048 elements; those of the shortest rows hold half, because their elements need more
# registers. Longer rows are processed piece by piece.
_TILES = ((64, 64, 16), (640, 16, 128), (4096, 4, 512))  # (longest row, rows, columns)
_WIDE = (1, 2048)
_MAX_SPAN = 8192  # elements of a part; longer rows are cut, so that several programs share one
_MAX_PARTS = 128  # parts of a row, because `decide` adds them one after the other
CHUNK = 16384  # elements per program of `apply`


class Launch(NamedTuple):
    """The items of one tile shape: programs `first` to `first + items`.

    Attributes:
        rows: rows of a tile.
        columns: columns of a tile.
        vector: elements that may be loaded at once, given the rows' lengths and addresses: 1, or as many as
            fit in 16 bytes.
        first: index of the first item.
        projected: number of items, from the first, that belong to tensors of two dimensions or more and so
            are tested.
        items: number of items.
    """

    rows: int
    columns: int
    vector: int
    first: int
    projected: int
    items: int

    @property
    def warps(self) -> int:
        """Warps per program, for 8 elements per thread: two 16-byte loads from each array in float32."""
        return self.rows * self.columns // 256


class TritonPlan:
    """The kernels' tables for one list of tensors of the same dtypes; valid until a tensor moves in memory.

    Attributes:
        table: [tensors, 9] int64, the fields named in `_triton_kernels`.
        items: [items, 3] int32: tensor, first row and part of the rows of each program.
        chunks: [chunks, 2] int32: tensor and index of the chunk of each program of `apply`.
        launches: one launch per tile shape.
        slots: number of parts of rows that are tested.
        sums: [4, slots] the sums of each part.
        views: [tensors] int32, the decisions in the current step.
        scalars: [tensors, 4] the coefficients in the current step.
    """

    def __init__(
        self,
        weights: Sequence[Tensor],
        firsts: Sequence[Tensor],
        seconds: Sequence[Tensor],
        steps: Sequence[Tensor],
        *,
        vector: int,
        wide: torch.dtype,
    ) -> None:
        """Build the tables.

        Args:
            weights: dense, of any shape.
            firsts: first moments, laid out as the weights.
            seconds: second moments, or the first moments again for an optimizer without second moments.
            steps: step counts, [] float32 each; empty for an optimizer that does not count steps.
            vector: number of elements of the smallest dtype in 16 bytes.
            wide: dtype of sums and coefficients.
        """
        table: list[list[int]] = []
        items: dict[tuple[int, int, int], tuple[list[Tensor], list[Tensor]]] = {}
        chunks = [torch.empty((0, 2), dtype=torch.int32)]
        self.slots = 0
        for index, (weight, first, second) in enumerate(zip(weights, firsts, seconds, strict=True)):
            is_projected = weight.dim() > 1 and weight.numel() > 0
            count = (weight.size(0) if is_projected else 1) if weight.numel() else 0
            length = weight.numel() // max(count, 1)
            (rows, columns), span = _shares(length, is_projected=is_projected)
            parts = max(1, math.ceil(length / span))
            places = [tensor.data_ptr() for tensor in (weight, first, second)]
            table.append(
                [
                    *places,
                    steps[index].data_ptr() if steps else 0,
                    count,
                    length,
                    span,
                    self.slots if is_projected else -1,
                    parts,
                ]
            )
            if count == 0:
                continue
            is_aligned = length % vector == 0 and all(place % 16 == 0 for place in places)
            group = items.setdefault((rows, columns, vector if is_aligned else 1), ([], []))
            numbers = (torch.tensor([index]), torch.arange(0, count, rows), torch.arange(parts))
            group[0 if is_projected else 1].append(torch.cartesian_prod(*numbers).int())
            if is_projected:
                self.slots += count * parts
                numbers = (torch.tensor([index]), torch.arange(math.ceil(weight.numel() / CHUNK)))
                chunks.append(torch.cartesian_prod(*numbers).int())
        self.launches: list[Launch] = []
        ordered = [torch.empty((0, 3), dtype=torch.int32)]
        end = 0
        for (rows, columns, width), (projected, others) in sorted(items.items()):
            tested, every = (sum(map(len, some)) for some in (projected, projected + others))
            self.launches.append(Launch(rows, columns, width, end, tested, every))
            ordered += projected + others
            end += every
        device = weights[0].device
        self.tensors = len(table)
        self.table = _sent(torch.tensor(table, dtype=torch.int64), device)
        self.items = _sent(torch.cat(ordered), device)
        self.chunks = _sent(torch.cat(chunks), device)
        self.sums = torch.empty((4, self.slots), dtype=wide, device=device)
        self.views = torch.zeros(self.tensors, dtype=torch.int32, device=device)
        self.scalars = torch.empty((self.tensors, 4), dtype=wide, device=device)
        self._changing = torch.empty(0, dtype=torch.int64, device=device)
        self._sent: tuple[tuple[float, ...], tuple[int, ...]] | None = None
        self._spare: Tensor | None = None
        self.captured: list[tuple[Tensor, Tensor]] = []

    def send(self, hyperparameters: tuple[float, ...], grads: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Return the hyperparameters, [H] float64, and the gradients' addresses, [tensors] int64.

        Both are on the device, and are sent only if they changed.

        A CUDA graph gets its own table. Each replay fills it from a pinned buffer that lives as long as this
        plan; eager steps in between write to another buffer. An eager step allocates the graph's buffer in
        advance, because pinning memory during a capture is best avoided.
        """
        split = len(hyperparameters)
        device = self.table.device
        if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            buffer = self._spare if self._spare is not None else _pinned(split + len(grads), device)
            self._spare = None
            changing = torch.empty(len(buffer), dtype=torch.int64, device=device)
            _write(buffer, hyperparameters, grads)
            changing.copy_(buffer, non_blocking=True)
            self.captured.append((buffer, changing))
            return changing[:split].view(torch.float64), changing[split:]
        if self._spare is None:
            self._spare = _pinned(split + len(grads), device)
        if self._sent != (hyperparameters, grads):
            # Use a new buffer each time, because the copy from the last one may still be running. torch's
            # pinned allocator keeps that one until the copy is done.
            buffer = _pinned(split + len(grads), device)
            _write(buffer, hyperparameters, grads)
            if len(self._changing) != len(buffer):
                self._changing = torch.empty(len(buffer), dtype=torch.int64, device=device)
            self._changing.copy_(buffer, non_blocking=True)
            self._sent = (hyperparameters, grads)
        return self._changing[:split].view(torch.float64), self._changing[split:]


def _shares(length: int, *, is_projected: bool) -> tuple[tuple[int, int], int]:
    """Return the tile, (rows, columns), and the span of a part, for rows of one length."""
    for longest, rows, columns in _TILES:
        if is_projected and length <= longest:
            return (rows, columns), max(1, length)
    parts = math.ceil(length / _MAX_SPAN)
    if is_projected:
        parts = min(parts, _MAX_PARTS)
    # A multiple of 16, so that each part begins at an address aligned to 16 bytes.
    return _WIDE, 16 * math.ceil(length / max(1, parts) / 16) or 16


def _pinned(size: int, device: torch.device) -> Tensor:
    return torch.empty(size, dtype=torch.int64, pin_memory=device.type == "cuda")


def _write(buffer: Tensor, hyperparameters: tuple[float, ...], grads: tuple[int, ...]) -> None:
    buffer[: len(hyperparameters)].view(torch.float64).copy_(
        torch.tensor(hyperparameters, dtype=torch.float64)
    )
    buffer[len(hyperparameters) :].copy_(torch.tensor(grads, dtype=torch.int64))


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
