"""States of models and optimizers: plain containers of tensors, copied no more often than needed."""

__all__ = ["bytes_of", "mapped", "on_cpu", "saved_as_on_cpu", "without_foreign_memory"]

from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any, Final, cast

import torch
from torch import Tensor

_USED: Final = 0.9
"""Share of a block of memory that a state must use for the block to be saved as a whole."""
_FIRST: Final = 0
"""Priority before all of torch's own."""
_is_saving: ContextVar[bool] = ContextVar("is_saving", default=False)


def on_cpu(state: Any) -> Any:
    """Return a copy of a state with every tensor detached and on the CPU."""
    return _with_tensors(state, lambda tensor: tensor.detach().to("cpu", copy=True))


def without_foreign_memory(state: Any) -> Any:
    """Return a state whose tensors are detached, and copied only if they are a small part of their memory.

    torch saves a tensor with the whole block of memory that it is a part of. A block of which the state uses
    nearly everything, as that of an optimizer that keeps all moments in one tensor, is saved once for all of
    them. torch saves no block as two types, so tensors of a second type are copied too.
    """
    parts: dict[int, dict[tuple[int, int, torch.dtype], int]] = defaultdict(dict)
    for tensor in filter(_is_strided, _tensors(state)):
        part = int(tensor.storage_offset()), tensor.nbytes, tensor.dtype
        parts[_block(tensor)][part] = tensor.nbytes
    types = {block: next(iter(found))[2] for block, found in parts.items()}

    def alone(tensor: Tensor) -> Tensor:
        if not _is_strided(tensor):
            return tensor.detach()
        tensor, block = tensor.detach(), _block(tensor)
        used = sum(parts[block].values())
        is_whole = used >= _USED * tensor.untyped_storage().nbytes() and tensor.dtype == types[block]
        return tensor if is_whole else tensor.clone()

    return _with_tensors(state, alone)


@contextmanager
def saved_as_on_cpu() -> Generator[None]:
    """Let `torch.save` write tensors of any device as if they were on the CPU, one after the other.

    A file that names a GPU could not be read without one.
    """
    _register()
    token = _is_saving.set(True)
    try:
        yield
    finally:
        _is_saving.reset(token)


def mapped(file: Path) -> Tensor:
    """Return the bytes of a file, mapped into memory; the file may be deleted, but must not be changed."""
    size = file.stat().st_size
    if size == 0:
        return torch.empty(0, dtype=torch.uint8)
    return torch.from_file(str(file), shared=False, size=size, dtype=torch.uint8)


def bytes_of(state: Any) -> int:
    """Return the bytes of all tensors in a state."""
    return sum(tensor.nbytes for tensor in _tensors(state))


def _with_tensors(state: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(state, Tensor):
        return change(state)
    if isinstance(state, Mapping):
        items = cast("Mapping[Any, Any]", state).items()
        return {key: _with_tensors(value, change) for key, value in items}
    if isinstance(state, list | tuple):
        parts = [_with_tensors(part, change) for part in cast("Sequence[Any]", state)]
        return parts if isinstance(state, list) else tuple(parts)
    return state


def _tensors(state: Any) -> Iterator[Tensor]:
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, Mapping):
        for part in cast("Mapping[Any, Any]", state).values():
            yield from _tensors(part)
    elif isinstance(state, list | tuple):
        for part in cast("Sequence[Any]", state):
            yield from _tensors(part)


def _is_strided(tensor: Tensor) -> bool:
    return tensor.layout is torch.strided


def _block(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


@cache
def _register() -> None:
    torch.serialization.register_package(
        _FIRST, lambda _: "cpu" if _is_saving.get() else None, lambda _storage, _location: None
    )
