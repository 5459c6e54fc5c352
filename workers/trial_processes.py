"""What one process of a trial shares with the others: decisions, means and gradients.

A trial of several processes is one torch.distributed process group. Every process runs the same code on its
share of each batch. Whatever a process decides by its own clock or numbers must be decided by the first for
all: otherwise one would wait for ever for another.
"""

__all__ = ["OwnRandomness", "TrialProcesses", "trial_processes"]

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from workers.workload_errors import CannotTrain

T = TypeVar("T")
# torch.distributed has incomplete types.
_dist = cast("Any", dist)


@dataclass(frozen=True)
class TrialProcesses:
    """The processes that train one trial, as one of them sees them.

    Attributes:
        rank: the number of this process, from 0.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that evaluates, reports and saves."""
        return self.rank == 0

    def from_main(self, compute: Callable[[], T]) -> T:
        """Return in every process what `compute` returns in the first, which alone calls it."""
        if self.size == 1:
            return compute()
        found = [compute() if self.is_main else None]
        _dist.broadcast_object_list(found, src=0)
        return cast("T", found[0])

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean of a tensor over the processes."""
        if self.size > 1:
            _dist.all_reduce(values)
            values = values / self.size
        return values

    def share(self, batch: Any, *, function: Callable[..., Any]) -> Any:
        """Return this process's share of a batch: an equal part of the rows of every tensor in it.

        Args:
            batch: a tensor, or a dict, list or tuple of batches; tensors without dimensions and other values
                belong to every share.
            function: the workload's function that returned it, named by the error.

        Raises:
            CannotTrain: the rows of a tensor cannot be divided by the number of processes.
        """
        if self.size == 1:
            return batch
        if isinstance(batch, Tensor) and batch.dim() > 0:
            if len(batch) % self.size:
                raise CannotTrain(
                    f"expected tensors whose first dimension can be divided by {self.size}, the number of "
                    f"processes, in a batch, got shape {tuple(batch.shape)}; leave out a last batch that is "
                    "not full, or divide the batches yourself and set splits_batches = True",
                    function=function,
                )
            rows = len(batch) // self.size
            return batch[self.rank * rows : (self.rank + 1) * rows]
        if isinstance(batch, Mapping):
            items = cast("Mapping[Any, Any]", batch).items()
            return {key: self.share(value, function=function) for key, value in items}
        if isinstance(batch, list | tuple):
            parts = [self.share(part, function=function) for part in cast("Sequence[Any]", batch)]
            if isinstance(batch, list):
                return parts
            kind = cast("type[Any]", type(cast("Any", batch)))
            return kind(*parts) if hasattr(kind, "_fields") else tuple(parts)
        return batch

    def averaging(self, model: nn.Module, step: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Return a training step after whose backward pass every process has the mean of all gradients.

        Args:
            model: the model that the step trains; the step calls it in any way.
            step: returns the loss of a batch, or a mapping with it.
        """
        if self.size == 1:
            return step
        # A model may leave parameters out of a step, which costs a search of its graph.
        warnings.filterwarnings("ignore", message="find_unused_parameters=True was specified")
        wrapped: Callable[[Any], Any] = DistributedDataParallel(
            _TrainingStep(model, step), find_unused_parameters=True
        )
        return wrapped


def trial_processes() -> TrialProcesses:
    """Return the processes that train this process's trial."""
    if not (dist.is_available() and dist.is_initialized()):
        return TrialProcesses()
    return TrialProcesses(rank=dist.get_rank(), size=dist.get_world_size())


class _TrainingStep(nn.Module):
    """A training step as a module, so that the step gets the workload's own model and not a wrapper."""

    def __init__(self, model: nn.Module, step: Callable[[Any], Any]) -> None:
        super().__init__()
        self.model = model
        self._step = step

    def forward(self, batch: Any) -> Any:
        return self._step(batch)


class OwnRandomness:
    """A block that draws from torch generators of this process's own.

    Otherwise all processes would drop out the same units. What is drawn outside, such as the order of the
    examples, is the same in all of them.
    """

    def __init__(self, processes: TrialProcesses, device: torch.device) -> None:
        """Draw as outside until `restart`, and always in a trial of one process."""
        self._processes, self._device = processes, device
        self._own: list[Tensor] | None = None
        self._shared: list[Tensor] = []

    def restart(self) -> None:
        """Begin a stream that follows from the global generator's seed and this process's rank."""
        if self._processes.size == 1:
            return
        shared, seed = self._states(), torch.initial_seed()
        torch.default_generator.manual_seed(seed + 1 + self._processes.rank)
        if self._device.type == "cuda":
            torch.cuda.manual_seed(seed + 1 + self._processes.rank)
        self._own = self._states()
        self._set(shared)

    def __enter__(self) -> None:
        if self._own is not None:
            self._shared = self._states()
            self._set(self._own)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._own is not None:
            self._own = self._states()
            self._set(self._shared)

    def _states(self) -> list[Tensor]:
        states = [torch.get_rng_state()]
        if self._device.type == "cuda":
            states.append(torch.cuda.get_rng_state(self._device))
        return states

    def _set(self, states: list[Tensor]) -> None:
        torch.set_rng_state(states[0])
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(states[1], self._device)
