# Triton's language lacks the types for a strict check, and accepts numbers and dtypes as constexpr.
# pyright: basic, reportArgumentType=false
"""The Triton kernels of AdamP and SGDP: sums, decision, update.

`adamp._triton` explains their sequence, and `_triton_plan` fills the tables.

Importing this needs Triton. Letters: w weight, g gradient, m first moment (or momentum buffer), v second
moment, u update before the projection. A row may be cut into parts; every part of every row has one slot in
each of the four planes of `sums`.
"""

__all__ = ["apply", "decide", "settle", "sum_rows", "update"]

import triton
import triton.language as tl

# The fields that `_triton_plan.TritonPlan` stores for each tensor, int64: four addresses, then the shape.
FIELDS = tl.constexpr(9)
WEIGHT = tl.constexpr(0)
FIRST = tl.constexpr(1)
SECOND = tl.constexpr(2)
STEP = tl.constexpr(3)
COUNT = tl.constexpr(4)  # rows; 0 for an empty tensor
LENGTH = tl.constexpr(5)  # elements of a row
SPAN = tl.constexpr(6)  # elements of a part of a row
SLOT = tl.constexpr(7)  # the tensor's first slot; -1 if it is never projected
PARTS = tl.constexpr(8)  # parts per row

# The hyperparameters, float64, in the order of `_triton.Hyperparameters`.
LR = tl.constexpr(0)
KEEP = tl.constexpr(1)
TAKE = tl.constexpr(2)
LOOK = tl.constexpr(3)
KEEP_SECOND = tl.constexpr(4)
TAKE_SECOND = tl.constexpr(5)
LOG_BETA1 = tl.constexpr(6)
LOG_BETA2 = tl.constexpr(7)
EPS = tl.constexpr(8)
DECAY = tl.constexpr(9)
DELTA = tl.constexpr(10)
WD_RATIO = tl.constexpr(11)

# The planes of `sums`. After the decision, `settle` overwrites the first with the rows' coefficients.
DOT = tl.constexpr(0)
WEIGHT_SQUARE = tl.constexpr(1)
GRAD_SQUARE = tl.constexpr(2)
RADIAL = tl.constexpr(3)

# The results of `decide` for each tensor: the view, and four coefficients.
NONE = tl.constexpr(0)
CHANNEL = tl.constexpr(1)
LAYER = tl.constexpr(2)
SCALARS = tl.constexpr(4)
ALPHA = tl.constexpr(0)  # length of the step along u
UNBIAS = tl.constexpr(1)  # 1 / sqrt(1 - beta2^t)
LOSS = tl.constexpr(2)  # share of w that decays
NORM = tl.constexpr(3)  # norm(w) + eps of the layer


@triton.jit
def _is_skipped(found_inf):
    """Return whether AMP's scaler found a gradient that is not finite."""
    return False if found_inf is None else tl.load(found_inf) != 0


@triton.jit
def _field(table, tensor, FIELD: tl.constexpr):
    return tl.load(table + tensor * FIELDS + FIELD)


@triton.jit
def _at(address, offset, DTYPE: tl.constexpr, VECTOR: tl.constexpr):
    """Return a pointer to an element.

    If VECTOR is above 1, it is aligned to 16 bytes, so that lanes may load that many elements at once.
    """
    pointer = address.to(tl.pointer_type(DTYPE), bitcast=True) + offset
    if VECTOR > 1:
        # The hint is on the sum because Triton 3.6 loses it on a pointer made from a number.
        pointer = tl.multiple_of(pointer, 16)
    return pointer


@triton.jit
def _place(table, tensor, row, part, ROWS: tl.constexpr, VECTOR: tl.constexpr):
    """Return a tile's offset in its tensor, each row's offset in the tile [ROWS, 1], and the part's width.

    All are multiples of VECTOR. Inside a tile, 32-bit offsets are enough and need half the registers.
    """
    length, span = (
        tl.multiple_of(_field(table, tensor, LENGTH), VECTOR),
        tl.multiple_of(_field(table, tensor, SPAN), VECTOR),
    )
    begin = part.to(tl.int64) * span
    width = tl.minimum(span, length - begin).to(tl.int32)
    stride = tl.multiple_of(length.to(tl.int32), VECTOR)
    return (
        row.to(tl.int64) * length + begin,
        tl.arange(0, ROWS)[:, None] * stride,
        tl.multiple_of(width, VECTOR),
    )


@triton.jit
def _gradient(pointer, inside, grad_scale, MAXIMIZE: tl.constexpr, ACC: tl.constexpr):
    g = tl.load(pointer, inside, 0.0).to(ACC)
    if grad_scale is not None:
        g = g / tl.load(grad_scale).to(ACC)
    return -g if MAXIMIZE else g


@triton.jit
def _update_of(m, v, g, hyper, unbias, ADAM: tl.constexpr, NESTEROV: tl.constexpr, ACC: tl.constexpr):
    """Return u computed from the stored (rounded) moments, so that a later pass computes the same u."""
    u = m
    if NESTEROV:
        u = tl.load(hyper + KEEP).to(ACC) * m + tl.load(hyper + LOOK).to(ACC) * g
    if ADAM:
        u = u / (tl.sqrt(v) * unbias + tl.load(hyper + EPS).to(ACC))
    return u


@triton.jit
def _stepped(w, u, coefficient, alpha):
    """Return w + coefficient w - alpha u; adding the coefficient to 1 first would round away most of it."""
    return w + (coefficient * w - alpha * u)


@triton.jit(do_not_specialize=["first", "slots"])
def sum_rows(
    table, grads, items, first, sums, slots, grad_scale, found_inf,
    W: tl.constexpr, G: tl.constexpr, ACC: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, VECTOR: tl.constexpr,
):  # fmt: skip
    """Sum <w, g>, <w, w> and <g, g> over one part of each of ROWS rows.

    The test does not depend on the gradient's sign.
    """
    if _is_skipped(found_inf):
        return
    item = items + 3 * (first + tl.program_id(0))
    tensor, first_row, part = tl.load(item), tl.load(item + 1), tl.load(item + 2)
    row = first_row + tl.arange(0, ROWS)
    rows = row < _field(table, tensor, COUNT).to(tl.int32)
    base, place, width = _place(table, tensor, first_row, part, ROWS, VECTOR)
    weight = _at(_field(table, tensor, WEIGHT), base, W, VECTOR)
    grad = _at(tl.load(grads + tensor), base, G, VECTOR)
    dot = tl.zeros([ROWS, COLUMNS], ACC)
    weight_square = tl.zeros([ROWS, COLUMNS], ACC)
    grad_square = tl.zeros([ROWS, COLUMNS], ACC)
    for begin in range(0, width, COLUMNS):
        column = begin + tl.arange(0, COLUMNS)[None, :]
        inside = rows[:, None] & (column < width)
        at = place + column
        w = tl.load(weight + at, inside, 0.0).to(ACC)
        g = _gradient(grad + at, inside, grad_scale, MAXIMIZE=False, ACC=ACC)
        dot += w * g
        weight_square += w * w
        grad_square += g * g
    slot = sums + _field(table, tensor, SLOT) + row * _field(table, tensor, PARTS).to(tl.int32) + part
    tl.store(slot + DOT * slots, tl.sum(dot, 1), rows)
    tl.store(slot + WEIGHT_SQUARE * slots, tl.sum(weight_square, 1), rows)
    tl.store(slot + GRAD_SQUARE * slots, tl.sum(grad_square, 1), rows)


@triton.jit(do_not_specialize=["slots"])
def decide(
    table, hyper, lr, found_inf, sums, slots, views, scalars,
    ADAM: tl.constexpr, PROJECTS: tl.constexpr, ACC: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Count the step of one tensor and find its view and coefficients."""
    if _is_skipped(found_inf):
        return
    tensor = tl.program_id(0)
    alpha = tl.load(hyper + LR) if lr is None else tl.load(lr).to(tl.float64)
    loss = alpha * tl.load(hyper + DECAY)
    if ADAM:
        steps = _at(_field(table, tensor, STEP), 0, tl.float32, 1)
        step = tl.load(steps) + 1
        tl.store(steps, step)
        # float64, because 1 - 0.999 would keep only four digits in float32.
        alpha = alpha / (1 - tl.exp(step.to(tl.float64) * tl.load(hyper + LOG_BETA1)))
        unbias = 1 / tl.sqrt(1 - tl.exp(step.to(tl.float64) * tl.load(hyper + LOG_BETA2)))
        tl.store(scalars + tensor * SCALARS + UNBIAS, unbias.to(ACC))
    view = NONE
    if PROJECTS:
        first = _field(table, tensor, SLOT)
        if first >= 0:
            count, parts = (
                _field(table, tensor, COUNT).to(tl.int32),
                _field(table, tensor, PARTS).to(tl.int32),
            )
            length = _field(table, tensor, LENGTH)
            eps, delta = tl.load(hyper + EPS).to(ACC), tl.load(hyper + DELTA)
            row_bound = (delta / tl.sqrt(length.to(tl.float64))).to(ACC)
            layer_bound = (delta / tl.sqrt((length * count).to(tl.float64))).to(ACC)
            dots = tl.zeros([BLOCK], ACC)
            weight_squares = tl.zeros([BLOCK], ACC)
            grad_squares = tl.zeros([BLOCK], ACC)
            failures = tl.zeros([BLOCK], tl.int32)
            for begin in range(0, count, BLOCK):
                row = begin + tl.arange(0, BLOCK)
                inside = row < count
                dot = tl.zeros([BLOCK], ACC)
                weight_square = tl.zeros([BLOCK], ACC)
                grad_square = tl.zeros([BLOCK], ACC)
                for part in range(parts):
                    slot = sums + first + row * parts + part
                    dot += tl.load(slot + DOT * slots, inside, 0.0)
                    weight_square += tl.load(slot + WEIGHT_SQUARE * slots, inside, 0.0)
                    grad_square += tl.load(slot + GRAD_SQUARE * slots, inside, 0.0)
                # Negated, because a NaN compares false and its row must fail.
                failures += tl.where(
                    inside & ~(_cosine(dot, weight_square, grad_square, eps) < row_bound), 1, 0
                )
                dots += dot
                weight_squares += weight_square
                grad_squares += grad_square
            weight_square = tl.sum(weight_squares)
            if tl.sum(failures) == 0:
                view = CHANNEL
            elif _cosine(tl.sum(dots), weight_square, tl.sum(grad_squares), eps) < layer_bound:
                view = LAYER
            tl.store(scalars + tensor * SCALARS + NORM, tl.sqrt(weight_square) + eps)
        tl.store(views + tensor, view)
        if view != NONE:
            loss = loss * tl.load(hyper + WD_RATIO)
    tl.store(scalars + tensor * SCALARS + ALPHA, alpha.to(ACC))
    tl.store(scalars + tensor * SCALARS + LOSS, loss.to(ACC))


@triton.jit
def _cosine(dot, weight_square, grad_square, eps):
    """Return |cos|, dividing by one norm after the other: their product could overflow or underflow."""
    return tl.abs(dot / tl.maximum(tl.sqrt(weight_square), eps) / tl.maximum(tl.sqrt(grad_square), eps))


@triton.jit(do_not_specialize=["first", "slots"])
def update(
    table, grads, hyper, items, first, sums, slots, views, scalars, grad_scale, found_inf,
    W: tl.constexpr, G: tl.constexpr, M: tl.constexpr, ACC: tl.constexpr,
    ADAM: tl.constexpr, NESTEROV: tl.constexpr, MAXIMIZE: tl.constexpr, PROJECTS: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, VECTOR: tl.constexpr,
):  # fmt: skip
    """Update the moments of one part of each of ROWS rows, and their weights if their sums are known.

    The weights are left if their coefficient depends on sums over parts that other programs process.
    """
    if _is_skipped(found_inf):
        return
    # Reverse order, because the elements that `sum_rows` read last are still in the cache.
    item = items + 3 * (first + tl.num_programs(0) - 1 - tl.program_id(0))
    tensor, first_row, part = tl.load(item), tl.load(item + 1), tl.load(item + 2)
    row = first_row + tl.arange(0, ROWS)
    rows = row < _field(table, tensor, COUNT).to(tl.int32)
    base, place, width = _place(table, tensor, first_row, part, ROWS, VECTOR)
    weight = _at(_field(table, tensor, WEIGHT), base, W, VECTOR)
    grad = _at(tl.load(grads + tensor), base, G, VECTOR)
    first_moment = _at(_field(table, tensor, FIRST), base, M, VECTOR)
    second_moment = _at(_field(table, tensor, SECOND), base, M, VECTOR)
    alpha = tl.load(scalars + tensor * SCALARS + ALPHA)
    unbias = tl.load(scalars + tensor * SCALARS + UNBIAS)
    loss = tl.load(scalars + tensor * SCALARS + LOSS)
    keep, take = tl.load(hyper + KEEP).to(ACC), tl.load(hyper + TAKE).to(ACC)
    keep_second, take_second = tl.load(hyper + KEEP_SECOND).to(ACC), tl.load(hyper + TAKE_SECOND).to(ACC)
    view = tl.load(views + tensor) if PROJECTS else tl.full([], 0, tl.int32)
    final_width = tl.multiple_of(tl.where(view == NONE, width, 0), VECTOR)
    radial = tl.zeros([ROWS, COLUMNS], ACC)
    for begin in range(0, width, COLUMNS):
        column = begin + tl.arange(0, COLUMNS)[None, :]
        inside = rows[:, None] & (column < width)
        at = place + column
        w = tl.load(weight + at, inside, 0.0).to(ACC)
        g = _gradient(grad + at, inside, grad_scale, MAXIMIZE, ACC)
        m = (keep * tl.load(first_moment + at, inside, 0.0).to(ACC) + take * g).to(M)
        tl.store(first_moment + at, m, inside)
        v = m
        if ADAM:
            v = (keep_second * tl.load(second_moment + at, inside, 0.0).to(ACC) + take_second * g * g).to(M)
            tl.store(second_moment + at, v, inside)
        u = _update_of(m.to(ACC), v.to(ACC), g, hyper, unbias, ADAM, NESTEROV, ACC)
        # A lane outside has u = 0 / eps, which is NaN for an eps of 0.
        radial += tl.where(inside, w * u, 0.0)
        tl.store(weight + at, _stepped(w, u, -loss, alpha).to(W), rows[:, None] & (column < final_width))
    if PROJECTS and view != NONE:
        parts = _field(table, tensor, PARTS).to(tl.int32)
        slot = sums + _field(table, tensor, SLOT) + row * parts + part
        radial_sum = tl.sum(radial, 1)
        if view == LAYER or parts > 1:
            tl.store(slot + RADIAL * slots, radial_sum, rows)
        else:
            norm = tl.sqrt(tl.load(slot + WEIGHT_SQUARE * slots, rows, 0.0)) + tl.load(hyper + EPS).to(ACC)
            coefficient = (alpha * radial_sum / norm / norm - loss)[:, None]
            # A lane may read back moments that another lane wrote.
            tl.debug_barrier()
            for begin in range(0, width, COLUMNS):
                column = begin + tl.arange(0, COLUMNS)[None, :]
                inside = rows[:, None] & (column < width)
                at = place + column
                w = tl.load(weight + at, inside, 0.0).to(ACC)
                m = tl.load(first_moment + at, inside, 0.0).to(ACC)
                v, g = m, m
                if ADAM:
                    v = tl.load(second_moment + at, inside, 0.0).to(ACC)
                if NESTEROV:
                    g = _gradient(grad + at, inside, grad_scale, MAXIMIZE, ACC)
                u = _update_of(m, v, g, hyper, unbias, ADAM, NESTEROV, ACC)
                tl.store(weight + at, _stepped(w, u, coefficient, alpha).to(W), inside)


@triton.jit(do_not_specialize=["slots"])
def settle(table, hyper, found_inf, sums, slots, views, scalars, ACC: tl.constexpr, BLOCK: tl.constexpr):
    """Compute the coefficient of each row of a tensor that `update` left, from the sums of its parts."""
    if _is_skipped(found_inf):
        return
    tensor = tl.program_id(0)
    view, parts = tl.load(views + tensor), _field(table, tensor, PARTS).to(tl.int32)
    if view == LAYER or (view == CHANNEL and parts > 1):
        count, first = _field(table, tensor, COUNT).to(tl.int32), _field(table, tensor, SLOT)
        alpha, loss = tl.load(scalars + tensor * SCALARS + ALPHA), tl.load(scalars + tensor * SCALARS + LOSS)
        eps = tl.load(hyper + EPS).to(ACC)
        norm = tl.load(scalars + tensor * SCALARS + NORM)
        radials = tl.zeros([BLOCK], ACC)
        if view == LAYER:
            for begin in range(0, count * parts, BLOCK):
                slot = begin + tl.arange(0, BLOCK)
                radials += tl.load(sums + first + slot + RADIAL * slots, slot < count * parts, 0.0)
        layer_coefficient = alpha * tl.sum(radials) / norm / norm - loss
        for begin in range(0, count, BLOCK):
            row = begin + tl.arange(0, BLOCK)
            inside = row < count
            slot = sums + first + row * parts
            weight_square = tl.zeros([BLOCK], ACC)
            radial = tl.zeros([BLOCK], ACC)
            for part in range(parts):
                weight_square += tl.load(slot + part + WEIGHT_SQUARE * slots, inside, 0.0)
                radial += tl.load(slot + part + RADIAL * slots, inside, 0.0)
            row_norm = tl.sqrt(weight_square) + eps
            row_coefficient = alpha * radial / row_norm / row_norm - loss
            tl.store(slot + DOT * slots, tl.where(view == LAYER, layer_coefficient, row_coefficient), inside)


@triton.jit
def apply(
    table, grads, hyper, chunks, sums, views, scalars, grad_scale, found_inf,
    W: tl.constexpr, G: tl.constexpr, M: tl.constexpr, ACC: tl.constexpr,
    ADAM: tl.constexpr, NESTEROV: tl.constexpr, MAXIMIZE: tl.constexpr,
    CHUNK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Update the weights of one chunk, CHUNK elements that may span rows, of a tensor that `update` left."""
    if _is_skipped(found_inf):
        return
    tensor, chunk = tl.load(chunks + 2 * tl.program_id(0)), tl.load(chunks + 2 * tl.program_id(0) + 1)
    view, parts = tl.load(views + tensor), _field(table, tensor, PARTS).to(tl.int32)
    if view == LAYER or (view == CHANNEL and parts > 1):
        length = _field(table, tensor, LENGTH)
        size = length * _field(table, tensor, COUNT)
        weight = _at(_field(table, tensor, WEIGHT), 0, W, 1)
        grad = _at(tl.load(grads + tensor), 0, G, 1)
        first_moment = _at(_field(table, tensor, FIRST), 0, M, 1)
        second_moment = _at(_field(table, tensor, SECOND), 0, M, 1)
        coefficients = sums + DOT + _field(table, tensor, SLOT)
        alpha, unbias = (
            tl.load(scalars + tensor * SCALARS + ALPHA),
            tl.load(scalars + tensor * SCALARS + UNBIAS),
        )
        begin = chunk.to(tl.int64) * CHUNK
        for offset in range(0, tl.minimum(CHUNK, size - begin).to(tl.int32), BLOCK):
            place = begin + offset + tl.arange(0, BLOCK)
            inside = place < size
            coefficient = tl.load(coefficients + (place // length) * parts, inside, 0.0)
            w = tl.load(weight + place, inside, 0.0).to(ACC)
            m = tl.load(first_moment + place, inside, 0.0).to(ACC)
            v, g = m, m
            if ADAM:
                v = tl.load(second_moment + place, inside, 0.0).to(ACC)
            if NESTEROV:
                g = _gradient(grad + place, inside, grad_scale, MAXIMIZE, ACC)
            u = _update_of(m, v, g, hyper, unbias, ADAM, NESTEROV, ACC)
            tl.store(weight + place, _stepped(w, u, coefficient, alpha).to(W), inside)
