"""Random numbers for a stack of members with different seeds: each member's are those that it draws alone."""

__all__ = ["MemberDraws"]

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from workers.stacked.plan import NotStackable


class MemberDraws(TorchDispatchMode):
    """A mode in which every random operation of a stack runs once for each member, from its own generator.

    Use it around a call of `vmap` with `randomness="different"`, where a random operation has the axis of
    members in front. Without the mode, all members would draw from one generator, one after the other.

    Args:
        seeds: of each member's generators, in the order of the rows.

    Attributes:
        has_drawn: whether any random number was drawn.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        # torch leaves it partly untyped.
        super().__init__()  # pyright: ignore[reportUnknownMemberType]
        self._seeds = tuple(seeds)
        self._states: dict[torch.device, list[Tensor]] = {}
        self.has_drawn = False

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run one operation; see the class.

        Raises:
            NotStackable: the operation is random and cannot be run for each member.
        """
        del types
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        self.has_drawn = True
        parts = self._parts(func, args, kwargs)
        device = torch.device(
            args[0].device if isinstance(args[0], Tensor) else kwargs.get("device") or "cpu"
        )
        drawn = self._draw(func, parts, kwargs, device)
        # torch has no public name for it.
        if func._schema.is_mutable:  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
            # Each part is a view of the argument.
            return args[0]
        if isinstance(drawn[0], Tensor):
            return torch.stack(drawn)
        return tuple(torch.stack(each) for each in zip(*drawn, strict=True))

    def _parts(
        self, func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> list[tuple[Any, ...]]:
        """Return each member's arguments."""
        members = len(self._seeds)
        others = (*args[1:], *kwargs.values())
        if kwargs.get("generator") is None and not any(isinstance(other, Tensor) for other in others):
            of = args[0] if args else None
            if isinstance(of, Tensor) and of.dim() > 0 and len(of) == members:
                return [(part, *args[1:]) for part in of.unbind()]
            # Of a function that makes a tensor, all arguments before the size are numbers.
            place = next((n for n, each in enumerate(args) if isinstance(each, Sequence)), None)
            if place is not None and args[place] and args[place][0] == members:
                return [(*args[:place], args[place][1:], *args[place + 1 :])] * members
        raise NotStackable(
            f"the model draws random numbers with {func}, which a stack cannot draw separately for trials "
            "with different seeds"
        )

    def _draw(
        self, func: OpOverload, parts: list[tuple[Any, ...]], kwargs: dict[str, Any], device: torch.device
    ) -> list[Any]:
        """Return the result for each member, drawn from the member's own generator on a device."""
        if device not in self._states:
            self._states[device] = [
                torch.Generator(device=device).manual_seed(seed).get_state() for seed in self._seeds
            ]
        states = self._states[device]
        # Not every random operation takes a generator, so each draws from the default one in turn.
        default = (
            torch.cuda.default_generators[device.index or 0]
            if device.type == "cuda"
            else torch.default_generator
        )
        before = default.get_state()
        drawn: list[Any] = []
        try:
            for member, part in enumerate(parts):
                default.set_state(states[member])
                drawn.append(func(*part, **kwargs))
                states[member] = default.get_state()
        finally:
            default.set_state(before)
        return drawn
