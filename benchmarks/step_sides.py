"""The optimizers whose steps are compared on one set of tensors, and the clock that times them.

This module imports only torch, because it also runs in the process with PyPI's `adamp` instead of ours.
"""

__all__ = [
    "SIDES",
    "Clock",
    "LocalSide",
    "Setting",
    "Tensors",
    "bandwidth",
    "make_optimizer",
    "projected_share",
]

import inspect
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch
from step_shapes import parameters
from torch import Tensor
from torch.optim import SGD, AdamW, Optimizer

# So small that no weight moves. The angles between weights and gradients, and so AdamP's projections, then
# stay the same.
_ADAM = {"lr": 1e-10, "weight_decay": 1e-2}
_SGD = {"lr": 1e-10, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-5}
_DELTA = 0.1


@dataclass(frozen=True)
class Setting:
    """The setting that one process measures.

    Attributes:
        shapes: a name in `step_shapes.SHAPES`.
        device: "cpu" or "cuda".
        threads: CPU threads.
        allocator: "default" for the C library's settings, "keeping" to keep freed memory.
        projected: which tensors AdamP and SGDP project: none, those of `Parameter.view`, or all of two
            dimensions or more.
        flips: share of the tensors of two dimensions or more that are projected only on every second step.
        rounds: number of turns of each side.
        turn_ms: minimum milliseconds of a turn; a longer step is a turn by itself.
        sides: regular expression that selects sides by a match anywhere in their names.
        reference_python: interpreter with PyPI's `adamp`, or None.
    """

    shapes: str
    device: str
    threads: int
    allocator: str
    projected: str
    flips: float
    rounds: int
    turn_ms: float
    sides: str
    reference_python: str | None


class Tensors:
    """One model's weights and gradients, float32, with the same numbers in every process.

    Attributes:
        weights: the parameters, with gradients set.
    """

    def __init__(self, setting: Setting) -> None:
        random = torch.Generator().manual_seed(0)
        self.weights: list[Tensor] = []
        self._turns: list[tuple[Tensor, tuple[Tensor, Tensor]]] = []
        self._steps = 0
        wide = 0
        for shape, natural in parameters(setting.shapes):
            weight = (0.02 * torch.randn(shape, generator=random)).to(setting.device)
            grad = (1e-3 * torch.randn(shape, generator=random)).to(setting.device)
            view = _view(natural, setting.projected)
            flips = False
            if len(shape) > 1:
                flips = math.floor((wide + 1) * setting.flips) > math.floor(wide * setting.flips)
                wide += 1
            weight.grad = _turned(grad, weight, view)
            if flips:
                self._turns.append(
                    (weight, (weight.grad, _turned(grad, weight, "none" if view != "none" else "channel")))
                )
            self.weights.append(weight.requires_grad_())

    @property
    def elements(self) -> int:
        """Number of elements of all weights."""
        return sum(weight.numel() for weight in self.weights)

    @property
    def checksum(self) -> float:
        """A checksum that is equal in two processes if they drew the same gradients."""
        return sum(
            float(weight.grad.double().abs().sum()) for weight in self.weights if weight.grad is not None
        )

    def next_gradients(self) -> None:
        """Swap the gradients of the tensors whose projection changes."""
        self._steps += 1
        for weight, grads in self._turns:
            weight.grad = grads[self._steps % 2]


def _view(
    natural: Literal["channel", "layer", "none"], projected: str
) -> Literal["channel", "layer", "none"]:
    match projected:
        case "mixed":
            return natural
        case "all":
            return "layer" if natural == "layer" else "channel"
        case _:
            return "none"


def _turned(grad: Tensor, weight: Tensor, view: Literal["channel", "layer", "none"]) -> Tensor:
    """Return the gradient changed so that AdamP projects this view.

    It is orthogonal to the weight or, for no view, at five times the cosine of the layer's threshold.
    """
    if weight.dim() < 2:
        return grad
    w, g = weight.double(), grad.double()
    if view == "channel":
        w, g = w.flatten(1), g.flatten(1)
        return (g - (g * w).sum(1, keepdim=True) / w.square().sum(1, keepdim=True) * w).view_as(grad).float()
    orthogonal = g - (g * w).sum() / w.square().sum() * w
    cosine = 0.0 if view == "layer" else 5 * _DELTA / math.sqrt(w.numel())
    along = cosine / math.sqrt(1 - cosine**2) * orthogonal.norm() / w.norm()
    return (orthogonal + along * w).float()


class Clock:
    """The device's time: wall time on a CPU, the time between two events on a GPU."""

    def __init__(self, device: str) -> None:
        self._cuda = device == "cuda"

    def seconds(self, run: Callable[[], object]) -> float:
        """Call `run` and return the seconds until the device has finished its work."""
        if not self._cuda:
            begun = time.perf_counter()
            run()
            return time.perf_counter() - begun
        torch.cuda.synchronize()
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        run()
        end.record()
        torch.cuda.synchronize()
        return begin.elapsed_time(end) / 1000


class LocalSide:
    """An optimizer in this process, on the tensors that all its sides share."""

    def __init__(self, optimizer: Optimizer, tensors: Tensors, setting: Setting) -> None:
        self._optimizer, self._tensors, self._setting = optimizer, tensors, setting
        self._clock = Clock(setting.device)
        self._steps = 1
        # The first step creates the state and, for some sides, compiles.
        begun = time.perf_counter()
        self._clock.seconds(self._step)
        self.first_s = time.perf_counter() - begun
        self._clock.seconds(self._step)
        warm_s = statistics.median(self._clock.seconds(self._step) for _ in range(3))
        self._steps = max(1, min(1000, round(setting.turn_ms / 1000 / warm_s)))

    def turn(self) -> float:
        """Return the mean milliseconds of a step in one turn, after an uncounted step to warm the caches."""
        self._step()
        return 1000 * self._clock.seconds(self._steps_in_a_row) / self._steps

    def _steps_in_a_row(self) -> None:
        for _ in range(self._steps):
            self._step()

    def _step(self) -> None:
        self._tensors.next_gradients()
        self._optimizer.step()


@contextmanager
def _our_package() -> Iterator[None]:
    """Make `import adamp` import this repository's package instead of PyPI's."""
    root = str(Path(__file__).parents[1])
    sys.path.insert(0, root)
    try:
        yield
    finally:
        sys.path.remove(root)


def _of_torch(
    kind: type[AdamW | SGD], arguments: Mapping[str, Any], path: str
) -> Callable[[Sequence[Tensor]], Optimizer]:
    return lambda weights: kind(weights, **arguments, foreach=path == "foreach", fused=path == "fused")


def _of_pytorch_optimizer(
    name: str, arguments: Mapping[str, Any], path: str
) -> Callable[[Sequence[Tensor]], Optimizer]:
    def make(weights: Sequence[Tensor]) -> Optimizer:
        import pytorch_optimizer

        return getattr(pytorch_optimizer, name)(weights, **arguments, foreach=path == "foreach")

    return make


def _of_reference(name: str, arguments: Mapping[str, Any]) -> Callable[[Sequence[Tensor]], Optimizer]:
    def make(weights: Sequence[Tensor]) -> Optimizer:
        import adamp

        if hasattr(adamp, "decide"):
            raise ImportError("this interpreter imports Tangent's adamp, not PyPI's")
        return getattr(adamp, name)(weights, **arguments)

    return make


def _of_ours(name: str, arguments: Mapping[str, Any], path: str) -> Callable[[Sequence[Tensor]], Optimizer]:
    def make(weights: Sequence[Tensor]) -> Optimizer:
        with _our_package():
            import adamp

        kind = getattr(adamp, name)
        known = inspect.signature(kind).parameters
        if path in ("foreach", "fused") and path not in known:
            raise ImportError(f"this version of {name} has no argument {path}")
        if path == "default" and not {"foreach", "fused"} & set(known):
            raise ImportError(f"this version of {name} has the plain path only")
        chosen = (
            {} if path == "default" else {key: key == path for key in ("foreach", "fused") if key in known}
        )
        return kind(weights, **arguments, **chosen)

    return make


def _sides() -> dict[str, Callable[[Sequence[Tensor]], Optimizer]]:
    found: dict[str, Callable[[Sequence[Tensor]], Optimizer]] = {}
    for kind, projected, arguments in ((AdamW, "AdamP", _ADAM), (SGD, "SGDP", _SGD)):
        found |= {
            f"torch {kind.__name__} {path}": _of_torch(kind, arguments, path)
            for path in ("loop", "foreach", "fused")
        }
        found[f"reference {projected}"] = _of_reference(projected, arguments)
        found |= {
            f"pytorch_optimizer {projected} {path}": _of_pytorch_optimizer(projected, arguments, path)
            for path in ("loop", "foreach")
        }
        found |= {
            f"tangent {projected} {path}": _of_ours(projected, arguments, path)
            for path in ("plain", "foreach", "fused", "default")
        }
    return found


SIDES: Mapping[str, Callable[[Sequence[Tensor]], Optimizer]] = MappingProxyType(_sides())


def make_optimizer(side: str, tensors: Tensors) -> Optimizer:
    """Return the optimizer of one of `SIDES` on these tensors.

    Raises:
        ImportError: its package or this path is not installed.
    """
    return SIDES[side](tensors.weights)


def projected_share(tensors: Tensors) -> tuple[float, float]:
    """Return the shares of tensors and of elements that AdamP would project with the weights' gradients."""
    with _our_package():
        from adamp import decide

    chosen = [
        weight
        for weight in tensors.weights
        if weight.grad is not None
        and bool(decide(weight.detach(), weight.grad, delta=_DELTA, eps=1e-8).projected)
    ]
    return len(chosen) / len(tensors.weights), sum(weight.numel() for weight in chosen) / tensors.elements


def bandwidth(device: str) -> dict[str, float]:
    """Return the gigabytes (1e9) per second that this device reads and writes.

    It is the best of nine measurements on arrays far larger than its caches. "copy" is a plain copy; a CPU
    may also read the old content of the target, which is not counted. "add" adds one array to another in
    place, the pattern of an optimizer's step.
    """
    target = torch.ones(2**28 if device == "cuda" else 2**26, device=device)
    source = torch.full_like(target, 1e-3)
    clock, size = Clock(device), target.numel() * target.element_size() / 1e9

    def best(run: Callable[[], object]) -> float:
        run()
        return min(clock.seconds(run) for _ in range(9))

    return {
        "copy": 2 * size / best(lambda: target.copy_(source)),
        "add": 3 * size / best(lambda: target.add_(source)),
    }
