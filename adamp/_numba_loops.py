"""The compiled loops over the elements of a tile: vectorised, with no branches on data.

Letters: w weight, g gradient, m and v the moments (SGDP: m the buffer), u the update; x is g with its sign.
Elementwise arithmetic is strict: a loop that computes u again must give the same bits. Only the additions of
the four sums may be reassociated, so that they vectorise; nothing is assumed about NaN and infinity.

A `rule` is (sign, keep, take, keep_second, take_second, eps, stay, look, nesterov) in the tensor's dtype: m =
keep m + take x, v = keep_second v + take_second x^2; AdamP's u is (stay m + look x) / (root sqrt(v) + eps),
SGDP's m, or x + keep m with `nesterov`. Every letter is an address, of `count` numbers of the rule's dtype.
"""

__all__ = ["ADAM", "SGD", "TILE", "apply", "apply_and_walk", "make_update", "step_moments", "walk"]

from typing import Any

import numpy as np

from adamp._numba_access import (
    function,
    inlined,
    load_g,
    load_m,
    load_u,
    load_v,
    load_w,
    plus,
    store_m,
    store_n,
    store_u,
    store_v,
    store_w,
    times,
)

ADAM, SGD = 0, 1
TILE = 1024


@function
def _adam(
    w: Any, g: Any, m: Any, v: Any, u: Any, count: Any, root: Any, rule: Any, n: Any, alpha: Any, c: Any
) -> Any:
    sign, keep, take, keep_second, take_second, eps, stay, look, _ = rule
    zero = root - root
    dot, weights, grads, updates = zero, zero, zero, zero
    for i in range(count):
        x = load_g(g, i, zero) * sign
        a = load_m(m, i, zero) * keep + x * take
        b = load_v(v, i, zero) * keep_second + x * x * take_second
        store_m(m, i, a)
        store_v(v, i, b)
        y = (a * stay + x * look) / (np.sqrt(b) * root + eps)
        z = load_w(w, i, zero)
        store_u(u, i, y)
        store_n(n, i, z - (c * z + alpha * y))
        dot = plus(dot, times(z, x))
        weights = plus(weights, times(z, z))
        grads = plus(grads, times(x, x))
        updates = plus(updates, times(z, y))
    return dot, weights, grads, updates


@function
def _adam_again(g: Any, m: Any, v: Any, u: Any, count: Any, root: Any, rule: Any) -> None:
    sign, _, _, _, _, eps, stay, look, _ = rule
    for i in range(count):
        store_u(
            u,
            i,
            (load_m(m, i, eps) * stay + load_g(g, i, eps) * sign * look)
            / (np.sqrt(load_v(v, i, eps)) * root + eps),
        )


@function
def _sgd(w: Any, g: Any, m: Any, u: Any, count: Any, rule: Any, n: Any, alpha: Any, c: Any) -> Any:
    sign, keep, take, _, _, _, _, _, nesterov = rule
    zero = sign - sign
    dot, weights, grads, updates = zero, zero, zero, zero
    for i in range(count):
        x = load_g(g, i, zero) * sign
        a = load_m(m, i, zero) * keep + x * take
        store_m(m, i, a)
        y = x + a * keep if nesterov else a
        z = load_w(w, i, zero)
        store_u(u, i, y)
        store_n(n, i, z - (c * z + alpha * y))
        dot = plus(dot, times(z, x))
        weights = plus(weights, times(z, z))
        grads = plus(grads, times(x, x))
        updates = plus(updates, times(z, y))
    return dot, weights, grads, updates


@function
def _sgd_again(g: Any, m: Any, u: Any, count: Any, rule: Any) -> None:
    sign, keep, _, _, _, _, _, _, nesterov = rule
    for i in range(count):
        a = load_m(m, i, sign)
        store_u(u, i, load_g(g, i, sign) * sign + a * keep if nesterov else a)


@inlined
def step_moments(
    kind: Any, arrays: Any, offset: Any, u: Any, count: Any, root: Any, rule: Any, n: Any, alpha: Any, c: Any
) -> Any:
    """Update the moments of `count` elements from an offset in bytes, and return their D, P, G and U.

    The update is left in u, and w - (c w + alpha u), with the same bits as from `apply`, in n. n is the
    weights themselves if this step is certain, and otherwise spare room for as many numbers. One loop
    serves both cases, because two loops could add up the sums in different orders.
    """
    w, g, m, v = arrays
    if kind == ADAM:
        return _adam(w + offset, g + offset, m + offset, v + offset, u, count, root, rule, n, alpha, c)
    return _sgd(w + offset, g + offset, m + offset, u, count, rule, n, alpha, c)


@inlined
def make_update(kind: Any, arrays: Any, offset: Any, u: Any, count: Any, root: Any, rule: Any) -> None:
    """Recompute into u the update of elements whose moments this step has already updated.

    The bits are the same as those from `step_moments`.
    """
    _, g, m, v = arrays
    if kind == ADAM:
        _adam_again(g + offset, m + offset, v + offset, u, count, root, rule)
    else:
        _sgd_again(g + offset, m + offset, u, count, rule)


@function
def apply(w: Any, u: Any, count: Any, alpha: Any, c: Any) -> None:
    """Step the weights: w - (c w + alpha u)."""
    for i in range(count):
        a = load_w(w, i, c)
        store_w(w, i, a - (c * a + alpha * load_u(u, i, c)))


@function
def walk(w: Any, u: Any, count: Any, alpha: Any, back: Any, c: Any) -> None:
    """Turn w - (c' w + alpha u) into w - (c w + alpha u), where back is c' / (1 - c')."""
    for i in range(count):
        t = alpha * load_u(u, i, c)
        s = load_w(w, i, c) + t
        x = s + s * back
        store_w(w, i, x - (c * x + t))


@function
def apply_and_walk(w: Any, u: Any, count: Any, alpha: Any, first: Any, back: Any, c: Any) -> None:
    """`apply` with `first`, then `walk`, in one pass, with the same operations."""
    for i in range(count):
        t = alpha * load_u(u, i, c)
        a = load_w(w, i, c)
        s = a - (first * a + t) + t
        x = s + s * back
        store_w(w, i, x - (c * x + t))
