"""From a loss to the next weights of one trial: precision, clipping, the step, and average weights."""

__all__ = ["Update"]

from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import get_ema_multi_avg_fn

from studies.catalog import Needs
from studies.training_settings import TrainingSettings

# torch leaves them partly untyped.
_clip_by_norm = cast("Callable[..., Tensor]", nn.utils.clip_grad_norm_)  # pyright: ignore[reportUnknownMemberType]
_clip_by_value = cast("Callable[..., None]", nn.utils.clip_grad_value_)  # pyright: ignore[reportUnknownMemberType]
_LinAlgError = cast("type[Exception]", torch.linalg.LinAlgError)  # pyright: ignore[reportUnknownMemberType, reportPrivateImportUsage]


class Update:
    """The steps of an optimizer on one model.

    With float16 the loss is scaled as torch's examples of mixed precision do it (`torch.amp.GradScaler`).
    Gradients are unscaled first (float16), then clipped by value, then by the norm of all of them together
    (`torch.nn.utils`). The average weights are those of `torch.optim.swa_utils.AveragedModel` with its
    exponential average: a copy after the first step, then moved by 1 - `ema_decay` of the difference after
    each. Buffers, such as BatchNorm's statistics, are not averaged.

    Args:
        settings: the trial's settings.
        model: the model, on `device`.
        optimizer: the optimizer of its trained parameters.
        device: where it is trained.
        needs: what the optimizer's card says that its steps need.

    Attributes:
        needs: what the optimizer's steps need.
        precision: returns the context in which the model runs forward.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        *,
        model: nn.Module,
        optimizer: Optimizer,
        device: torch.device,
        needs: Needs = "gradients",
    ) -> None:
        self._settings, self._optimizer = settings, optimizer
        self._trained = {
            name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad
        }
        self._model = model
        self.needs: Needs = needs
        self._clips = settings.clip_norm > 0 or settings.clip_value > 0
        self._average: dict[str, Tensor] | None = None
        # torch leaves it partly untyped.
        self._move = cast(
            "Callable[[list[Tensor], list[Tensor], int], None]", get_ema_multi_avg_fn(settings.ema_decay)
        )
        self._scaler: torch.amp.GradScaler | None = None
        self.precision: Callable[[], AbstractContextManager[object]] = nullcontext
        if settings.precision != "float32":
            dtype = torch.bfloat16 if settings.precision == "bf16" else torch.float16
            if dtype is torch.float16:
                self._scaler = torch.amp.GradScaler(device.type)
            self.precision = lambda: torch.autocast(device.type, dtype=dtype)

    @property
    def has_average(self) -> bool:
        """Whether there are average weights."""
        return self._average is not None

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss to the weights' own."""
        if self.needs == "curvature" and getattr(self._optimizer, "wants_curvature", True):
            self._differentiate(loss)
            return
        scaled = loss if self._scaler is None else self._scaler.scale(loss)
        # torch leaves its arguments untyped.
        scaled.backward()  # pyright: ignore[reportUnknownMemberType]

    def _differentiate(self, loss: Tensor) -> None:
        """Add gradients that can be differentiated again; torch warns of `backward` with such a graph."""
        weights = list(self._trained.values())
        # torch's type leaves out that a gradient may be None.
        found = cast(
            "tuple[Tensor | None, ...]",
            torch.autograd.grad(loss, weights, create_graph=True, allow_unused=True),
        )
        for weight, grad in zip(weights, found, strict=True):
            if grad is not None:
                weight.grad = grad if weight.grad is None else weight.grad + grad

    def prepare(self) -> None:
        """Bring the gradients into the form in which the optimizer takes them."""
        if self._scaler is not None:
            self._scaler.unscale_(self._optimizer)
        if self._clips:
            if self._settings.clip_value > 0:
                _clip_by_value(self._trained.values(), self._settings.clip_value)
            if self._settings.clip_norm > 0:
                _clip_by_norm(self._trained.values(), self._settings.clip_norm)

    def has_finite_gradients(self) -> bool:
        """Return whether `step` takes the optimizer's step, after `prepare`; always, unless in float16."""
        if self._scaler is None:
            return True
        grads = (weight.grad for weight in self._trained.values())
        return all(bool(grad.isfinite().all()) for grad in grads if grad is not None)

    def step(self, again: Callable[[], Tensor] | None = None) -> None:
        """Take the optimizer's step and clear the gradients; `prepare` comes before it.

        With float16 a step whose gradients are not finite is left out. Where the optimizer cannot factor a
        matrix, as with numbers that have overflowed, the weights become NaN, so that the trial diverges.

        Args:
            again: adds the gradients of the step's batches once more, and returns their loss; for an
                optimizer that needs a closure.
        """
        try:
            if again is not None:
                # torch's type of a closure returns a number.
                cast("Any", self._optimizer).step(partial(self._second_pass, again))
            elif self._scaler is None:
                self._optimizer.step()
            else:
                self._scaler.step(self._optimizer)
        except _LinAlgError:
            for weight in self._trained.values():
                weight.detach().fill_(torch.nan)
        if self._scaler is not None and again is None:
            self._scaler.update()
        self._optimizer.zero_grad()
        if self._settings.ema_decay > 0:
            self._move_average()

    def _second_pass(self, again: Callable[[], Tensor]) -> Tensor:
        """Add the prepared gradients of the step's batches at the current weights; return their loss."""
        with _kept_statistics(self._model):
            loss = again()
        self.prepare()
        return loss

    @torch.no_grad()
    def _move_average(self) -> None:
        if self._average is None:
            self._average = {name: weight.detach().clone() for name, weight in self._trained.items()}
        else:
            weights = [weight.detach() for weight in self._trained.values()]
            self._move(list(self._average.values()), weights, 1)

    @contextmanager
    def evaluated(self, *, average: bool) -> Generator[None]:
        """Hold the weights in the model that are evaluated, and run it in the trial's precision.

        The trained weights are back afterwards.

        Args:
            average: whether they are the average ones, if the trial has them.
        """
        with self.precision():
            if self._average is None or not average:
                yield
                return
            kept = {name: weight.detach().clone() for name, weight in self._trained.items()}
            self._put(self._average)
            try:
                yield
            finally:
                self._put(kept)

    @torch.no_grad()
    def _put(self, weights: Mapping[str, Tensor]) -> None:
        for name, weight in self._trained.items():
            weight.copy_(weights[name])

    def state_dict(self) -> dict[str, Any]:
        """Return what training resumes from besides the model and the optimizer; empty by default."""
        state: dict[str, Any] = {}
        if self._average is not None:
            state["average"] = self._average
        if self._scaler is not None:
            state["scaler"] = self._scaler.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            KeyError: the state lacks a part that these settings need.
            RuntimeError: a tensor has another shape.
        """
        if self._settings.ema_decay > 0:
            average = cast("Mapping[str, Tensor]", state["average"])
            self._average = {
                name: torch.empty_like(weight).copy_(average[name])
                for name, weight in ((name, weight.detach()) for name, weight in self._trained.items())
            }
        if self._scaler is not None:
            self._scaler.load_state_dict(cast("dict[str, Any]", state["scaler"]))


@contextmanager
def _kept_statistics(model: nn.Module) -> Generator[None]:
    """Keep the running statistics of norms as they are, although the model is in training mode."""
    buffers = [dict(module.named_buffers(recurse=False)) for module in model.modules()]
    running = [buffer for own in buffers if "running_mean" in own for buffer in own.values()]
    kept = [buffer.clone() for buffer in running]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(running, kept, strict=True):
                buffer.copy_(value)
