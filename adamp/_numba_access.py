"""Access to tensors in the CPU's kernels: by address, in loops that vectorise."""

__all__ = [
    "function",
    "inlined",
    "load_g",
    "load_m",
    "load_u",
    "load_v",
    "load_w",
    "plus",
    "store_m",
    "store_n",
    "store_u",
    "store_v",
    "store_w",
    "times",
]

from collections.abc import Callable
from typing import Any, cast

from numba import njit, types
from numba.extending import intrinsic

# n are the new weights. They may share w's memory: each new weight overwrites the old one it was computed
# from, which is not read again.
_ARRAYS = ("w", "g", "m", "v", "u", "n")
function = cast("Callable[[Callable[..., Any]], Callable[..., Any]]", njit(nogil=True, error_model="numpy"))
# For functions called once per row: a call would cost more than a short row.
inlined = cast(
    "Callable[[Callable[..., Any]], Callable[..., Any]]",
    njit(nogil=True, error_model="numpy", forceinline=True),
)
_intrinsic = cast("Callable[[Callable[..., Any]], Callable[..., Any]]", intrinsic)


def _element(context: Any, builder: Any, number: Any, address: Any, index: Any) -> Any:
    """Return a pointer to element `index` of the array at `address`, of elements of type `number`."""
    return builder.gep(
        builder.inttoptr(address, context.get_value_type(number).as_pointer()), [index], inbounds=True
    )


def _tag(builder: Any, instruction: Any, name: str) -> Any:
    """Promise that no two of a tensor's arrays overlap.

    Checking it for each row would cost more than a short row itself.
    """
    module = builder.module
    domain = module.add_metadata(["adamp"])
    scopes = {other: module.add_metadata([f"adamp.{other}", domain]) for other in _ARRAYS}
    instruction.set_metadata("alias.scope", module.add_metadata([scopes[name]]))
    instruction.set_metadata(
        "noalias", module.add_metadata([scopes[other] for other in _ARRAYS if other != name])
    )
    return instruction


def _access(name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return load(address, index, like) and store(address, index, value) for the array of that name.

    `load` returns an element of the type of `like`.
    """

    def load(_typing: Any, address: Any, index: Any, like: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            place = _element(context, builder, like, args[0], args[1])
            return _tag(builder, builder.load(place, align=like.bitwidth // 8), name)

        return like(address, index, like), generate

    def store(_typing: Any, address: Any, index: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            place = _element(context, builder, value, args[0], args[1])
            _tag(builder, builder.store(args[2], place, align=value.bitwidth // 8), name)

        return types.void(address, index, value), generate

    return _intrinsic(load), _intrinsic(store)


load_w, store_w = _access("w")
load_g, _ = _access("g")
load_m, store_m = _access("m")
load_v, store_v = _access("v")
load_u, store_u = _access("u")
_, store_n = _access("n")


@_intrinsic
def plus(_typing: Any, total: Any, _term: Any) -> Any:
    """Return a sum that the compiler may reassociate with others of its kind."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.fadd(args[0], args[1], flags=("reassoc", "contract", "nsz"))

    return total(total, total), generate


@_intrinsic
def times(_typing: Any, left: Any, _right: Any) -> Any:
    """Return a product that the compiler may fuse with the sum that it enters."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.fmul(args[0], args[1], flags=("contract",))

    return left(left, left), generate
