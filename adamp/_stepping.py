"""The base class of AdamP and SGDP: checks of groups, loading of old states, choice of the path."""

__all__ = ["ProjectedOptimizer"]

import functools
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, overload

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim.optimizer import Optimizer

from adamp import _foreach, _plain
from adamp._checks import check_gradient, check_tensors
from adamp._loading import check_entry, check_state_dict
from adamp._paths import Path, choose
from adamp._settings import AdamPSettings, SGDPSettings
from adamp._sharded import check_split, split_of
from adamp._threads import is_copied_by_fork, single_openmp_thread

if TYPE_CHECKING:
    from adamp._numba_plan import GradientComparison, NumbaPlan

_PLAIN_TYPES = (Tensor, Parameter)
_grad = attrgetter("grad")
_TRITON_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


class _Item(NamedTuple):
    """One parameter in a step: its gradient [*], its moments [*] each, and its state."""

    weight: Tensor
    grad: Tensor
    moments: tuple[Tensor, ...]
    state: dict[str, Any]


class ProjectedOptimizer(Optimizer):
    """Base class of the two optimizers: everything except their arithmetic."""

    _moments: ClassVar[tuple[str, ...]]
    _counts_steps: ClassVar[bool]
    # The names of each entry of a parameter's state: its own, and those in checkpoints of torch's optimizer.
    _entries: ClassVar[Mapping[str, tuple[str, ...]]]
    _step_function: ClassVar[str]
    # The plans of the last step on a CPU, each with its weights.
    _stepped: tuple[tuple["NumbaPlan", list[Tensor]], ...] = ()

    @abstractmethod
    def _check_group(self, group: Mapping[str, Any]) -> None:
        """Raise ValueError for a hyperparameter out of range, RuntimeError for flags that conflict."""

    @abstractmethod
    def _settings(self, group: Mapping[str, Any]) -> AdamPSettings | SGDPSettings:
        """Return a group's settings for any path."""

    @abstractmethod
    def _can_compute(self, settings: Any) -> bool:
        """Return False if a step with these settings could raise an error halfway; quick."""

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """True if GradScaler may leave `grad_scale` and `found_inf` to the step.

        It does the same with torch's fused optimizers.
        """
        return all(bool(group["fused"]) for group in self.param_groups) and not any(
            # Processes would have to agree on `found_inf` first, which GradScaler itself sees to.
            type(weight) not in _PLAIN_TYPES and split_of(weight) is not None
            for group in self.param_groups
            for weight in group["params"]
        )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with their own hyperparameters; missing ones get the defaults.

        After an error, no parameter has been added.

        Raises:
            ValueError: a hyperparameter is out of range, or required and missing.
            RuntimeError: `fused` is True and a parameter's device has no kernel.
        """
        group = {**self.defaults, **param_group}
        self._check_group(group)
        if group["fused"]:
            given = group["params"]
            params: list[Any] = [given] if isinstance(given, Tensor) else list(given)
            param_group = {**param_group, "params": params}
            # A named parameter is a pair whose second item is the parameter.
            weights: list[Any] = [named if isinstance(named, Tensor) else named[-1] for named in params]
            for device in {weight.device for weight in weights}:
                choose(type(self).__name__, group, device)
        super().add_param_group(param_group)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickled or loaded state, including one of the reference.

        Missing hyperparameters get their defaults.
        """
        super().__setstate__(state)
        for group in self.param_groups:
            for name, default in self.defaults.items():
                group.setdefault(name, default)
            for weight in group["params"]:
                if self._counts_steps and "step" in self.state.get(weight, ()):
                    _count_on(self.state[weight], weight, on_device=group["capturable"])

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a checkpoint from any path, from the reference, or from torch's AdamW (AdamP) or SGD (SGDP).

        After an error, the optimizer is unchanged.

        torch casts moments to the parameter's dtype. Here, if the group has a `moments_dtype`, they are cast
        to it directly from the checkpoint's values.

        Args:
            state_dict: a result of `state_dict`; not changed.

        Raises:
            ValueError: the checkpoint is another optimizer's or another model's, or its groups do not match
                this optimizer's.
        """
        loaded: list[dict[str, Any]] = []

        def check(_: Optimizer, final: dict[str, Any]) -> None:
            check_state_dict(type(self).__name__, final, self.param_groups, self._entries)
            loaded.append(final)

        # Register this hook last, so that it sees the changes that the user's hooks make to the checkpoint.
        handle = self.register_load_state_dict_pre_hook(check)
        try:
            super().load_state_dict(state_dict)
        finally:
            handle.remove()
        saved, states = loaded[0]["param_groups"], loaded[0]["state"]
        for group, keys in zip(self.param_groups, (group["params"] for group in saved), strict=True):
            for weight, key in zip(group["params"], keys, strict=True):
                for name in self._moments if group["moments_dtype"] is not None else ():
                    if name in states.get(key, ()):
                        self.state[weight][name] = states[key][name].to(
                            device=weight.device, dtype=group["moments_dtype"], copy=True
                        )

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient, and return the closure's loss (None without one).

        After an error, all parameters and the whole state are as before, unless memory ran out or the step
        was interrupted while it was writing.

        Args:
            closure: recomputes the loss and the gradients; called once, before the update.

        Raises:
            RuntimeError: a gradient is sparse; a gradient or the state of a parameter has another shape, is
                on another device or is split over processes in another way; a parameter is a flattened part
                of others; or a CUDA graph is being captured and a group is not capturable.
            TypeError: a gradient is complex, or a parameter has a dtype that cannot be stepped.
            ValueError: a hyperparameter was changed to one that cannot be computed with.
        """
        if self._counts_steps:
            self._accelerator_graph_capture_health_check()
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if torch.compiler.is_compiling() or not is_copied_by_fork():
            self._update()
        else:
            with single_openmp_thread():
                self._update()
        return loss

    def comparisons(self, weights: Sequence[Tensor]) -> list["GradientComparison"] | None:
        """Return what the CPU kernel found in the last step when it compared weights with their gradients.

        The gradient is the one that the step used: scaled, and negative with `maximize`.

        Args:
            weights: parameters.

        Returns:
            A comparison of each weight; None if the kernel did not step all of them, or compared nothing
            because `delta` is 0.
        """
        found: dict[int, GradientComparison] = {}
        for plan, stepped in self._stepped:
            found |= zip((id(stepped[place]) for place in plan.compared), plan.comparisons(), strict=True)
        if not found.keys() >= {*map(id, weights)}:
            return None
        return [found[id(weight)] for weight in weights]

    def _update(self) -> None:
        """Step all groups; everything that may raise an error comes before the first change."""
        started: list[tuple[Tensor, dict[str, Any]]] = []
        moves: list[Callable[[], None]] = []
        is_compiling = torch.compiler.is_compiling()
        if not is_compiling:
            self._stepped = ()
        for group in self.param_groups:
            settings = self._settings(group) if is_compiling else self._checked_settings(group)
            move = None if is_compiling else self._move_as_before(group, settings)
            if move is not None:
                moves.append(move)
                continue
            alike = self._alike(group, started)
            for (device, _), items in alike.items():
                path = choose(type(self).__name__, group, device)
                fast, rest = self._sorted(path, items)
                moves.append(
                    partial(self._move, path, fast, rest, settings, capturable=group.get("capturable"))
                )
        for weight, state in started:
            self.state[weight] = state
        for move in moves:
            move()

    def _alike(
        self, group: Mapping[str, Any], started: list[tuple[Tensor, dict[str, Any]]]
    ) -> dict[tuple[torch.device, torch.dtype], list[_Item]]:
        """Return a group's parameters that have a gradient, by device and dtype.

        Those without a state get their first one; it is only added to the list of states to start.
        """
        name, is_compiling = type(self).__name__, torch.compiler.is_compiling()
        alike: dict[tuple[torch.device, torch.dtype], list[_Item]] = {}
        for weight in group["params"]:
            grad = weight.grad
            if grad is None:
                continue
            if grad.layout is not torch.strided or grad.is_complex():
                check_gradient(name, grad)
            state = self.state.get(weight, {})
            if not state:
                state = self._first_state(weight, group)
                started.append((weight, state))
            elif not (is_compiling or state.keys() >= self._entries.keys()):
                check_entry(name, state, weight, {entry: (entry,) for entry in self._entries})
            moments = tuple([state[moment] for moment in self._moments])
            if type(weight) not in _PLAIN_TYPES or getattr(weight, "_fsdp_flattened", False):
                check_split(name, weight, grad, moments, projects=group["delta"] > 0)
            alike.setdefault((weight.device, weight.dtype), []).append(_Item(weight, grad, moments, state))
        return alike

    def _checked_settings(self, group: Mapping[str, Any]) -> AdamPSettings | SGDPSettings:
        """Return a group's settings; raise ValueError if they could stop a step halfway."""
        try:
            settings = self._settings(group)
            if self._can_compute(settings):
                return settings
        except TypeError:
            # It has no betas, for example; the check says so.
            pass
        self._check_group(group)
        return self._settings(group)

    def _sorted(self, path: Path, items: list[_Item]) -> tuple[list[_Item], list[_Item]]:
        """Return the parameters that a path supports, and those that take the plain path."""
        fast, rest = items, items[:0]
        if path != "plain":
            answers = [*map(_FITS[path], items)]
            fast = [item for item, answer in zip(items, answers, strict=True) if answer]
            rest = [item for item, answer in zip(items, answers, strict=True) if not answer]
        if not torch.compiler.is_compiling():
            # The kernels' own conditions are stricter.
            for weight, grad, moments, _ in rest if path in ("numba", "triton") else items:
                check_tensors(type(self).__name__, weight, grad, moments)
        return fast, rest

    def _move_as_before(
        self, group: Mapping[str, Any], settings: AdamPSettings | SGDPSettings
    ) -> Callable[[], None] | None:
        """Return the step of a group by the numba plan of an earlier step, or None if it is no longer valid.

        This skips the checks of each tensor. It needs a plan of exactly these tensors, with unchanged
        layouts.
        """
        plans = self.__dict__.get("_plans", {}).get("numba")
        if (
            plans is None
            or getattr(self, "found_inf", None) is not None
            or getattr(self, "grad_scale", None) is not None
        ):
            return None
        weights, grads = group["params"], [*map(_grad, group["params"])]
        if type(None) in {*map(type, grads)}:
            weights = [weight for weight, grad in zip(weights, grads, strict=True) if grad is not None]
            grads = [grad for grad in grads if grad is not None]
        plan = plans.known(weights, projects=group["delta"] > 0)
        if plan is None or choose(type(self).__name__, group, weights[0].device) != "numba":
            return None
        found: list[dict[str, Any] | None] = [*map(self.state.get, weights)]
        states = [state for state in found if state]
        if len(states) < len(weights):
            return None
        counts: list[list[int]] = []
        try:
            moments: list[list[Tensor]] = [[state[name] for state in states] for name in self._moments]
            if self._counts_steps:
                counts = [[state["step"] + 1 for state in states]]
        except KeyError:
            return None
        if not plan.fits(weights, grads, moments) or (counts and {*map(type, counts[0])} != {int}):
            return None
        return partial(self._move_by_plan, plan, [weights, grads, *moments], counts, states, settings)

    def _move_by_plan(
        self,
        plan: Any,
        tensors: list[list[Tensor]],
        counts: list[list[int]],
        states: list[dict[str, Any]],
        settings: AdamPSettings | SGDPSettings,
        grad_scale: float = 1.0,
    ) -> None:
        """Step tensors with the numba kernel, and then count the step."""
        step = getattr(_numba_module(), self._step_function)
        step(*tensors, *counts, settings, plan=plan, grad_scale=grad_scale)
        self._stepped += ((plan, tensors[0]),)
        for state in states if self._counts_steps else ():
            state["step"] += 1

    def _first_state(self, weight: Tensor, group: Mapping[str, Any]) -> dict[str, Any]:
        """Return the state before the first step: a step count of 0 and zero moments."""
        state: dict[str, Any] = {}
        if self._counts_steps:
            state["step"] = (
                torch.zeros((), device=weight.device)
                if group["capturable"] or torch.compiler.is_compiling()
                else 0
            )
        for name in self._moments:
            state[name] = torch.zeros_like(weight, dtype=group["moments_dtype"])
        return state

    def _move(
        self,
        path: Path,
        fast: list[_Item],
        rest: list[_Item],
        settings: AdamPSettings | SGDPSettings,
        *,
        capturable: bool | None,
    ) -> None:
        """Step tensors of one device and dtype: `fast` on the path, `rest` on the plain path."""
        scale, found_inf = getattr(self, "grad_scale", None), getattr(self, "found_inf", None)
        on_device = (
            path == "triton" or (self._counts_steps and bool(capturable)) or torch.compiler.is_compiling()
        )
        if fast and path == "triton":
            self._step_triton(fast, settings, scale, found_inf)
            fast = []
        # Only GradScaler with fused=True sets these two, and the GPU kernels read `found_inf` themselves. So
        # this waits for a GPU only if one of its tensors does not fit the kernels.
        if not (fast or rest) or (found_inf is not None and bool(found_inf)):
            return
        if fast and path == "numba":
            lists = self._lists(fast, on_device=on_device, counted=False)
            counts = [[int(step) + 1 for step in lists.pop()]] if self._counts_steps else []
            plan = self._kept(path).plan(lists[0], projects=settings.delta > 0)
            grad_scale = 1.0 if scale is None else float(scale)
            self._move_by_plan(plan, lists, counts, [item.state for item in fast], settings, grad_scale)
            fast = []
        for module, some in (
            (_foreach, fast if path == "foreach" else []),
            (_plain, fast if path == "plain" else rest),
        ):
            if some:
                if scale is not None:
                    some = [item._replace(grad=_unscaled(item, scale)) for item in some]
                getattr(module, self._step_function)(*self._lists(some, on_device=on_device), settings)

    def _step_triton(
        self,
        items: list[_Item],
        settings: AdamPSettings | SGDPSettings,
        scale: Tensor | None,
        found_inf: Tensor | None,
    ) -> None:
        from adamp import _triton

        lr, device = settings.lr, items[0].weight.device
        if isinstance(lr, Tensor) and lr.device != device:
            settings = settings._replace(lr=lr.item())
        amp = {"grad_scale": scale, "found_inf": found_inf}
        moved = {name: value if value is None else value.to(device) for name, value in amp.items()}
        lists = self._lists(items, on_device=True, counted=False)
        getattr(_triton, self._step_function)(*lists, settings, plans=self._kept("triton"), **moved)

    def _lists(self, items: Sequence[_Item], *, on_device: bool, counted: bool = True) -> list[list[Any]]:
        """Return the lists of weights, gradients, each moment and, for AdamP, step counts.

        The counts are incremented first if `counted` is true; otherwise the kernel increments them.
        """
        lists: list[list[Any]] = [[item.weight for item in items], [item.grad for item in items]]
        lists += [[item.moments[index] for item in items] for index in range(len(self._moments))]
        if self._counts_steps:
            for weight, _, _, state in items:
                if isinstance(state["step"], Tensor) != on_device:
                    _count_on(state, weight, on_device=on_device)
                if counted:
                    state["step"] += 1
            lists.append([item.state["step"] for item in items])
        return lists

    def _kept(self, path: Path) -> Any:
        """Return the plans that a path keeps between steps.

        They are not part of the optimizer's state, and copies start without them.
        """
        kept: dict[str, Any] = self.__dict__.setdefault("_plans", {})
        if path not in kept:
            if path == "numba":
                from adamp._numba_plan import NumbaPlans

                kept[path] = NumbaPlans()
            else:
                from adamp._triton import TritonPlans

                kept[path] = TritonPlans()
        return kept[path]


@functools.cache
def _numba_module() -> Any:
    from adamp import _numba

    return _numba


def _count_on(state: dict[str, Any], weight: Tensor, *, on_device: bool) -> None:
    """Convert `step` to a float32 [] tensor on the weight's device, or to an int (waits for the device)."""
    step = state["step"]
    if not on_device:
        state["step"] = int(step)
    elif isinstance(step, Tensor):
        state["step"] = step.to(device=weight.device, dtype=torch.float32)
    else:
        state["step"] = torch.full((), float(step), device=weight.device, dtype=torch.float32)


def _unscaled(item: _Item, scale: Tensor) -> Tensor:
    """Return the gradient [*] divided by the scale, in the moments' precision if that is wider.

    In float16 the quotient could underflow.
    """
    dtype = torch.promote_types(item.grad.dtype, item.moments[0].dtype)
    return item.grad.to(dtype) / scale.to(item.grad.device)


def _fits_numba(item: _Item) -> bool:
    from adamp._numba_plan import have_equal_strides

    weight, grad, moments, _ = item
    if type(weight) not in _PLAIN_TYPES or type(grad) not in _PLAIN_TYPES:
        return False
    alike = grad.dtype == weight.dtype and grad.shape == weight.shape and grad.is_cpu and not weight.is_neg()
    return alike and have_equal_strides(weight, *moments)


def _fits_triton(item: _Item) -> bool:
    from adamp._triton import have_equal_rows

    tensors = (item.weight, item.grad, *item.moments)
    device = item.weight.device
    if not all(
        type(tensor) in _PLAIN_TYPES and tensor.dtype in _TRITON_DTYPES and tensor.device == device
        for tensor in tensors
    ):
        return False
    return have_equal_rows(*tensors)


def _fits_foreach(item: _Item) -> bool:
    if type(item.weight) not in _PLAIN_TYPES and split_of(item.weight) is not None:
        return False
    return all(tensor.dtype == item.weight.dtype for tensor in (item.grad, *item.moments))


_FITS: Mapping[Path, Callable[[_Item], bool]] = {
    "foreach": _fits_foreach,
    "numba": _fits_numba,
    "triton": _fits_triton,
}
