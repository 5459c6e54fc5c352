"""The compiled half of the CPU path: sweep each tensor, decide about its projection, and finish the rest.

Letters as in `adamp._projection`: w weight, g gradient, u update. Of every row the sweep takes

    D = <w, g>    P = <w, w>    G = <g, g>    U = <w, u>

in the pass that updates the moments and computes u. The step is then w - (c w + alpha u), with

    channel  c = decay wd_ratio - alpha U / (sqrt(P) + eps)^2       U and P of the row
    none     c = decay
    layer    c = decay wd_ratio - alpha U / (sqrt(P) + eps)^2       U and P of the tensor

**One pass over memory, with deterministic bits.** Which of the three applies is known only when all rows have
been summed, and by then the first rows have left the cache. So the sweep writes each row immediately, in the
form that is still possible:

    early  rows of an item before the first one whose cosine is too large for the channel view: written as
           `channel`
    late   that row and all after it in the item, for which `channel` is impossible: written as
           `none`

If all rows pass, or the first one fails, as is nearly always the case, the result is final. Otherwise a
second sweep *walks* the row from the value written to the right one: with t = alpha u and c' the coefficient
it was written with, s = w + t and x = s + s c' / (1 - c') is the old weight except for rounding, and
x - (c x + t) the new one. The walk's rounding error is of the size of max(|w|, |alpha u|), like the step's
own. The form a row is written in, and so every bit of its final value, depends only on the data and on the
cut into items, which depends only on the shapes.

A tensor that was projected as a layer in its last step is assumed to be projected as one again. Its rows are
then left untouched, and the second sweep makes both moves at once, with the same operations. The guess
decides how often memory is read, not what is written. If a single thread steps the tensor and its updates are
few enough, they are kept, so that the second sweep reads w and u instead of g and the moments.

Held rows are left untouched under every guess and stepped directly: early rows whose walk would be inaccurate
(|c| not small, or a sum not finite), all rows if decay is not small, and rows too long for the cache, which
are cut into segments.

A late row that follows another late row needs no buffer for its updates: its coefficient is known before its
sums, and each tile is written as it is read.

Tiles are summed in the tensor's dtype; rows and layers in float64, in a fixed order. So the bits do not
depend on the number of threads.
"""

__all__ = [
    "DECIDE",
    "FINISH",
    "FLAT",
    "KEPT",
    "LAYER",
    "ROWS",
    "SEGMENT",
    "SEGMENT_LENGTH",
    "SWEEP",
    "WHOLE",
    "compiled_step",
]

import functools
import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
from numba import njit

from adamp import _numba_access, _numba_loops
from adamp._numba_access import function, inlined
from adamp._numba_loops import TILE, apply, apply_and_walk, make_update, step_moments, walk

# Kinds of item: elements of a tensor that is never projected, whole rows, or one segment of a row too long
# for the cache.
FLAT, ROWS, SEGMENT = 0, 1, 2
NONE, CHANNEL, LAYER = 0, 1, 2
# State of a row after the sweep: untouched and to be stepped directly, untouched and early or late, written
# as `channel` or as `none`.
HELD, EARLY, LATE, AT_CHANNEL, AT_NONE = 0, 1, 2, 3, 4
# Phases of a call: whole tensors, or one of the three parts of a step that threads share.
WHOLE, SWEEP, DECIDE, FINISH = 0, 1, 2, 3
SEGMENT_LENGTH = 16384
# Largest number of elements of a tensor whose updates are kept between the sweeps: a few MiB, which fit in
# the last level of the cache.
KEPT = 1 << 20


@inlined
def _coefficient(updates: Any, weights: Any, alpha: Any, group: Any) -> Any:
    """Return c of a projected row or layer: decay wd_ratio - alpha U / (sqrt(P) + eps)^2."""
    decay, wd_ratio, _, eps = group
    norm = math.sqrt(weights) + eps
    # Two divisions, because the squared norm may leave the range.
    return decay * wd_ratio - alpha * (updates / norm / norm)


@inlined
def _passes(dot: Any, weights: Any, grads: Any, length: Any, group: Any) -> Any:
    """Return whether |cos(g, w)| < delta / sqrt(length); false for NaN."""
    _, _, delta, eps = group
    return abs(dot / max(math.sqrt(weights), eps) / max(math.sqrt(grads), eps)) < delta / math.sqrt(length)


@inlined
def _row(sums: Any, slot: Any, segments: Any, like: Any) -> Any:
    """Return D, P, G and U of a row from those of its segments, rounded to the tensor's dtype.

    A sum that overflows this dtype becomes infinite.
    """
    dot, weights, grads, updates = 0.0, 0.0, 0.0, 0.0
    for segment in range(slot, slot + segments):
        dot += sums[segment, 0]
        weights += sums[segment, 1]
        grads += sums[segment, 2]
        updates += sums[segment, 3]
    number = like.dtype.type
    return float(number(dot)), float(number(weights)), float(number(grads)), float(number(updates))


@function
def _sweep_flat(
    kind: Any,
    arrays: Any,
    begin: Any,
    end: Any,
    alpha: Any,
    c: Any,
    root: Any,
    rule: Any,
    spare: Any,
    size: Any,
) -> None:
    """Step elements of a tensor that is never projected."""
    for tile in range(begin, end, TILE):
        step_moments(
            kind,
            arrays,
            tile * size,
            spare,
            min(TILE, end - tile),
            root,
            rule,
            arrays[0] + tile * size,
            alpha,
            c,
        )


@function
def _sweep_segment(
    kind: Any, arrays: Any, offset: Any, u: Any, count: Any, root: Any, rule: Any, spare: Any, size: Any
) -> Any:
    """Update the moments of a part of a row, leave its update in u, and return its D, P, G and U."""
    dot, weights, grads, updates = 0.0, 0.0, 0.0, 0.0
    for done in range(0, count * size, TILE * size):
        n = min(TILE, count - done // size)
        d, p, q, r = step_moments(kind, arrays, offset + done, u + done, n, root, rule, spare, root, root)
        dot += d
        weights += p
        grads += q
        updates += r
    return dot, weights, grads, updates


@inlined
def _stage(is_late: Any, guess: Any, c: Any, weights: Any, decay: Any) -> Any:
    """Return the state in which the sweep leaves a row."""
    if not decay < 0.5 or not (is_late or (abs(c) < 0.5 and math.isfinite(weights))):
        return HELD
    if guess == LAYER:
        return LATE if is_late else EARLY
    return AT_NONE if is_late else AT_CHANNEL


@function
def _sweep_rows(
    kind: Any,
    arrays: Any,
    item: Any,
    length: Any,
    slot: Any,
    guess: Any,
    is_kept: Any,
    memory: Any,
    alpha: Any,
    group: Any,
    root: Any,
    rule: Any,
    spare: Any,
    u: Any,
) -> None:
    """Sweep the rows of an item.

    After one row has ruled out the channel view, the rows after it are written without waiting for their
    sums.
    """
    sums, stages, like = memory
    number, size, (begin, end) = like.dtype.type, like.itemsize, item
    rate, decay, is_late = number(alpha), number(group[0]), False
    for row in range(begin, end):
        start, place = row * length * size, slot + row
        room = u + start if is_kept else u
        is_straight = is_late and guess != LAYER and group[0] < 0.5
        dot, weights, grads, updates = 0.0, 0.0, 0.0, 0.0
        for tile in range(0, length, TILE):
            done = tile * size
            left, made = (spare, arrays[0] + start + done) if is_straight else (room + done, spare)
            d, p, q, r = step_moments(
                kind, arrays, start + done, left, min(TILE, length - tile), root, rule, made, rate, decay
            )
            dot += d
            weights += p
            grads += q
            updates += r
        sums[place, 0], sums[place, 1], sums[place, 2], sums[place, 3] = dot, weights, grads, updates
        dot, weights, grads, updates = _row(sums, place, 1, like)
        if is_straight:
            stages[place] = AT_NONE
            continue
        is_late = is_late or not _passes(dot, weights, grads, length, group)
        c = _coefficient(updates, weights, alpha, group)
        stages[place] = _stage(is_late, guess, c, weights, group[0])
        if stages[place] in (AT_CHANNEL, AT_NONE):
            apply(arrays[0] + start, room, length, rate, decay if is_late else number(c))


@function
def _sweep_item(
    kind: Any, item: Any, table: Any, scalars: Any, memory: Any, group: Any, rule: Any, scratch: Any
) -> None:
    tensor, begin, end, shape = item
    views, sums, stages, is_kept, _ = memory
    arrays = (table[tensor, 0], table[tensor, 1], table[tensor, 2], table[tensor, 3])
    length, slot, segments = table[tensor, 5], table[tensor, 6], table[tensor, 7]
    alpha, number = scalars[tensor, 0], scratch.dtype.type
    root, spare, size = number(scalars[tensor, 1]), np.int64(scratch.ctypes.data), scratch.itemsize
    u = spare + TILE * size
    if shape == FLAT:
        _sweep_flat(kind, arrays, begin, end, number(alpha), number(group[0]), root, rule, spare, size)
    elif shape == SEGMENT:
        offset, place = (begin * length + end * SEGMENT_LENGTH) * size, slot + begin * segments + end
        count = min(SEGMENT_LENGTH, length - end * SEGMENT_LENGTH)
        room = u + offset if is_kept[tensor] else u
        sums[place, 0], sums[place, 1], sums[place, 2], sums[place, 3] = _sweep_segment(
            kind, arrays, offset, room, count, root, rule, spare, size
        )
        stages[place] = HELD
    else:
        rows = (sums, stages, scratch)
        _sweep_rows(
            kind,
            arrays,
            (begin, end),
            length,
            slot,
            views[tensor],
            is_kept[tensor] != 0,
            rows,
            alpha,
            group,
            root,
            rule,
            spare,
            u,
        )


@inlined
def _is_done(stage: Any, view: Any) -> Any:
    return (view == CHANNEL and stage == AT_CHANNEL) or (view == NONE and stage == AT_NONE)


@function
def _decide(tensor: Any, table: Any, scalars: Any, memory: Any, group: Any, like: Any) -> None:
    """Record a tensor's view, its layer's coefficient, and whether some rows still need the second sweep."""
    views, sums, stages, _, is_unfinished = memory
    rows, length, slot, segments = table[tensor, 4], table[tensor, 5], table[tensor, 6], table[tensor, 7]
    dot, weights, grads, updates = 0.0, 0.0, 0.0, 0.0
    view = CHANNEL
    for row in range(rows):
        d, p, q, u = _row(sums, slot + row * segments, segments, like)
        if not _passes(d, p, q, length, group):
            view = NONE
        dot += d
        weights += p
        grads += q
        updates += u
    number = like.dtype.type
    dot, weights, grads = float(number(dot)), float(number(weights)), float(number(grads))
    if view == NONE and _passes(dot, weights, grads, rows * length, group):
        view = LAYER
    views[tensor] = view
    scalars[tensor, 2] = _coefficient(float(number(updates)), weights, scalars[tensor, 0], group)
    is_unfinished[tensor] = 0
    for place in range(slot, slot + rows * segments):
        if not _is_done(stages[place], view):
            is_unfinished[tensor] = 1
            break


@inlined
def _finish(
    w: Any,
    u: Any,
    count: Any,
    stage: Any,
    view: Any,
    alpha: Any,
    channel: Any,
    decay: Any,
    layer: Any,
    like: Any,
) -> None:
    """Bring elements of a row from the state the sweep left them in to the one that was decided.

    c is channel, decay or layer, depending on the view.
    """
    number = like.dtype.type
    rate = number(alpha)
    end = channel if view == CHANNEL else decay if view == NONE else layer
    start = channel if stage in (EARLY, AT_CHANNEL) else decay
    if stage == HELD:
        apply(w, u, count, rate, number(end))
    elif (stage == EARLY and view == CHANNEL) or (stage == LATE and view == NONE):
        apply(w, u, count, rate, number(start))
    elif stage in (EARLY, LATE):
        apply_and_walk(w, u, count, rate, number(start), number(start / (1 - start)), number(end))
    else:
        walk(w, u, count, rate, number(start / (1 - start)), number(end))


@function
def _finish_item(
    kind: Any, item: Any, table: Any, scalars: Any, memory: Any, group: Any, rule: Any, scratch: Any
) -> None:
    tensor, begin, end, shape = item
    views, sums, stages, is_kept, _ = memory
    arrays = (table[tensor, 0], table[tensor, 1], table[tensor, 2], table[tensor, 3])
    length, slot, segments = table[tensor, 5], table[tensor, 6], table[tensor, 7]
    alpha, root, layer = scalars[tensor, 0], scratch.dtype.type(scalars[tensor, 1]), scalars[tensor, 2]
    view = views[tensor]
    for row in range(begin, begin + 1 if shape == SEGMENT else end):
        place, first, last = slot + row * segments, row * length, (row + 1) * length
        if shape == SEGMENT:
            first += end * SEGMENT_LENGTH
            last = min(last, first + SEGMENT_LENGTH)
        if _is_done(stages[place], view):
            continue
        _, weights, _, updates = _row(sums, place, segments, scratch)
        c = _coefficient(updates, weights, alpha, group)
        for tile in range(first, last, TILE):
            count, offset, u = (
                min(TILE, last - tile),
                tile * scratch.itemsize,
                np.int64(scratch.ctypes.data) + TILE * scratch.itemsize,
            )
            if is_kept[tensor]:
                u += offset
            else:
                make_update(kind, arrays, offset, u, count, root, rule)
            _finish(arrays[0] + offset, u, count, stages[place], view, alpha, c, group[0], layer, scratch)


@function
def _step_whole(
    kind: Any,
    tensor: Any,
    items: Any,
    table: Any,
    scalars: Any,
    memory: Any,
    group: Any,
    rule: Any,
    scratch: Any,
) -> None:
    """Take a tensor through all three parts of its step, while the cache may still hold it."""
    views, _, _, is_kept, is_unfinished = memory
    segments, elements = table[tensor, 7], table[tensor, 4] * table[tensor, 5]
    is_kept[tensor] = (
        segments > 0 and elements <= scratch.size - TILE and (views[tensor] == LAYER or segments > 1)
    )
    is_unfinished[tensor] = 0
    for index in range(table[tensor, 8], table[tensor, 9]):
        item = (items[index, 0], items[index, 1], items[index, 2], items[index, 3])
        _sweep_item(kind, item, table, scalars, memory, group, rule, scratch)
    if segments > 0:
        _decide(tensor, table, scalars, memory, group, scratch)
    if is_unfinished[tensor]:
        for index in range(table[tensor, 8], table[tensor, 9]):
            item = (items[index, 0], items[index, 1], items[index, 2], items[index, 3])
            _finish_item(kind, item, table, scalars, memory, group, rule, scratch)


# numba's cache notices changes of this file, but not of the modules it imports. A default value is part of
# the signature and so of the cache key.
_SOURCE = zlib.crc32(
    b"".join(Path(module.__file__ or "").read_bytes() for module in (_numba_access, _numba_loops))
)


def _step(
    phase: Any,
    kind: Any,
    first: Any,
    last: Any,
    items: Any,
    table: Any,
    scalars: Any,
    numbers: Any,
    views: Any,
    sums: Any,
    stages: Any,
    marks: Any,
    scratch: Any,
    _source: Any = _SOURCE,
) -> None:
    number = scratch.dtype.type
    sign, keep, take, keep_second, take_second, eps = (
        numbers[0],
        numbers[1],
        numbers[2],
        numbers[3],
        numbers[4],
        numbers[5],
    )
    nesterov = numbers[6] != 0
    stay, look = (keep, take) if nesterov else (1.0, 0.0)
    moments = (number(keep), number(take), number(keep_second), number(take_second))
    rule = (number(sign), *moments, number(eps), number(stay), number(look), nesterov)
    group = (numbers[7], numbers[8], numbers[9], numbers[10])
    is_kept, is_unfinished = marks[0], marks[1]
    memory = (views, sums, stages, is_kept, is_unfinished)
    if phase == DECIDE:
        for tensor in range(first, last):
            if table[tensor, 7]:
                _decide(tensor, table, scalars, memory, group, scratch)
    elif phase == WHOLE:
        for tensor in range(first, last):
            _step_whole(kind, tensor, items, table, scalars, memory, group, rule, scratch)
    else:
        for index in range(first, last):
            item = (items[index, 0], items[index, 1], items[index, 2], items[index, 3])
            is_kept[item[0]] = 0
            if phase == SWEEP:
                _sweep_item(kind, item, table, scalars, memory, group, rule, scratch)
            elif item[3] != FLAT and is_unfinished[item[0]]:
                _finish_item(kind, item, table, scalars, memory, group, rule, scratch)


@functools.cache
def compiled_step() -> Callable[..., None]:
    """Return the compiled `_step`, from the cache on disk if there is one.

    The cache is next to this file, or in the user's cache folder if this folder is not writable. If neither
    is writable, each process compiles the function itself.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        return cast("Callable[..., None]", njit(cache=True, **options)(_step))
    except RuntimeError:
        return cast("Callable[..., None]", njit(**options)(_step))
