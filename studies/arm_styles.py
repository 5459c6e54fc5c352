"""The style of each arm on every page: a number that stands for a colour, a dash and a marker."""

__all__ = ["COLOURS", "style_numbers"]

import zlib
from collections import Counter
from collections.abc import Sequence
from typing import Final

COLOURS: Final = 8
"""Number of colours; style n has colour n modulo this."""

# The optimizers that are compared most, so that no two of them want the same colour.
_KNOWN: Final = ("adamp", "adamw", "sgdp", "sgd", "adam", "muon", "lion", "schedulefree-adamw")


def style_numbers(optimizers: Sequence[str]) -> tuple[int, ...]:
    """Return the style of each arm that is shown together.

    The colour belongs to the optimizer, so that it is the same on every page. Only if two optimizers of a
    page want the same colour, the later one takes the next free colour. Arms of one optimizer share its
    colour and differ in dash and marker.

    Args:
        optimizers: the names of the arms' optimizers, in order.
    """
    names = list(dict.fromkeys(optimizers))
    colours: dict[str, int] = {}
    # Optimizers with a colour of their own come first, so that no other takes it.
    for name in sorted(names, key=lambda name: name not in _KNOWN):
        wanted = _KNOWN.index(name) if name in _KNOWN else zlib.crc32(name.encode()) % COLOURS
        free = [
            colour for step in range(COLOURS) if (colour := (wanted + step) % COLOURS) not in colours.values()
        ]
        colours[name] = free[0] if free else wanted
    taken = Counter[int]()
    numbers: list[int] = []
    for name in optimizers:
        colour = colours[name]
        numbers.append(colour + COLOURS * taken[colour])
        taken[colour] += 1
    return tuple(numbers)
