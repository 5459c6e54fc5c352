"""What a model and a workload hold outside a stack's rows: shared by its members, so it must not change."""

__all__ = ["are_same", "constants_of", "first_difference", "held_by"]

import random
from collections.abc import Collection, Iterable, Mapping, Sequence, Sized
from collections.abc import Set as AbstractSet
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

_DEPTH = 5
"""How deep containers and objects are looked into."""

_LARGE = 10_000
"""Arrays and containers with more elements are taken for data, and only their identity is compared."""

_PLAIN = (bool, int, float, complex, str, bytes)
_TORCH_ATTRIBUTES = vars(nn.Module()).keys()


def constants_of(model: nn.Module, *, rows: Collection[str]) -> dict[str, object]:
    """Return copies of a model's buffers outside the rows, of plain attributes and of `requires_grad`.

    Args:
        model: the model.
        rows: names of the parameters and buffers that each member of a stack has for itself.
    """
    tensors = dict((*model.named_parameters(), *model.named_buffers()))
    own = {id(tensor) for tensor in tensors.values()}
    found: dict[str, object] = {
        name: tensor.detach().clone() for name, tensor in tensors.items() if name not in rows
    }
    found |= {f"{name}.requires_grad": tensor.requires_grad for name, tensor in tensors.items()}
    # torch leaves it partly untyped.
    for place, module in cast("Iterable[tuple[str, nn.Module]]", model.named_modules()):
        attributes = {
            name: value for name, value in _attributes(module).items() if name not in _TORCH_ATTRIBUTES
        }
        found |= {
            f"{place}.{name}".removeprefix("."): _copied(value, own, _DEPTH)
            for name, value in attributes.items()
        }
    return found


def held_by(workload: object) -> dict[str, object]:
    """Return copies of a workload's attributes, but of tensors, which may be data, only their versions."""
    return {name: _copied(value, None, _DEPTH) for name, value in _attributes(workload).items()}


def first_difference(one: Mapping[str, object], other: Mapping[str, object]) -> str | None:
    """Return the name of the first constant that differs or is only in one of them; None if all are equal."""
    for name in (*one, *other):
        if name not in one or name not in other or not are_same(one[name], other[name]):
            return name
    return None


def are_same(one: object, other: object) -> bool:
    """Return whether two copies of constants are equal; NaN equals itself."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return one.tobytes() == cast("np.ndarray[Any, Any]", other).tobytes()
    if isinstance(one, Mapping):
        mine, theirs = cast("Mapping[object, object]", one), cast("Mapping[object, object]", other)
        return mine.keys() == theirs.keys() and all(
            are_same(value, theirs[key]) for key, value in mine.items()
        )
    if isinstance(one, list):
        items, others = cast("Sequence[object]", one), cast("Sequence[object]", other)
        return len(items) == len(others) and all(map(are_same, items, others))
    return bool(one == other or (one != one and other != other))  # NaN


def _attributes(thing: object) -> dict[str, object]:
    """Return an object's own attributes, and those of its classes, where a counter may be too."""
    found: dict[str, object] = {}
    for kind in reversed(type(thing).__mro__[:-1]):
        if not _is_torch(kind):
            found |= {
                name: value
                for name, value in vars(kind).items()
                if not name.startswith("__") and isinstance(value, (*_PLAIN, Tensor, list, dict, set))
            }
    return found | getattr(thing, "__dict__", {})


def _is_torch(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == "torch"


def _copied(value: object, own: AbstractSet[int] | None, depth: int) -> object:
    """Return a copy of numbers, tensors, containers and plain objects; of anything else only its type.

    Args:
        value: what to copy.
        own: ids of a model's own tensors, which are left out; None for identity and version of all tensors.
        depth: how deep to look.
    """
    if value is None or isinstance(value, _PLAIN):
        return value
    if isinstance(value, Tensor):
        if own is None:
            return [id(value), 0 if value.is_inference() else value._version]  # noqa: SLF001 # no public name
        return "own" if id(value) in own else value.detach().clone()
    if own is None and _elements(value) > _LARGE:
        return [id(value), _elements(value)]
    state = _state_of(value)
    if state is not None:
        return state
    if depth == 0 or isinstance(value, nn.Module | type):
        return type(value)
    return _copied_container(value, own, depth - 1)


def _copied_container(value: object, own: AbstractSet[int] | None, depth: int) -> object:
    if isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value).items()
        return {key: _copied(each, own, depth) for key, each in items}
    if isinstance(value, AbstractSet):
        return sorted(map(repr, cast("AbstractSet[object]", value)))
    if isinstance(value, list | tuple):
        return [_copied(each, own, depth) for each in cast("Sequence[object]", value)]
    inside = getattr(value, "__dict__", None)
    if isinstance(inside, dict) and not callable(value):
        return [type(value), _copied(cast("dict[str, object]", inside), own, depth)]
    return type(value)


def _elements(value: object) -> int:
    if isinstance(value, np.ndarray):
        return cast("np.ndarray[Any, Any]", value).size
    return len(cast("Sized", value)) if isinstance(value, list | tuple | dict | set | frozenset) else 0


def _state_of(value: object) -> object:
    """Return the state of a random generator, or an array's numbers; None for anything else."""
    if isinstance(value, torch.Generator):
        return value.get_state()
    if isinstance(value, np.random.Generator):
        return repr(value.bit_generator.state)
    if isinstance(value, np.random.RandomState):
        return repr(value.get_state())
    if isinstance(value, np.ndarray):
        return cast("np.ndarray[Any, Any]", value).copy()
    return value.getstate() if isinstance(value, random.Random) else None
